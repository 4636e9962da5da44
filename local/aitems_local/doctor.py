"""What one looks at when something is wrong, looked at in one go: `aitems-bridge doctor`.

Everything is read and nothing is changed: no message is taken from a queue, and AiTEMS is asked for its list only. What
whoever asks may not see is told as not looked at. No finding holds a secret, or any part of one.
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from botocore.exceptions import ClientError

from aitems_bridge import config
from aitems_bridge.aitems import CONNECT, SERVICES, prove
from aitems_bridge.callers import Document, SlackCaller, WorksCaller, read_document, shared_secrets
from aitems_bridge.errors import Misconfigured, Upstream
from aitems_bridge.events import DETAIL_TYPES, SOURCE
from aitems_bridge.ncp import Keys, signed_headers
from aitems_bridge.record import SECOND, Clock, Made, Record, State
from aitems_bridge.reply import Works
from aitems_bridge.wire import Answer, Lost, NotSent, exchange
from aitems_local import operate
from aitems_local.caller_commands import warnings
from aitems_local.target import Target, denied
from aitems_local.terminal import typed

if TYPE_CHECKING:
    from types_boto3_lambda.type_defs import EventSourceMappingConfigurationTypeDef

PATIENCE = 15.0
"""Seconds to wait for AiTEMS, and for the webhook."""
WORTH_A_WORD, TOO_FAR = 60, 240
"""Seconds between two clocks: AiTEMS and our own doors accept no signature that is 300 off."""
OLD = 900
"""Seconds that a message may wait in a queue that is worked on, as in docs/operations.md."""
_OUTPUTS = (
    "WebhookUrl", "EventBusName", "EventBusArn", "LedgerTable", "QueueUrl", "DeadLetterQueueUrl", "RelayFailuresUrl",
    "RuleDeadLetterQueueUrl", "KeysSecretArn", "CallersSecretArn",
)  # fmt: skip
_OK, _UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY, _UNAVAILABLE = 200, 401, 403, 404, 429, 503
_NOT_SUBSCRIBED = "210"


class Result(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Nobody could look."""

    @property
    def telling(self) -> str:
        """The word that follows a number."""
        return {Result.OK: "well", Result.WARNING: "to think about", Result.UNKNOWN: "not looked at"}.get(self, "wrong")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it where it is not well."""

    result: Result
    told: str
    remedy: str = ""
    check: str = ""


Findings = Iterator[Finding]


class _Unseen(Exception):
    """What the check needs is not to be had; the text says why."""


def well(told: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(Result.OK, told)


def worth(told: str, remedy: str) -> Finding:
    """Return that something works, and may not be meant so."""
    return Finding(Result.WARNING, told, remedy)


def bad(told: str, remedy: str) -> Finding:
    """Return that something is wrong."""
    return Finding(Result.FAILED, told, remedy)


class Doctor:
    """Examines one bridge. Raises what boto3 raises where AWS itself does not answer."""

    def __init__(self, bridge: Target) -> None:
        self.bridge = bridge

    def examine(self) -> Findings:
        """Yield what each check finds, as it finds it."""
        checks: dict[str, Callable[[], Findings]] = {
            "stack": self.stack,
            "clock": self.clock,
            "keys": self.keys_secret,
            "aitems": self.aitems,
            "callers": self.callers,
            "chat": self.chat,
            "door": self.door,
            "functions": self.functions,
            "permissions": self.permissions,
            "sources": self.sources,
            "rule": self.rule,
            "queues": self.queues,
            "ledger": self.ledger,
            "listeners": self.listeners,
            "alarms": self.alarms,
        }
        for name, check in checks.items():
            try:
                for finding in check():
                    yield replace(finding, check=name)
            except _Unseen as error:
                yield Finding(Result.UNKNOWN, str(error), check=name)
            except ClientError as error:
                yield replace(self._refused(error), check=name)

    # --- the stack, and where it calls ----------------------------------------------------------------------------

    def stack(self) -> Findings:
        """Yield whether it is whole, and of this version."""
        status = str(self.bridge.described["StackStatus"])
        missing = [name for name in _OUTPUTS if name not in self.bridge.outputs]
        if status.endswith("_FAILED") or status.startswith("DELETE") or status == "ROLLBACK_COMPLETE":
            yield bad(
                f"{self.bridge.described['StackName']} is {status}", "see its events in CloudFormation, deploy anew"
            )
        elif status == "UPDATE_ROLLBACK_COMPLETE":
            yield worth("the last update was rolled back", "see its events in CloudFormation, mend that, deploy again")
        elif not status.endswith("_COMPLETE"):
            yield worth(f"it is being changed ({status})", "look again when that is over")
        elif not missing:
            yield well(f"{self.bridge.described['StackName']} is {status}")
        if missing:
            yield bad(f"it has no output {', '.join(missing)}", "it is of another version: `sam build && sam deploy`")

    def clock(self) -> Findings:
        """Yield whether AiTEMS, AWS and this machine agree what time it is."""
        aws = self._aws_clock
        here = _apart(aws)
        try:
            answer, sent, answered = self._aitems_says
        except (NotSent, Lost, _Unseen):
            there = None
        else:
            aitems = _clock(answer.headers, sent, answered)
            there = _apart(Clock(aitems.low - aws.high, aitems.high - aws.low)) if aitems else None
        if there is not None and abs(there) > WORTH_A_WORD:
            told = f"AiTEMS's clock is {_seconds(there)} AWS's"
            remedy = "AiTEMS refuses what is signed 5 minutes off: ask NAVER, or look for a proxy that answers instead"
            yield bad(told, remedy) if abs(there) > TOO_FAR else worth(told, remedy)
        if abs(here) > WORTH_A_WORD:
            told = f"this machine's clock is {_seconds(-here)} AWS's"
            remedy = "set it by the network: what is signed here is refused when it is 5 minutes off"
            yield bad(told, remedy) if abs(here) > TOO_FAR else worth(told, remedy)
        if max(abs(here), abs(there or 0)) <= WORTH_A_WORD:
            who = "this machine and AWS" if there is None else "this machine, AWS and AiTEMS"
            yield well(f"{who} agree within {max(abs(here), abs(there or 0), 1)} s")

    def keys_secret(self) -> Findings:
        """Yield whether the keys can be keys."""
        try:
            keys = self._keys
        except Misconfigured as error:
            yield bad(str(error), self._fill("KeysSecretArn", "keys.json"))
            return
        spaced = [
            name
            for name, value in (("access_key", keys.access_key), ("secret_key", keys.secret_key))
            if value != value.strip() or " " in value
        ]
        if spaced:
            yield bad(f"{' and '.join(spaced)} holds spaces, as no key does", self._fill("KeysSecretArn", "keys.json"))
        else:
            yield well("both halves are filled in")

    def aitems(self) -> Findings:
        """Yield whether AiTEMS answers, and takes the keys."""
        try:
            config.origin("AitemsBaseUrl", self._base_url, "https://aitems.apigw.ntruss.com")
        except Misconfigured as error:
            yield bad(str(error), "deploy it with the right one: keys go there")
            return
        host = urlsplit(self._base_url).netloc
        try:
            answer, _, _ = self._aitems_says
        except (NotSent, Lost) as error:
            remedy = "see the network, and AitemsBaseUrl; from AWS it may look otherwise (no proxy is used)"
            yield bad(f"{host} does not answer here ({error})", remedy)
            return
        if self._usable_keys is None:
            raise _Unseen(f"{host} answers; whether it takes the keys is not known without them")
        if answer.status == _OK:
            yield well(f"{host} takes the keys, and lists services")
            return
        outcome = prove(answer, "", 0, 0, 1)
        problem = None if isinstance(outcome, Made) else outcome.problem
        upstream = (problem and problem.upstream) or Upstream(status=answer.status)
        told = problem.detail if problem and problem.slug != "outcome-unknown" else f"{host} answers {answer.status}"
        code = f" ({answer.status}{f', code {upstream.code}' if upstream.code else ''})"
        yield bad(told.rstrip(".") + code, self._aitems_remedy(answer.status, upstream.code))

    def _aitems_remedy(self, status: int, code: str | None) -> str:
        if status == _UNAUTHORISED and code == _NOT_SUBSCRIBED:
            return "subscribe the keys' account to AiTEMS in NAVER Cloud's console"
        return {
            _UNAUTHORISED: "see the clock above; else put the two halves of one Sub Account key that is in use there: "
            + self._fill("KeysSecretArn", "keys.json"),
            _FORBIDDEN: "grant the Sub Account AiTEMS's create, list and detail (docs/deploying.md, The keys)",
            _NOT_FOUND: f"see AitemsBaseUrl, which is {self._base_url}",
            _TOO_MANY: "wait, or ask NAVER for a larger quota",
        }.get(status, "requests wait meanwhile; see NAVER Cloud's status")

    # --- who may ask, and who is told -----------------------------------------------------------------------------

    def callers(self) -> Findings:
        """Yield whether each caller can be let in."""
        try:
            document = self._callers
        except ValueError as error:
            why = "is no JSON" if isinstance(error, json.JSONDecodeError) else f"is at fault: {error}"
            yield bad(f"the callers document {why}; nobody gets in", self._fill("CallersSecretArn", "callers.json"))
            return
        for name, fault in document.faults.items():
            yield bad(f"{name}: {fault}", self._fill("CallersSecretArn", "callers.json"))
        for name, caller in document.callers.items():
            if not caller.enabled:
                yield worth(f"{name} is shut (enabled is false)", "take enabled out to let it in again")
            for warning in warnings(caller):
                yield worth(f"{name}: {warning}", "see docs/callers.md")
        for one, other in shared_secrets(document):
            yield worth(f"{other} has a secret in common with {one}", "give each its own")
        if document.callers:
            many = len(document.callers)
            yield well(f"{'1 entry is' if many == 1 else f'{many} entries are'} valid: {', '.join(document.callers)}")
        elif not document.faults:
            yield worth("there are none, so no webhook gets in", f"`{typed('callers', 'new', 'NAME')}` makes an entry")

    def chat(self) -> Findings:
        """Yield whether those will hear of it who ask in a chat."""
        chats = {
            name: caller
            for name, caller in self._document.callers.items()
            if isinstance(caller, SlackCaller | WorksCaller)
        }
        if "ChatSecretArn" not in self.bridge.outputs:
            for name, caller in chats.items():
                lost = "nothing at all" if isinstance(caller, WorksCaller) else "no outcome"
                yield worth(f"ChatReplies is off, so {name} is told {lost}", "deploy it with ChatReplies=on")
            if not chats:
                yield well("there is none")
            return
        text = self._secret("ChatSecretArn")
        bots = {name: caller.works.bot_id for name, caller in chats.items() if isinstance(caller, WorksCaller)}
        try:
            accounts = json.loads(text)["works"]
            found = set(accounts) | set(bots.values())
        except (ValueError, KeyError, TypeError):
            yield bad('the chat secret is not {"works": {…}}', self._fill("ChatSecretArn", "chat.json"))
            return
        works, faulty = Works("", "", lambda: text), False
        for bot in sorted(found):
            try:
                works.assertion(bot, int(time.time()))
            except Misconfigured as error:
                faulty = True
                yield bad(str(error), self._fill("ChatSecretArn", "chat.json"))
        if not faulty:
            yield well(
                f"every bot has an account whose private key loads: {', '.join(sorted(found)) or 'there is none'}"
            )

    def door(self) -> Findings:
        """Yield whether the webhook answers, by knocking as a caller that nobody is."""
        host = urlsplit(self.bridge.webhook_url).netloc
        address = f"{self.bridge.webhook_url}/hooks/doctor-{secrets.token_hex(8)}"
        try:
            answer = requests.post(address, data=b"", timeout=PATIENCE, allow_redirects=False)
        except requests.RequestException as error:
            yield bad(f"{host} does not answer ({type(error).__name__})", "see the network; is the API still there?")
            return
        ours = "problem+json" in answer.headers.get("content-type", "")
        log = self._log("WebhookLogs")
        if answer.status_code == _NOT_FOUND and ours:
            yield well(f"{host} answers")
        elif answer.status_code == _UNAVAILABLE and ours:
            yield bad("the webhook lets nobody in: it cannot use the callers secret", f"see callers above, and {log}")
        elif answer.status_code == _TOO_MANY:
            yield worth("the HTTP API turns calls away: too many come at once", "see RateLimit and BurstLimit")
        else:
            yield bad(f"the webhook answers {answer.status_code} instead of 404", f"see {log}")

    # --- what runs ------------------------------------------------------------------------------------------------

    def functions(self) -> Findings:
        """Yield whether each function can be called."""
        ill = False
        for logical, name in self._functions.items():
            found = self.bridge.aws.functions.get_function_configuration(FunctionName=name)
            reserved = self.bridge.aws.functions.get_function_concurrency(FunctionName=name)
            state, update = str(found.get("State", "Active")), str(found.get("LastUpdateStatus", "Successful"))
            if state not in ("Active", "Inactive") or update == "Failed":
                ill = True
                why = found.get("StateReason") or found.get("LastUpdateStatusReason") or ""
                yield bad(f"{logical} is {state}, its last update {update}: {why}".rstrip(": "), "`sam deploy` again")
            if reserved.get("ReservedConcurrentExecutions") == 0:
                ill = True
                undo = f"aws lambda delete-function-concurrency --function-name {name}"
                yield bad(f"{logical} is throttled to nothing: its reserved concurrency is 0", f"`{undo}`")
        if not ill:
            yield well(f"{', '.join(self._functions)} can be called")

    def permissions(self) -> Findings:
        """Yield whether each function may do what it has to, by IAM's own simulator."""
        iam, lacking = self.bridge.aws.iam, False
        for logical, needs in self._needs().items():
            arn = iam.get_role(RoleName=self._physical(logical))["Role"]["Arn"]
            missing = []
            for resource, actions in needs.items():
                asked = iam.simulate_principal_policy(
                    PolicySourceArn=arn, ActionNames=list(actions), ResourceArns=[resource]
                )
                missing += [
                    f"{result['EvalActionName']} on {resource}"
                    for result in asked["EvaluationResults"]
                    if result["EvalDecision"] != "allowed"
                ]
            if missing:
                lacking = True
                remedy = "`sam deploy` restores the role; else a boundary or the organisation's policy denies it"
                yield bad(f"{logical} may not {'; '.join(missing)}", remedy)
        if not lacking:
            yield well("each function's role may do what it has to")

    def sources(self) -> Findings:
        """Yield whether what calls the functions is switched on, and worked the last time."""
        expected = {"WorkerFunction": 2, "RelayFunction": 1, "ReplyFunction": 1}
        ill = False
        for logical, many in expected.items():
            if logical not in self._functions:
                continue
            name = self._functions[logical]
            found = self.bridge.aws.functions.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
            if len(found) < many:
                ill = True
                yield bad(f"{logical} has {len(found)} of {many} event sources", "`sam deploy` restores them")
            for mapping in found:
                for finding in self._source(logical, mapping):
                    ill = True
                    yield finding
        if not ill:
            yield well("the worker, the relay and what replies are called for everything there is")

    def _source(self, logical: str, mapping: "EventSourceMappingConfigurationTypeDef") -> Findings:
        state, last = mapping.get("State", ""), mapping.get("LastProcessingResult", "")
        what = f"{logical}'s source {_last_part(mapping.get('EventSourceArn', ''))}"
        if state not in ("Enabled", "Enabling", "Creating", "Updating"):
            uuid = mapping.get("UUID", "")
            yield bad(
                f"{what} is {state or 'gone'}", f"`aws lambda update-event-source-mapping --uuid {uuid} --enabled`"
            )
        if last.startswith(("PROBLEM", "FAILED")):
            yield bad(f"{what} says: {last}", f"see {self._log(logical.replace('Function', 'Logs'))}")

    def rule(self) -> Findings:
        """Yield whether requests on the bus reach the queue."""
        bus, name = self.bridge.outputs["EventBusName"], _rule_name(self._physical("RequestRule"))
        events = self.bridge.aws.events
        if events.describe_rule(Name=name, EventBusName=bus)["State"] == "DISABLED":
            yield bad(
                f"the rule for requests on bus {bus} is switched off",
                f"`aws events enable-rule --name {name} --event-bus-name {bus}`",
            )
            return
        targets = events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]
        if self._arn("sqs", _last_part(self.bridge.outputs["QueueUrl"])) not in [each["Arn"] for each in targets]:
            yield bad(f"the rule for requests on bus {bus} does not lead to the queue", "`sam deploy` restores it")
            return
        yield well(f"requests on bus {bus} reach the queue")

    # --- what has piled up ----------------------------------------------------------------------------------------

    def queues(self) -> Findings:
        """Yield what lies where it should not, or too long."""
        again = self.bridge.command("redrive", "--since", "24h")
        strays = {
            "DeadLetterQueue": "the worker reads these too: if it lasts, see permissions, sources and its log",
            "RelayFailures": f"outcomes were not passed on: mend what its messages name, `{again}`, purge it",
            "RuleDeadLetterQueue": "requests from the bus did not reach the queue: put them on the bus again",
            "RepliesDeadLetterQueue": "people in a chat were not told: see the reply function's log, purge it",
        }
        quiet = True
        for logical in ("Queue", "Replies"):
            if logical in self.bridge.resources:
                waiting, age = self._waiting(logical)
                if age is not None and age > OLD:
                    quiet = False
                    remedy = "see aitems above, WorkerConcurrency, and the function's log"
                    yield worth(f"{logical} has {waiting} waiting, the oldest for {_span(age)}", remedy)
        for logical, remedy in strays.items():
            if logical in self.bridge.resources:
                waiting, age = self._waiting(logical)
                if waiting:
                    quiet = False
                    since = "" if age is None else f", the oldest {_span(age)} old"
                    yield bad(f"{logical} has {'1 message' if waiting == 1 else f'{waiting} messages'}{since}", remedy)
        if quiet:
            yield well("nothing waits too long, and nothing was given up")

    def ledger(self) -> Findings:
        """Yield what waits for a person, or for nobody."""
        records = list(self.bridge.ledger.scan())
        now = config.now()
        failed = [record for record in records if record.state is State.FAILED]
        stuck = [record for record in operate.stuck(records, now) if record.state is not State.FAILED]
        waiting = [record for record in records if record.state.open and record.last and record not in stuck]
        if failed:
            oldest = _oldest(failed)
            why = oldest.problem.detail if oldest.problem else ""
            one = self.bridge.command("redrive", oldest.id, "--dry-run")
            remedy = (
                f"`{one}` says what another try would mean; `{self.bridge.command('requests', '--state', 'failed')}`"
            )
            yield bad(f"{_some(failed)} for a person: {_named(oldest, now)}: {why}", remedy)
        if stuck:
            again = self.bridge.command("redrive", "--all", "--dry-run")
            yield bad(f"{_some(stuck)} and nobody comes for it: {_named(_oldest(stuck), now)}", f"`{again}`")
        if waiting:
            oldest = _oldest(waiting)
            why = oldest.last.detail if oldest.last else ""
            remedy = "the bridge goes on by itself; see aitems above"
            yield worth(f"{_some(waiting)} and tries again: {_named(oldest, now)}: {why}", remedy)
        if not failed and not stuck:
            counted = Counter(record.state for record in records)
            told = ", ".join(f"{counted[state]} {state}" for state in State if counted[state])
            yield well(told or "there was no request yet")

    def listeners(self) -> Findings:
        """Yield whether anybody hears the outcomes."""
        bus, own = self.bridge.outputs["EventBusName"], _rule_name(self._physical("RequestRule"))
        events = self.bridge.aws.events
        pages = events.get_paginator("list_rules").paginate(EventBusName=bus)
        hearing = [
            rule["Name"]
            for page in pages
            for rule in page["Rules"]
            if rule["Name"] != own and rule.get("State") != "DISABLED" and self._hears(rule.get("EventPattern", ""))
        ]
        if hearing:
            yield well(f"outcomes are heard by {', '.join(hearing)}")
        else:
            remedy = f'make a rule on it with the pattern {{"source": ["{SOURCE}"]}}'
            yield worth(f"no rule on bus {bus} listens to the outcomes", remedy)

    def alarms(self) -> Findings:
        """Yield which of the stack's alarms ring."""
        logical = {
            str(one.get("PhysicalResourceId")): name
            for name, one in self.bridge.resources.items()
            if one["ResourceType"] == "AWS::CloudWatch::Alarm"
        }
        ringing = False
        names = list(logical)
        for beginning in range(0, len(names), 100):  # CloudWatch takes no more at once
            part = names[beginning : beginning + 100]
            for alarm in self.bridge.aws.cloudwatch.describe_alarms(AlarmNames=part, StateValue="ALARM")[
                "MetricAlarms"
            ]:
                ringing = True
                name = logical[alarm["AlarmName"]]
                yield bad(f"{name}: {alarm.get('StateReason', '')}", f"docs/operations.md has what to do about {name}")
        if not ringing:
            yield well(f"none of {len(names)} rings" if names else "the stack has none")

    # --- the parts ------------------------------------------------------------------------------------------------

    @property
    def _base_url(self) -> str:
        return self.bridge.parameters["AitemsBaseUrl"].rstrip("/")

    @cached_property
    def _keys(self) -> Keys:
        """The keys, read as the functions read them. Raises ``Misconfigured``."""
        text = self._secret("KeysSecretArn")
        keys, _ = config.KeysSecret(_Read(text))(False)
        return keys

    @property
    def _usable_keys(self) -> Keys | None:
        try:
            return self._keys
        except (Misconfigured, _Unseen, ClientError):
            return None

    @cached_property
    def _aitems_says(self) -> tuple[Answer, int, int]:
        """AiTEMS's answer to a signed look at its list, and our clock around it. Raises ``NotSent`` or ``Lost``."""
        target, keys, sent = f"{SERVICES}?offset=0&limit=1", self._usable_keys, config.now()
        headers = {"Accept": "application/json", "User-Agent": "aitems-bridge"}
        headers |= signed_headers("GET", target, sent, keys) if keys else {}
        url = self._base_url + target
        answer = exchange("GET", url, headers=headers, body=None, connect_timeout=CONNECT, permit=lambda: PATIENCE)
        return answer, sent, config.now()

    @cached_property
    def _aws_clock(self) -> Clock:
        sent = config.now()
        answer = self.bridge.aws.cloudformation.describe_stacks(StackName=self.bridge.described["StackName"])
        clock = _clock(answer["ResponseMetadata"]["HTTPHeaders"], sent, config.now())
        if clock is None:
            raise _Unseen("AWS's answer has no date")
        return clock

    @cached_property
    def _callers(self) -> Document:
        return read_document(self._secret("CallersSecretArn"))

    @property
    def _document(self) -> Document:
        """The callers, or none of them where they cannot be had: that is told elsewhere."""
        try:
            return self._callers
        except (ValueError, ClientError, _Unseen):
            return Document({}, {})

    @cached_property
    def _functions(self) -> dict[str, str]:
        """The functions' names by logical id."""
        return {
            name: str(one.get("PhysicalResourceId"))
            for name, one in self.bridge.resources.items()
            if one["ResourceType"] == "AWS::Lambda::Function"
        }

    def _secret(self, output: str) -> str:
        answer = self.bridge.aws.secrets.get_secret_value(SecretId=self.bridge.outputs[output])
        if "SecretString" not in answer:
            raise _Unseen(f"the secret {output} holds bytes, where text is needed")
        return answer["SecretString"]

    def _physical(self, logical: str) -> str:
        found = self.bridge.resources.get(logical)
        if found is None:
            raise _Unseen(f"the stack has no {logical}: is it of another version?")
        return found["PhysicalResourceId"]

    def _arn(self, service: str, resource: str) -> str:
        _, partition, _, region, account, _ = self.bridge.outputs["EventBusArn"].split(":", 5)
        return f"arn:{partition}:{service}:{region}:{account}:{resource}"

    def _needs(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Return what each role has to be allowed, by resource: the template's grants (tests/test_doctor.py)."""
        table = self.bridge.aws.dynamodb.describe_table(TableName=self.bridge.outputs["LedgerTable"])["Table"]
        ledger = {table["TableArn"]: ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem")}
        keys = {self.bridge.outputs["KeysSecretArn"]: ("secretsmanager:GetSecretValue",)}
        callers = {self.bridge.outputs["CallersSecretArn"]: ("secretsmanager:GetSecretValue",)}
        poll = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
        stream = table.get("LatestStreamArn", f"{table['TableArn']}/stream/*")
        relayed: dict[str, tuple[str, ...]] = {
            self._queue("Queue"): ("sqs:SendMessage",),
            self._queue("RelayFailures"): ("sqs:SendMessage",),
            self.bridge.outputs["EventBusArn"]: ("events:PutEvents",),
            stream: ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"),
            f"{table['TableArn']}/stream/*": ("dynamodb:ListStreams",),
        }
        needs: dict[str, dict[str, tuple[str, ...]]] = {
            "WebhookRole": {**ledger, **keys, **callers},
            "WorkerRole": {**ledger, **keys, self._queue("Queue"): poll, self._queue("DeadLetterQueue"): poll},
            "RelayRole": relayed,
        }
        if "ReplyRole" in self.bridge.resources:
            accounts = {self.bridge.outputs["ChatSecretArn"]: ("secretsmanager:GetSecretValue",)}
            reply = {table["TableArn"]: ("dynamodb:GetItem",)} | accounts | {self._queue("Replies"): poll}
            tell: dict[str, tuple[str, ...]] = {self._queue("Replies"): ("sqs:SendMessage",)}
            needs |= {"ReplyRole": reply, "WebhookRole": needs["WebhookRole"] | tell, "RelayRole": relayed | tell}
        for role, each in needs.items():
            logs = self._arn("logs", f"log-group:{self._physical(role.replace('Role', 'Logs'))}:log-stream:any")
            each[logs] = ("logs:CreateLogStream", "logs:PutLogEvents")
        return needs

    def _queue(self, logical: str) -> str:
        return self._arn("sqs", _last_part(self._physical(logical)))

    def _waiting(self, logical: str) -> tuple[int, int | None]:
        """Return how many messages wait in a queue, and for how many seconds the oldest does, where that is known."""
        url = self._physical(logical)
        found = self.bridge.aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        waiting = int(found.get("ApproximateNumberOfMessages", 0))
        return waiting, self._age(_last_part(url)) if waiting else None

    def _age(self, queue: str) -> int | None:
        """Return the age that CloudWatch tells. To receive a message would be to change how often it was received."""
        until = datetime.now(UTC)
        try:
            points = self.bridge.aws.cloudwatch.get_metric_statistics(
                Namespace="AWS/SQS",
                MetricName="ApproximateAgeOfOldestMessage",
                Dimensions=[{"Name": "QueueName", "Value": queue}],
                StartTime=until - timedelta(minutes=15),
                EndTime=until,
                Period=60,
                Statistics=["Maximum"],
            )["Datapoints"]
        except ClientError:  # how many there are is worth telling all the same
            return None
        newest = max(points, key=lambda point: point["Timestamp"], default=None)
        return round(newest["Maximum"]) if newest else None

    def _hears(self, pattern: str) -> bool:
        """Whether a rule's pattern lets any outcome through, as far as source and detail-type say."""
        try:
            said = json.loads(pattern)
        except ValueError:  # a schedule has none
            return False
        outer = {name: said[name] for name in ("source", "detail-type") if name in said}
        if not outer:
            return True
        sample = {
            "id": "0",
            "account": "0",
            "region": "-",
            "time": "2026-01-01T00:00:00Z",
            "resources": [],
            "detail": {},
        }
        return any(
            self.bridge.aws.events.test_event_pattern(
                EventPattern=json.dumps(outer), Event=json.dumps(sample | {"source": SOURCE, "detail-type": kind})
            )["Result"]
            for kind in DETAIL_TYPES.values()
        )

    def _fill(self, output: str, file: str) -> str:
        if self.bridge.document:
            return f"start `{typed('up')}` again, which fills it anew"
        arn = self.bridge.outputs[output]
        return f"`aws secretsmanager put-secret-value --secret-id {arn} --secret-string file://{file}`"

    def _log(self, logical: str) -> str:
        found = self.bridge.resources.get(logical)
        return f"the log {found['PhysicalResourceId'] if found else logical}"

    def _refused(self, error: ClientError) -> Finding:
        if denied(error):
            return Finding(Result.UNKNOWN, f"you may not look ({error.operation_name})", "ask for that permission")
        said = error.response["Error"].get("Message", str(error))
        return bad(f"{error.operation_name}: {said}", "was something deleted by hand? `sam deploy` restores it")


class _Read(config.Secret):
    """A secret's text that was read."""

    def __init__(self, text: str) -> None:
        super().__init__("")
        self._text = text

    def text(self, *, early: bool = False) -> tuple[str, bool]:  # noqa: ARG002  there is nothing to read
        """Return it."""
        return self._text, True


def _clock(headers: Mapping[str, str], sent: int, answered: int) -> Clock | None:
    """Return how far the clock that dated an answer is ahead of ours; the header is cut to the second."""
    try:
        stamped = round(parsedate_to_datetime(headers["date"]).timestamp() * SECOND)
    except (KeyError, ValueError):
        return None
    return Clock(stamped - answered, stamped + SECOND - sent)


def _apart(clock: Clock) -> int:
    """Return by how many seconds a clock is surely ahead; negative, behind; 0 where it may agree."""
    return round((max(clock.low, 0) + min(clock.high, 0)) / SECOND)


def _seconds(ahead: int) -> str:
    return f"{_span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}"


def _span(seconds: int) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _last_part(identifier: str) -> str:
    """Return a queue's or a stream's own name out of its address or ARN."""
    name = identifier.rpartition(":")[2] if "/stream/" not in identifier else identifier.partition("/stream/")[0]
    return name.rpartition("/")[2]


def _rule_name(physical: str) -> str:
    """CloudFormation names a rule on a bus of one's own with the bus before it."""
    return physical.rpartition("|")[2]


def _oldest(records: list[Record]) -> Record:
    return min(records, key=lambda record: record.requested_at)


def _some(records: list[Record]) -> str:
    states = Counter(record.state for record in records)
    return ", ".join(f"{many} {state}" for state, many in states.items())


def _named(record: Record, now: int) -> str:
    name = record.name or "(invalid)"
    return f"the oldest is {name}, asked {_span((now - record.requested_at) // SECOND)} ago"

"""What one looks at when something is wrong, looked at in one go: `aitems-bridge doctor`.

Everything is read and nothing is changed: no message is taken from a queue, and AiTEMS is asked for its list only. What
whoever asks may not see is told as not looked at. No finding holds a secret, or any part of one.
"""

import json
import secrets
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from botocore.exceptions import ClientError

from aitems_bridge import config
from aitems_bridge.callers import Document, SlackCaller, WorksCaller, read_document, shared_secrets
from aitems_bridge.errors import Misconfigured
from aitems_bridge.events import DETAIL_TYPES, SOURCE
from aitems_bridge.record import SECOND, Record, State
from aitems_bridge.reply import Works
from aitems_local import operate
from aitems_local.caller_commands import warnings
from aitems_local.cloud import StackError
from aitems_local.findings import PATIENCE, Finding, Findings, Result, Unseen, bad, span, well, worth
from aitems_local.grants import granted
from aitems_local.outside import Outside
from aitems_local.target import Target, denied, last_part
from aitems_local.terminal import typed

if TYPE_CHECKING:
    from collections.abc import Callable

    from types_boto3_lambda.type_defs import EventSourceMappingConfigurationTypeDef

OLD = 900
"""Seconds that a message may wait in a queue that is worked on, as in docs/operations.md."""
_OUTPUTS = (
    "WebhookUrl", "EventBusName", "EventBusArn", "LedgerTable", "QueueUrl", "DeadLetterQueueUrl", "RelayFailuresUrl",
    "RuleDeadLetterQueueUrl", "KeysSecretArn", "CallersSecretArn",
)  # fmt: skip
_NOT_FOUND, _TOO_MANY, _UNAVAILABLE = 404, 429, 503


class Doctor:
    """Examines one bridge. Raises what boto3 raises where AWS itself does not answer."""

    def __init__(self, bridge: Target) -> None:
        self.bridge = bridge

    def examine(self) -> Findings:
        """Yield what each check finds, as it finds it. Raises where there is no such stack."""
        self.bridge.described  # noqa: B018  where it is not to be had, nothing is
        outside = Outside(self.bridge)
        checks: dict[str, Callable[[], Findings]] = {
            "stack": self.stack,
            "clock": outside.clock,
            "keys": outside.keys,
            "aitems": outside.aitems,
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
            except Unseen as error:
                yield Finding(Result.UNKNOWN, str(error), check=name)
            except StackError as error:
                yield replace(bad(str(error), "`sam build && sam deploy`"), check=name)
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

    # --- who may ask, and who is told -----------------------------------------------------------------------------

    def callers(self) -> Findings:
        """Yield whether each caller can be let in."""
        try:
            document = self._callers
        except ValueError as error:
            why = "is no JSON" if isinstance(error, json.JSONDecodeError) else f"is at fault: {error}"
            yield bad(
                f"the callers document {why}; nobody gets in", self.bridge.fill("CallersSecretArn", "callers.json")
            )
            return
        for name, fault in document.faults.items():
            yield bad(f"{name}: {fault}", self.bridge.fill("CallersSecretArn", "callers.json"))
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
        text = self.bridge.secret("ChatSecretArn")
        bots = {name: caller.works.bot_id for name, caller in chats.items() if isinstance(caller, WorksCaller)}
        try:
            found = {**json.loads(text)["works"]}.keys() | set(bots.values())
        except (ValueError, KeyError, TypeError, RecursionError):
            yield bad('the chat secret is not {"works": {…}}', self.bridge.fill("ChatSecretArn", "chat.json"))
            return
        works, faulty = Works("", "", lambda: text), False
        for bot in sorted(found):
            try:
                works.assertion(bot, int(time.time()))
            except Misconfigured as error:
                faulty = True
                yield bad(str(error), self.bridge.fill("ChatSecretArn", "chat.json"))
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
            if "Failed" in (state, update):
                ill = True
                why = found.get("StateReason") or found.get("LastUpdateStatusReason") or ""
                # Where nothing changed, `sam deploy` does nothing; and what never came to be, AWS wants made anew.
                anew = f"`aws lambda delete-function --function-name {name}`, then " if state == "Failed" else ""
                told = f"{logical} is {state}, its last update {update}: {why}".rstrip(": ")
                yield bad(told, f"{anew}{self._back}")
            if reserved.get("ReservedConcurrentExecutions") == 0:
                ill = True
                undo = f"aws lambda delete-function-concurrency --function-name {name}"
                yield bad(f"{logical} is throttled to nothing: its reserved concurrency is 0", f"`{undo}`")
        if not ill:
            yield well(f"{', '.join(self._functions)} can be called")

    def permissions(self) -> Findings:
        """Yield whether each function may do what it has to, by IAM's own simulator."""
        iam, lacking = self.bridge.aws.iam, False
        for logical, needs in granted(self.bridge).items():
            arn = iam.get_role(RoleName=self.bridge.physical(logical))["Role"]["Arn"]
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
                remedy = f"{self._back}; else a boundary or the organisation's policy denies it"
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
                yield bad(f"{logical} has {len(found)} of {many} event sources", self._back)
            for mapping in found:
                for finding in self._source(logical, mapping):
                    ill = True
                    yield finding
        if not ill:
            yield well("the worker, the relay and what replies are called for everything there is")

    def _source(self, logical: str, mapping: "EventSourceMappingConfigurationTypeDef") -> Findings:
        state, last = mapping.get("State", ""), mapping.get("LastProcessingResult", "")
        what = f"{logical}'s source {last_part(mapping.get('EventSourceArn', ''))}"
        if state not in ("Enabled", "Enabling", "Creating", "Updating"):
            uuid = mapping.get("UUID", "")
            yield bad(
                f"{what} is {state or 'gone'}", f"`aws lambda update-event-source-mapping --uuid {uuid} --enabled`"
            )
        if last.startswith(("PROBLEM", "FAILED")):
            yield bad(f"{what} says: {last}", f"see {self._log(logical.replace('Function', 'Logs'))}")

    def rule(self) -> Findings:
        """Yield whether requests on the bus reach the queue."""
        bus, name = self.bridge.outputs["EventBusName"], _rule_name(self.bridge.physical("RequestRule"))
        events = self.bridge.aws.events
        if events.describe_rule(Name=name, EventBusName=bus)["State"] == "DISABLED":
            yield bad(
                f"the rule for requests on bus {bus} is switched off",
                f"`aws events enable-rule --name {name} --event-bus-name {bus}`",
            )
            return
        targets = events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]
        if self.bridge.arn("sqs", last_part(self.bridge.outputs["QueueUrl"])) not in [each["Arn"] for each in targets]:
            yield bad(f"the rule for requests on bus {bus} does not lead to the queue", self._back)
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
                    yield worth(f"{logical} has {waiting} waiting, the oldest for {span(age)}", remedy)
        for logical, remedy in strays.items():
            if logical in self.bridge.resources:
                waiting, age = self._waiting(logical)
                if waiting:
                    quiet = False
                    since = "" if age is None else f", the oldest {span(age)} old"
                    yield bad(f"{logical} has {'1 message' if waiting == 1 else f'{waiting} messages'}{since}", remedy)
        if quiet:
            yield well("nothing waits too long, and nothing was given up")

    def ledger(self) -> Findings:
        """Yield what waits for a person, or for nobody."""
        strange: list[str] = []
        records, now = list(self.bridge.ledger.scan(strange.append)), config.now()
        if strange:
            yield bad(f"{', '.join(strange[:5])} cannot be read", "somebody wrote it by hand: mend it, or delete it")
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
            yield worth(f"{_some(waiting)} and still under way: {_named(oldest, now)}: {why}", remedy)
        if not failed and not stuck:
            counted = Counter(record.state for record in records)
            told = ", ".join(f"{counted[state]} {state}" for state in State if counted[state])
            yield well(told or "there was no request yet")

    def listeners(self) -> Findings:
        """Yield whether anybody hears the outcomes."""
        bus, own = self.bridge.outputs["EventBusName"], _rule_name(self.bridge.physical("RequestRule"))
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
        """Yield which of the stack's alarms ring, or are gone."""
        logical = {
            str(one.get("PhysicalResourceId")): name
            for name, one in self.bridge.resources.items()
            if one["ResourceType"] == "AWS::CloudWatch::Alarm"
        }
        names = list(logical)
        found = [
            alarm
            for beginning in range(0, len(names), 50)  # CloudWatch answers with no more at once
            for alarm in self.bridge.aws.cloudwatch.describe_alarms(AlarmNames=names[beginning : beginning + 50])[
                "MetricAlarms"
            ]
        ]
        ringing = [alarm for alarm in found if alarm.get("StateValue") == "ALARM"]
        for alarm in ringing:
            name = logical[alarm["AlarmName"]]
            yield bad(f"{name}: {alarm.get('StateReason', '')}", f"docs/operations.md has what to do about {name}")
        gone = logical.keys() - {alarm["AlarmName"] for alarm in found}
        if gone:
            yield bad(f"{', '.join(sorted(logical[name] for name in gone))} was deleted", self._back)
        if names and not self.bridge.document and not self.bridge.parameters.get("AlarmTopicArn"):
            yield worth("the alarms tell nobody", "deploy it with AlarmTopicArn, an SNS topic that somebody reads")
        if not ringing and not gone:
            yield well(f"none of {len(names)} rings" if names else "the stack has none")

    # --- the parts ------------------------------------------------------------------------------------------------

    @cached_property
    def _callers(self) -> Document:
        return read_document(self.bridge.secret("CallersSecretArn"))

    @property
    def _document(self) -> Document:
        """The callers, or none of them where they cannot be had: that is told elsewhere."""
        try:
            return self._callers
        except (ValueError, ClientError, Unseen):
            return Document({}, {})

    @cached_property
    def _functions(self) -> dict[str, str]:
        """The functions' names by logical id."""
        return {
            name: str(one.get("PhysicalResourceId"))
            for name, one in self.bridge.resources.items()
            if one["ResourceType"] == "AWS::Lambda::Function"
        }

    def _waiting(self, logical: str) -> tuple[int, int | None]:
        """Return how many messages wait in a queue, and for how many seconds the oldest does, where that is known."""
        url = self.bridge.physical(logical)
        found = self.bridge.aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        waiting = int(found.get("ApproximateNumberOfMessages", 0))
        return waiting, self._age(last_part(url)) if waiting else None

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

    @property
    def _back(self) -> str:
        """What brings back what was changed by hand. A deployment does not: the template is what it was."""
        return f"start `{typed('up')}` again" if self.bridge.document else "docs/operations.md has how to bring it back"

    def _log(self, logical: str) -> str:
        found = self.bridge.resources.get(logical)
        return f"the log {found['PhysicalResourceId'] if found else logical}"

    def _refused(self, error: ClientError) -> Finding:
        if denied(error):
            return Finding(Result.UNKNOWN, f"you may not look ({error.operation_name})", "ask for that permission")
        said = error.response["Error"].get("Message", str(error))
        return bad(f"{error.operation_name}: {said}", f"was something deleted by hand? {self._back}")


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
    return f"the oldest is {name}, asked {span((now - record.requested_at) // SECOND)} ago"

"""The bridge on one machine: the project's own template deployed on MiniStack, with an AiTEMS to talk to.

`Stack.start` makes everything; `Stack.deploy` puts another bridge, with other parameters or a changed template, on the
same MiniStack. Everything ends with `stop`, or with the process.
"""

import io
import json
import marshal
import os
import secrets
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPConnection
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path
from typing import Any, Self, TypedDict, cast
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from aitems_bridge.ledger import Ledger
from aitems_local.chats import Chats
from aitems_local.cloud import ACCOUNT, LOOPBACK, REGION, ROOT_KEY, Cloud, StackError, check_port
from aitems_local.document import ROOT, Credentials, StackDocument
from aitems_local.emulator import Emulator
from aitems_local.entries import entry
from aitems_local.journal import Announced, Journal, Tap

Template = dict[str, Any]
Callers = dict[str, Any]

NAME = "aitems-bridge"

_CHATS = 3  # ports from the first one
_DEPLOY_TIMEOUT = 60.0
_MAX_INLINE_TEMPLATE = 51_200  # CloudFormation's limit for a template that is not in S3
_BUCKET = "code"
_UNCHECKED_HASH = (1).to_bytes(4, "little")
_SQS_BATCHED = ("sqs:SendMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
_FUNCTION = "AWS::Serverless::Function"


@dataclass(frozen=True, slots=True)
class Aitems:
    """An AiTEMS to call instead of the emulator."""

    url: str
    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done while starting: what, on what, where or how much, and for how long (seconds)."""

    what: str
    on: str
    result: str
    seconds: float


class _Where(TypedDict, total=False):
    TemplateBody: str
    TemplateURL: str


OnStep = Callable[[Step], None]


def default_callers() -> Callers:
    """Return the callers of a local stack, one of each scheme, with fresh secrets."""
    shop = {"header": "X-Shopify-Hmac-Sha256", "encoding": "base64", "key": {"header": "X-Shopify-Webhook-Id"}}
    return {
        "backoffice": entry("standard"),
        "deploys": entry("github"),
        "shopfront": entry("hmac", hmac=shop, mapping={"name": "handle", "description": "title"}),
        "slack": entry("slack", slack={"teams": ["T1DC2JH3J"]}),
        "works": entry("works", works={"bot_id": "2000001", "domains": [40029600]}),
    }


def load_template(path: Path = ROOT / "template.yaml") -> Template:
    """Return the template as data, its short intrinsic functions written out."""
    try:
        return cast("Template", yaml_parse(path.read_text("utf-8")))
    except FileNotFoundError:
        raise StackError(
            f"there is no {path.name} beside the sources: run this from a checkout of the project"
        ) from None
    except Exception as error:  # YAML's own errors, which are no dependency of ours by name
        raise StackError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error


class Stack:
    """A deployed bridge, and everything a test or a person wants to see of it.

    ``aitems`` is its AiTEMS emulator; asking for it where another AiTEMS is called raises.
    """

    def __init__(self, cloud: Cloud, name: str, folder: Path) -> None:
        self.cloud = cloud
        self.name = name
        self.resources: dict[str, str] = {}
        self.outputs: dict[str, str] = {}
        self.callers: Callers = {}
        self.journal = Journal(folder / f"{name}.events.jsonl")
        self.producer = Credentials("", "")
        self.aitems_url = ""
        self.outcomes_queue_url = ""
        self.console_url = ""
        self.chats: Chats
        self._emulator: Emulator | None = None
        self._ends = ExitStack()

    # --- beginning and end ----------------------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        *,
        port: int = 0,
        name: str = NAME,
        parameters: Mapping[str, str] | None = None,
        callers: Callers | None = None,
        aitems: Aitems | None = None,
        template: Path | Template | None = None,
        change: Callable[[Template], object] | None = None,
        source: Path = ROOT / "src",
        folder: Path | None = None,
        on_step: OnStep = lambda _: None,
    ) -> Self:
        """Start MiniStack and an AiTEMS emulator, deploy the template and wait until the webhook answers.

        The AWS endpoint listens on ``port`` (0: any that is free), the emulator on the next one, and the chats two
        further on. ``change`` may alter the template before it is deployed; ``source`` is the folder that holds
        ``aitems_bridge``. Events are kept in ``folder``. Raises `StackError`, a sentence for people, when anything is
        in the way; then nothing is left behind.
        """
        for wanted in (port, *(() if aitems else (port + 1,)), port + _CHATS) if port else ():
            check_port(wanted)
        clock = time.monotonic()
        cloud = Cloud(port)
        stack = cls(cloud, name, folder or cloud.folder)
        stack._ends.callback(cloud.stop)
        try:
            stack._call(aitems, port + 1 if port else 0)
            stack.chats = stack._ends.enter_context(Chats(port=port + _CHATS if port else 0))
            template = _template(template, change)
            code = _code(source)
            emulated = time.monotonic()
            cloud.wait()
            aws = f"AWS emulator (MiniStack {cloud.version}, IAM enforced)"
            on_step(Step("start", aws, cloud.endpoint, time.monotonic() - clock))
            kind = "AiTEMS" if aitems else "AiTEMS emulator (signature and clock checked)"
            on_step(Step("start", kind, stack.aitems_url, emulated - clock))
            on_step(Step("start", "Slack and NAVER WORKS (blocks and token checked)", stack.chats.url, 0.0))
            stack._deploy(template, code, parameters or {}, callers, on_step)
        except BaseException:
            stack.stop()
            raise
        return stack

    def deploy(
        self,
        name: str,
        *,
        parameters: Mapping[str, str] | None = None,
        callers: Callers | None = None,
        template: Path | Template | None = None,
        change: Callable[[Template], object] | None = None,
        source: Path = ROOT / "src",
    ) -> "Stack":
        """Deploy another bridge on the same MiniStack, with an AiTEMS emulator of its own; it ends with this one."""
        other = Stack(self.cloud, name, self.journal.path.parent)
        try:
            other._call(None, 0)
            other.chats = self.chats
            other._deploy(_template(template, change), _code(source), parameters or {}, callers)
        except BaseException:
            other.stop()
            raise
        self._ends.callback(other.stop)
        return other

    def stop(self) -> None:
        """Stop everything that this stack started."""
        self._ends.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- where things are -----------------------------------------------------------------------------------------

    @property
    def aitems(self) -> Emulator:
        """The AiTEMS emulator."""
        if self._emulator is None:
            raise StackError(f"this stack calls {self.aitems_url}, not the emulator")
        return self._emulator

    @property
    def emulator(self) -> Emulator | None:
        """The same; None where another AiTEMS is called."""
        return self._emulator

    @property
    def webhook_url(self) -> str:
        """The base to which ``/hooks/{caller}`` is added."""
        return f"{self.cloud.endpoint}/_aws/execute-api/{self.resources['HttpApi']}/%24default"

    @property
    def document(self) -> StackDocument:
        """Where everything is."""
        return StackDocument(
            webhook_url=self.webhook_url,
            aws_endpoint=self.cloud.endpoint,
            region=REGION,
            event_bus=self.outputs["EventBusName"],
            ledger_table=self.outputs["LedgerTable"],
            queue_url=self.outputs["QueueUrl"],
            dlq_url=self.outputs["DeadLetterQueueUrl"],
            outcomes_queue_url=self.outcomes_queue_url,
            aitems_url=self.aitems_url,
            chats_url=self.chats.url,
            callers=self.callers,
            admin=Credentials(ROOT_KEY, ROOT_KEY),
            producer=self.producer,
            journal=str(self.journal.path),
            pid=os.getpid(),
            console_url=self.console_url,
        )

    # --- what happened --------------------------------------------------------------------------------------------

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, read as the account's root user."""
        return Ledger(self.cloud.dynamodb, self.outputs["LedgerTable"])

    def items(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return the ledger's items as DynamoDB has them, those whose key starts with ``prefix``."""
        pages = self.cloud.dynamodb.get_paginator("scan").paginate(
            TableName=self.outputs["LedgerTable"], ConsistentRead=True
        )
        return [dict(item) for page in pages for item in page["Items"] if item["pk"]["S"].startswith(prefix)]

    def events(self, request_id: str | None = None) -> list[Announced]:
        """Return what was announced so far, of one request or all."""
        return [event for event in self.journal.read() if request_id in (None, event.metadata["request_id"])]

    def event(self, *, timeout: float = 30, **metadata: object) -> Announced:
        """Return the first event whose metadata has these members; raise `AssertionError` when none comes in time."""
        found = self.journal.wait(lambda event: metadata.items() <= event.metadata.items(), timeout)
        if found is None:
            raise AssertionError(f"no event with {metadata} within {timeout} s; announced: {self.events()}")
        return found

    def queued(self, queue: str = "QueueUrl") -> int:
        """Return how many messages a queue holds (waiting, delayed, being worked on): an output's, or "outcomes"."""
        url = self.outcomes_queue_url if queue == "outcomes" else self.outputs[queue]
        found = self.cloud.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return sum(int(number) for name, number in found.items() if name.startswith("ApproximateNumberOfMessages"))

    def logs(self, function: str = "WebhookFunction") -> list[str]:
        """Return what a function wrote, calls that have ended only."""
        group = self.resources.get(function.replace("Function", "Logs"), f"/aws/lambda/{self.resources[function]}")
        try:
            pages = self.cloud.logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            return [event["message"].rstrip() for page in pages for event in page["events"]]
        except self.cloud.logs.exceptions.ResourceNotFoundException:
            return []

    def processes(self, function: str) -> list[int]:
        """Return the ids of the processes that run a function (Linux only)."""
        return [pid for pid, name in self.cloud.function_processes().items() if name == self.resources[function]]

    # --- what may be changed --------------------------------------------------------------------------------------

    def set_keys(self, access_key: str, secret_key: str) -> None:
        """Replace the AiTEMS keys; processes that are warm keep theirs for as long as they cache them."""
        self._put_secret("KeysSecretArn", {"access_key": access_key, "secret_key": secret_key})

    def set_callers(self, callers: Callers) -> None:
        """Replace the callers document; processes that are warm keep theirs for as long as they cache it."""
        self._put_secret("CallersSecretArn", callers)
        self.callers = callers
        if "ChatSecretArn" in self.outputs:
            entries = [entry.get("works", {}) for entry in callers.values() if isinstance(entry, dict)]
            bots = [entry["bot_id"] for entry in entries if isinstance(entry, dict) and "bot_id" in entry]
            self._put_secret("ChatSecretArn", {"works": {str(bot): self.chats.account.secret() for bot in bots}})

    def set_secret(self, output: str, text: str) -> None:
        """Replace the text of a secret, whatever it is."""
        self.cloud.secrets.put_secret_value(SecretId=self.outputs[output], SecretString=text)

    def recycle(self) -> None:
        """Let each function start afresh at its next call, with nothing cached."""
        for logical, physical in self.resources.items():
            if logical.endswith("Function"):
                key = f"{self.name}.zip"
                self.cloud.functions.update_function_code(FunctionName=physical, S3Bucket=_BUCKET, S3Key=key)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _put_secret(self, output: str, document: object) -> None:
        self.set_secret(output, json.dumps(document, ensure_ascii=False))

    def _call(self, aitems: Aitems | None, port: int) -> None:
        if aitems is None:
            key, secret = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
            self._emulator = self._ends.enter_context(Emulator(access_key=key, secret_key=secret, port=port))
            self._keys = Aitems(self._emulator.url, key, secret)
        else:
            self._keys = aitems
        self.aitems_url = self._keys.url

    def _deploy(
        self,
        template: Template,
        code: bytes,
        parameters: Mapping[str, str],
        callers: Callers | None,
        on_step: OnStep = lambda _: None,
    ) -> None:
        clock = time.monotonic()
        for function in _functions(template):
            function["CodeUri"] = self._upload(code)
        parameters = {"AitemsBaseUrl": self.aitems_url, **self._chat_parameters(template), **parameters}
        _suit_ministack(template, parameters)
        self._create(template, parameters)
        size = f"{len(self.resources)} resources"
        on_step(Step("deploy", f"template.yaml → stack {self.name}", size, time.monotonic() - clock))
        clock = time.monotonic()
        self.set_keys(self._keys.access_key, self._keys.secret_key)
        self.set_callers(default_callers() if callers is None else callers)
        self._listen()
        self.producer = self._make_producer()
        keys = "AiTEMS keys" if self._emulator else "your AiTEMS keys"
        on_step(Step("secrets", f"{keys} · callers {', '.join(self.callers) or 'none'}", "", time.monotonic() - clock))
        clock = time.monotonic()
        self._probe()
        on_step(Step("probe", "the webhook answers", "", time.monotonic() - clock))

    def _chat_parameters(self, template: Template) -> dict[str, str]:
        """Return what has chats answered, and here; nothing for a template that knows no chats."""
        origins = dict.fromkeys(("SlackResponseOrigins", "WorksApiUrl", "WorksAuthUrl"), self.chats.url)
        wanted = {"ChatReplies": "on", **origins}
        return {name: value for name, value in wanted.items() if name in template.get("Parameters", {})}

    def _upload(self, code: bytes) -> dict[str, str]:
        key = f"{self.name}.zip"
        self._make_bucket()
        self.cloud.s3.put_object(Bucket=_BUCKET, Key=key, Body=code)
        return {"Bucket": _BUCKET, "Key": key}

    def _make_bucket(self) -> None:
        try:
            self.cloud.s3.create_bucket(
                Bucket=_BUCKET, CreateBucketConfiguration={"LocationConstraint": cast("Any", REGION)}
            )
        except self.cloud.s3.exceptions.BucketAlreadyOwnedByYou:
            return

    def _create(self, template: Template, parameters: Mapping[str, str]) -> None:
        body = json.dumps(template, ensure_ascii=False, separators=(",", ":"), default=str)  # YAML knows dates
        if len(body.encode()) <= _MAX_INLINE_TEMPLATE:
            where: _Where = {"TemplateBody": body}
        else:
            key = f"{self.name}.template.json"
            self.cloud.s3.put_object(Bucket=_BUCKET, Key=key, Body=body.encode())
            where = {"TemplateURL": f"{self.cloud.endpoint}/{_BUCKET}/{key}"}
        try:
            self.cloud.cloudformation.create_stack(
                StackName=self.name,
                Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
                Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
                **where,
            )
        except ClientError as error:
            why = error.response["Error"].get("Message", str(error))
            raise StackError(f"template.yaml: {_one_line(why)}") from error
        self._await_creation()
        described = self.cloud.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}
        found = self.cloud.cloudformation.describe_stack_resources(StackName=self.name)["StackResources"]
        self.resources = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in found}

    def _await_creation(self) -> None:
        deadline = time.monotonic() + _DEPLOY_TIMEOUT
        while time.monotonic() < deadline:
            status = self.cloud.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]["StackStatus"]
            if status == "CREATE_COMPLETE":
                return
            if not status.endswith("_IN_PROGRESS") or status.startswith("ROLLBACK"):
                raise StackError(f"template.yaml: {self._why_not()}")
            time.sleep(0.05)
        raise StackError(f"template.yaml: not deployed within {_DEPLOY_TIMEOUT:.0f} s")

    def _why_not(self) -> str:
        events = self.cloud.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        for event in reversed(events):
            if event.get("ResourceStatus") == "CREATE_FAILED" and event.get("LogicalResourceId") != self.name:
                return f"{event.get('LogicalResourceId')}: {_one_line(event.get('ResourceStatusReason', 'failed'))}"
        reasons = [event["ResourceStatusReason"] for event in events if event.get("ResourceStatusReason")]
        return _one_line(reasons[-1]) if reasons else "CloudFormation gave no reason"

    def _listen(self) -> None:
        """Copy each announced event whole into a queue for people and tests, and into another for our own journal."""
        bus = self.outputs["EventBusName"]
        rule = self.cloud.events.put_rule(
            Name=f"{self.name}-outcomes", EventBusName=bus, EventPattern=json.dumps({"source": ["aitems.bridge"]})
        )["RuleArn"]
        self.outcomes_queue_url, outcomes = self._queue_for(rule, "outcomes")
        tap_url, tap = self._queue_for(rule, "tap")
        self.cloud.events.put_targets(
            Rule=f"{self.name}-outcomes",
            EventBusName=bus,
            Targets=[{"Id": "outcomes", "Arn": outcomes}, {"Id": "tap", "Arn": tap}],
        )
        self._ends.callback(Tap(self.cloud.sqs, tap_url, self.journal).stop)

    def _queue_for(self, rule: str, what: str) -> tuple[str, str]:
        name = f"{self.name}-{what}"
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        allow = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        return self.cloud.sqs.create_queue(QueueName=name, Attributes={"Policy": policy})["QueueUrl"], arn

    def _make_producer(self) -> Credentials:
        """Make the identity that a producer of requests has: it may put events on the bus, and nothing else."""
        user = f"{self.name}-producer"
        allow = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": self.outputs["EventBusArn"]}
        self.cloud.iam.create_user(UserName=user)
        self.cloud.iam.put_user_policy(
            UserName=user,
            PolicyName="put-events",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow]}),
        )
        made = self.cloud.iam.create_access_key(UserName=user)["AccessKey"]
        return Credentials(made["AccessKeyId"], made["SecretAccessKey"])

    def _probe(self) -> None:
        """Call the webhook once, unsigned: it is to refuse that itself. Also makes the first real call a warm one."""
        address = urlsplit(self.webhook_url)
        connection = HTTPConnection(LOOPBACK, address.port or 80, timeout=40)
        try:
            connection.request("POST", f"{address.path}/hooks/{next(iter(self.callers), 'probe')}", body=b"")
            answer = connection.getresponse()
            body = answer.read().decode("utf-8", "replace")
        except OSError as error:
            raise StackError(f"the webhook does not answer: {error}") from error
        finally:
            connection.close()
        if "problem+json" not in (answer.getheader("content-type") or ""):
            raise StackError(f"the webhook function answers {answer.status}: {_one_line(body)[:500]}")


def _template(template: Path | Template | None, change: Callable[[Template], object] | None) -> Template:
    if isinstance(template, dict):
        template = cast("Template", json.loads(json.dumps(template, default=str)))
    else:
        template = load_template(template or ROOT / "template.yaml")
    if change:
        change(template)
    return template


def _functions(template: Template) -> list[dict[str, Any]]:
    resources = template.get("Resources", {}).values()
    return [resource.setdefault("Properties", {}) for resource in resources if resource.get("Type") == _FUNCTION]


def _suit_ministack(template: Template, parameters: Mapping[str, str]) -> None:
    """Say in MiniStack's words what it understands differently from AWS; what is asked for stays the same.

    It takes a parameter's number for text where it compares, and knows a batch of SQS messages as an action of its own
    where AWS asks for the permission to do the single thing.
    """
    declared = template.get("Parameters", {})
    for function in _functions(template):
        for event in function.get("Events", {}).values():
            scaling = event.get("Properties", {}).get("ScalingConfig", {})
            number = scaling.get("MaximumConcurrency")
            if isinstance(number, dict) and number.get("Ref") in declared:
                name = number["Ref"]
                scaling["MaximumConcurrency"] = int(parameters.get(name, declared[name].get("Default", 2)))
    for resource in template.get("Resources", {}).values():
        for statement in _statements(resource.get("Properties", {})):
            actions = statement.get("Action", [])
            actions = [actions] if isinstance(actions, str) else actions
            batches = [f"{action}Batch" for action in actions if action in _SQS_BATCHED]
            if batches:
                statement["Action"] = [*actions, *batches]


def _statements(part: object) -> Iterator[dict[str, Any]]:
    """Yield each policy statement that stands somewhere in a part of a template."""
    if isinstance(part, dict):
        if "Effect" in part and "Action" in part:
            yield part
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _statements(each)


def _code(source: Path) -> bytes:
    """Return the functions' code as a zip, compiled: MiniStack unpacks it anew for every process it starts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(source.glob("aitems_bridge/**/*.py")):
            name, text = path.relative_to(source), path.read_bytes()
            archive.writestr(str(name), text)
            try:
                code = compile(text, str(name), "exec", dont_inherit=True)
            except SyntaxError as error:
                raise StackError(f"{name} does not compile: {error}") from error
            compiled = MAGIC_NUMBER + _UNCHECKED_HASH + source_hash(text) + marshal.dumps(code)  # see PEP 552
            archive.writestr(f"{name.parent}/__pycache__/{name.stem}.{sys.implementation.cache_tag}.pyc", compiled)
    return packed.getvalue()


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""Which bridge is meant: the one on this machine, or one that is deployed on AWS under a stack's name.

A deployed one is found through CloudFormation, by the names that its template gives to outputs and resources, and asked
with the AWS credentials of whoever types.
"""

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    UnauthorizedSSOTokenError,
)
from botocore.exceptions import ConnectionError as NoConnection

from aitems_bridge.aitems import AiTEMS
from aitems_bridge.errors import NotRecorded
from aitems_bridge.ledger import Ledger
from aitems_bridge.ncp import Keys
from aitems_bridge.record import DAY, HOUR, MINUTE, Numbers
from aitems_local.cloud import Clients, StackError, UsageError
from aitems_local.document import StackDocument, state_folder
from aitems_local.journal import Journal
from aitems_local.settled import Settled
from aitems_local.terminal import typed

if TYPE_CHECKING:
    from types_boto3_cloudformation.type_defs import StackResourceSummaryTypeDef, StackTypeDef

_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})
_DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException")


def denied(error: Exception) -> bool:
    """Whether AWS says that this identity may not do that."""
    return isinstance(error, ClientError) and error.response["Error"].get("Code") in _DENIED


class _Named(dict[str, str]):
    """What a stack has by name. Raises `StackError` for what it has not."""

    def __missing__(self, name: str) -> str:
        raise _lacking(name)


class Target:
    """A bridge that runs: ``document`` is what it left here where it is the local one, else ``stack`` names it.

    Everything is asked for when it is first used. Raises `StackError`, or what boto3 raises: `why` says that in a line.
    """

    def __init__(
        self,
        aws: Clients,
        *,
        document: StackDocument | None = None,
        stack: str = "",
        region: str | None = None,
        profile: str | None = None,
    ) -> None:
        self.aws = aws
        self.document = document
        self._stack = stack
        named = {"--stack": stack, "--region": region, "--profile": profile}
        self._where = [word for option, value in named.items() if value for word in (option, value)]

    @property
    def name(self) -> str:
        """What people call it."""
        return f"the stack {self._stack}" if self._stack else "the local stack"

    def command(self, *words: str) -> str:
        """Return a command about this very bridge, as it can be typed here."""
        return typed(*words, *self._where)

    @cached_property
    def described(self) -> "StackTypeDef":
        """What CloudFormation says of the stack. Raises `StackError` where it is not one of ours."""
        if self.document is None:
            described = self.aws.cloudformation.describe_stacks(StackName=self._stack)["Stacks"][0]
            if "LedgerTable" not in _outputs(described):
                said = f"{self._stack} ({described['StackStatus']}) has no output LedgerTable"
                raise StackError(f"{said}: it is no stack of aitems-bridge, or not a whole one")
            return described
        for described in self.aws.cloudformation.describe_stacks()["Stacks"]:
            if _outputs(described).get("LedgerTable") == self.document.ledger_table:
                return described
        raise StackError(f"the local stack is not the one that left word: start `{typed('up')}` again")

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        return _outputs(self.described)

    @cached_property
    def parameters(self) -> dict[str, str]:
        """The parameters that it was deployed with, those left at their defaults included."""
        return _Named(
            (one["ParameterKey"], one.get("ParameterValue", "")) for one in self.described.get("Parameters", [])
        )

    @cached_property
    def resources(self) -> "dict[str, StackResourceSummaryTypeDef]":
        """The stack's resources by logical id."""
        pages = self.aws.cloudformation.get_paginator("list_stack_resources").paginate(
            StackName=self.described["StackName"]
        )
        return {one["LogicalResourceId"]: one for page in pages for one in page["StackResourceSummaries"]}

    @property
    def webhook_url(self) -> str:
        """The base to which ``/hooks/{caller}`` is added."""
        return self.document.webhook_url if self.document else self.outputs["WebhookUrl"]

    @cached_property
    def ledger(self) -> Ledger:
        """Its ledger."""
        table = self.document.ledger_table if self.document else self.outputs["LedgerTable"]
        return Ledger(self.aws.dynamodb, table)

    @property
    def doors(self) -> "StackDocument | Deployed":
        """Where requests go. The callers of a deployed one are read from its secret once they are asked for."""
        return self.document or Deployed(self)

    def announced(self, *ids: str) -> Journal | Settled:
        """Return what it announced, of these requests at least: the local journal, or what a ledger tells."""
        if self.document:
            return self.document.announced()
        return Settled(self.ledger, self.doors.account, self.doors.region, ids)

    @cached_property
    def numbers(self) -> Numbers:
        """The times that an operator's writes go by."""
        usual = Numbers()
        return Numbers(
            give_up=round(float(self.parameters.get("GiveUpAfterMinutes") or usual.give_up / MINUTE) * MINUTE),
            retention=round(float(self.parameters.get("RetentionDays") or usual.retention / DAY) * DAY),
        )

    def physical(self, logical: str) -> str:
        """Return a resource's own name. Raises `StackError` where the stack has none by that logical id."""
        found = self.resources.get(logical)
        if found is None:
            raise _lacking(logical)
        return found["PhysicalResourceId"]

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of something that is where the stack is."""
        _, partition, _, region, account, _ = self.outputs["EventBusArn"].split(":", 5)
        return f"arn:{partition}:{service}:{region}:{account}:{resource}"

    def secret(self, output: str) -> str:
        """Return the text of a secret that an output names. Raises `StackError` where it holds none."""
        arn = self.outputs[output]
        answer = self.aws.secrets.get_secret_value(SecretId=arn)
        if "SecretString" not in answer:
            raise StackError(f"the secret {arn} holds bytes, where text is needed")
        return answer["SecretString"]

    def fill(self, output: str, file: str) -> str:
        """Return what fills a secret in."""
        if self.document:
            return f"start `{typed('up')}` again, which fills it anew"
        return f"`aws secretsmanager put-secret-value --secret-id {self.outputs[output]} --secret-string file://{file}`"

    def aitems(self) -> AiTEMS:
        """Return AiTEMS as this bridge calls it, which needs the right to read the keys; nothing else here does."""
        try:
            found: Any = json.loads(self.secret("KeysSecretArn"))
            keys = Keys(found["access_key"], found["secret_key"])
        except (ValueError, TypeError, KeyError):
            raise StackError("AiTEMS is to be asked, and the keys secret is not filled in") from None
        offset = _offset(self.parameters.get("AitemsUtcOffset", "+09:00"))
        return AiTEMS(self.parameters["AitemsBaseUrl"], lambda _: (keys, True), utc_offset=offset)


class Deployed:
    """The doors of a bridge on AWS, as whoever types may use them."""

    chats_url = ""

    def __init__(self, bridge: Target) -> None:
        self._bridge = bridge
        self.webhook_url = bridge.outputs["WebhookUrl"]
        self.event_bus = bridge.outputs["EventBusName"]
        self.queue_url = bridge.outputs["QueueUrl"]
        *_, self.region, self.account, _ = bridge.outputs["EventBusArn"].split(":")

    @cached_property
    def callers(self) -> dict[str, Any]:
        """The callers document: who may read it can sign as any of them. Raises `StackError`."""
        try:
            found = json.loads(self._bridge.secret("CallersSecretArn"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise StackError(f"the callers secret is no JSON object: see `{self._bridge.command('doctor')}`")
        return found

    def as_producer(self) -> Clients:
        """Return the clients of whoever types."""
        return self._bridge.aws


def target(stack: str | None, region: str | None, profile: str | None) -> Target:
    """Return the bridge of a stack on AWS, or the local one where none is named. Raises `StackError`."""
    if stack is None:
        if region or profile:
            raise UsageError("--region and --profile say where a --stack is, and none is named")
        document = StackDocument.load(state_folder())
        return Target(document.as_admin(), document=document)
    if not stack:
        raise UsageError("--stack wants the name of a stack")
    clients = Clients(boto3.Session(profile_name=profile, region_name=region), _CONFIG)
    return Target(clients, stack=stack, region=region, profile=profile)


def why(error: Exception, what: str) -> str:  # noqa: PLR0911  # a table
    """Return in a sentence with its remedy why AWS did not answer, or answered no, when it was asked about that."""
    match error:
        case ProfileNotFound():
            return f"{error}: `aws configure list-profiles` names those that there are"
        case NoRegionError():
            return f"in which region is {what}? Say --region, or set AWS_DEFAULT_REGION"
        case NoCredentialsError() | PartialCredentialsError():
            return "there are no AWS credentials: say --profile, or sign in"
        case SSOTokenLoadError() | UnauthorizedSSOTokenError():
            return "the AWS session has ended: sign in again (`aws sso login`)"
        case NotRecorded():
            return f"the ledger of {what} does not answer ({error.cause})"
        case ClientError():
            return _refusal(what, error)
        case HTTPClientError() | NoConnection():
            return f"AWS cannot be asked about {what}: {error}; is the network there?"
    return f"AWS cannot be asked about {what}: {error}"


def _refusal(what: str, error: ClientError) -> str:
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", str(error))
    if code in _EXPIRED:
        return f"AWS does not accept these credentials ({code}): sign in again, or say --profile"
    if denied(error):
        return f"you may not ask about {what} ({error.operation_name}): {message}"
    if error.operation_name == "DescribeStacks" and "does not exist" in message:
        return f"{what} cannot be read: {message}; is it in another --region, or account (--profile)?"
    return f"{what} cannot be read: {message}"


def last_part(identifier: str) -> str:
    """Return the own name of what an address or an ARN is of; of a stream, its table's."""
    return identifier.partition("/stream/")[0].rpartition(":")[2].rpartition("/")[2]


def _outputs(described: "StackTypeDef") -> dict[str, str]:
    return _Named((one["OutputKey"], one["OutputValue"]) for one in described.get("Outputs", []))


def _lacking(name: str) -> StackError:
    return StackError(f"the stack has no {name}: is it of another version?")


def _offset(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    return sign * (int(text[1:3]) * HOUR + int(text[4:6]) * MINUTE)

"""Which bridge an operator works on: the one on this machine, or one that is deployed on AWS under a stack's name."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound

from aitems_bridge.aitems import AiTEMS
from aitems_bridge.ledger import Ledger
from aitems_bridge.ncp import Keys
from aitems_bridge.record import DAY, HOUR, MINUTE, Numbers
from aitems_local.cloud import StackError
from aitems_local.document import StackDocument, state_folder
from aitems_local.terminal import typed

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_cloudformation.type_defs import StackTypeDef
    from types_boto3_secretsmanager import SecretsManagerClient

_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})


@dataclass(frozen=True, slots=True)
class Target:
    """A deployed bridge. ``aitems`` makes its client, which needs the right to read the keys; nothing else does."""

    ledger: Ledger
    numbers: Numbers
    aitems: Callable[[], AiTEMS]


def target(stack: str | None, region: str | None, profile: str | None) -> Target:
    """Return the bridge of a stack on AWS, or the local one where none is named. Raises `StackError`."""
    if stack is None:
        document = StackDocument.load(state_folder())
        aws = document.as_admin()
        described = _with_table(aws.cloudformation, document.ledger_table)
        return _target(described, Ledger(aws.dynamodb, document.ledger_table), aws.secrets)
    try:
        session = boto3.Session(profile_name=profile, region_name=region)
        formation = session.client("cloudformation", config=_CONFIG)
        described = formation.describe_stacks(StackName=stack)["Stacks"][0]
        table = _outputs(described).get("LedgerTable")
        if table is None:
            raise StackError(f"{stack} is no stack of aitems-bridge: it has no output LedgerTable")
        ledger = Ledger(session.client("dynamodb", config=_CONFIG), table)
        return _target(described, ledger, session.client("secretsmanager", config=_CONFIG))
    except ProfileNotFound as error:
        raise StackError(str(error)) from error
    except NoRegionError as error:
        raise StackError(f"in which region is the stack {stack}? Say --region, or set AWS_DEFAULT_REGION") from error
    except NoCredentialsError as error:
        raise StackError("there are no AWS credentials: say --profile, or sign in") from error
    except ClientError as error:
        raise StackError(
            f"the stack {stack} cannot be read: {error.response['Error'].get('Message', error)}"
        ) from error
    except BotoCoreError as error:
        raise StackError(f"AWS cannot be asked for the stack {stack}: {error}") from error


def _with_table(formation: "CloudFormationClient", table: str) -> "StackTypeDef":
    for described in formation.describe_stacks()["Stacks"]:
        if _outputs(described).get("LedgerTable") == table:
            return described
    raise StackError(f"the local stack is not the one that left word: start `{typed('up')}` again")


def _target(described: "StackTypeDef", ledger: Ledger, secrets: "SecretsManagerClient") -> Target:
    parameters = {one["ParameterKey"]: one.get("ParameterValue", "") for one in described.get("Parameters", [])}
    usual = Numbers()
    numbers = Numbers(
        give_up=round(float(parameters.get("GiveUpAfterMinutes") or usual.give_up / MINUTE) * MINUTE),
        retention=round(float(parameters.get("RetentionDays") or usual.retention / DAY) * DAY),
    )

    def aitems() -> AiTEMS:
        keys = _keys(secrets, _outputs(described)["KeysSecretArn"])
        url, offset = parameters["AitemsBaseUrl"], _offset(parameters.get("AitemsUtcOffset", "+09:00"))
        return AiTEMS(url, lambda _: (keys, True), utc_offset=offset)

    return Target(ledger, numbers, aitems)


def _outputs(described: "StackTypeDef") -> dict[str, str]:
    return {one["OutputKey"]: one["OutputValue"] for one in described.get("Outputs", [])}


def _keys(secrets: "SecretsManagerClient", arn: str) -> Keys:
    try:
        found: Any = json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])
        return Keys(found["access_key"], found["secret_key"])
    except (ClientError, BotoCoreError) as error:
        raise StackError(f"AiTEMS is to be asked, and its keys cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError):
        raise StackError("AiTEMS is to be asked, and the keys secret is not filled in") from None


def _offset(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    return sign * (int(text[1:3]) * HOUR + int(text[4:6]) * MINUTE)

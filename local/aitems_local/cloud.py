"""AWS on one machine: MiniStack as a child process on loopback, with IAM enforced and nothing left behind."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
import botocore.session
from botocore.config import Config

from aitems_local import keeper

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_cloudwatch import CloudWatchClient
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_events import EventBridgeClient
    from types_boto3_iam import IAMClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_logs import CloudWatchLogsClient
    from types_boto3_s3 import S3Client
    from types_boto3_secretsmanager import SecretsManagerClient
    from types_boto3_sqs import SQSClient

LOOPBACK = "127.0.0.1"
REGION = "ap-northeast-2"
ACCOUNT = "123456789012"

# MiniStack takes "test" for the account's root user: what everyone who uses such an emulator tries first. It guards
# nothing; that MiniStack listens on loopback only is what does.
ROOT_KEY = "test"

_UNSET = (None, None, None, None)
_FILES = ("config_file", "credentials_file")

_START_TIMEOUT = 30.0


class StackError(Exception):
    """The local stack cannot do what was asked; the text says in one line what to do about it."""


class UsageError(StackError):
    """What was asked does not make sense, whatever the stack can do."""


class PortTakenError(StackError):
    """Somebody else listens on the port that was asked for."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is taken")
        self.port = port


class Clients:
    """The clients of one AWS identity, each made when it is first used. ``endpoint``: None for AWS's own."""

    def __init__(self, session: boto3.Session, config: Config, endpoint: str | None = None) -> None:
        self.session = session
        self._config = config
        self._endpoint = endpoint

    @cached_property
    def cloudformation(self) -> "CloudFormationClient":
        """Stacks."""
        return self.session.client("cloudformation", endpoint_url=self._endpoint, config=self._config)

    @cached_property
    def cloudwatch(self) -> "CloudWatchClient":
        """Metrics and alarms."""
        return self.session.client("cloudwatch", endpoint_url=self._endpoint, config=self._config)

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        """The ledger's table."""
        return self.session.client("dynamodb", endpoint_url=self._endpoint, config=self._config)

    @cached_property
    def events(self) -> "EventBridgeClient":
        """The event bus."""
        return self.session.client("events", endpoint_url=self._endpoint, config=self._config)

    @cached_property
    def iam(self) -> "IAMClient":
        """Users and roles."""
        return self.session.client("iam", endpoint_url=self._endpoint, config=self._config)

    @cached_property
    def functions(self) -> "LambdaClient":
        """Lambda."""
        return self.session.client("lambda", endpoint_url=self._endpoint, config=self._config)

    @cached_property
    def logs(self) -> "CloudWatchLogsClient":
        """What the functions wrote."""
        return self.session.client("logs", endpoint_url=self._endpoint, config=self._config)

    @cached_property
    def s3(self) -> "S3Client":
        """The functions' code."""
        return self.session.client("s3", endpoint_url=self._endpoint, config=self._config)

    @cached_property
    def secrets(self) -> "SecretsManagerClient":
        """The keys and the callers."""
        return self.session.client("secretsmanager", endpoint_url=self._endpoint, config=self._config)

    @cached_property
    def streams(self) -> Any:  # noqa: ANN401  one of botocore's run-time classes
        """What changed in tables, and when."""
        return self.session.client("dynamodbstreams", endpoint_url=self._endpoint, config=self._config)

    @cached_property
    def sqs(self) -> "SQSClient":
        """Queues."""
        return self.session.client("sqs", endpoint_url=self._endpoint, config=self._config)


class AwsClients(Clients):
    """The same of an identity at an endpoint on this machine."""

    def __init__(self, endpoint: str, region: str, key: str, secret: str) -> None:
        self.endpoint = endpoint
        # Neither the user's profile nor their configuration files have a say in it.
        nobody = botocore.session.Session(dict.fromkeys(_FILES, (None, None, os.devnull, None)) | {"profile": _UNSET})
        config = Config(
            connect_timeout=2,
            read_timeout=60,
            max_pool_connections=32,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
        super().__init__(boto3.Session(key, secret, region_name=region, botocore_session=nobody), config, endpoint)


class Cloud(AwsClients):
    """A running MiniStack. It, and each function process it keeps, ends with this process, also when that is killed.

    Starting returns at once; `wait` waits until it answers.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        check_port(self.port)
        super().__init__(f"http://{LOOPBACK}:{self.port}", REGION, ROOT_KEY, ROOT_KEY)
        self.version = version("ministack")
        self.folder = Path(tempfile.gettempdir(), f"aitems-bridge-{secrets.token_hex(6)}")  # the keeper makes it
        self._keeper = subprocess.Popen(  # noqa: S603  our own keeper
            [sys.executable, "-I", keeper.__file__, str(self.folder), sys.executable, "-m", "ministack"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=self._environment(),
        )

    def wait(self) -> None:
        """Wait until MiniStack answers."""
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            if not self.running:
                raise StackError(f"MiniStack did not start: {self._keeper.communicate()[0].strip()}")
            if time.monotonic() > deadline:
                raise StackError(f"MiniStack did not answer within {_START_TIMEOUT:.0f} s")
            time.sleep(0.02)

    @property
    def running(self) -> bool:
        """Whether the process still lives."""
        return self._keeper.poll() is None

    def log(self) -> str:
        """Return what MiniStack itself wrote so far."""
        log = self.folder / keeper.LOG
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def function_processes(self) -> dict[int, str]:
        """Return the process id of each kept function process with its function's name (Linux only)."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    environment = (folder / "environ").read_bytes().split(b"\0")
                except OSError:  # it ended meanwhile, or is somebody else's
                    continue
                of_ours = f"TMPDIR={self.folder}".encode() in environment
                names = [value for value in environment if value.startswith(b"AWS_LAMBDA_FUNCTION_NAME=")]
                if of_ours and names:
                    found[int(folder.name)] = names[0].partition(b"=")[2].decode()
        return found

    def stop(self) -> None:
        """Stop everything that was started here."""
        try:
            self._keeper.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._keeper.terminate()
            self._keeper.communicate(timeout=10)
        except ValueError:  # it was stopped before
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _environment(self) -> dict[str, str]:
        # Nothing of the user's AWS settings may reach the functions: they inherit this, and none of it exists there.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AITEMS_", "PYTHON"))}
        return kept | {
            "AUTH": "true",
            "BIND_HOST": LOOPBACK,
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_HOST": LOOPBACK,
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "NO_PROXY": f"{LOOPBACK},localhost",
            "no_proxy": f"{LOOPBACK},localhost",
            "TMPDIR": str(self.folder),
        }

    def _answers(self) -> bool:
        connection = HTTPConnection(LOOPBACK, self.port, timeout=2)
        try:
            connection.request("GET", "/_ministack/health")
            return connection.getresponse().status == 200  # noqa: PLR2004
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def free_port() -> int:
    """Return a port nobody listens on just now."""
    with socket.create_server((LOOPBACK, 0)) as server:
        return int(server.getsockname()[1])


def check_port(port: int) -> None:
    """Raise `PortTakenError` if the port cannot be had."""
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError as error:
        raise PortTakenError(port) from error

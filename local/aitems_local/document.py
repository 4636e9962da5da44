"""What there is to know about a running local stack, as `up --json` prints it and the other commands read it."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from aitems_local.cloud import ACCOUNT, AwsClients, StackError
from aitems_local.journal import Journal
from aitems_local.terminal import typed

ROOT = Path(__file__).resolve().parents[2]

FOLDER_VARIABLE = "AITEMS_BRIDGE_FOLDER"


def state_folder() -> Path:
    """Return the folder where a running stack leaves word: in the project, unless the environment names another."""
    return Path(os.environ.get(FOLDER_VARIABLE) or ROOT / ".aitems-bridge")


def make_state_folder() -> None:
    """Make it, readable by this user only. Raises `StackError`."""
    folder = state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"{folder}: {error.strerror}; {FOLDER_VARIABLE} names the folder") from None


@dataclass(frozen=True, slots=True)
class Credentials:
    """An AWS identity's keys."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StackDocument:
    """Where everything of one local stack is. ``admin`` may do all; ``producer`` only put events on the bus."""

    webhook_url: str
    aws_endpoint: str
    region: str
    event_bus: str
    ledger_table: str
    queue_url: str
    dlq_url: str
    outcomes_queue_url: str
    aitems_url: str
    chats_url: str
    callers: dict[str, Any]
    admin: Credentials
    producer: Credentials
    journal: str
    pid: int
    console_url: str = ""
    """Empty where there is no console."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what the stack that is running left there; raise `StackError` if there is none."""
        try:
            found = json.loads((folder / "stack.json").read_text("utf-8"))
            found |= {name: Credentials(**found[name]) for name in ("admin", "producer")}
            document = cls(**found | {"pid": int(found["pid"])})
        except FileNotFoundError:
            raise StackError(f"no local stack is running: start one with `{typed('up')}` in another terminal") from None
        except OSError as error:
            raise StackError(f"{folder / 'stack.json'}: {error.strerror}; {FOLDER_VARIABLE} names the folder") from None
        except (ValueError, KeyError, TypeError):
            raise StackError(f"{folder.name}/stack.json is damaged: start `{typed('up')}` again") from None
        if not alive(document.pid):
            raise StackError(f"the local stack has stopped: start one with `{typed('up')}` in another terminal")
        return document

    def save(self, folder: Path) -> None:
        """Leave word for the other commands, readable by this user only."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = folder / f"stack.json.{self.pid}"
        draft.touch(mode=0o600)
        draft.write_text(self.json() + "\n", "utf-8")
        draft.replace(folder / "stack.json")

    def remove(self, folder: Path) -> None:
        """Take the word back, unless another stack has left its own meanwhile."""
        try:
            if json.loads((folder / "stack.json").read_text("utf-8"))["pid"] == self.pid:
                (folder / "stack.json").unlink()
        except (OSError, ValueError, KeyError):
            return

    def json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @property
    def account(self) -> str:
        """The account that everything is in."""
        return ACCOUNT

    def as_admin(self) -> AwsClients:
        """Return clients that may do everything."""
        return AwsClients(self.aws_endpoint, self.region, self.admin.access_key_id, self.admin.secret_access_key)

    def as_producer(self) -> AwsClients:
        """Return clients that may do what a producer of requests may."""
        return AwsClients(self.aws_endpoint, self.region, self.producer.access_key_id, self.producer.secret_access_key)

    def announced(self) -> Journal:
        """Return the events announced so far."""
        return Journal(Path(self.journal))


def alive(pid: int) -> bool:
    """Whether a process of that id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

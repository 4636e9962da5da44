"""The command line: what may be asked, and what an exit code means. What each command does is in `commands`.

Exit codes: 0 done as asked · 1 it was refused or failed · 2 usage · 3 the environment is in the way (port, dependency,
no stack) · 4 not settled within the time · 130, 143 interrupted before ready.
"""

import argparse
import difflib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from aitems_local.terminal import NAME, typed

OK, REFUSED, USAGE, ENVIRONMENT, UNSETTLED = range(5)

_LONGEST_REASON = 300

_HIGHEST_PORT = 65_532
"""The three after it are used too."""
_LONGEST_WAIT = 86_400  # seconds
_MOST_AT_ONCE = 1000

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot write is no reason to end
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    try:
        if "_ARGCOMPLETE" in os.environ and argv is None:  # a shell asks what could follow
            _completion().complete(parser)
        arguments = parser.parse_args(argv)
    except SystemExit as end:  # argparse has said what is wrong, or shown the help
        return int(end.code or 0)
    try:
        if arguments.command == "completion":  # shells ask for it whenever they start: nothing slow is imported
            print(_completion().script(arguments.shell).strip(), flush=True)
            return OK
        from aitems_local import commands  # noqa: PLC0415  what it needs may be missing, which is to be said in a line
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: run `make setup`", file=sys.stderr)
        return ENVIRONMENT
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        print(f"{NAME}: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of it is not tried again
        return ENVIRONMENT
    return commands.run(arguments)


def _completion() -> ModuleType:
    from aitems_local import completion  # noqa: PLC0415  only shells need it

    return completion


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line that ends with the remedy."""

    def parse_known_args(  # type: ignore[override]  # the base takes anything for a namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, and refuse here what is left over: this parser's help is the one that helps."""
        parsed, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"there is no {' '.join(left)}" if left[0].startswith("-") else f"too much: {' '.join(left)}")
        for name, value in vars(parsed).items():
            if isinstance(value, str) and _is_no_text(value):
                self.error(f"{name} is no UTF-8 text")
        return parsed, left

    def error(self, message: str) -> NoReturn:
        """Say it and exit."""
        wrong = re.fullmatch(r"argument (.+?): invalid choice: '(.*)' \(choose from (.+)\)", message)
        if wrong:
            known = re.findall(r"[\w-]+", wrong[3])
            close = difflib.get_close_matches(wrong[2], known, 1)
            meant = f"did you mean {close[0]}?" if close else f"say one of {', '.join(known)}"
            message = f"{wrong[1]} is not {wrong[2]!r}: {meant}"
        _, *words = self.prog.split()
        self.exit(USAGE, f"{self.prog}: {message.removeprefix('argument ')} (`{typed(*words, '--help')}` says more)\n")


class _Help(argparse.HelpFormatter):
    """Leaves room for the longest command's name, for which argparse forgets how far it is indented."""

    def add_argument(self, action: argparse.Action) -> None:
        """Count it, and what is below it, where it will stand."""
        super().add_argument(action)
        for each in self._iter_indented_subactions(action):
            length = len(self._format_action_invocation(each)) + self._current_indent
            self._action_max_length = max(self._action_max_length, length)


def _is_no_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def _parser() -> argparse.ArgumentParser:
    about = "Creates AiTEMS services from webhooks and events: runs it here, and looks after what is deployed."
    parser = _Parser(prog=NAME, description=about, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"{NAME} {version(NAME)}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_up(commands.add_parser("up", help="run the bridge on this machine until Ctrl-C"))
    demo = commands.add_parser("demo", help="run it, and show a creation through each door (make run)")
    demo.add_argument("--port", type=_port, default=4580, help="AWS endpoint; 0: any free (default: 4580)")
    demo.add_argument("--once", action="store_true", help="stop when everything was shown")
    demo.add_argument("--no-console", action="store_true", help="without the page that shows each request")
    _add_send(commands.add_parser("send", help="ask for a service, really signed, and show what came of it"))
    _add_submit(commands.add_parser("submit", help="ask for a service for each row of a file, and wait for all"))
    events = commands.add_parser("events", help="print what the bridge announced")
    events.add_argument("--follow", action="store_true", help="go on until Ctrl-C, or until the stack stops")
    events.add_argument("--since", type=_duration, metavar="1h", help="only of that time (s, m, h, d)")
    _add_where(events)
    requests = commands.add_parser("requests", help="print what the ledger says of requests")
    requests.add_argument(
        "which",
        nargs="?",
        metavar="ID|NAME",
        help="one request, by its id or how it begins; or who has a name, and who waits for it",
    )
    requests.add_argument(
        "--state", choices=["received", "creating", "unknown", "created", "rejected", "failed"], help="only these"
    )
    _add_where(requests)
    about_callers = _add_callers(
        commands.add_parser("callers", help="check the callers document, or make an entry for it")
    )
    _add_redrive(commands.add_parser("redrive", help="have requests that are stuck examined, or announced, once more"))
    resolve = commands.add_parser("resolve", help="settle a failed request by a person's decision")
    resolve.add_argument("id", metavar="ID", help="the request by its id or how it begins, or by the name it asked for")
    verdict = resolve.add_mutually_exclusive_group(required=True)
    verdict.add_argument("--created", metavar="SERVICE_ID", help="it made this service (AiTEMS is asked whether so)")
    verdict.add_argument("--rejected", type=_reason, metavar="REASON", help="it is closed, and its name given back")
    _add_where(resolve)
    doctor = commands.add_parser("doctor", help="look at everything that a bridge needs, and name each remedy")
    doctor.description = (
        "Looks at the stack, the clocks, the keys and whether AiTEMS takes them, the callers, the chat secret, the "
        "webhook, the functions with their permissions and event sources, the rule, the queues, the ledger, who hears "
        "the outcomes, and the alarms. A line each: well, or the remedy. Changes nothing and shows no secret."
    )
    doctor.add_argument(
        "--strict",
        action="store_true",
        help="exit with 1 also where something is to be thought about, or could not be looked at",
    )
    _add_where(doctor)
    completing = commands.add_parser("completion", help="print what has a shell complete these commands")
    completing.description = 'Prints a script for the shell to read: eval "$(aitems-bridge completion bash)".'
    completing.add_argument("shell", choices=["bash", "zsh", "fish"])
    for command in (*commands.choices.values(), *about_callers):
        if command not in (demo, completing, commands.choices["callers"]):
            command.add_argument("--json", action="store_true", help="for machines, on stdout; progress goes to stderr")
    return parser


def _add_up(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--port",
        type=_port,
        default=4580,
        help="AWS endpoint; the emulator, the console and the chats on the next three; 0: any free (default: 4580)",
    )
    up.add_argument("--no-console", action="store_true", help="without the page that shows each request")
    up.add_argument("--aitems-url", metavar="URL", help="call this AiTEMS instead of the emulator")
    up.add_argument(
        "--access-key", metavar="K", help="for that AiTEMS; the secret key in the environment, AITEMS_SECRET_KEY"
    )
    up.add_argument("--callers", type=Path, metavar="FILE", help="the callers document (default: one of each scheme)")


def _add_send(send: argparse.ArgumentParser) -> None:
    send.add_argument("door", choices=["webhook", "github", "hmac", "slack", "works", "bus"])
    send.add_argument("name", nargs="?", metavar="NAME", help="the service's name")
    send.add_argument("--description", metavar="D")
    send.add_argument("--type", metavar="T", help="batch or interval")
    send.add_argument("--caller", metavar="C", help="who asks: a caller's name, or on the bus the event's source")
    send.add_argument("--key", metavar="KEY", help="the idempotency key; the same key is the same request")
    send.add_argument("--respond-async", action="store_true", help="do not wait for the outcome in the answer")
    send.add_argument("--wait", type=_whole_seconds, metavar="N", help="wait so many seconds for it at most")
    send.add_argument("--file", type=Path, metavar="EVENT", help="what was recorded, signed anew, instead of NAME")
    send.add_argument(
        "--timeout", type=_seconds, default=30, metavar="S", help="wait so long for the outcome's event (default: 30)"
    )
    instead = send.add_mutually_exclusive_group()
    instead.add_argument("--curl", action="store_true", help="do not send: print the curl command, freshly signed")
    instead.add_argument("--event", action="store_true", help="do not send: print the event for `sam local invoke`")
    _add_where(send)


def _add_submit(submit: argparse.ArgumentParser) -> None:
    submit.description = (
        "Asks for a service for each row, over the event bus. Nothing is sent unless every row is in order. A row's "
        "key, where its column 'key' says none, is made of what the row asks for: the same row is the same request, "
        "in whatever file and however often, and so makes one service. To ask anew for what was settled, give the row "
        "a key. What became of each row stands in FILE.result.csv or .jsonl at any moment, also after a kill."
    )
    submit.add_argument(
        "file", type=Path, metavar="FILE", help=".csv with a header, or .jsonl: name, description, type, key"
    )
    submit.add_argument(
        "--source",
        type=_source,
        default="aitems-bridge.submit",
        metavar="S",
        help="the events' source, a part of every key (default: aitems-bridge.submit)",
    )
    submit.add_argument("--resume", action="store_true", help="go on with what was begun; what failed is tried again")
    submit.add_argument("--dry-run", action="store_true", help="only check the file, and say what would be sent")
    submit.add_argument("--encoding", choices=["utf-8", "cp949"], default="utf-8", help="of the file (default: utf-8)")
    submit.add_argument(
        "--at-once", type=_number, default=100, metavar="N", help="open requests at once, at most (default: 100)"
    )
    submit.add_argument(
        "--timeout",
        type=_seconds,
        default=300,
        metavar="S",
        help="end when nothing was settled for so long (default: 300)",
    )
    _add_where(submit)


def _add_callers(callers: argparse.ArgumentParser) -> tuple[argparse.ArgumentParser, ...]:
    """Add both commands and return them."""
    which = callers.add_subparsers(dest="what", required=True, metavar="check|new")
    check = which.add_parser("check", help="say what each entry accepts, or why it is none")
    check.add_argument("file", type=Path, metavar="FILE", help="the callers document")
    check.add_argument("--payload", type=Path, metavar="FILE", help="say instead what becomes of this body")
    check.add_argument("--headers", type=Path, metavar="FILE", help="which came with these: JSON, or a line each")
    check.add_argument("--caller", metavar="C", help="from this caller")
    new = which.add_parser("new", help="print an entry with a fresh secret")
    new.add_argument("name", metavar="NAME", help="the caller's name, the last part of its address")
    new.add_argument("--scheme", choices=["standard", "github", "hmac", "slack", "works"], default="standard")
    return check, new


def _add_redrive(redrive: argparse.ArgumentParser) -> None:
    redrive.add_argument("ids", nargs="*", metavar="ID", help="these, by id or how it begins, or by name")
    redrive.add_argument("--all", action="store_true", help="all that failed, or that nobody works on any more")
    redrive.add_argument("--announce", action="store_true", help="with --since: outcomes only")
    redrive.add_argument(
        "--since",
        type=_duration,
        metavar="T",
        help="what happened in that time (s, m, h, d): announce or queue it again",
    )
    redrive.add_argument("--dry-run", action="store_true", help="only say what it would mean for each")
    _add_where(redrive)


def _add_where(command: argparse.ArgumentParser) -> None:
    command.add_argument("--stack", metavar="NAME", help="a stack on AWS (default: the local one)")
    command.add_argument("--region", help="where that stack is")
    command.add_argument("--profile", help="whose AWS credentials to use")


def _source(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,256}", text) or text.startswith("aws.") or text == "aitems.bridge":
        said = f"a source is up to 256 printable ASCII characters without spaces, not aws.… nor aitems.bridge: {text!r}"
        raise argparse.ArgumentTypeError(said)
    return text


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= _MOST_AT_ONCE:
        raise argparse.ArgumentTypeError(f"a number from 1 to {_MOST_AT_ONCE}, not {text!r}")
    return int(text)


def _reason(text: str) -> str:
    if not 1 <= len(text.strip()) <= _LONGEST_REASON:
        raise argparse.ArgumentTypeError(f"say why, in at most {_LONGEST_REASON} characters")
    return text.strip()


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > _HIGHEST_PORT:
        said = f"a port is a number from 0 to {_HIGHEST_PORT} (the three after it are used too), not {text!r}"
        raise argparse.ArgumentTypeError(said)
    return int(text)


def _whole_seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > _LONGEST_WAIT:
        raise argparse.ArgumentTypeError(f"a number of whole seconds, at most {_LONGEST_WAIT}, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?", text) or float(text) > _LONGEST_WAIT:
        raise argparse.ArgumentTypeError(f"a number of seconds, at most {_LONGEST_WAIT}, not {text!r}")
    return float(text)


def _duration(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?[smhd]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write 90s, 15m, 1h or 2d")
    return float(text[:-1]) * _UNITS[text[-1]]


if __name__ == "__main__":
    sys.exit(main())

"""What each command does. Each returns the exit code; what is in the way is raised as `StackError`, one line."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from aitems_bridge.ledger import Ledger
from aitems_bridge.record import Record
from aitems_local import caller_commands, operator_commands, senders
from aitems_local.chats import Message, said_to
from aitems_local.cli import ENVIRONMENT, OK, REFUSED, UNSETTLED, USAGE
from aitems_local.cloud import PortTakenError, StackError, UsageError
from aitems_local.demo import show
from aitems_local.document import StackDocument, alive, state_folder
from aitems_local.journal import Announced
from aitems_local.stack import Aitems, Callers, Stack, Step
from aitems_local.terminal import Terminal

CREATED = "AiTEMS Service Created"

_SECRETS_LIMIT = 65_536
_REPLIED_WITHIN = 10.0  # seconds that a chat's reply is waited for
_SETTLED_BEFORE = 5.0  # seconds to wait for a second event about a request that already has one


class Interrupted(BaseException):
    """Somebody asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def run(arguments: argparse.Namespace) -> int:
    """Do the command and return the exit code."""
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "up": up,
        "demo": demo,
        "send": send,
        "events": events,
        "requests": requests,
        "callers": caller_commands.callers,
        "redrive": operator_commands.redrive,
        "resolve": operator_commands.resolve,
    }
    try:
        with _interruptible():
            return commands[arguments.command](arguments)
    except Interrupted as end:
        return end.exit_code
    except (StackError, BotoCoreError, ClientError) as error:
        print(f"aitems-bridge: {_sentence(error, arguments.command)}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else ENVIRONMENT
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


# --- the stack ----------------------------------------------------------------------------------------------------


def up(arguments: argparse.Namespace) -> int:
    """Run the bridge until somebody ends it."""
    terminal = Terminal(sys.stderr if arguments.json else sys.stdout)
    aitems = _aitems(arguments.aitems_url, arguments.access_key)
    callers = _callers(arguments.callers) if arguments.callers else None
    begun = time.monotonic()
    with _running(terminal, port=arguments.port, aitems=aitems, callers=callers) as stack:
        document = stack.document
        try:
            document.save(state_folder())
            terminal.line(f"ready     in {time.monotonic() - begun:.1f} s")
            if arguments.json:
                print(document.json(), flush=True)
            else:
                _introduce(terminal, document)
            _stay(stack)
        except Interrupted:  # once ready, that is how it is meant to end
            return OK


def demo(arguments: argparse.Namespace) -> int:
    """Run the bridge, show what it does, and go on running unless told to stop."""
    terminal = Terminal(sys.stdout)
    terminal.line(terminal.strong("aitems-bridge — one request, at most one service, exactly one recorded outcome"))
    terminal.line()
    begun = time.monotonic()
    with _running(terminal, port=arguments.port) as stack:
        stack.document.save(state_folder())
        terminal.line(f"ready     in {time.monotonic() - begun:.1f} s")
        terminal.line()
        if not show(stack, terminal, begun):
            return REFUSED
        if arguments.once:
            terminal.line("stopped")
            return OK
        try:
            terminal.line()
            terminal.line("Still running. Try, in another terminal:")
            _suggest(terminal)
            _stay(stack)
        except Interrupted:
            return OK


@contextmanager
def _running(
    terminal: Terminal, *, port: int, aitems: Aitems | None = None, callers: Callers | None = None
) -> Iterator[Stack]:
    def tell(step: Step) -> None:
        if step.what != "probe":
            terminal.line(
                f"{step.what:<10}{step.on:<51}{step.result}", None if step.what == "secrets" else step.seconds
            )

    with Stack.start(port=port, aitems=aitems, callers=callers, on_step=tell) as stack:
        try:
            yield stack
        finally:
            stack.document.remove(state_folder())


def _stay(stack: Stack) -> NoReturn:
    """Stay until `Interrupted`, or raise `StackError` when MiniStack ends by itself."""
    while stack.cloud.running:
        time.sleep(0.2)
    raise StackError("MiniStack has stopped by itself, and everything with it: start again")


def _introduce(terminal: Terminal, document: StackDocument) -> None:
    terminal.line()
    terminal.line(f"Webhooks  POST {document.webhook_url}/hooks/{{caller}}")
    for name, entry in document.callers.items():
        known = [senders.masked(secret) for secret in entry.get("secrets", [])] if isinstance(entry, dict) else []
        terminal.line(f"          caller {name}: {' '.join(known) or 'no secret'}")
    terminal.line(f"Events    bus {document.event_bus} at {document.aws_endpoint}, region {document.region}")
    terminal.line(f"AiTEMS    {document.aitems_url}")
    terminal.line()
    terminal.line("Try, in another terminal:")
    _suggest(terminal)


def _suggest(terminal: Terminal) -> None:
    terminal.line('  .venv/bin/aitems-bridge send webhook my-first --description "hello"')
    terminal.line("  .venv/bin/aitems-bridge send bus my-second")
    terminal.line("  .venv/bin/aitems-bridge send webhook my-first           # what a duplicate looks like")
    terminal.line("  .venv/bin/aitems-bridge events --follow")
    terminal.line("Ctrl-C stops everything.")


def _aitems(url: str | None, access_key: str | None) -> Aitems | None:
    if not url:
        if access_key:
            raise UsageError("--access-key needs --aitems-url: the emulator has keys of its own")
        return None
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname or address.path.strip("/") or address.query:
        raise UsageError(f"--aitems-url wants an origin, such as https://aitems.apigw.ntruss.com, not {url}")
    if address.scheme == "http" and address.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError("--aitems-url may be plain http on this machine only")
    secret_key = os.environ.get("AITEMS_SECRET_KEY")
    if not access_key or not secret_key:
        raise UsageError("--aitems-url needs --access-key, and the secret key in AITEMS_SECRET_KEY")
    return Aitems(url.rstrip("/"), access_key, secret_key)


def _callers(path: Path) -> Callers:
    try:
        text = path.read_text("utf-8")
        found: object = json.loads(text)
    except OSError as error:
        raise StackError(f"--callers {path}: {error.strerror}") from error
    except ValueError as error:
        raise StackError(f"--callers {path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise StackError(f'--callers {path}: must be one object, {{"NAME": {{"scheme": "standard", "secrets": […]}}}}')
    if len(text.encode()) > _SECRETS_LIMIT:
        raise StackError(f"--callers {path}: is larger than 64 KiB, which no secret can be")
    return found


# --- requests -----------------------------------------------------------------------------------------------------


def send(arguments: argparse.Namespace) -> int:
    """Ask for a service through a door, and show the answer and the event."""
    document = StackDocument.load(state_folder())
    request = _request(arguments, document)
    if arguments.curl:
        print(request.curl())
        return OK
    if arguments.event:
        print(json.dumps(request.invocation(), ensure_ascii=False, indent=1))
        return OK
    terminal = Terminal(sys.stderr if arguments.json else sys.stdout)
    begun = time.time()
    answer: senders.Answer | None = None
    recorded, replies = True, list[Message]()
    if isinstance(request, senders.SignedWebhook):
        terminal.line(f"→ POST /hooks/{request.caller}   key {request.key}   {request.body.decode(errors='replace')}")
        answer = request.send()
        _tell_answer(terminal, answer)
        recorded = _is_recorded(document, request, answer)
        event = _event_after(document, request, answer, begun, arguments.timeout) if recorded else None
    else:
        detail = json.dumps(request.detail, ensure_ascii=False)
        terminal.line(f"→ PutEvents  {senders.REQUESTED}   source {request.source}   {detail}")
        request.send()
        event = _event_of_key(document, request, begun, arguments.timeout)
    if event:
        terminal.line(f"⇒ event  {told(terminal, event)}", event.arrived - begun if event.arrived >= begun else None)
    if isinstance(request, senders.SignedWebhook) and request.reply_to:
        # Slack hears the outcome later; NAVER WORKS hears everything that way, the acknowledgement as well.
        many = (arguments.door == "works") + bool(event)
        replies = said_to(document.chats_url, request.reply_to, since=begun, many=many, timeout=_REPLIED_WITHIN)
        for reply in replies:
            terminal.line(f"⇐ {arguments.door:<6} {reply.text}", reply.at - begun)
    if arguments.json:
        told_answer = answer and {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
        said = [reply.body for reply in replies]
        print(json.dumps({"answer": told_answer, "event": event and event.event, "replies": said}, ensure_ascii=False))
    if event:
        return OK if event.kind == CREATED else REFUSED
    if not recorded:
        return REFUSED
    terminal.line(terminal.bad(f"no event within {arguments.timeout:g} s") + "; see `aitems-bridge requests`")
    return UNSETTLED


def _request(arguments: argparse.Namespace, document: StackDocument) -> senders.SignedWebhook | senders.BusEvent:
    if bool(arguments.name) == bool(arguments.file):
        raise UsageError("say a NAME, or --file EVENT, and not both")
    asked = senders.service(arguments.name, arguments.description, arguments.type)
    if arguments.file and asked:
        raise UsageError("--description and --type go with a NAME: what --file holds says it all")
    recorded = senders.Recorded.read(arguments.file) if arguments.file else None
    said = ["respond-async"] * arguments.respond_async
    said += [f"wait={arguments.wait}"] * (arguments.wait is not None)
    if arguments.door == "bus":
        if said:
            raise UsageError("--respond-async and --wait are for webhooks: nobody waits for an answer on the bus")
        asked = recorded.detail if recorded else asked
        return senders.bus_event(document, asked, source=arguments.caller or senders.PRODUCER, key=arguments.key)
    if said and arguments.door in ("slack", "works"):
        raise UsageError("--respond-async and --wait are for webhooks: a chat is answered at once, and told later")
    return senders.delivery(
        document,
        senders.SCHEMES[arguments.door],
        asked,
        caller=arguments.caller,
        key=arguments.key,
        prefer=", ".join(said) or None,
        recorded=recorded,
    )


def _tell_answer(terminal: Terminal, answer: senders.Answer) -> None:
    said = [
        f"{name}: {answer.headers[name]}" for name in ("Location", "Idempotency-Replayed") if name in answer.headers
    ]
    terminal.line(f"← {answer.status}  {'  '.join(said)}", answer.seconds)
    terminal.line(f"  {json.dumps(answer.body, ensure_ascii=False)}")


def _is_recorded(document: StackDocument, request: senders.SignedWebhook, answer: senders.Answer) -> bool:
    """Whether a request came of it; a chat's answer does not say so, but the ledger does."""
    if not request.reply_to:
        return answer.request_id is not None
    return Ledger(document.as_admin().dynamodb, document.ledger_table).get(request.request_id) is not None


def _event_after(
    document: StackDocument, request: senders.SignedWebhook, answer: senders.Answer, begun: float, timeout: float
) -> Announced | None:
    """Return the event of an answered request: an answer that is settled may be an earlier one's."""
    settled = bool(request.reply_to) or answer.status in (200, 201, 422)

    def wanted(event: Announced) -> bool:
        return event.metadata["request_id"] == request.request_id and (settled or event.arrived >= begun)

    return document.announced().wait(wanted, timeout)


def _event_of_key(document: StackDocument, request: senders.BusEvent, begun: float, timeout: float) -> Announced | None:
    """Return the event of a request from the bus. One whose key was settled before is not announced again."""

    def wanted(event: Announced) -> bool:
        said = event.metadata
        return bool(said["caller"] == request.source and said["idempotency_key"] == request.key)

    earlier = [event for event in document.announced().read() if wanted(event) and event.arrived < begun]
    patience = min(timeout, _SETTLED_BEFORE) if earlier else timeout
    later = document.announced().wait(lambda event: wanted(event) and event.arrived >= begun, patience)
    return later or (earlier[-1] if earlier else None)


def events(arguments: argparse.Namespace) -> int:
    """Print what was announced."""
    document = StackDocument.load(state_folder())
    terminal = Terminal(sys.stdout)
    since = time.time() - arguments.since if arguments.since is not None else 0.0
    follow = arguments.follow
    try:
        for event in document.announced().follow(lambda: follow and alive(document.pid), since=since):
            if arguments.json:
                terminal.line(json.dumps(event.event, ensure_ascii=False))
            else:
                terminal.line(f"{time.strftime('%H:%M:%S', time.localtime(event.arrived))}  {told(terminal, event)}")
    except Interrupted:
        return OK
    return OK


def requests(arguments: argparse.Namespace) -> int:
    """Print what the ledger says."""
    document = StackDocument.load(state_folder())
    ledger = Ledger(document.as_admin().dynamodb, document.ledger_table)
    if arguments.which:
        one = ledger.get(arguments.which) or ledger.last_of(arguments.which)
        found = [one] if one else []
    else:
        found = sorted(ledger.scan(), key=lambda record: record.requested_at)
    found = [record for record in found if arguments.state in (None, record.state)]
    terminal = Terminal(sys.stdout)
    for record in found:
        if arguments.json:
            terminal.line(json.dumps(_facts(record), ensure_ascii=False))
        else:
            problem = record.problem or record.last
            made = record.service_id or (problem.detail if problem else "")
            terminal.line(
                f"{terminal.id(record.id)}  {record.state:<9} {record.name:<20}  {record.channel} {record.caller}"
                f"  attempts {record.attempts}  {made}"
            )
    if arguments.which and not found:
        print(f"the ledger knows no request {arguments.which}", file=sys.stderr)
        return REFUSED
    return OK


def _facts(record: Record) -> dict[str, Any]:
    facts = {name: getattr(record, name) for name in record.__dataclass_fields__}
    for name in ("problem", "last"):
        facts[name] = facts[name] and facts[name].document()
    facts["answer"] = record.answer and json.loads(record.answer)
    return {name: value for name, value in facts.items() if name != "clock"}


def told(terminal: Terminal, event: Announced) -> str:
    """Return an event in a line."""
    data = event.event["detail"]["data"]
    about = (
        f"service {data.get('serviceId')}" if event.kind == CREATED else f"{data.get('title')}: {data.get('detail')}"
    )
    adopted = "  adopted" if event.metadata.get("adopted") else ""
    kind = terminal.good(event.kind) if event.kind == CREATED else terminal.bad(event.kind)
    return f"{kind}  {terminal.id(event.metadata['event_id'])}  {about}{adopted}"


# --- around them --------------------------------------------------------------------------------------------------


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the signals that end a process into `Interrupted`, once: what follows is the tidying up."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # not under nohup
        numbers.append(signal.SIGHUP)

    def interrupt(number: int, _: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _by_whom(port: int) -> str:
    """Return who has the port, if it is a stack of ours."""
    try:
        document = StackDocument.load(state_folder())
    except StackError:
        return ""
    ours = [urlsplit(url).port for url in (document.aws_endpoint, document.aitems_url)]
    return f" (by another aitems-bridge, pid {document.pid})" if port in ours else ""


def _sentence(error: Exception, command: str) -> str:
    if isinstance(error, PortTakenError):
        other = "make run PORT=4680" if command == "demo" else "--port 4680, or --port 0 for any that is free"
        return f"{error}{_by_whom(error.port)}: stop it or use {other}"
    if isinstance(error, StackError):
        return str(error)
    return f"the local stack does not answer as it should: {error}"

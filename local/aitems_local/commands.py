"""What each command does. Each returns the exit code; what is in the way is raised as `StackError`, one line."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection

from aitems_bridge import chat
from aitems_bridge.errors import NotRecorded, type_prefix
from aitems_local import caller_commands, operate, operator_commands, senders, submit
from aitems_local.chats import Message, said_to
from aitems_local.cli import ENVIRONMENT, OK, REFUSED, UNSETTLED, USAGE
from aitems_local.cloud import PortTakenError, StackError, UsageError, check_port
from aitems_local.console.server import Console
from aitems_local.demo import show
from aitems_local.document import StackDocument, alive, make_state_folder, state_folder
from aitems_local.journal import Announced, Journal
from aitems_local.settled import Settled
from aitems_local.stack import Aitems, Callers, Stack, Step
from aitems_local.target import Target, target, why
from aitems_local.telling import CREATED, json_line, moment, of_event, of_request, printable, request_json
from aitems_local.terminal import NAME, Terminal, typed

_CONSOLE = 2  # ports from the first one
_SECRETS_LIMIT = 65_536
_MOST_SHOWN = 1000  # characters of what is sent
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
        "doctor": operator_commands.doctor,
        "submit": submit.submit,
    }
    try:
        with _interruptible():
            return commands[arguments.command](arguments)
    except Interrupted as end:
        return end.exit_code
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (StackError, BotoCoreError, ClientError, NotRecorded, OSError) as error:
        print(f"aitems-bridge: {_sentence(error, arguments)}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else ENVIRONMENT


# --- the stack ----------------------------------------------------------------------------------------------------


def up(arguments: argparse.Namespace) -> int:
    """Run the bridge until somebody ends it."""
    terminal = Terminal(sys.stderr if arguments.json else sys.stdout)
    aitems = _aitems(arguments.aitems_url, arguments.access_key)
    callers = _callers(arguments.callers) if arguments.callers else None
    begun = time.monotonic()
    console = not arguments.no_console
    with _running(terminal, port=arguments.port, aitems=aitems, callers=callers, console=console) as stack:
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
    promise = "one request, at most one service, exactly one recorded outcome"
    terminal.line(terminal.strong(f"{NAME} {version(NAME)} — {promise}"))
    terminal.line()
    begun = time.monotonic()
    with _running(terminal, port=arguments.port, console=not arguments.no_console) as stack:
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
            _suggest(terminal, stack.document)
            _stay(stack)
        except Interrupted:
            return OK


@contextmanager
def _running(
    terminal: Terminal, *, port: int, aitems: Aitems | None = None, callers: Callers | None = None, console: bool
) -> Iterator[Stack]:
    def tell(step: Step) -> None:
        if step.what != "probe":
            terminal.step(step.what, step.on, step.result, None if step.what == "secrets" else step.seconds)

    make_state_folder()
    earlier = _earlier()
    for wanted in (port, port + _CONSOLE) if console and port else ():
        check_port(wanted)
    with ExitStack() as ends:
        stack = ends.enter_context(Stack.start(port=port, aitems=aitems, callers=callers, on_step=tell))
        if console:
            page = ends.enter_context(Console(stack, port=port + _CONSOLE if port else 0))
            stack.console_url = page.url
            tell(Step("start", "console (every request, step by step)", page.url, 0.0))
        if earlier:
            other = f"another stack runs at {earlier.aws_endpoint} (pid {earlier.pid})"
            print(f"{other}: commands go to this one until it stops, then to that one again", file=sys.stderr)
        try:
            yield stack
        finally:
            stack.document.remove(state_folder())
            if earlier and alive(earlier.pid) and not (state_folder() / "stack.json").exists():
                earlier.save(state_folder())


def _earlier() -> StackDocument | None:
    """Return the stack that has left word here before, and runs."""
    try:
        return StackDocument.load(state_folder())
    except StackError:
        return None


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
    terminal.line(f"          the whole secrets: {_as_seen(state_folder() / 'stack.json')}")
    terminal.line(f"Events    bus {document.event_bus} at {document.aws_endpoint}, region {document.region}")
    terminal.line(f"AiTEMS    {document.aitems_url}")
    terminal.line()
    terminal.line("Try, in another terminal:")
    _suggest(terminal, document)


def _suggest(terminal: Terminal, document: StackDocument) -> None:
    terminal.line(f'  {typed("send webhook my-first")} --description "hello"')
    terminal.line(f"  {typed('send bus my-second')}")
    terminal.line(f"  {typed('send webhook my-first')}           # what a duplicate looks like")
    terminal.line(f"  {typed('events')} --follow")
    if document.console_url:
        terminal.line(f"or open {document.console_url} in a browser: every request, step by step")
    terminal.line("Ctrl-C stops everything.")


def _as_seen(path: Path) -> Path:
    """Return a path as it is typed where this command was."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _aitems(url: str | None, access_key: str | None) -> Aitems | None:
    if not url:
        if access_key:
            raise UsageError("--access-key needs --aitems-url: the emulator has keys of its own")
        return None
    try:
        address = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"--aitems-url is no address: {error}") from error
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
    except (ValueError, RecursionError) as error:
        raise StackError(f"--callers {path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise StackError(f'--callers {path}: must be one object, {{"NAME": {{"scheme": "standard", "secrets": […]}}}}')
    if len(text.encode()) > _SECRETS_LIMIT:
        raise StackError(f"--callers {path}: is larger than 64 KiB, which no secret can be")
    return found


# --- requests -----------------------------------------------------------------------------------------------------


def send(arguments: argparse.Namespace) -> int:
    """Ask for a service through a door, and show the answer and the event."""
    bridge = target(arguments.stack, arguments.region, arguments.profile)
    request = _request(arguments, bridge.doors)
    if arguments.curl:
        print(request.curl())
        return OK
    if arguments.event:
        print(printable(json.dumps(request.invocation(), ensure_ascii=False, indent=1)))
        return OK
    terminal = Terminal(sys.stderr if arguments.json else sys.stdout)
    try:
        return _sent(arguments, bridge, request, terminal)
    except Interrupted:
        look = bridge.command("requests", *([arguments.name] if arguments.name else []))
        print(f"aitems-bridge: what was sent is not taken back; look with `{look}`", file=sys.stderr)
        raise


def _sent(
    arguments: argparse.Namespace,
    bridge: Target,
    request: senders.SignedWebhook | senders.BusEvent,
    terminal: Terminal,
) -> int:
    begun = time.time()
    answer: senders.Answer | None = None
    recorded, replies = True, list[Message]()
    if isinstance(request, senders.SignedWebhook):
        where = "" if bridge.document else urlsplit(request.url).netloc
        terminal.line(f"→ POST {where}/hooks/{request.caller}   key {request.key}   {_begun(request.body)}")
        announced = bridge.announced(request.request_id)
        earlier = announced.read()
        answer = request.send()
        _tell_answer(terminal, answer)
        recorded = _is_recorded(bridge, request, answer)
        event = _event_after(announced, request, answer, earlier, arguments.timeout) if recorded else None
    else:
        terminal.line(f"→ PutEvents  {senders.REQUESTED}   source {request.source}   {json_line(request.detail)}")
        event = _event_of_key(bridge, request, arguments.timeout)
    if event:
        first, *fields = of_event(terminal, event)
        terminal.line(f"⇒ event  {first}", event.arrived - begun if event.arrived >= begun else None)
        for field in fields:
            terminal.line(field)
    if isinstance(request, senders.SignedWebhook) and request.reply_to and bridge.document:
        # Slack hears the outcome later; NAVER WORKS hears everything that way, the acknowledgement as well.
        many = (arguments.door == "works") + bool(event)
        chats = bridge.document.chats_url
        replies = said_to(chats, request.reply_to, since=begun, many=many, timeout=_REPLIED_WITHIN)
        for reply in replies:
            terminal.line(f"⇐ {arguments.door:<6} {reply.text}", reply.at - begun)
    if arguments.json:
        told_answer = answer and {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
        said = [reply.body for reply in replies]
        print(json_line({"answer": told_answer, "event": event and event.event, "replies": said}))
    if not recorded:
        return REFUSED
    if event:
        return OK if event.kind == CREATED else REFUSED
    which = request.request_id if isinstance(request, senders.SignedWebhook) else arguments.name
    looked = bridge.command("requests", *([which] if which else []))
    terminal.line(terminal.bad(f"no event within {arguments.timeout:g} s") + f"; see `{looked}`")
    return UNSETTLED


def _request(arguments: argparse.Namespace, doors: senders.Doors) -> senders.SignedWebhook | senders.BusEvent:
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
        return senders.bus_event(doors, asked, source=arguments.caller or senders.PRODUCER, key=arguments.key)
    if said and arguments.door in ("slack", "works"):
        raise UsageError("--respond-async and --wait are for webhooks: a chat is answered at once, and told later")
    return senders.delivery(
        doors,
        senders.SCHEMES[arguments.door],
        asked,
        caller=arguments.caller,
        key=arguments.key,
        prefer=", ".join(said) or None,
        recorded=recorded,
    )


def _begun(body: bytes) -> str:
    text = body.decode(errors="replace")
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}… ({len(body):,} bytes)"


def _tell_answer(terminal: Terminal, answer: senders.Answer) -> None:
    said = [
        f"{name}: {answer.headers[name]}" for name in ("Location", "Idempotency-Replayed") if name in answer.headers
    ]
    terminal.line(f"← {answer.status}  {'  '.join(said)}", answer.seconds)
    terminal.line(f"  {json_line(answer.body)}")


def _is_recorded(bridge: Target, request: senders.SignedWebhook, answer: senders.Answer) -> bool:
    """Whether a request came of it, or had come of the same earlier: a reused key's is another one.

    A chat's answer does not say so, but the ledger does.
    """
    if answer.body.get("type") == f"{type_prefix}key-reused":
        return False
    if not request.reply_to:
        return answer.request_id is not None
    record = bridge.ledger.get(request.request_id)
    if record is None or "text" not in answer.body:
        return record is not None
    # Slack tells at once what it makes of a command; of a mistake under a used key, the record is another command's.
    voice = chat.slack_voice(request.slash_command)
    return answer.body["text"] in [voice.accepted(record.name, replies=replies) for replies in (True, False)]


def _event_after(
    announced: Journal | Settled,
    request: senders.SignedWebhook,
    answer: senders.Answer,
    earlier: list[Announced],
    timeout: float,
) -> Announced | None:
    """Return the event of an answered request: an answer that is settled may be an earlier one's."""
    known = {event.metadata["event_id"] for event in earlier}
    settled = bool(request.reply_to) or answer.status in (200, 201, 422)

    def wanted(event: Announced) -> bool:
        mine = event.metadata["request_id"] == request.request_id
        return mine and (settled or event.metadata["event_id"] not in known)

    return announced.wait(wanted, timeout)


def _event_of_key(bridge: Target, request: senders.BusEvent, timeout: float) -> Announced | None:
    """Put a request on the bus and return its event.

    One whose key was settled before is not announced again. One whose key is another request's is announced under
    the event's own id.
    """
    expected, _ = request.orders("")
    earlier = [
        event
        for event in bridge.announced(expected.request_id).read()
        if event.metadata["request_id"] == expected.request_id
    ]
    known = {event.metadata["event_id"] for event in earlier}
    order, own = request.orders(request.send())

    def wanted(event: Announced) -> bool:
        said = event.metadata["request_id"]
        return said == own.request_id or (said == order.request_id and event.metadata["event_id"] not in known)

    if earlier:
        record = bridge.ledger.get(order.request_id)
        earlier = earlier if record and record.payload_hash == order.payload_hash else []
    announced = bridge.announced(order.request_id, own.request_id)
    later = announced.wait(wanted, min(timeout, _SETTLED_BEFORE) if earlier else timeout)
    return later or (earlier[-1] if earlier else None)


def events(arguments: argparse.Namespace) -> int:
    """Print what was announced."""
    bridge = target(arguments.stack, arguments.region, arguments.profile)
    announced = bridge.announced()
    terminal = Terminal(sys.stdout)
    since = time.time() - arguments.since if arguments.since is not None else 0.0
    follow, none = arguments.follow, True

    def still() -> bool:
        return follow and (bridge.document is None or alive(bridge.document.pid))

    try:
        for event in announced.follow(still, since=since):
            none = False
            if arguments.json:
                terminal.line(json_line(event.event))
                continue
            first, *fields = of_event(terminal, event)
            terminal.line(f"{moment(event.arrived, time.time())}  {first}")
            for field in fields:
                terminal.line(field)
    except Interrupted:
        return OK
    if follow:
        print("the local stack has stopped", file=sys.stderr)
    elif none:
        print(f"no events{' in that time' if since else ' yet'}", file=sys.stderr)
    return OK


def requests(arguments: argparse.Namespace) -> int:
    """Print what the ledger says."""
    bridge = target(arguments.stack, arguments.region, arguments.profile)
    terminal = Terminal(sys.stdout)
    if arguments.which:
        one = operator_commands.found(bridge.ledger, arguments.which)
        if isinstance(one, str):
            print(one, file=sys.stderr)
            return REFUSED
        records = [one, *operate.waiting_for(bridge.ledger, one, arguments.which)]
    else:
        records = sorted(bridge.ledger.scan(operate.left_out), key=lambda record: record.requested_at)
    chosen = [record for record in records if arguments.state in (None, record.state)]
    if arguments.which and not chosen:
        print(f"{arguments.which} is {records[0].state}, not {arguments.state}", file=sys.stderr)
        return REFUSED
    for record in chosen:
        for line in [request_json(record)] if arguments.json else of_request(terminal, record, time.time()):
            terminal.line(line)
    if not chosen:
        print(f"no requests{f' are {arguments.state}' if arguments.state else ' yet'}", file=sys.stderr)
    return OK


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
        if number == signal.SIGINT and sys.stderr.isatty():
            os.write(2, b"\n")  # what follows stands below the terminal's ^C
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _by_whom(port: int) -> str:
    """Return who has the port, if it is a stack of ours."""
    document = _earlier()
    if document is None:
        return ""
    ours = [urlsplit(url).port for url in (document.aws_endpoint, document.aitems_url, document.console_url)]
    return f" (by another aitems-bridge, pid {document.pid})" if port in ours else ""


def _sentence(error: Exception, arguments: argparse.Namespace) -> str:
    if isinstance(error, PortTakenError):
        other = "make run PORT=4680" if arguments.command == "demo" else "--port 4680, or --port 0 for any that is free"
        return f"{error}{_by_whom(error.port)}: stop it or use {other}"
    if isinstance(error, StackError):
        return str(error)
    if getattr(arguments, "stack", None) and isinstance(error, NotRecorded | BotoCoreError | ClientError):
        return why(error, f"the stack {arguments.stack}")
    if isinstance(error, NotRecorded | HTTPClientError | NoConnection):
        return f"the local stack does not answer: stop what is left of it and start `{typed('up')}` again"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror or error}"
    return f"the local stack does not answer as it should: {error}"

"""`callers check` and `callers new`: an operator's help with the callers document, before it is put into the secret."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aitems_bridge import chat, doors
from aitems_bridge.callers import (
    Caller,
    Document,
    GithubCaller,
    HeaderKey,
    HmacCaller,
    SlackCaller,
    StandardCaller,
    WorksCaller,
    read_document,
    shared_secrets,
)
from aitems_bridge.errors import Problem, Refused
from aitems_bridge.models import CreateService
from aitems_bridge.record import SECOND
from aitems_bridge.webhook import WorksMessage
from aitems_local.cli import OK, REFUSED
from aitems_local.cloud import StackError, UsageError
from aitems_local.entries import entry
from aitems_local.terminal import Terminal

Json = dict[str, Any]

LIMIT = 65_536
"""Secrets Manager takes no longer text."""
_DIGITS_OF_SECONDS = 11  # at most; what is longer is in milliseconds


def callers(arguments: argparse.Namespace) -> int:
    """Do what is asked about the callers document."""
    return new(arguments) if arguments.what == "new" else check(arguments)


# --- new ----------------------------------------------------------------------------------------------------------


def new(arguments: argparse.Namespace) -> int:
    """Print an entry with a fresh secret, and what is still to be done to it."""
    document = {arguments.name: fresh_entry(arguments.scheme)}
    if read_document(json.dumps(document)).faults:
        raise UsageError("a caller's name is a small letter, then at most 31 of a-z, 0-9 and '-'")
    print(json.dumps(document, ensure_ascii=False, indent=None if arguments.json else 1))
    print(_TO_DO[arguments.scheme], file=sys.stderr)
    return OK


def fresh_entry(scheme: str) -> Json:
    """Return an entry of a scheme that is valid as it stands; what only the vendor knows is filled with zeros."""
    return entry(scheme, **_TO_CHANGE[scheme])


_TO_CHANGE: dict[str, Json] = {
    "standard": {"allow": ["shop-*"]},
    "github": {"allow": ["ci-*"]},
    "hmac": {
        "hmac": {
            "header": "X-Signature",
            "timestamp_header": "X-Timestamp",
            "content": "{timestamp}.{body}",
            "key": {"body": "id"},
        },
        "mapping": {"name": "name", "description": "description", "type": "type"},
        "allow": ["shop-*"],
    },
    "slack": {"slack": {"teams": ["T00000000"]}, "allow": ["try-*"]},
    "works": {"works": {"bot_id": "0", "domains": [0]}, "allow": ["try-*"]},
}
_TO_DO = {
    "standard": "Give the secret to the sender. allow: the names that it may create.",
    "github": "Put the secret into the webhook's settings, with content type application/json and these events.",
    "hmac": "Say in hmac how the sender signs, in mapping where its payload has what; give it the secret.",
    "slack": "Slack makes the secret: put the app's Signing Secret here, and the workspace's id into teams.",
    "works": "NAVER WORKS makes the secret: put the Bot Secret here, the bot's id and the domain's id below works.",
}

# --- check --------------------------------------------------------------------------------------------------------


def check(arguments: argparse.Namespace) -> int:
    """Say of each entry what it accepts, or why it is none; or what becomes of a payload."""
    if bool(arguments.headers or arguments.caller) and not arguments.payload:
        raise UsageError("--headers and --caller say more about a --payload: give one")
    document = _document(arguments.file)
    if arguments.payload:
        caller = _chosen(document, arguments.caller)
        return _show_trial(Trial(caller, _bytes(arguments.payload), _headers(arguments.headers)), json_=arguments.json)
    return _show_document(document, json_=arguments.json)


def _show_document(document: Document, *, json_: bool) -> int:
    warned = {name: warnings(caller) for name, caller in document.callers.items()}
    for one, other in shared_secrets(document):
        warned[other].append(f"has a secret in common with {one}: what is signed for one is valid for the other")
    if json_:
        told = {
            name: {"accepts": accepts(caller), "warnings": warned[name]} for name, caller in document.callers.items()
        }
        print(json.dumps({"callers": told, "faults": document.faults}, ensure_ascii=False))
        return REFUSED if document.faults else OK
    terminal = Terminal(sys.stdout)
    for name, caller in document.callers.items():
        terminal.line(f"{terminal.good('✓')} {terminal.strong(name)}  {accepts(caller)}")
        for warning in warned[name]:
            terminal.line(f"  ! {warning}")
    for name, fault in document.faults.items():
        terminal.line(f"{terminal.bad('✗')} {terminal.strong(name)}  {fault}")
    if not document.callers and not document.faults:
        terminal.line("The document is in order, and has no callers.")
    return REFUSED if document.faults else OK


def _show_trial(trial: "Trial", *, json_: bool) -> int:
    steps = list(trial.steps())
    if json_:
        told = [{"step": step.what, "ok": not step.refused, "told": step.told} for step in steps]
        print(json.dumps(told, ensure_ascii=False))
    terminal = Terminal(sys.stdout)
    for step in [] if json_ else steps:
        mark = terminal.bad("✗") if step.refused else terminal.good("✓")
        terminal.line(f"{mark} {step.what:<10}{step.told}")
    return REFUSED if any(step.refused for step in steps) else OK


def accepts(caller: Caller) -> str:
    """Return what an entry accepts, and what it answers."""
    said = [caller.scheme, *_proof(caller)]
    if not isinstance(caller, SlackCaller | WorksCaller):
        if caller.when:
            said.append(f"when {caller.when}")
        mapped = caller.mapping.expressions() if caller.mapping else {}
        said.append("; ".join(f"{field} from {origin}" for field, origin in mapped.items()) or "the request itself")
        answer = "200 or 202 with the status" if caller.delivers else "201 or 422 with the outcome"
        said.append(f"answers {answer}, waits {caller.wait} s")
    said.append(f"names {', '.join(caller.allow)}" if caller.allow else "any name")
    many = len(caller.secrets)
    said.append("1 secret" if many == 1 else f"{many} secrets, newest first")
    return " · ".join(said) + ("" if caller.enabled else " · shut (enabled is false)")


def _proof(caller: Caller) -> list[str]:
    """Return how an entry's sender proves to be who it is, and from where it may come."""
    match caller:
        case StandardCaller():
            return ["webhook-signature"]
        case GithubCaller():
            return ["X-Hub-Signature-256", f"events {', '.join(caller.github.events)}"]
        case HmacCaller():
            settings = caller.hmac
            timed = f", {settings.tolerance} s either way" if _timed(caller) else ""
            return [f"{settings.header} ({settings.algorithm} of {settings.content}, {settings.encoding}{timed})"]
        case SlackCaller():
            return _places(teams=caller.slack.teams, channels=caller.slack.channels, users=caller.slack.users)
        case WorksCaller():
            domains = [str(domain) for domain in caller.works.domains]
            places = _places(domains=domains, channels=caller.works.channels, users=caller.works.users)
            return [f"bot {caller.works.bot_id}", *places, f"answers in {caller.works.language}"]


def warnings(caller: Caller) -> list[str]:
    """Return what an operator should know about an entry that is valid all the same."""
    told = []
    if isinstance(caller, GithubCaller):
        told.append(
            "GitHub does not sign its delivery id, nor any time: who sees a delivery can replay it as a new one"
        )
    if isinstance(caller, HmacCaller) and isinstance(caller.hmac.key, HeaderKey):
        told.append(
            f"the delivery id ({caller.hmac.key.header}) is not signed: who sees a delivery can replay it as "
            "a new one; better a key in the body"
        )
    if isinstance(caller, HmacCaller) and not _timed(caller):
        told.append("no time is signed, so there is no freshness: a delivery is valid until the secret is changed")
    if caller.allow is None:
        told.append("no allow: who has the secret may take any name")
    return told


def _timed(caller: HmacCaller) -> bool:
    door = caller.hmac.door
    return door.timestamp_header is not None or door.timestamp_pair is not None


def _places(**kinds: list[str] | None) -> list[str]:
    return [f"{kind} {', '.join(ids)}" for kind, ids in kinds.items() if ids]


def _document(path: Path) -> Document:
    text = _text(path)
    if len(text.encode()) > LIMIT:
        raise StackError(f"{path} is larger than 64 KiB, which no secret can be")
    try:
        return read_document(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise StackError(f"{path} is no JSON: {error}") from error
    except ValueError as error:
        raise StackError(f"{path}: {error}") from error


def _chosen(document: Document, name: str | None) -> Caller:
    if name is None and len(document.callers) == 1:
        (only,) = document.callers.values()
        return only
    if name is None:
        raise UsageError(f"whose payload is it? say --caller, one of {', '.join(document.callers) or 'none'}")
    if name not in document.callers:
        why = document.faults.get(name) or f"there is none; there are: {', '.join(document.callers) or 'none'}"
        raise UsageError(f"caller {name}: {why}")
    return document.callers[name]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}") from error


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError as error:
        raise StackError(f"{path} is no UTF-8 text") from error


def _headers(path: Path | None) -> dict[str, str]:
    """Return headers by lower-case name: a JSON object, or a line each as HTTP writes them."""
    if path is None:
        return {}
    text = _text(path)
    try:
        found = json.loads(text)
        return {str(name).lower(): str(value) for name, value in found.items()}
    except (ValueError, AttributeError):
        lines = [line.partition(":") for line in text.splitlines() if ":" in line]
        return {name.strip().lower(): value.strip() for name, _, value in lines}


# --- a payload's way through a door -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checked:
    """One check of a payload: which, whether it ended there, and what there is to know."""

    what: str
    told: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """A payload before a caller's door, with the headers that are known."""

    caller: Caller
    body: bytes
    headers: dict[str, str]

    def steps(self) -> Iterator[Checked]:
        """Yield the checks in the door's order, until one ends it."""
        try:
            if self._is_signed:
                yield self._signature()
            match self.caller:
                case SlackCaller():
                    yield from self._slack(self.caller)
                case WorksCaller():
                    yield from self._works(self.caller)
                case _:
                    yield from self._hook(self.caller)
        except Refused as refused:
            yield _refusal(refused.problem)

    def _hook(self, caller: StandardCaller | GithubCaller | HmacCaller) -> Iterator[Checked]:
        if self.headers and (reason := caller.ignored(self.headers)) is not None:
            yield Checked("ignored", f"200: {reason}")
            return
        document = doors.json_object(self.body)
        if (key := caller.key_in(document)) is not None:
            yield Checked("key", key)
        if not caller.wants(document):
            yield Checked("ignored", f"200: 'when' is not true of this body: {caller.when}")
            return
        asked, origins = caller.asked(document)
        yield Checked("mapping", json.dumps(asked, ensure_ascii=False)[:1000])
        yield from self._request(CreateService.parse(asked, origins=origins))

    def _request(self, command: CreateService) -> Iterator[Checked]:
        yield Checked("request", json.dumps(command.document(), ensure_ascii=False))
        allowed = self.caller.allows(command.name)
        yield Checked("allow", f"{command.name} is {'' if allowed else 'not '}among the names allowed", not allowed)

    def _slack(self, caller: SlackCaller) -> Iterator[Checked]:
        form = doors.form(self.body)
        place = (form.get("team_id", ""), form.get("channel_id", ""), form.get("user_id", ""))
        yield self._place(caller.admits(*place), *place)
        yield from self._said(form.get("text", ""), chat.slack_voice(form.get("command", "")))

    def _works(self, caller: WorksCaller) -> Iterator[Checked]:
        message = WorksMessage.read(doors.json_object(self.body))
        if message.command is None:
            yield Checked("ignored", "200: not a command")
            return
        place = (message.domain, message.channel, message.user)
        yield self._place(caller.admits(*place), *place)
        yield from self._said(message.command, chat.works_voice(caller.works.language))

    def _place(self, admitted: bool, *place: object) -> Checked:
        where = ", ".join(str(part) for part in place if part)
        return Checked("place", f"{where} {'may' if admitted else 'may not'} ask", not admitted)

    def _said(self, text: str, voice: chat.Voice) -> Iterator[Checked]:
        command = chat.read_command(text)
        yield Checked("command", repr(command))
        if isinstance(command, chat.Help):
            yield Checked("answer", voice.usage(command))
        if isinstance(command, chat.Create):
            yield from self._request(CreateService.parse(self.caller.with_defaults(dict(command.asked))))

    @property
    def _is_signed(self) -> bool:
        return any("signature" in name or "hmac" in name for name in self.headers) or (
            isinstance(self.caller, HmacCaller) and self.caller.hmac.header.lower() in self.headers
        )

    def _signature(self) -> Checked:
        """Check the signature at the time it names: what was recorded is stale by nature."""
        try:
            self.caller.verify(self.body, self.headers, self._signed_at())
        except doors.SignatureRefused as refused:
            return Checked("signature", refused.cause, refused=True)
        return Checked("signature", "one of the secrets makes it (freshness left out)")

    def _signed_at(self) -> int:
        names = ["webhook-timestamp", "x-slack-request-timestamp"]
        sent = [self.headers[name] for name in names if name in self.headers]
        if isinstance(self.caller, HmacCaller):
            settings = self.caller.hmac
            if settings.timestamp_header:
                sent = [self.headers.get(settings.timestamp_header.lower(), "")]
            elif settings.pairs and settings.pairs.timestamp:
                pairs = [
                    pair.strip().partition("=") for pair in self.headers.get(settings.header.lower(), "").split(",")
                ]
                sent = [value for name, _, value in pairs if name == settings.pairs.timestamp]
        if not sent or not (sent[0].isascii() and sent[0].isdigit()):
            return int(time.time()) * SECOND
        return int(sent[0]) * (1 if len(sent[0]) > _DIGITS_OF_SECONDS else SECOND)


def _refusal(problem: Problem) -> Checked:
    errors = "; ".join(f"{error.pointer[2:]}: {error.detail}" for error in problem.errors)
    return Checked("refused", f"{problem.status} {problem.slug}: {errors or problem.detail}", refused=True)

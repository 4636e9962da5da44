"""The chat doors' words: what a command means, and what people are told.

Slack's slash command and NAVER WORKS's bot understand the same few commands; Slack is answered in English, WORKS in
the language its caller entry names. Nothing here knows HTTP, and nothing creates anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aitems_bridge.errors import Problem
from aitems_bridge.models import DESCRIPTION_LENGTH, NAME_LENGTH, NAME_PATTERN, TYPES
from aitems_bridge.record import MINUTE, SECOND, Record, State

DOUBLE_SUBMIT = 10 * MINUTE
"""For how long the same person asking for the same name is told of the earlier request."""
LAPSE = 30 * MINUTE
"""For how long a reply is worth anything; Slack's address takes none later."""

_LONGEST_SECTION, _LONGEST_FIELD = 3000, 2000
"""Characters that Slack takes in a section's text, and in one of its fields."""
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」"}
_LIKE_TYPES = {"realtime", "real-time", "online", "streaming", "stream", "실시간", "배치", "인터벌"}


@dataclass(frozen=True, slots=True)
class Create:
    """``create NAME [batch|interval] [DESCRIPTION…]``."""

    asked: dict[str, str]


@dataclass(frozen=True, slots=True)
class Status:
    """``status NAME``."""

    name: str


@dataclass(frozen=True, slots=True)
class Help:
    """``help``, nothing at all, or a mistake, whose ``word`` is answered with the usage."""

    mistake: str = ""
    word: str = ""


Command = Create | Status | Help


def read_command(text: str) -> Command:
    """Return what a person typed; every text means something, if only a mistake."""
    verb, _, rest = " ".join(text.split()).partition(" ")
    match verb.lower():
        case "" | "help" | "도움말" | "?":
            return Help()
        case "create" | "만들기" | "생성":
            return _create(rest)
        case "status" | "상태":
            name = _unquoted(rest)
            return Status(name) if re.fullmatch(NAME_PATTERN, name) else Help("status-name")
    return Help("verb", verb[:40])


def _create(rest: str) -> Command:
    name, _, rest = rest.partition(" ")
    if not name:
        return Help("create-name")
    asked = {"name": _unquoted(name)}
    word, _, after = rest.partition(" ")
    if word.lower() in TYPES:
        asked["type"], rest = word.lower(), after
    elif word.lower() in _LIKE_TYPES:
        return Help("type", word[:40])
    if description := _unquoted(rest):
        asked["description"] = description
    return Create(asked)


def _unquoted(text: str) -> str:
    """Return the text without the quotes around it; quotes that do not pair are text."""
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        return text[1:-1].strip()
    return text


# --- what people are told -----------------------------------------------------------------------------------------

_WORDS: dict[str, dict[str, str]] = {
    "en": {
        "usage": (
            "Usage:\n"
            "• `{command} create NAME [batch|interval] [DESCRIPTION]`: create a service\n"
            "• `{command} status NAME`: what became of it\n"
            "• `{command} help`: this\n"
            "A name has 3 to 20 characters: letters, digits, `_` and `-`, first a letter or `_`."
        ),
        "verb": "There is no command `{word}`.",
        "create-name": "Which name shall the service have?",
        "status-name": "The status of which service? Give one name.",
        "type": (
            "There is no type `{word}`: only `batch` (trains once per run) and `interval` (retrains on a cycle). "
            "If it is meant as the description, put the type before it."
        ),
        "denied": "This command is not allowed here. Ask those who run the bridge to add this place or person.",
        "shut": "The bridge cannot take this now; nothing was recorded. Try again in a moment.",
        "creating": "Creating *{name}* … I'll report here.{late}",
        "late": " If it takes longer than half an hour, ask `{command} status {name}`.",
        "silent": "Creating *{name}* … Ask `{command} status {name}` for the outcome.",
        "already": "*{name}* is already being created (asked {ago} ago).",
        "earlier": "You asked for *{name}* {ago} ago, and it was created: service `{service}`.",
        "created": "*{name}* is created: service `{service}`.",
        "rejected": "*{name}* was not created: {reason}",
        "failed": "*{name}* is not settled: {reason} The bridge's operators can take it up again.",
        "open": "*{name}* is being worked on ({state}, asked {ago} ago).",
        "open-why": " Last: {reason}",
        "none": "No request for *{name}* is known here.",
        "name": "Name",
        "type-label": "Type",
        "service": "Service",
        "status": "Status",
        "took": "Took",
        "description": "Description",
    },
    "ko": {
        "usage": (
            "사용법:\n"
            "• {command} create 이름 [batch|interval] [설명]: 서비스 만들기\n"
            "• {command} status 이름: 요청 결과 보기\n"
            "• {command} help: 도움말\n"
            "이름은 3~20자의 영문, 숫자, _, - 이며 영문이나 _ 로 시작해야 합니다."
        ),
        "verb": "'{word}' 명령은 없습니다.",
        "create-name": "서비스 이름을 적어 주세요.",
        "status-name": "어느 서비스의 상태를 볼까요? 이름을 하나 적어 주세요.",
        "type": (
            "'{word}' 유형은 없습니다. batch(실행할 때마다 한 번 학습) 또는 interval(주기적으로 다시 학습)입니다. "
            "설명으로 쓰려면 앞에 유형을 적어 주세요."
        ),
        "denied": "이곳에서는 이 명령을 쓸 수 없습니다. 브리지 운영자에게 추가를 요청해 주세요.",
        "shut": "지금은 요청을 받을 수 없고 아무것도 기록되지 않았습니다. 잠시 후 다시 시도해 주세요.",
        "creating": "{name} 서비스를 만들고 있습니다. 결과를 여기에 알려 드리겠습니다.{late}",
        "late": " 30분이 지나도 소식이 없으면 '{command} status {name}'로 확인해 주세요.",
        "silent": "{name} 서비스를 만들고 있습니다. 결과는 '{command} status {name}'로 확인해 주세요.",
        "already": "{name} 서비스는 이미 만드는 중입니다({ago} 전 요청).",
        "earlier": "{ago} 전에 요청하신 {name} 서비스는 만들어졌습니다: {service}",
        "created": "{name} 서비스를 만들었습니다: {service}",
        "rejected": "{name} 서비스를 만들지 못했습니다: {reason}",
        "failed": "{name} 서비스의 결과를 확정하지 못했습니다: {reason} 브리지 운영자가 다시 처리할 수 있습니다.",
        "open": "{name} 서비스를 처리하고 있습니다({state}, {ago} 전 요청).",
        "open-why": " 최근 상황: {reason}",
        "none": "{name} 서비스에 대한 요청이 없습니다.",
        "name": "이름",
        "type-label": "유형",
        "service": "서비스",
        "status": "상태",
        "took": "걸린 시간",
        "description": "설명",
    },
}


# What English has in the problem itself: the rules of the fields, by field and rule, and the reasons, by kind.
_RULES: dict[str, dict[tuple[str, str], str]] = {
    "ko": {
        ("#/name", "minLength"): f"{NAME_LENGTH[0]}자 이상이어야 합니다.",
        ("#/name", "maxLength"): f"{NAME_LENGTH[1]}자 이하여야 합니다.",
        ("#/name", "pattern"): "영문이나 _ 로 시작하고 영문, 숫자, _, - 만 쓸 수 있습니다.",
        ("#/description", "maxLength"): f"{DESCRIPTION_LENGTH}자 이하여야 합니다.",
        ("#/description", "type"): "쓸 수 없는 문자가 있습니다.",
        ("#/type", "enum"): f"{' 또는 '.join(TYPES)} 중 하나여야 합니다.",
    },
}
_REASONS: dict[str, dict[str, str]] = {
    "ko": {
        "name-not-allowed": "이 이름은 여기에서 쓸 수 없습니다. 브리지 운영자에게 문의해 주세요.",
        "duplicate-name": "같은 이름의 서비스가 이미 있습니다. 다른 이름으로 요청해 주세요.",
        "refused-by-aitems": "AiTEMS가 요청을 거절했습니다.",
        "closed": "운영자가 요청을 닫았습니다.",
        "outcome-unknown": "서비스가 만들어졌는지 아직 알 수 없습니다. 다시 요청하지 말아 주세요.",
        "aitems-unavailable": "AiTEMS에 연결할 수 없습니다.",
        "aitems-throttled": "AiTEMS의 요청 한도를 넘었습니다.",
        "keys-refused": "AiTEMS가 브리지의 키를 받아들이지 않습니다.",
        "not-permitted": "브리지에 AiTEMS 사용 권한이 없습니다.",
        "name-in-use": "같은 이름에 대한 다른 요청이 아직 처리 중입니다.",
    },
}


@dataclass(frozen=True, slots=True)
class Voice:
    """How one chat is spoken to: the language, the command's own name, and whether the text is Slack's mark-up."""

    language: str
    command: str
    slack: bool

    def usage(self, mistake: Help = Help()) -> str:  # immutable
        """Return the usage, after what was wrong."""
        usage = self._say("usage")
        return f"{self._say(mistake.mistake, word=mistake.word)}\n{usage}" if mistake.mistake else usage

    def denied(self) -> str:
        """Return what is said where nobody may ask."""
        return self._say("denied")

    def shut(self) -> str:
        """Return what is said when nothing could be recorded."""
        return self._say("shut")

    def problem(self, problem: Problem) -> str:
        """Return what is wrong with a request, and the usage."""
        words = _WORDS[self.language]
        labels = {"#/name": words["name"], "#/description": words["description"], "#/type": words["type-label"]}
        rules = _RULES.get(self.language, {})
        errors = [
            f"• {labels.get(error.pointer, error.pointer)}: "
            + self._text(rules.get((error.pointer, error.rule), error.detail))
            for error in problem.errors
        ]
        told = "\n".join(dict.fromkeys(errors)) or self._text(self._reason(problem))
        return f"{told}\n{self._say('usage')}"

    def accepted(self, name: str, *, replies: bool) -> str:
        """Return the acknowledgement of a recorded request."""
        if not replies:
            return self._say("silent", name=name)
        return self._say("creating", name=name, late=self._say("late", name=name))

    def again(self, record: Record, now: int) -> str:
        """Return what a person is told who asks for the same name once more."""
        ago = self._ago(now - record.requested_at)
        if record.state is State.CREATED:
            return self._say("earlier", name=record.name, ago=ago, service=record.service_id or "")
        return self._say("already", name=record.name, ago=ago)

    def status(self, name: str, record: Record | None, now: int) -> str:
        """Return what became of the last request for a name."""
        if record is None:
            return self._say("none", name=name)
        if not record.state.open:
            return self.outcome(record)
        ago = self._ago(now - record.requested_at)
        said = self._say("open", name=record.name, state=str(record.state), ago=ago)
        return said + (self._say("open-why", reason=self._reason(record.last)) if record.last else "")

    def outcome(self, record: Record) -> str:
        """Return how a request ended, in one sentence."""
        if record.state is State.CREATED:
            return self._say("created", name=record.name, service=record.service_id or "")
        reason = self._reason(record.problem) if record.problem else ""
        return self._say("rejected" if record.state is State.REJECTED else "failed", name=record.name, reason=reason)

    def facts(self, record: Record, service: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return what is shown of a created service: labels and values."""
        command = record.command or {}
        words = _WORDS[self.language]
        took = ((record.settled_at or record.requested_at) - record.requested_at) / SECOND
        shown = [
            (words["name"], record.name),
            (words["type-label"], command.get("type", "")),
            (words["service"], record.service_id or ""),
            (words["status"], str(service.get("status") or "")),
            (words["took"], f"{took:.1f} s"),
            (words["description"], command.get("description", "")),
        ]
        return [(label, self._text(value)) for label, value in shown if value]

    def _reason(self, problem: Problem) -> str:
        """Return why: in English the problem's own words, else its kind's, and what AiTEMS or a person said of it."""
        told = _REASONS.get(self.language, {}).get(problem.slug)
        if told is None:
            return problem.detail
        said = problem.detail.partition(": ")[2] if problem.slug == "closed" else ""
        if problem.slug == "refused-by-aitems" and problem.upstream:
            said = problem.upstream.message or ""
        return f"{told} ({said})" if said else told

    def _say(self, what: str, **values: str) -> str:
        texts = {name: value if name == "late" else self._text(value) for name, value in values.items()}
        return _WORDS[self.language][what].format(command=self.command, **texts)

    def _text(self, text: str) -> str:
        """Return foreign text so that it is only text: Slack's mark-up escaped, tags of AiTEMS's messages gone."""
        if not self.slack:
            return text
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    def _ago(self, milliseconds: int) -> str:
        seconds = max(0, milliseconds) // SECOND
        for size, english, korean in ((86400, "d", "일"), (3600, "h", "시간"), (60, "min", "분")):
            if seconds >= size:
                return f"{seconds // size}{korean}" if self.language == "ko" else f"{seconds // size} {english}"
        return f"{seconds}초" if self.language == "ko" else f"{seconds} s"


def slack_voice(command: str = "/aitems") -> Voice:
    """Return how Slack is spoken to; ``command`` is the slash command as it is named there."""
    name = command if re.fullmatch(r"/[a-z0-9_-]{1,32}", command) else "/aitems"
    return Voice("en", name, slack=True)


def works_voice(language: str) -> Voice:
    """Return how NAVER WORKS is spoken to."""
    return Voice(language, "aitems", slack=False)


def slack_message(record: Record, service: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message that reports an outcome to Slack, in Block Kit with a plain text beside it.

    Source: https://docs.slack.dev/interactivity/handling-user-interaction (``response_url``).
    """
    voice = slack_voice()
    text = voice.outcome(record)[:_LONGEST_SECTION]
    blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]
    if record.state is State.CREATED:
        fields = [
            {"type": "mrkdwn", "text": f"*{label}*\n{value}"[:_LONGEST_FIELD]}
            for label, value in voice.facts(record, service)
        ]
        blocks.append({"type": "section", "fields": fields})
    elif record.state is State.REJECTED:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": voice.usage()}]})
    return {"response_type": "ephemeral", "replace_original": False, "text": text, "blocks": blocks}


def works_text(record: Record, service: Mapping[str, Any], language: str) -> str:
    """Return the message that reports an outcome to NAVER WORKS, at most 2,000 characters."""
    voice = works_voice(language)
    text = voice.outcome(record)
    if record.state is State.CREATED:
        facts = voice.facts(record, service)
        text = "\n".join([text, *(f"{label}: {value}" for label, value in facts)])
    return text[:2000]

"""What may be asked of AiTEMS, exactly: out goes only what its documentation allows.

Source: https://api.ncloud-docs.com/docs/en/ai-application-service-aitems-service-create
"""

import json
import re
import unicodedata
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

from aitems_bridge.errors import Problem, Refused, Violation
from aitems_bridge.shapes import Limits, Shape

ServiceType = Literal["batch", "interval"]

NAME_LENGTH = (3, 20)
DESCRIPTION_LENGTH = 100
NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{2,19}$"
TYPES = get_args(ServiceType)
_FIELDS = ("name", "description", "type")
QUOTED = 40
MOST_TOLD = 20
"""Violations that a problem lists: an outcome must fit into an event, whatever was wrong."""


class CreateService(Shape):
    """A request for one service, by the documented rules; text is NFC and lengths count characters."""

    name: Annotated[str, Limits(pattern=NAME_PATTERN)]
    description: Annotated[str, Limits(max_length=DESCRIPTION_LENGTH)] = ""
    type: ServiceType = "batch"

    @classmethod
    def parse(cls, value: Any, *, origins: dict[str, str] | None = None) -> "CreateService":  # noqa: ANN401  # any JSON
        """Return the request that ``value`` describes.

        ``origins`` tells, for fields that a mapping produced, the expression each came from.
        Raises ``Refused`` with ``invalid-request``, every violation of every field in it (the first ``MOST_TOLD``).
        """
        violations = tuple(_violations(value))
        if violations:
            fields = len({violation.pointer for violation in violations})
            detail = "1 field is wrong." if fields == 1 else f"{fields} fields are wrong."
            if len(violations) > MOST_TOLD:
                detail += f" The first {MOST_TOLD} things that are wrong are listed."
            told = tuple(_with_origin(violation, origins or {}) for violation in violations[:MOST_TOLD])
            raise Refused(Problem("invalid-request", detail, errors=told))
        name, description = (unicodedata.normalize("NFC", value.get(text, "")) for text in ("name", "description"))
        return cls(name=name, description=description, type=value.get("type", "batch"))

    def document(self) -> dict[str, str]:
        """Return the JSON object that is recorded, sent to AiTEMS and announced."""
        return {"name": self.name, "description": self.description, "type": self.type}


def quoted(value: object) -> str:
    """Return ``value`` for people: quoted, control characters escaped, at most 40 characters of it."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:  # a parser that stood higher on the stack could still read it
        text = "[[[…"
    shown = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text[:QUOTED])
    return f"'{shown}{'…' if len(text) > QUOTED else ''}'"


def _with_origin(violation: Violation, origins: dict[str, str]) -> Violation:
    origin = origins.get(violation.pointer.removeprefix("#/"))
    if origin is None:
        return violation
    return Violation(violation.pointer, violation.rule, f"{violation.detail} (from {origin})")


def _violations(value: object) -> list[Violation]:
    if not isinstance(value, dict):
        return [Violation("#", "type", f"{quoted(value)} is not an object with a name")]
    found = [
        Violation(
            f"#/{_escaped(name)}", "additionalProperties", f"{quoted(name)} is not one of name, description, type"
        )
        for name in value
        if name not in _FIELDS
    ]
    found += _name_violations(value)
    description = value.get("description", "")
    if not isinstance(description, str):
        found.append(Violation("#/description", "type", f"{quoted(description)} is not a string"))
    elif (length := len(unicodedata.normalize("NFC", description))) > DESCRIPTION_LENGTH:
        found.append(
            Violation(
                "#/description", "maxLength", f"has {length} characters; at most {DESCRIPTION_LENGTH} are allowed"
            )
        )
    elif _has_surrogate(description):
        found.append(Violation("#/description", "type", "holds half of a surrogate pair, which is no character"))
    if (kind := value.get("type", "batch")) not in TYPES:
        found.append(Violation("#/type", "enum", f"{quoted(kind)} is not one of {', '.join(TYPES)}"))
    return found


def _name_violations(value: dict[Any, Any]) -> list[Violation]:
    if "name" not in value:
        return [Violation("#/name", "required", "is missing; a service needs a name")]
    name = value["name"]
    if not isinstance(name, str):
        return [Violation("#/name", "type", f"{quoted(name)} is not a string")]
    name = unicodedata.normalize("NFC", name)
    found = []
    least, most = NAME_LENGTH
    if not least <= len(name) <= most:
        rule = "minLength" if len(name) < least else "maxLength"
        characters = "1 character" if len(name) == 1 else f"{len(name)} characters"
        found.append(Violation("#/name", rule, f"{quoted(name)} has {characters}; {least} to {most} are needed"))
    if name and (name[0] == "-" or name[0].isdigit()) and name[0].isascii():
        what = "a digit" if name[0].isdigit() else "'-'"
        found.append(Violation("#/name", "pattern", f"{quoted(name)} starts with {what}; start with a letter or '_'"))
    if strange := sorted(set(re.findall(r"[^A-Za-z0-9_-]", name))):
        listed = ", ".join(quoted(character) for character in strange[:5])
        found.append(
            Violation("#/name", "pattern", f"{quoted(name)} holds {listed}; use A-Z, a-z, 0-9, '_' and '-' only")
        )
    return found


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _escaped(name: object) -> str:
    return quote(str(name)[:QUOTED].replace("~", "~0").replace("/", "~1"), safe="~", errors="replace")

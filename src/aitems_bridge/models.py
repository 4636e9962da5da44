"""AiTEMS's nouns: what may be asked for, exactly, and what comes back, generously.

Out goes only what the documentation allows. In comes whatever AiTEMS says: recorded answers differ from documented
ones already, so enums are open, unknown fields are kept, and nothing but ``serviceId`` and ``name`` is insisted on.

Source: https://api.ncloud-docs.com/docs/en/ai-application-service-aitems-service-create
"""

import json
import re
import unicodedata
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from aitems_bridge.errors import Problem, Refused, Violation

ServiceType = Literal["batch", "interval"]

NAME_LENGTH = (3, 20)
DESCRIPTION_LENGTH = 100
NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{2,19}$"
TYPES = get_args(ServiceType)
QUOTED = 40


def _nfc(value: object) -> object:
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


class CreateService(BaseModel):
    """A request for one service, by the documented rules; text is NFC and lengths count characters."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, BeforeValidator(_nfc), Field(pattern=NAME_PATTERN)]
    description: Annotated[str, BeforeValidator(_nfc), Field(max_length=DESCRIPTION_LENGTH)] = ""
    type: ServiceType = "batch"

    @classmethod
    def parse(cls, value: object, *, origins: dict[str, str] | None = None) -> "CreateService":
        """Return the request that ``value`` describes.

        ``origins`` tells, for fields that a mapping produced, the expression each came from.
        Raises ``Refused`` with ``invalid-request``, every violation of every field in it.
        """
        violations = tuple(_violations(value))
        if violations:
            fields = len({violation.pointer for violation in violations})
            detail = "1 field is wrong." if fields == 1 else f"{fields} fields are wrong."
            told = tuple(_with_origin(violation, origins or {}) for violation in violations)
            raise Refused(Problem("invalid-request", detail, errors=told))
        return cls.model_validate(value)

    def document(self) -> dict[str, str]:
        """Return the JSON object that is recorded, sent to AiTEMS and announced."""
        return {"name": self.name, "description": self.description, "type": self.type}


class Service(BaseModel):
    """A service as AiTEMS tells it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    service_id: Annotated[str, Field(alias="serviceId", min_length=1)]
    name: str
    description: str | None = None
    type: str | None = None
    status: str | None = None
    datasets: list[Any] | None = None
    hp_config: Annotated[dict[str, Any] | None, Field(alias="hpConfig")] = None
    infers: list[Any] | None = None
    created_date: Annotated[str | None, Field(alias="createdDate")] = None
    updated_date: Annotated[str | None, Field(alias="updatedDate")] = None

    @field_validator("description", "type", "status", "datasets", "hp_config", "infers", "created_date", "updated_date",
                     mode="wrap")  # fmt: skip
    @classmethod
    def _tolerant(cls, value: object, read: ValidatorFunctionWrapHandler) -> object:
        """Read a documented field of an undocumented type as absent; the text that is passed on still has it."""
        try:
            return read(value)
        except ValidationError:
            return None


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
        if name not in CreateService.model_fields
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

"""The JSON Schemas of everything that crosses the bridge's border: `python -m aitems_local.schemas` writes them.

Going out, our own enumerations are closed and AiTEMS's are open; members may be added within a version, so a consumer
must not mind members it does not know. Coming in, nothing unknown is taken.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema

from aitems_bridge.errors import KINDS, Retryable, type_prefix
from aitems_bridge.models import CreateService, Service
from aitems_bridge.record import State

FOLDER = Path(__file__).parents[2] / "schemas"

Json = dict[str, Any]


def _types(wanted: Callable[[Retryable], bool]) -> Any:  # noqa: ANN401  # pydantic's FieldInfo
    kinds = [type_prefix + slug for slug, kind in KINDS.items() if wanted(kind.retryable)]
    return Field(json_schema_extra={"enum": list(kinds)})


RequestId = Annotated[str, Field(pattern="^[a-z2-7]{52}$")]
Time = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
        json_schema_extra={"format": "date-time"},
        examples=["2026-11-23T19:38:24.981Z"],
    ),
]
Key = Annotated[str, Field(pattern="^[ -~]{1,256}$")]
Channel = Literal["standard", "github", "hmac", "slack", "works", "bus"]
Count = Annotated[int, Field(ge=0)]


class _Out(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


# --- problems -----------------------------------------------------------------------------------------------------


class FieldError(_Out):
    """One broken rule of one field."""

    pointer: Annotated[str, Field(pattern="^#", examples=["#/name"])]
    """Where: a JSON pointer fragment into the request."""
    rule: Annotated[str, Field(examples=["minLength"])]
    """Which rule, in JSON Schema's words."""
    detail: str
    """What the value did, for people."""


class Upstream(_Out):
    """What AiTEMS, or NAVER's gateway before it, said last."""

    status: int | None
    """Its HTTP status; null where no answer came."""
    code: str | None
    """Its error code, of an open set."""
    message: str | None
    trace_id: str | None
    """For a question to NAVER's support."""


class Problem(_Out):
    """A problem by RFC 9457."""

    type: Annotated[str, _types(lambda _: True)]
    """Which kind; an identifier, not an address."""
    title: str
    """The kind, for people."""
    status: Annotated[int, Field(ge=400, le=599)]
    """The HTTP status that goes with the kind."""
    detail: str
    """This very case, for people."""
    retryable: Retryable
    """Whether to send again: never the same, by all means, or under the same key only."""
    request_id: RequestId | None = None
    """Once one is known."""
    errors: list[FieldError] | None = None
    """All fields that are wrong."""
    may_exist: bool | None = None
    """Present and true where a service may have been made all the same."""
    upstream: Upstream | None = None
    """Where AiTEMS has a part in it."""


class Rejection(Problem):
    """Why a request is refused for good."""

    type: Annotated[str, _types(lambda retryable: retryable == "no")]
    retryable: Literal["no"]
    request_id: RequestId


class Failure(Problem):
    """Why a request was given up for now."""

    type: Annotated[str, _types(lambda retryable: retryable == "same-key-only")]
    retryable: Literal["same-key-only"]
    request_id: RequestId


# --- events -------------------------------------------------------------------------------------------------------


class Metadata(_Out):
    """What an event says about its request."""

    version: Literal["1"]
    """The major version of this schema: within it members are added, and none removed, renamed or retyped."""
    event_id: str
    """Equal ids are the same announcement: deduplicate on it, never on the envelope's id."""
    request_id: RequestId
    idempotency_key: Key
    channel: Channel
    """The door it came through."""
    caller: Annotated[str, Field(min_length=1)]
    """The caller's name; on the bus, the source of the event that asked."""
    requested_by: Annotated[str | None, Field(examples=["account:123456789012"])]
    """Who asked, where the door knows."""
    requested_at: Time
    settled_at: Time
    """When it was settled or, for a failure, given up."""
    attempts: Count
    """Creations sent to AiTEMS for it."""
    adopted: bool
    """Whether the service was found by looking, after an answer was lost."""
    final: bool


class CreatedMetadata(Metadata):
    """What an event says about a request that made its service."""

    event_id: Annotated[str, Field(pattern=r"^[a-z2-7]{52}\.created$")]
    final: Literal[True]


class RejectedMetadata(Metadata):
    """What an event says about a request that was refused."""

    event_id: Annotated[str, Field(pattern=r"^[a-z2-7]{52}\.rejected$")]
    final: Literal[True]


class FailedMetadata(Metadata):
    """What an event says about a request that was given up; it may yet be created."""

    event_id: Annotated[str, Field(pattern=r"^[a-z2-7]{52}\.failed-[1-9][0-9]*$")]
    final: Literal[False]


class Created(_Out):
    """The detail of `AiTEMS Service Created`."""

    metadata: CreatedMetadata
    request: CreateService
    data: Service
    """AiTEMS's own answer, whole."""


class Rejected(_Out):
    """The detail of `AiTEMS Service Creation Rejected`."""

    metadata: RejectedMetadata
    request: CreateService | None
    """Null where it did not validate."""
    data: Rejection


class Failed(_Out):
    """The detail of `AiTEMS Service Creation Failed`."""

    metadata: FailedMetadata
    request: CreateService
    data: Failure


class Requested(CreateService):
    """The detail of `AiTEMS Service Creation Requested`. Text is counted in characters, after NFC."""

    idempotency_key: Key | None = None


# --- the HTTP door ------------------------------------------------------------------------------------------------


class Status(_Out):
    """Where a request stands: the body of 202, of GET, and of 200 where a delivery is answered."""

    request_id: RequestId
    state: State
    name: str
    """Empty where the request did not validate."""
    channel: Channel
    caller: str
    requested_at: Time
    settled_at: Time | None
    attempts: Count
    adopted: bool
    service: Service | None
    """AiTEMS's own answer, when created."""
    problem: Problem | None
    """When rejected or failed."""
    last_problem: Problem | None
    """What stands in the way, while open."""
    advice: str
    """For people."""


class Keys(BaseModel):
    """The keys secret: a Sub Account's API authentication key."""

    model_config = ConfigDict(extra="forbid")

    access_key: Annotated[str, Field(min_length=1)]
    secret_key: Annotated[str, Field(min_length=1)]


# --- writing ------------------------------------------------------------------------------------------------------

OUTGOING: dict[str, type[BaseModel]] = {
    "service-created": Created,
    "service-creation-rejected": Rejected,
    "service-creation-failed": Failed,
    "problem": Problem,
    "status": Status,
}
INCOMING: dict[str, type[BaseModel]] = {"service-creation-requested": Requested, "keys": Keys}
VERSION = 1


class _Plain(GenerateJsonSchema):
    """Without a title for each field: it would only repeat the name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401  # pydantic-core's schema
        """See the base class."""
        del schema
        return False


def schemas() -> dict[str, Json]:
    """Return every schema by the name of its file."""
    made = {name: _outgoing(_schema(model)) for name, model in OUTGOING.items()}
    made |= {name: _incoming(_schema(model)) for name, model in INCOMING.items()}
    return {f"{name}.v{VERSION}.json": _headed(name, schema) for name, schema in made.items()}


def text(schema: Json) -> str:
    """Return a schema as its file has it."""
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"


def main() -> None:
    """Write the files anew."""
    for name, schema in schemas().items():
        (FOLDER / name).write_text(text(schema), "utf-8")
        print(f"schemas/{name}")


def _schema(model: type[BaseModel]) -> Json:
    # As written, not as read: what runs before a check when reading would hide the check.
    return model.model_json_schema(mode="serialization", schema_generator=_Plain)


def _headed(name: str, schema: Json) -> Json:
    head = {"$schema": GenerateJsonSchema.schema_dialect, "$id": f"urn:aitems-bridge:schema:{name}:{VERSION}"}
    return {**head, **schema, "title": name}


def _outgoing(schema: Json) -> Json:
    """Let members be added; of AiTEMS's own, insist on nothing that the bridge does not insist on."""
    for part in (schema, *schema.get("$defs", {}).values()):
        part.pop("additionalProperties", None)
        properties = part.get("properties", {})
        match part["title"]:
            case "Service":
                part["required"] = ["serviceId", "name"]
                for name in properties.keys() - {"serviceId", "name"}:
                    properties[name] = {}
            case "CreateService":
                part["required"] = list(properties)
                for member in properties.values():
                    member.pop("default", None)
            case "Problem" | "Rejection" | "Failure":
                for name in ("request_id", "errors", "may_exist", "upstream"):
                    _without_null(properties[name])
    return schema


def _incoming(schema: Json) -> Json:
    """Let members be left out, but not be null."""
    for member in schema["properties"].values():
        _without_null(member)
    return schema


def _without_null(member: Json) -> None:
    """Take null, and the default of null, from what a member may be."""
    if "anyOf" in member:
        (only,) = (each for each in member.pop("anyOf") if each != {"type": "null"})
        member.pop("default", None)
        member.update({**only, **member})


if __name__ == "__main__":
    main()

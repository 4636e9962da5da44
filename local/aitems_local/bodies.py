"""Everything that crosses the bridge's border, as models, and the JSON Schemas made of them.

Going out, what a consumer decides by is closed, and what it shows or sorts by is open; members may be added within a
version, so a consumer must not mind members it does not know. Coming in, nothing unknown is taken.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from aitems_bridge.errors import KINDS, Retryable, type_prefix
from aitems_bridge.models import CreateService
from aitems_bridge.record import State
from aitems_bridge.service import Service
from aitems_bridge.shapes import Shape

Json = dict[str, Any]


def _types(wanted: Callable[[Retryable], bool]) -> Any:  # noqa: ANN401  # pydantic's FieldInfo
    """Return an open set: kinds may be added within a version, and ``retryable`` tells what to do about any."""
    kinds = [type_prefix + slug for slug, kind in KINDS.items() if wanted(kind.retryable)]
    return Field(pattern=f"^{type_prefix}[a-z]+(-[a-z]+)*$", examples=list(kinds))


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
Channel = Annotated[
    str, Field(pattern="^[a-z][a-z0-9-]*$", examples=["standard", "github", "hmac", "slack", "works", "bus"])
]
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
    """Which kind, of an open set; an identifier, not an address."""
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
    """The door it came through, of an open set."""
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


class Ignored(_Out):
    """A delivery that the caller's own filter leaves out; nothing was recorded."""

    status: Literal["ignored"]
    reason: str


class Acknowledged(_Out):
    """A message to the NAVER WORKS bot was taken; what is said about it comes as a message."""

    status: Literal["accepted"]


class SlackAnswer(_Out):
    """What Slack shows to the person who typed the command."""

    response_type: Literal["ephemeral"]
    text: str


class GatewayMessage(_Out):
    """What API Gateway says when a call does not reach the bridge."""

    message: str


class SlackCommand(BaseModel):
    """The fields of Slack's form that count; others are not minded."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    team_id: str
    channel_id: str
    user_id: str
    command: Annotated[str, Field(examples=["/aitems"])]
    text: Annotated[str, Field(examples=["create shop-main batch 봄 시즌 추천"])]
    response_url: str
    """Where the outcome is told."""
    trigger_id: Key
    """The request's key."""


class Keys(BaseModel):
    """The keys secret: a Sub Account's API authentication key."""

    model_config = ConfigDict(extra="forbid")

    access_key: Annotated[str, Field(min_length=1)]
    secret_key: Annotated[str, Field(min_length=1)]


# --- their schemas --------------------------------------------------------------------------------------------------

OUTGOING: dict[str, type[BaseModel]] = {
    "service-created": Created,
    "service-creation-rejected": Rejected,
    "service-creation-failed": Failed,
    "problem": Problem,
    "status": Status,
}
INCOMING: dict[str, type[BaseModel | Shape]] = {"service-creation-requested": Requested, "keys": Keys}
VERSION = 1


class _Plain(GenerateJsonSchema):
    """Without a title for each field: it would only repeat the name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401  # pydantic-core's schema
        """See the base class."""
        del schema
        return False


def schemas() -> dict[str, Json]:
    """Return every schema that has a file of its own, by that file's name."""
    made = {name: outgoing(model) for name, model in OUTGOING.items()}
    made |= {name: incoming(model) for name, model in INCOMING.items()}
    return {f"{name}.v{VERSION}.json": _headed(name, schema) for name, schema in made.items()}


def outgoing(model: type[BaseModel]) -> Json:
    """Return the schema of what goes out: members may be added; of AiTEMS's own, nothing more than the bridge does."""
    return _outgoing(_schema(model))


def incoming(model: type[BaseModel | Shape]) -> Json:
    """Return the schema of what comes in: members may be left out, but not be null."""
    return _incoming(_schema(model))


def components(schemas: list[Json]) -> Json:
    """Return schemas by their titles, as OpenAPI and AsyncAPI keep them: what they share stands there once.

    Raises `ValueError` where two parts have one title and are not the same.
    """
    found: Json = {}
    for schema in schemas:
        parts = schema.get("$defs", {}).values()
        for part in (*parts, {name: value for name, value in schema.items() if name != "$defs"}):
            moved = _moved(part)
            if found.setdefault(part["title"], moved) != moved:
                raise ValueError(f"there are two schemas {part['title']}")
    return {title: found[title] for title in sorted(found)}


def _moved(value: Any) -> Any:  # noqa: ANN401  # JSON of any kind
    """Return the same, its references leading to the components."""
    match value:
        case {"$ref": str(place), **others}:
            return {"$ref": place.replace("#/$defs/", "#/components/schemas/"), **_moved(others)}
        case dict():
            return {name: _moved(each) for name, each in value.items()}
        case list():
            return [_moved(each) for each in value]
    return value


def _schema(model: type[BaseModel | Shape]) -> Json:
    # As written, not as read: what runs before a check when reading would hide the check.
    return TypeAdapter(model).json_schema(mode="serialization", schema_generator=_Plain)


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

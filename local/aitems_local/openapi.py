"""The HTTP door as an OpenAPI 3.1 document, made of the table of problems, the models and what was really answered."""

from typing import Any

from aitems_bridge.callers import CALLER_NAME
from aitems_bridge.doors import MOST_BYTES
from aitems_bridge.errors import KINDS
from aitems_bridge.models import CreateService
from aitems_bridge.service import Service
from aitems_local.bodies import (
    VERSION,
    Acknowledged,
    GatewayMessage,
    Ignored,
    Problem,
    SlackAnswer,
    SlackCommand,
    Status,
    components,
    incoming,
    outgoing,
)

Json = dict[str, Any]

ASK, SHOW = "createService", "getRequest"
PROBLEM, JSON, FORM = "application/problem+json", "application/json", "application/x-www-form-urlencoded"

_SHOWN = (
    "signature-refused",
    "unknown-caller",
    "unknown-request",
    "body-too-large",
    "caller-unavailable",
    "not-recorded",
)
ANSWERED = {
    ASK: [slug for slug, kind in KINDS.items() if kind.retryable != "same-key-only" and slug != "unknown-request"],
    SHOW: list(_SHOWN),
}
"""The kinds of problem that each operation answers with; the others are told in events and status documents only."""

GATEWAYS = {429: "Too many calls at once", 500: "The bridge's function gave no answer"}
"""What only API Gateway answers."""
_SHARED = {413: "the call is larger than 10 MB", 503: "the bridge's function cannot be called"}
"""What API Gateway also answers, and when."""

_TITLES = {
    400: "The body cannot be read.",
    401: "No valid signature. One text for every cause, so that nobody learns from it what to try next.",
    403: "This caller may not create a service of that name.",
    404: "What the path names is not there.",
    413: f"The body is too large: at most {MOST_BYTES:,} bytes, counted after decoding.",
    415: "The body is not sent as JSON in UTF-8, or it is compressed.",
    422: "The request is refused: for its fields, its name, its key, or a reason of AiTEMS's own.",
    503: "Not now. Nothing was surely recorded: send it again under the same key, after `Retry-After`.",
}


def document(examples: dict[str, Json]) -> Json:
    """Return the OpenAPI document; ``examples`` are answers as they were recorded, by name."""
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "aitems-bridge: the HTTP door",
            "version": str(VERSION),
            "summary": "One signed request makes at most one AiTEMS service, and ends in exactly one outcome.",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [
            {
                "url": "{WebhookUrl}",
                "description": "The output `WebhookUrl` of the stack",
                "variables": {"WebhookUrl": {"default": "https://abcde12345.execute-api.ap-northeast-2.amazonaws.com"}},
            }
        ],
        "paths": {
            "/hooks/{caller}": {"parameters": [_CALLER], "post": _ask(_of(ASK, examples))},
            "/hooks/{caller}/requests/{request_id}": {
                "parameters": [_CALLER, _REQUEST_ID],
                "get": _show(_of(SHOW, examples)),
            },
        },
        "components": {
            "schemas": components(
                [
                    incoming(CreateService),
                    *(outgoing(model) for model in (Service, Status, Problem, Ignored, Acknowledged)),
                    *(outgoing(model) for model in (SlackAnswer, GatewayMessage)),
                    {**incoming(SlackCommand), "title": "SlackCommand"},
                    _FOREIGN,
                ]
            ),
            "headers": _HEADERS,
            "securitySchemes": _SCHEMES,
        },
    }


# --- the operations -----------------------------------------------------------------------------------------------


def _ask(examples: dict[str, Json]) -> Json:
    return {
        "operationId": ASK,
        "summary": "Ask for a service",
        "description": _ASKING,
        "security": [{scheme: []} for scheme in _SCHEMES],
        "parameters": [_WEBHOOK_ID, _WEBHOOK_TIMESTAMP, _PREFER, *_VENDORS],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {"anyOf": [_ref("CreateService"), _ref("ForeignPayload")]},
                    "examples": {
                        "request": {
                            "summary": "The request itself: a `standard` or `hmac` caller without a mapping",
                            "value": {"name": "shop-main", "description": "봄 시즌 추천", "type": "batch"},
                        },
                        "foreign": {
                            "summary": "What a mapping finds a request in: a `github` caller",
                            "value": {"deployment": {"task": "aitems", "payload": {"name": "ci-main"}}},
                        },
                    },
                },
                FORM: {"schema": _ref("SlackCommand")},
            },
        },
        "responses": {
            "200": _answer(
                "To a delivery that is settled (its status document), to one that the caller's filter leaves out "
                "(nothing is recorded of it), and to every command of a chat that is signed rightly: a person reads "
                "there what became of it.",
                {JSON: {"anyOf": [_ref(each) for each in ("Status", "Ignored", "SlackAnswer", "Acknowledged")]}},
                {"X-Request-Id": False, "Location": False, "Preference-Applied": False, "Idempotency-Replayed": False},
                examples,
                200,
            ),
            "201": _answer(
                "The service is made: AiTEMS's own answer, whole. Under the same key the same answer again.",
                {JSON: _ref("Service")},
                {"X-Request-Id": True, "Location": False, "Preference-Applied": False, "Idempotency-Replayed": False},
                examples,
                201,
                links=_LINKS,
            ),
            "202": _answer(
                "Recorded, and not settled yet. The outcome will be announced. Sending it again is harmless under the "
                "same key; under another it is another request.",
                {JSON: _ref("Status")},
                {"X-Request-Id": True, "Retry-After": True, "Location": False, "Preference-Applied": False},
                examples,
                202,
                links=_LINKS,
            ),
            **_problems(ASK, examples),
        },
    }


def _show(examples: dict[str, Json]) -> Json:
    return {
        "operationId": SHOW,
        "summary": "Ask how a request stands",
        "description": _SHOWING,
        "security": [{"standard": []}],
        "parameters": [
            {
                **_WEBHOOK_ID,
                "required": True,
                "description": "The request's id, as in the path: the path is not signed.",
            },
            {**_WEBHOOK_TIMESTAMP, "required": True},
        ],
        "responses": {
            "200": _answer(
                "How it stands, settled or not.", {JSON: _ref("Status")}, {"X-Request-Id": True}, examples, 200
            ),
            **_problems(SHOW, examples),
        },
    }


def _problems(operation: str, examples: dict[str, Json]) -> Json:
    """Return the answers from 400 on: the bridge's by its table of problems, and those of API Gateway before it."""
    responses: Json = {}
    for status in sorted({KINDS[slug].status for slug in ANSWERED[operation]} | GATEWAYS.keys()):
        kinds = [slug for slug in ANSWERED[operation] if KINDS[slug].status == status]
        told = _TITLES.get(status) or f"{GATEWAYS[status]}. Send it again under the same key."
        told += "".join(f"\n- `{slug}`: {KINDS[slug].title}" for slug in kinds)
        content = {PROBLEM: _ref("Problem")} if kinds else {}
        headers: dict[str, bool] = {}
        if status == 422:  # noqa: PLR2004  # the only one that may tell of a request on record
            headers = dict.fromkeys(("X-Request-Id", "Location", "Preference-Applied", "Idempotency-Replayed"), False)
        if status in _SHARED:
            told += f"\n\nAPI Gateway itself answers so, with a message alone, when {_SHARED[status]}."
        if status in _SHARED or status in GATEWAYS:
            content |= {JSON: _ref("GatewayMessage")}
        if status == 503:  # noqa: PLR2004  # the only one after which to wait
            headers = {"Retry-After": False}
        responses[str(status)] = _answer(
            told, content, headers, examples, status, own=bool(kinds) and status not in _SHARED
        )
    return responses


def _answer(
    told: str,
    content: dict[str, Json],
    headers: dict[str, bool],
    examples: dict[str, Json],
    status: int,
    *,
    own: bool = True,
    links: Json | None = None,
) -> Json:
    """Return a response; ``own`` says that only the bridge makes it, so that nothing of it is ever left out."""
    named = {"Cache-Control": own, **headers} if PROBLEM in content or own else headers
    response: Json = {"description": told}
    if named:
        response["headers"] = {
            name: _HEADERS[name] | {"required": True} if required else {"$ref": f"#/components/headers/{name}"}
            for name, required in named.items()
        }
    response["content"] = {}
    for media_type, schema in content.items():
        shown = {
            name: {"summary": example["summary"], "value": example["body"]}
            for name, example in examples.items()
            if (example["status"], example["media_type"]) == (status, media_type)
        }
        response["content"][media_type] = {"schema": schema, **({"examples": shown} if shown else {})}
    return response | ({"links": links} if links else {})


def _of(operation: str, examples: dict[str, Json]) -> dict[str, Json]:
    return {name: example for name, example in examples.items() if example["operation"] == operation}


def _ref(title: str) -> Json:
    return {"$ref": f"#/components/schemas/{title}"}


# --- what is said once --------------------------------------------------------------------------------------------

_ABOUT = """\
Every answer below 500 is final for what was sent, but for 202, whose outcome is announced on the event bus. Every
answer from 400 on that the bridge makes is a problem document (RFC 9457): match on its `type`, show its `detail` to
people, and let `retryable` decide whether to send again.

Paths and methods that are not here are answered by API Gateway, 404 with `{"message": "Not Found"}`.

Within a version members, headers and kinds of problem may be added: mind no member that you do not know.
"""

_ASKING = """\
Verifies the signature, records the request, creates the service if the caller waits for that, and says what came of
it. Nothing is confirmed, and nothing is sent to AiTEMS, before it is recorded.

The key (a header or a member, by the caller's scheme) tells one request from another: the same key with the same
content is the same request, with other content it is refused. An `Idempotency-Key` header is not looked at, since no
signature covers it.

Callers that read answers get 201, 202 or 422; those that only know *delivered* (`answer: delivery`, and by default
every caller with a mapping) get 200 or 202 for whatever was recorded. A slash command and a message to a bot get 200.
"""

_SHOWING = """\
For callers with the scheme `standard` only: with any other, a signature over an empty body would be a password that
never expires. The body is empty, and `webhook-id` is the request's id.
"""


def _header(description: str, schema: Json) -> Json:
    return {"description": description, "schema": schema}


_HEADERS: dict[str, Json] = {
    "Cache-Control": _header("Answers are for nobody else.", {"const": "no-store"}),
    "X-Request-Id": _header(
        "The request's id, from the caller's name and the key alone.", {"type": "string", "pattern": "^[a-z2-7]{52}$"}
    ),
    "Location": _header(
        "Where to ask how the request stands; for callers with the scheme `standard`.",
        {"type": "string", "pattern": "^/hooks/[a-z][a-z0-9-]{0,31}/requests/[a-z2-7]{52}$"},
    ),
    "Idempotency-Replayed": _header(
        "Present where the key was known and the request is settled: this is the earlier outcome.", {"const": "true"}
    ),
    "Preference-Applied": _header(
        "What of `Prefer` was followed, the wait as it was limited.",
        {"type": "string", "pattern": "^(respond-async(, wait=[0-9]+)?|wait=[0-9]+)$"},
    ),
    "Retry-After": _header(
        "Seconds after which asking or sending again makes sense.", {"type": "integer", "minimum": 0}
    ),
}

_CALLER: Json = {
    "name": "caller",
    "in": "path",
    "required": True,
    "description": "The caller's name in the callers document, exactly.",
    "schema": {"type": "string", "pattern": f"^{CALLER_NAME.pattern}$"},
    "example": "backoffice",
}
_REQUEST_ID: Json = {
    "name": "request_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[a-z2-7]{52}$"},
    "example": "p24m34k7xwe43it2dyuquvrp6mgw7i7fozbp7ptfnyupi6xrkpnq",
}
_WEBHOOK_ID: Json = {
    "name": "webhook-id",
    "in": "header",
    "description": "The key: new for each request, the same for each try. For the scheme `standard`.",
    "schema": {"type": "string", "pattern": r"^[!-\-/-~]{1,256}$"},
    "example": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
}
_WEBHOOK_TIMESTAMP: Json = {
    "name": "webhook-timestamp",
    "in": "header",
    "description": "When it was signed, in seconds since the epoch: good for 5 minutes. For the scheme `standard`.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,12}$"},
    "example": "1795462704",
}
_PREFER: Json = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async` answers 202 at once, `wait=N` after N seconds at most (RFC 7240).",
    "schema": {"type": "string"},
    "example": "respond-async",
}


def _vendor(name: str, description: str) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


_VENDORS = [
    _vendor(
        "X-GitHub-Event", "For the scheme `github`: `ping`, and events the caller does not name, are answered 200."
    ),
    _vendor("X-GitHub-Delivery", "For the scheme `github`: the key."),
    _vendor("X-Slack-Request-Timestamp", "For the scheme `slack`: when it was signed; good for 5 minutes."),
    _vendor("X-WORKS-BotId", "For the scheme `works`: the bot's number."),
]

_FOREIGN: Json = {
    "title": "ForeignPayload",
    "type": "object",
    "description": (
        "Whatever the sender sends: the caller's mapping makes a request of it. So also a callback of NAVER WORKS, "
        "whose text is the command."
    ),
}


def _signature(name: str, description: str) -> Json:
    return {"type": "apiKey", "in": "header", "name": name, "description": description}


_SCHEMES: dict[str, Json] = {
    "standard": _signature(
        "webhook-signature",
        "Standard Webhooks (https://www.standardwebhooks.com): `v1,` and the base64 of HMAC-SHA256 over "
        "`{webhook-id}.{webhook-timestamp}.{body}`, with the secret's bytes (what follows `whsec_`, decoded). Several "
        "may stand there, separated by spaces.",
    ),
    "github": _signature(
        "X-Hub-Signature-256", "GitHub: `sha256=` and the hexadecimal HMAC-SHA256 over the body, with the secret."
    ),
    "hmac": _signature(
        "X-Shopify-Hmac-Sha256",
        "Any sender that signs with an HMAC: header, algorithm, encoding, signed text and key are those of the "
        "caller's entry. The name given here is an example.",
    ),
    "slack": _signature(
        "X-Slack-Signature",
        "Slack: `v0=` and the hexadecimal HMAC-SHA256 over `v0:{X-Slack-Request-Timestamp}:{body}`, with the app's "
        "signing secret.",
    ),
    "works": _signature(
        "X-WORKS-Signature", "NAVER WORKS: the base64 of HMAC-SHA256 over the body, with the bot's secret."
    ),
}

_LINKS: Json = {
    "status": {
        "operationId": SHOW,
        "description": "How it stands: for callers with the scheme `standard`",
        "parameters": {"caller": "$request.path.caller", "request_id": "$response.header.X-Request-Id"},
    }
}

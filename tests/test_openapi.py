"""The HTTP door answers as `schemas/openapi.yaml` says: every answer it documents is given, and no other.

The project's template as deployed, called through each scheme (`conversation.py`). `RECORD=1` writes what was answered
and announced into `schemas/examples.json`, from which the examples in the documents are taken.
"""

import copy
import json
import os
import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from aitems_bridge.errors import KINDS, type_prefix
from aitems_local import schemas, senders
from aitems_local.openapi import ANSWERED, ASK, GATEWAYS, JSON, PROBLEM, SHOW
from aitems_local.stack import default_callers
from conversation import TRANSPORT, Conversation, Told, examples, record
from world import ROOT

Json = dict[str, Any]

DOCUMENT: Json = yaml.safe_load((ROOT / "schemas" / "openapi.yaml").read_text("utf-8"))
OPERATIONS: dict[str, Json] = {
    operation["operationId"]: operation
    for path in DOCUMENT["paths"].values()
    for method, operation in path.items()
    if method != "parameters"
}
GATEWAY_ALONE = "only API Gateway answers so; the local stack's stand-in is never throttled, and its functions answer"

README_TABLE = re.compile(r"^\| Status \|.*?\n(?=\n)", re.MULTILINE | re.DOTALL)


class UndocumentedError(Exception):
    """The door said what the document does not know."""


def check(told: Told, document: Json = DOCUMENT) -> None:
    """Raise unless an answer is as the document says: status, media type, headers and body."""
    operations = {each["post" if "post" in each else "get"]["operationId"]: each for each in document["paths"].values()}
    path = operations[told.operation]
    response = path["post" if told.operation == ASK else "get"]["responses"].get(str(told.status))
    if response is None or told.media_type not in response["content"]:
        raise UndocumentedError(f"{told.operation}: {told.status} {told.media_type}")
    headers = {name: resolved(header, document) for name, header in response.get("headers", {}).items()}
    if unknown := {name for name in told.headers if name.lower() not in TRANSPORT} - headers.keys():
        raise UndocumentedError(f"{told.operation} {told.status}: {unknown}")
    for name, header in headers.items():
        if name in told.headers:
            value = told.headers[name]
            number = header["schema"].get("type") == "integer"
            validate(int(value) if number else value, header["schema"], document)
        elif header.get("required"):
            raise UndocumentedError(f"{told.operation} {told.status}: without {name}")
    validate(told.body, response["content"][told.media_type]["schema"], document)


def resolved(part: Json, document: Json) -> Json:
    """Return what a reference within the document leads to."""
    if "$ref" not in part:
        return part
    found: Any = document
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


def validate(value: object, schema: Json, document: Json) -> None:
    """Raise ``ValidationError`` unless the value is as the schema, a part of the document, says."""
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def kinds(told: Told) -> set[str]:
    """Return the kind of problem that an answer is."""
    return {told.body["type"].removeprefix(type_prefix)} if told.media_type == PROBLEM else set()


def test_it_is_openapi() -> None:
    """By the specification, its examples included, as a validator that others keep reads it."""
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []
    for operation in OPERATIONS.values():
        for status, response in operation["responses"].items():
            for media_type, content in response["content"].items():
                for example in content.get("examples", {}).values():
                    told = Told("", "", int(status), media_type, {}, example["value"])
                    validate(told.body, content["schema"], DOCUMENT)


def test_every_answer_is_documented(talk: Conversation) -> None:
    """Good and bad, through each scheme: status, media type, headers and body are those of the document."""
    for told in talk.told.values():
        check(told)


def test_every_documented_answer_is_given(talk: Conversation) -> None:
    """Each status and media type of each operation comes up, but for what only API Gateway says."""
    given = {(told.operation, str(told.status), told.media_type) for told in talk.told.values()}
    documented = {
        (name, status, media_type)
        for name, operation in OPERATIONS.items()
        for status, response in operation["responses"].items()
        for media_type in response["content"]
    }
    never = {
        (name, status, media_type)
        for name, status, media_type in documented
        if media_type == JSON and (int(status) in GATEWAYS or int(status) in (413, 503))
    }
    assert documented - given == never, GATEWAY_ALONE


@pytest.mark.parametrize("operation", [ASK, SHOW])
def test_every_kind_of_problem_comes_up(talk: Conversation, operation: str) -> None:
    """The kinds that an operation is said to answer with are those that it does."""
    told = [each for each in talk.told.values() if each.operation == operation]
    assert set().union(*(kinds(each) for each in told)) == set(ANSWERED[operation])


@pytest.mark.parametrize("caller", default_callers())
def test_every_scheme_is_described(talk: Conversation, caller: str) -> None:
    """What a sender of each sends is what the document has: the signature's header, the other headers and the body."""
    entry = talk.bridge.callers[caller]
    scheme = entry["scheme"]
    assert {scheme: []} in OPERATIONS[ASK]["security"]
    sent = senders.delivery(talk.bridge.document, scheme, {"name": "shop-main"}, caller=caller)
    signature = DOCUMENT["components"]["securitySchemes"][scheme]["name"]
    assert signature in sent.headers
    own = {entry["hmac"]["key"]["header"]} if scheme == "hmac" else set()  # of the caller's own choosing
    named = {parameter["name"] for parameter in OPERATIONS[ASK]["parameters"]} | {signature} | own
    assert sent.headers.keys() - {"Content-Type", "User-Agent"} <= named
    media_type = sent.headers["Content-Type"]
    body = json.loads(sent.body) if media_type == JSON else dict(parse_qsl(sent.body.decode()))
    validate(body, OPERATIONS[ASK]["requestBody"]["content"][media_type]["schema"], DOCUMENT)


def still(value: Any) -> Any:  # noqa: ANN401  # JSON of any kind
    """Return the same without what differs from run to run: times, and ids that others make up."""
    if isinstance(value, dict):
        made_up = {"serviceId", "trace_id", "id", "apigw-requestid", "createdDate", "updatedDate"}
        return {name: "…" if name in made_up else still(each) for name, each in value.items()}
    if isinstance(value, list):
        return [still(each) for each in value]
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "…", value) if isinstance(value, str) else value


def test_the_examples_are_what_is_said(talk: Conversation) -> None:
    """An example that the bridge no longer gives misleads: record them, and make the documents anew."""
    if os.environ.get("RECORD"):
        record(talk)
    recorded = json.loads(schemas.EXAMPLES.read_text("utf-8"))
    assert still(examples(talk)) == still(recorded), "RECORD=1 pytest tests/test_openapi.py, then aitems_local.schemas"


def test_the_readme_says_the_same() -> None:
    """Its table of answers has the statuses of the document, and its sentence on API Gateway the gateway's."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = README_TABLE.search(readme)
    assert table
    told = {int(status) for row in table[0].splitlines() for status in re.findall(r"\b\d{3}\b", row.split("|")[1])}
    documented = {int(status) for operation in OPERATIONS.values() for status in operation["responses"]}
    assert documented - GATEWAYS.keys() == told
    for status in GATEWAYS:
        assert re.search(rf"API Gateway answers .*\b{status}\b", readme)


def test_no_kind_is_forgotten() -> None:
    """Each is answered over HTTP, or is one under which a request is given up."""
    answered = set(ANSWERED[ASK]) | set(ANSWERED[SHOW])
    assert answered == {slug for slug, kind in KINDS.items() if kind.retryable != "same-key-only"}


# --- the check itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"status": 204},
        {"status": 201},
        {"media_type": "text/html"},
        {"headers": {}},
        {"headers": {"Cache-Control": "no-store", "X-Request-Id": "a" * 52, "Retry-After": "soon"}},
        {"headers": {"Cache-Control": "no-store", "X-Request-Id": "a" * 52, "Retry-After": "5", "X-New": "1"}},
        {"headers": {"Cache-Control": "no-store", "X-Request-Id": "short", "Retry-After": "5"}},
        {"body": {}},
    ],
)
def test_the_check_notices(talk: Conversation, change: Json) -> None:
    """A status, a header or a body that the document does not know does not pass."""
    right = talk.told["not-waited-for"]
    check(right)
    with pytest.raises((UndocumentedError, ValidationError, ValueError)):
        check(replace(right, **copy.deepcopy(change)))

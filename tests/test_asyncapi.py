"""The event bus carries what `schemas/asyncapi.yaml` says: each message is asked for or announced, and no other."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from aitems_bridge.events import DETAIL_TYPES, REQUESTED
from aitems_local import bodies
from conversation import Conversation
from world import ROOT

Json = dict[str, Any]

DOCUMENT: Json = yaml.safe_load((ROOT / "schemas" / "asyncapi.yaml").read_text("utf-8"))
MESSAGES: dict[str, Json] = DOCUMENT["components"]["messages"]
SPECIFICATION = ROOT / ".asyncapi" / "package" / "schemas" / "3.0.0-without-$id.json"
"""AsyncAPI's own schema of such documents, where `make asyncapi` puts it."""


def at(pointer: str) -> Any:  # noqa: ANN401  # a part of the document
    """Return what a reference within the document leads to."""
    found: Any = DOCUMENT
    for name in pointer.removeprefix("#/").split("/"):
        found = found[name]
    return found


def references(part: Any) -> set[str]:  # noqa: ANN401  # a part of the document
    """Return every reference in a part of the document."""
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(references(each) for each in part.values()))
    return set().union(*(references(each) for each in part)) if isinstance(part, list) else set()


def validate(message: Json, event: object, dialect: Any = Draft202012Validator) -> None:  # noqa: ANN401  # a class
    """Raise ``ValidationError`` unless the event is what the message's payload says."""
    dialect({**message["payload"], "components": DOCUMENT["components"]}).validate(event)


@pytest.mark.asyncapi
@pytest.mark.skipif(not SPECIFICATION.exists(), reason="`make asyncapi` fetches it")
def test_it_is_asyncapi() -> None:
    """By the specification's own schema."""
    schema = json.loads(Path(SPECIFICATION).read_text("utf-8"))
    faults = sorted(Draft7Validator(schema).iter_errors(DOCUMENT), key=lambda error: list(error.path))
    assert [(list(error.path), error.message[:200]) for error in faults] == []


def test_every_reference_leads_somewhere() -> None:
    """To a part of the same document: one file is enough."""
    for reference in references(DOCUMENT):
        assert isinstance(at(reference), dict), reference


def test_every_message_is_one_of_the_bus() -> None:
    """The one that asks and the three that tell; each in an operation, and in the channel."""
    assert {message["name"] for message in MESSAGES.values()} == {REQUESTED, *DETAIL_TYPES.values()}
    used = {at(each["$ref"])["$ref"] for operation in DOCUMENT["operations"].values() for each in operation["messages"]}
    assert used == {f"#/components/messages/{name}" for name in MESSAGES}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_examples_are_right(name: str) -> None:
    """There is one of each at least; by JSON Schema as it is now, and as AsyncAPI reads it (draft 7)."""
    assert MESSAGES[name]["examples"]
    for example in MESSAGES[name]["examples"]:
        validate(MESSAGES[name], example["payload"])
        validate(MESSAGES[name], example["payload"], Draft7Validator)


def test_what_is_announced_is_documented(talk: Conversation) -> None:
    """Events as the bus delivered them, with its envelope: each is its message's, and no other's."""
    for heard in talk.heard.values():
        taken = [name for name, message in MESSAGES.items() if heard.event["detail-type"] == message["name"]]
        for name, message in MESSAGES.items():
            if name in taken:
                validate(message, heard.event)
            else:
                assert not Draft202012Validator({**message["payload"], "components": DOCUMENT["components"]}).is_valid(
                    heard.event
                )
    assert {heard.event["detail-type"] for heard in talk.heard.values()} == set(DETAIL_TYPES.values())


def test_the_details_are_those_of_the_schemas() -> None:
    """One model, two files: what a message's detail is here, it is in its own file."""
    models: dict[str, type[object]] = {**bodies.OUTGOING, **bodies.INCOMING}
    for name, model in models.items():
        if name.startswith("service"):
            own = {
                key: value
                for key, value in bodies.schemas()[f"{name}.v1.json"].items()
                if key in ("properties", "required")
            }
            here = DOCUMENT["components"]["schemas"][model.__name__]
            assert json.dumps(own).replace("#/$defs/", "#/components/schemas/") == json.dumps(
                {key: here[key] for key in own}
            )

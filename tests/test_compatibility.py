"""Version 1 is kept: what others rely on today is there tomorrow (docs/compatibility.md).

`tests/data/v1.json` is what version 1 promises, recorded at a release. Today's schemas, answers, template, commands and
ledger are compared with it; what was added is no fault. `PROMISE=1` records anew, where nothing is broken.
"""

import copy
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from aitems_bridge.errors import Problem
from aitems_bridge.events import entry
from aitems_bridge.ledger import image_of, record_of
from aitems_bridge.record import State
from aitems_bridge.relay import UNREADABLE
from aitems_local import cli, handbook
from aitems_local.stack import load_template
from contract import RECORDS, UNKNOWN
from subschema import Schema, gaps
from world import ROOT

Json = dict[str, Any]

BASELINE: Path = ROOT / "tests" / "data" / "v1.json"
OUT = (
    "service-created",
    "service-creation-rejected",
    "service-creation-failed",
    "problem",
    "status",
)
IN = ("service-creation-requested", "callers", "keys")
STATEFUL = re.compile(r"::(DynamoDB::Table|SQS::Queue|SecretsManager::Secret|Events::EventBus|ApiGatewayV2::Api)$")
EXIT_CODES = ("OK", "REFUSED", "USAGE", "ENVIRONMENT", "UNSETTLED")


def broken(name: str, then: Json, now: Json) -> list[str]:
    """Return how a schema breaks version 1, each with the rule."""
    old, new = Schema(then, then), Schema(now, now)
    if name in OUT:
        told, rule, found = "says what version 1 does not", "what goes out only grows", gaps(new, old)
    else:
        told, rule, found = "refuses what version 1 takes", "what was taken is taken", gaps(old, new)
    return [f"{name} {told}: {gap} ({rule}: docs/compatibility.md)" for gap in found]


# --- what there is ------------------------------------------------------------------------------------------------


def schemas() -> Json:
    """Return today's schemas."""
    return {name: json.loads((ROOT / "schemas" / f"{name}.v1.json").read_text("utf-8")) for name in OUT + IN}


def http() -> Json:
    """Return today's answers: of each route, what it lets in and what each answer always has."""
    document = yaml.safe_load((ROOT / "schemas" / "openapi.yaml").read_text("utf-8"))
    return {
        f"{method.upper()} {path}": {
            "security": sorted(scheme for each in operation["security"] for scheme in each),
            "answers": {
                f"{status} {media_type}": sorted(
                    name for name, header in answer.get("headers", {}).items() if header.get("required")
                )
                for status, answer in operation["responses"].items()
                for media_type in answer["content"]
            },
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
    }


def template() -> Json:
    """Return what of today's template others hold on to, and what holds something itself."""
    whole = load_template()
    return {
        "parameters": sorted(whole["Parameters"]),
        "outputs": sorted(whole["Outputs"]),
        "resources": {
            name: each["Type"] for name, each in sorted(whole["Resources"].items()) if STATEFUL.search(each["Type"])
        },
    }


def commands() -> Json:
    """Return today's commands with their options, and what their exit codes are."""
    return {
        "options": {
            " ".join(words): sorted(set(re.findall(r"--[a-z-]+", handbook.help_of(*words))))
            for words in handbook.usages()
        },
        "exit": {name: getattr(cli, name) for name in EXIT_CODES},
    }


def items() -> Json:
    """Return today's items of the ledger, one for each record of the contract."""
    return {name: image_of(record) for name, record in records().items()}


def records() -> Json:
    """Return the records of the contract."""
    return {name: record for name, (record, _) in RECORDS.items()} | {"unknown": UNKNOWN}


PARTS: dict[str, Callable[[], Json]] = {
    "schemas": schemas,
    "http": http,
    "template": template,
    "commands": commands,
    "items": items,
}


@pytest.fixture(scope="module")
def then() -> Json:
    """Return what version 1 promises."""
    baseline: Json = json.loads(BASELINE.read_text("utf-8"))
    return baseline


@pytest.mark.parametrize("name", OUT + IN)
def test_schemas(then: Json, name: str) -> None:
    """Going out: all that is said now was said then. Coming in: all that was taken then is taken now."""
    assert broken(name, then["schemas"][name], schemas()[name]) == []


def test_http(then: Json) -> None:
    """Every route lets in whom it let in, and gives the answers it gave, with the headers that they always had."""
    now = http()
    for route, promised in then["http"].items():
        assert set(promised["security"]) <= set(now[route]["security"]), route
        for answer, headers in promised["answers"].items():
            assert set(headers) <= set(now[route]["answers"][answer]), f"{route} {answer}"


def test_template(then: Json) -> None:
    """Parameters and outputs stay; new parameters have a default; what holds data keeps its logical id."""
    now, promised = template(), then["template"]
    assert set(promised["parameters"]) <= set(now["parameters"])
    assert set(promised["outputs"]) <= set(now["outputs"])
    assert promised["resources"].items() <= now["resources"].items(), "a new logical id is a new, empty resource"
    assert all("Default" in parameter for parameter in load_template()["Parameters"].values())


def test_commands(then: Json) -> None:
    """Commands, options and exit codes stay."""
    now, promised = commands(), then["commands"]
    assert {
        command: missing
        for command, options in promised["options"].items()
        if (missing := set(options) - set(now["options"].get(command, [])))
    } == {}
    assert now["exit"] == promised["exit"]


@pytest.mark.parametrize("name", records())
def test_ledger(then: Json, name: str) -> None:
    """While a new version is deployed, both run: each reads what the other wrote."""
    promised, now = then["items"][name], items()[name]
    assert record_of(promised) == records()[name], "a request that was recorded then cannot be read now"
    assert {attribute: [*value] for attribute, value in promised.items()}.items() <= {
        attribute: [*value] for attribute, value in now.items()
    }.items(), "the version before does not find what it reads"
    assert record_of(now | {"added_later": {"M": {}}}) == records()[name], "an attribute that is new must not matter"


def test_a_new_kind_of_problem_is_deployed_twice() -> None:
    """It is what an older function can read and not say: the relay gives it away, to be announced again."""
    record, _ = RECORDS["rejected by AiTEMS"]
    item = image_of(replace(record, problem=Problem("key-reused", "Unknown to the version before.")))
    unheard = record_of(item | {"problem": {"S": item["problem"]["S"].replace("key-reused", "never-heard-of")}})
    assert unheard.state is State.REJECTED
    with pytest.raises(UNREADABLE):
        entry(unheard, "bus")


def test_recording(then: Json) -> None:
    """`PROMISE=1` makes today's the promise: at a release, never to hide what is broken."""
    if os.environ.get("PROMISE"):
        assert [
            fault for name in then["schemas"] for fault in broken(name, then["schemas"][name], schemas()[name])
        ] == []
        promised = {part: make() for part, make in PARTS.items()}
        BASELINE.write_text(json.dumps(promised, ensure_ascii=False, indent=1) + "\n", "utf-8")
    assert set(then) == set(PARTS)


# --- the check itself ---------------------------------------------------------------------------------------------


def changed(name: str, change: Callable[[Json], object]) -> list[str]:
    """Return the faults found where today's schema were changed so."""
    now = copy.deepcopy(schemas()[name])
    change(now)
    return broken(name, schemas()[name], now)


def definition(schema: Json, name: str) -> Json:
    """Return one of a schema's definitions."""
    found: Json = schema["$defs"][name]
    return found


BREAKING: dict[str, tuple[str, Callable[[Json], object], str]] = {
    "a member is gone": (
        "status",
        lambda s: [s["properties"].pop("advice"), s["required"].remove("advice")],
        "/advice",
    ),
    "a member may be missing": ("status", lambda s: s["required"].remove("attempts"), "/attempts: may be left out"),
    "an optional member is gone": ("problem", lambda s: s["properties"].pop("may_exist"), "/may_exist: is gone"),
    "a member may be null": (
        "problem",
        lambda s: s["properties"].update(title={"anyOf": [{"type": "string"}, {"type": "null"}]}),
        "/title: may be null",
    ),
    "a member has another type": (
        "service-created",
        lambda s: definition(s, "CreatedMetadata")["properties"].update(attempts={"type": "string"}),
        "/metadata/attempts",
    ),
    "a closed set has more": (
        "status",
        lambda s: definition(s, "State")["enum"].append("paused"),
        "/state: may be 'paused'",
    ),
    "a fixed value is another": (
        "service-creation-failed",
        lambda s: definition(s, "FailedMetadata")["properties"]["final"].update(const=True),
        "/metadata/final: may be True",
    ),
    "a form is another": (
        "service-created",
        lambda s: definition(s, "CreatedMetadata")["properties"]["request_id"].update(pattern="^.*$"),
        "/metadata/request_id: pattern is not",
    ),
    "a new member is needed": (
        "service-creation-requested",
        lambda s: [s["properties"].update(team={"type": "string"}), s["required"].append("team")],
        "/team: may be left out",
    ),
    "a member is not taken any more": (
        "service-creation-requested",
        lambda s: s["properties"].pop("description"),
        "/description: is not taken",
    ),
    "a value is not taken any more": (
        "service-creation-requested",
        lambda s: s["properties"]["type"]["enum"].remove("interval"),
        "/type: may be 'interval'",
    ),
    "less is taken": (
        "service-creation-requested",
        lambda s: s["properties"]["description"].update(maxLength=50),
        "/description: may go beyond maxLength 50",
    ),
    "a setting of a caller is gone": (
        "callers",
        lambda s: definition(s, "caller")["oneOf"][0]["properties"].pop("mapping"),
        "/mapping: is not taken",
    ),
    "a caller needs more": (
        "callers",
        lambda s: definition(s, "hmac")["required"].append("encoding"),
        "/encoding: may be left out",
    ),
    "a scheme is gone": ("callers", lambda s: definition(s, "caller")["oneOf"].pop(), "alternatives are others"),
}


@pytest.mark.parametrize("case", BREAKING)
def test_what_breaks_is_noticed(case: str) -> None:
    """And named, with the place and the rule."""
    name, change, told = BREAKING[case]
    faults = changed(name, change)
    assert any(told in fault for fault in faults), faults
    assert all("docs/compatibility.md" in fault for fault in faults)


ADDING: dict[str, tuple[str, Callable[[Json], object]]] = {
    "a member": ("status", lambda s: s["properties"].update(colour={"type": "string"})),
    "a member that is always there": (
        "service-created",
        lambda s: [s["properties"].update(trace={"type": "string"}), s["required"].append("trace")],
    ),
    "a kind of problem": (
        "problem",
        lambda s: s["properties"]["type"]["examples"].append("urn:aitems-bridge:problem:never-heard-of"),
    ),
    "words": ("problem", lambda s: s.update(description="Other words.")),
    "what is never said any more": ("status", lambda s: definition(s, "State")["enum"].remove("received")),
    "what need not be said": (
        "service-creation-requested",
        lambda s: s["properties"].update(team={"type": "string"}),
    ),
    "another type of service": (
        "service-creation-requested",
        lambda s: s["properties"]["type"]["enum"].append("realtime"),
    ),
    "a longer text": ("service-creation-requested", lambda s: s["properties"]["description"].update(maxLength=200)),
    "a setting of a caller": (
        "callers",
        lambda s: definition(s, "caller")["properties"].update(note={"type": "string"}),
    ),
    "a scheme": (
        "callers",
        lambda s: definition(s, "caller")["oneOf"].append({"properties": {"scheme": {"const": "teams"}}}),
    ),
}


@pytest.mark.parametrize("case", ADDING)
def test_what_adds_is_none_of_it(case: str) -> None:
    """Growing is what version 1 leaves room for."""
    assert changed(*ADDING[case]) == []

"""``schemas/callers.v1.json`` and the loader say the same of every entry, but for what no JSON Schema can say."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from aitems_bridge.callers import Caller, read_document, shared_secrets
from aitems_bridge.shapes import judged, surely
from knock import CALLERS
from world import ROOT, SECRET

Json = dict[str, Any]

VALIDATOR = Draft202012Validator(json.loads((ROOT / "schemas" / "callers.v1.json").read_text("utf-8")))
PLAIN = "hush-hush-hush-hush-4711"


def verdicts(document: object) -> tuple[bool, bool]:
    """Return whether schema and loader take a document whole."""
    try:
        read = read_document(json.dumps(document))
    except ValueError:
        return VALIDATOR.is_valid(document), False
    return VALIDATOR.is_valid(document), not read.faults


def changed(caller: str, **members: object) -> Json:
    """Return the contract's example with one entry changed."""
    return CALLERS | {caller: CALLERS[caller] | members}


def without(caller: str, member: str) -> Json:
    """Return the contract's example with one member of one entry left out."""
    return CALLERS | {caller: {name: value for name, value in CALLERS[caller].items() if name != member}}


def test_it_is_a_schema() -> None:
    """Of the dialect that it names."""
    Draft202012Validator.check_schema(VALIDATOR.schema)


def test_the_contracts_example_is_taken() -> None:
    """By both, and nobody in it shares a secret."""
    assert verdicts(CALLERS) == (True, True)
    assert shared_secrets(read_document(json.dumps(CALLERS))) == []


WRONG: dict[str, Json] = {
    "no secrets": without("backoffice", "secrets"),
    "empty secrets": changed("backoffice", secrets=[]),
    "unknown member": changed("backoffice", colour="red"),
    "capital letter in the name": {"Backoffice": CALLERS["backoffice"]},
    "whsec_ missing": changed("backoffice", secrets=[SECRET.removeprefix("whsec_")]),
    "unknown scheme": changed("backoffice", scheme="basic"),
    "GitHub without events": changed("deploys", github={}),
    "GitHub without mapping": without("deploys", "mapping"),
    "Slack without teams": changed("slack", slack={"channels": ["G8PSS9T3V"]}),
    "Slack with a mapping": changed("slack", mapping={"name": "text"}),
    "Stripe-like without a time": changed(
        "payments", hmac=CALLERS["payments"]["hmac"] | {"pairs": {"signature": "v1"}}
    ),
    "pairs with prefix": changed("payments", hmac=CALLERS["payments"]["hmac"] | {"prefix": "v1="}),
    "a time that is not signed": changed("payments", hmac=CALLERS["payments"]["hmac"] | {"content": "{body}"}),
    "SHA-1": changed("shopfront", hmac=CALLERS["shopfront"]["hmac"] | {"algorithm": "sha1"}),
}
"""The contract's list of what is refused, and what was added to it."""


@pytest.mark.parametrize("document", WRONG.values(), ids=WRONG)
def test_the_contracts_wrong_variants_are_refused(document: Json) -> None:
    """By both; and the loader shuts that one door only."""
    assert verdicts(document) == (False, False)
    read = read_document(json.dumps(document))
    assert len(read.faults) == 1
    assert len(read.callers) == len(document) - 1


@pytest.mark.parametrize(
    "document",
    [
        [],
        None,
        {"a": None},
        {f"c{number}": CALLERS["backoffice"] for number in range(201)},
        changed("works", works={"bot_id": "2000001", "domains": []}),
        changed("works", works={"bot_id": "2000001", "domains": ["40029600"]}),
        changed("works", works={"bot_id": "2000001", "domains": [True]}),
        changed("works", works={"bot_id": 2_000_001, "domains": [1]}),
        changed("shopfront", hmac={"header": "X-A", "key": {}}),
        changed("shopfront", hmac={"header": "X-A", "key": {"body": "id", "header": "X-B"}}),
        changed("shopfront", hmac={"header": "X A", "key": {"body": "id"}}),
        changed("shopfront", github={"events": ["push"]}),
        changed("deploys", github={"events": ["push", "push"]}),
        changed("deploys", wait=9),
        changed("slack", wait=1),
        changed("slack", answer="delivery"),
        changed("backoffice", defaults={}),
        changed("backoffice", enabled=1),
    ],
)
def test_what_else_both_refuse(document: object) -> None:
    """Types, numbers and members of another scheme."""
    assert verdicts(document) == (False, False)


@pytest.mark.parametrize(
    "document",
    [
        {},
        changed("deploys", wait=8),
        changed("shopfront", wait=25),
        changed("backoffice", mapping={"name": "a.b"}, answer="outcome", enabled=False),
        changed("works", works={"bot_id": "1", "domains": [1], "users": ["u"], "channels": ["c"], "language": "en"}),
        changed("shopfront", hmac={"header": "X-A", "pairs": {"signature": "v1"}, "key": {"body": "id"}}),
    ],
)
def test_what_both_take(document: object) -> None:
    """The other side of the same limits."""
    assert verdicts(document) == (True, True)


@pytest.mark.parametrize(
    "document",
    [
        changed("backoffice", secrets=["whsec_" + "A" * 86 + "=="], when="name =="),
        changed("backoffice", secrets=["whsec_" + "A" * 33]),
        changed("deploys", mapping={"name": "join('-', "}),
        changed("shopfront", hmac={"header": "X-A", "key": {"body": "id["}}),
    ],
)
def test_what_only_the_loader_can_tell(document: object) -> None:
    """Whether base64 is of 24 to 64 bytes, and whether an expression compiles."""
    assert verdicts(document) == (True, False)


def some(*lawful: object) -> st.SearchStrategy[Any]:
    """Return a strategy of lawful values, and now and then of something else."""
    other: st.SearchStrategy[Any] = st.sampled_from(
        [None, True, 0, -1, 31, 1.5, "", "x", "x y", "한글", "*", [], ["x"], ["x", "x"], {}, {"x": 1}, "a" * 600]
    )
    return st.sampled_from(lawful) | st.sampled_from(lawful) | st.sampled_from(lawful) | other


def members(required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]) -> Any:  # noqa: ANN401
    """Return a strategy of objects."""
    return st.fixed_dictionaries(required, optional=optional)


EXPRESSION = some("a.b", "a == 'x'", "join('-', [a, b])")
MAPPING = members({"name": EXPRESSION}, {"description": EXPRESSION, "type": EXPRESSION, "x": some("a")})
IDS = some(["T1"], ["T1", "T2"], ["x" * 64], ["x" * 65])
HMAC = members(
    {"header": some("X-Sig", "x~y"), "key": some({"body": "id"}, {"header": "X-Id"}, {"body": "id", "header": "X"})},
    {
        "algorithm": some("sha256", "sha512", "sha1"),
        "encoding": some("hex", "base64", "base32"),
        "prefix": some("", "v1=", "p" * 32, "p" * 33),
        "pairs": some({"signature": "v1"}, {"signature": "v1", "timestamp": "t"}, {"timestamp": "t"}),
        "timestamp_header": some("X-Time"),
        "tolerance": some(30, 900, 29, 901),
        "content": some("{body}", "{timestamp}.{body}", "{timestamp}{body}", "{timestamp}|{body}"),
    },
)
GITHUB = members({}, {"events": some(["push"], ["a", "b"], ["Push"])})
SLACK = members({}, {"teams": IDS, "channels": IDS, "users": IDS})
WORKS = members(
    {"bot_id": some("1", "1" * 20, "1" * 21)},
    {"domains": some([1], [1, 1], ["1"]), "users": IDS, "channels": IDS, "language": some("ko", "en", "fr")},
)
ENTRY = members(
    {
        "scheme": some("standard", "github", "hmac", "slack", "works"),
        "secrets": some([SECRET], [PLAIN], [SECRET, PLAIN], [PLAIN, PLAIN], [PLAIN[:15]], [PLAIN] * 4),
    },
    {
        "enabled": some(True, False),
        "allow": some(["shop-*"], ["a"] * 50, ["a"] * 51, ["a b"]),
        "defaults": some({"type": "batch"}, {"description": "d" * 100}, {"description": "d" * 101}, {"name": "x"}),
        "wait": some(0, 8, 9, 25, 26),
        "answer": some("outcome", "delivery"),
        "when": EXPRESSION,
        "mapping": MAPPING,
        "github": GITHUB,
        "hmac": HMAC,
        "slack": SLACK,
        "works": WORKS,
    },
)
OWN = {
    "standard": {"mapping", "when", "answer", "wait"},
    "github": {"github", "mapping", "when", "answer", "wait"},
    "hmac": {"hmac", "mapping", "when", "answer", "wait"},
    "slack": {"slack"},
    "works": {"works"},
}


def agree(entry: Json) -> bool:
    """Whether both judge alike, as far as the schema can judge: whether an expression compiles it cannot say."""
    by_schema, by_loader = verdicts({"c": entry})
    faults = read_document(json.dumps({"c": entry})).faults.values()
    beyond = [fault for fault in faults if "is no JMESPath expression" in fault]
    return by_schema is by_loader or bool(beyond)


@given(ENTRY, st.booleans())
def test_schema_and_loader_agree(entry: Json, tidy: bool) -> None:
    """On every entry there is, most of them nearly lawful: ``tidy`` ones have only the members of their scheme."""
    others = OWN.get(entry["scheme"]) if isinstance(entry["scheme"], str) else None
    if tidy and others is not None:
        strange = {member for own in OWN.values() for member in own} - others
        entry = {name: value for name, value in entry.items() if name not in strange}
    assert agree(entry)


@given(st.sampled_from(sorted(CALLERS)), st.data())
def test_one_member_changed_is_judged_alike(caller: str, data: st.DataObject) -> None:
    """What is lawful but for one value is where the two would part first."""
    entry = json.loads(json.dumps(CALLERS[caller]))
    place = entry
    name = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[name], dict) and data.draw(st.booleans()):
        place = place[name]
        name = data.draw(st.sampled_from(sorted(place)))
    place[name] = data.draw(some(None, 1, "a", ["a"], {"a": "b"}, "X", 300))
    assert agree(entry)


@given(ENTRY, st.booleans())
def test_what_is_surely_an_entry_is_one(entry: Json, tidy: bool) -> None:
    """The loader reads most entries by itself: what it takes pydantic would take, as the same, and the other way."""
    own = OWN.get(entry["scheme"]) if isinstance(entry["scheme"], str) else None
    if tidy and own is not None:
        entry = {name: value for name, value in entry.items() if name in own or name in _COMMON}
    entry = {name: value for name, value in entry.items() if value is not None}

    def verdict(*reader: Any) -> object:  # noqa: ANN401  # a reader, and its arguments after the kind and the entry
        try:
            return reader[0](Caller, entry, *reader[1:])
        except ValueError:
            return None

    assert verdict(surely) == verdict(judged, "scheme")


_COMMON = {"scheme", "secrets", "enabled", "allow", "defaults"}


def test_the_contracts_example_is_surely_taken() -> None:
    """Every scheme, so that no lawful document makes a cold start wait for pydantic."""
    for entry in CALLERS.values():
        assert surely(Caller, entry) == judged(Caller, entry, "scheme")

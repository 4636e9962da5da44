"""The callers document: each entry by itself, and never nobody because of a slip."""

import base64
import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitems_bridge.callers import Callers, Document, HmacCaller, StandardCaller, read_document, standard_key
from aitems_bridge.errors import Misconfigured, Refused
from world import OTHER_SECRET, SECRET, Vault

ENTRY: dict[str, Any] = {"scheme": "standard", "secrets": [SECRET]}


class Told:
    """An operator with memory."""

    def __init__(self) -> None:
        self.faults: list[tuple[str, str]] = []

    def __call__(self, name: str, fault: str) -> None:
        """Hear what has to be mended."""
        self.faults.append((name, fault))


def of(**callers: object) -> Document:
    """Return the document as read."""
    return read_document(json.dumps(callers))


def slug(callers: Callers, name: str) -> str:
    """Return why a caller is not let in."""
    with pytest.raises(Refused) as refused:
        callers.find(name)
    return refused.value.problem.slug


def test_the_smallest_document() -> None:
    """A scheme and a secret are enough; everything else has a default."""
    caller = of(backoffice=ENTRY).callers["backoffice"]
    assert isinstance(caller, StandardCaller)
    assert (caller.enabled, caller.allow, caller.delivers, caller.wait) == (True, None, False, 20)
    assert caller.with_defaults({"name": "abc"}) == {"name": "abc"}


def test_everything_that_may_be_said() -> None:
    """Secrets newest first, and what the contract names."""
    said = ENTRY | {
        "secrets": [OTHER_SECRET, SECRET],
        "enabled": False,
        "allow": ["shop-*"],
        "defaults": {"description": "made by the shop", "type": "interval"},
        "answer": "delivery",
        "wait": 0,
    }
    document = of(backoffice=said)
    assert document.faults == {}
    assert document.callers["backoffice"].secrets == [OTHER_SECRET, SECRET]


@pytest.mark.parametrize(
    "wrong",
    [
        {"scheme": "basic"},
        {"scheme": None},
        {"secrets": []},
        {"secrets": None},
        {"secrets": SECRET},
        {"secrets": [SECRET] * 4},
        {"secrets": [SECRET.removeprefix("whsec_")]},
        {"secrets": ["whsec_"]},
        {"secrets": ["whsec_c2hvcnQ="]},
        {"secrets": ["whsec_" + "A" * 92]},
        {"secrets": ["whsec_!" + SECRET[7:]]},
        {"secrets": ["whsec_한글"]},
        {"secrets": [SECRET + "\n"]},
        {"secrets": [7]},
        {"allow": []},
        {"allow": ["shop main"]},
        {"allow": ["x" * 41]},
        {"allow": "shop-*"},
        {"allow": ["a"] * 51},
        {"defaults": {"name": "shop"}},
        {"defaults": {"type": "realtime"}},
        {"defaults": {"description": "x" * 101}},
        {"answer": "never"},
        {"wait": -1},
        {"wait": 26},
        {"wait": 2.5},
        {"colour": "red"},
    ],
)
def test_a_slip_shuts_that_one_door(wrong: dict[str, Any]) -> None:
    """The entry is out of force with a reason that names the member and shows no secret; the others go on."""
    document = of(backoffice=ENTRY | wrong, shop=ENTRY)
    assert list(document.callers) == ["shop"]
    assert list(document.faults) == ["backoffice"]
    (member,) = wrong
    assert document.faults["backoffice"].startswith(member)
    assert SECRET[6:] not in document.faults["backoffice"]


@pytest.mark.parametrize("entry", [None, [], "x", 7, {}])
def test_an_entry_that_is_none(entry: object) -> None:
    """What is no entry shuts the door of that name and no other."""
    document = of(backoffice=entry, shop=ENTRY)
    assert (list(document.callers), list(document.faults)) == (["shop"], ["backoffice"])


@pytest.mark.parametrize(
    "wrong",
    [{"enabled": "no"}, {"enabled": 0}, {"wait": "7"}, {"wait": True}, {"secrets": [SECRET] * 2}],
)
def test_types_are_as_the_schema_has_them(wrong: dict[str, Any]) -> None:
    """A boolean is a boolean and secrets differ: what the schema refuses, the loader refuses."""
    assert of(backoffice=ENTRY | wrong).callers == {}


@pytest.mark.parametrize("name", ["Backoffice", "1shop", "-shop", "", "shop_a", "a" * 33, "샵", "a\n", "a b"])
def test_a_name_that_could_never_be_called(name: str) -> None:
    """Names are paths: a small letter, then at most 31 of a-z, 0-9 and '-'."""
    document = read_document(json.dumps({name: ENTRY}))
    assert document.callers == {}
    assert list(document.faults) == [name]


@pytest.mark.parametrize("name", ["a", "a" * 32, "shop-2", "a--"])
def test_lawful_names(name: str) -> None:
    """What the rule allows is allowed."""
    assert list(of(**{name: ENTRY}).callers) == [name]


@pytest.mark.parametrize(
    ("patterns", "allowed", "refused"),
    [
        (None, ["anything"], []),
        (["*"], ["", "anything"], []),
        (["shop-*"], ["shop-", "shop-main"], ["shop", "Shop-main", "my-shop-main"]),
        (["shop-*", "blog"], ["blog", "shop-1"], ["blog-1"]),
        (["*-main"], ["shop-main", "-main"], ["shop-main2"]),
        (["a*b*c"], ["abc", "aXbYc"], ["acb", "abcd"]),
        (["a_b"], ["a_b"], ["aXb"]),
    ],
)
def test_allowed_names(patterns: list[str] | None, allowed: list[str], refused: list[str]) -> None:
    """``*`` is any run and everything else itself; any one pattern suffices; letter case counts."""
    caller = of(shop=ENTRY | ({"allow": patterns} if patterns else {})).callers["shop"]
    assert [name for name in allowed + refused if caller.allows(name)] == allowed


def test_defaults_fill_what_is_absent_only() -> None:
    """What the caller says stands, an empty description too."""
    caller = of(shop=ENTRY | {"defaults": {"description": "d", "type": "interval"}}).callers["shop"]
    assert caller.with_defaults({"name": "a"}) == {"name": "a", "description": "d", "type": "interval"}
    said = {"name": "a", "description": "", "type": "batch"}
    assert caller.with_defaults(said) == said


@pytest.mark.parametrize("size", [24, 32, 64])
def test_secrets_of_lawful_length(size: int) -> None:
    """24 to 64 bytes, by the specification."""
    assert standard_key("whsec_" + base64.b64encode(bytes(size)).decode()) == bytes(size)


def test_secrets_do_not_show() -> None:
    """An entry may end in a log or a traceback; its secrets may not."""
    assert SECRET not in repr(of(shop=ENTRY))


@given(st.text())
def test_any_text_is_a_document_or_a_value_error(text: str) -> None:
    """Nothing else is ever raised: the caller of this keeps the last good document on ``ValueError``."""
    with suppress(ValueError):
        read_document(text)


# --- the document in force ----------------------------------------------------------------------------------------


def test_a_caller_is_found_and_a_stranger_is_not() -> None:
    """A stranger asks, once, for the newest document: a new caller works at once."""
    vault = Vault(json.dumps({"backoffice": ENTRY}))
    callers = Callers(vault, Told())
    assert callers.find("backoffice").secrets == [SECRET]
    assert vault.asked_early == [False]
    assert slug(callers, "stranger") == "unknown-caller"
    assert vault.asked_early == [False, False, True]
    vault.text = json.dumps({"backoffice": ENTRY, "stranger": ENTRY})
    assert callers.find("stranger").secrets == [SECRET]


def test_an_entry_at_fault_or_disabled_is_unavailable() -> None:
    """An operator's slip is no caller's fault: the door is shut for now, and the operator is told once."""
    told = Told()
    callers = Callers(Vault(json.dumps({"off": ENTRY | {"enabled": False}, "broken": {"scheme": "standard"}})), told)
    assert [slug(callers, name) for name in ("off", "broken", "off", "broken")] == ["caller-unavailable"] * 4
    assert [name for name, _ in told.faults] == ["broken"]


@pytest.mark.parametrize(
    "text", ["", "not json", "[]", "null", "[" * 60_000, json.dumps(dict.fromkeys(map(str, range(201)), ENTRY))]
)
def test_the_last_good_document_stays_in_force(text: str) -> None:
    """A document that cannot be read turns nobody away who was let in before, and the operator hears of it."""
    told = Told()
    vault = Vault(json.dumps({"backoffice": ENTRY}))
    callers = Callers(vault, told)
    callers.find("backoffice")
    vault.text = text
    assert callers.find("backoffice", early=True).secrets == [SECRET]
    assert told.faults == [("", "callers document unreadable")]
    vault.text = json.dumps({"shop": ENTRY})
    assert callers.find("shop", early=True).secrets == [SECRET]
    assert slug(callers, "backoffice") == "unknown-caller"


def test_a_secret_that_cannot_be_read_keeps_the_last_good_document() -> None:
    """Secrets Manager may fail while we live; what was read before holds."""
    told = Told()
    vault = Vault(json.dumps({"backoffice": ENTRY}))
    callers = Callers(vault, told)
    callers.find("backoffice")
    vault.fault = Misconfigured("The secret that CALLERS_SECRET_ARN names cannot be read (EndpointConnectionError).")
    assert callers.find("backoffice").secrets == [SECRET]
    assert told.faults == [("", str(vault.fault))]


@pytest.mark.parametrize("text", ["", "[]", '"x"'])
def test_without_any_good_document_every_door_is_shut(text: str) -> None:
    """A cold process with nothing to go by answers 503, which makes senders try again."""
    assert slug(Callers(Vault(text), Told()), "backoffice") == "caller-unavailable"


def test_an_expression_too_deep_shuts_that_one_door() -> None:
    """However an expression fails to compile, it is that entry's fault and nobody else's."""
    document = of(backoffice=ENTRY | {"when": "!" * 900 + "a"}, shop=ENTRY)
    assert list(document.callers) == ["shop"]
    assert "when" in document.faults["backoffice"]


@pytest.mark.parametrize("expression", ["contains(title, tag)", "tag < title", "ceil(to_number(title))"])
def test_an_expression_that_cannot_be_worked_out_finds_nothing(expression: str) -> None:
    """Jmespath fails in Python's own ways on some values: the payload is ignored, and nothing breaks."""
    caller = of(backoffice=ENTRY | {"when": expression}).callers["backoffice"]
    assert isinstance(caller, StandardCaller)
    titles: list[object] = ["nan", "inf", "x", 7, None, []]
    for title in titles:
        assert caller.wants({"title": title, "tag": 7}) in (True, False)


def test_a_sum_that_cannot_be_written_is_not_found() -> None:
    """Two lawful numbers of 4,300 digits add up to one that Python does not write: no key, and no error either."""
    hmac = {"header": "X-S", "key": {"body": "sum(ids)"}}
    text = json.dumps({"c": {"scheme": "hmac", "secrets": ["x" * 16], "hmac": hmac}})
    caller = read_document(text).callers["c"]
    assert isinstance(caller, HmacCaller)
    with pytest.raises(Refused):
        caller.key_in(json.loads(f'{{"ids": [{"9" * 4300}, {"9" * 4300}]}}'))
    assert caller.key_in({"ids": [1, 2]}) == "3"


def test_many_stars_cost_no_more_than_few() -> None:
    """A pattern is matched in one pass: nobody's pattern can hold the door up."""
    caller = of(backoffice=ENTRY | {"allow": ["*a" * 20]}).callers["backoffice"]
    begun = time.process_time()
    assert not caller.allows("a" * 19 + "b")
    assert caller.allows("a" * 20)
    assert time.process_time() - begun < 0.05

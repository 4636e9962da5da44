"""What may be asked for, exactly; what comes back, generously."""

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from aitems_bridge.doors import json_object
from aitems_bridge.errors import Problem, Refused, Violation
from aitems_bridge.models import CreateService, quoted
from aitems_bridge.service import Service

DOCUMENTED_NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_-]{2,19}\Z")
GRIN = "\N{GRINNING FACE}"
DECOMPOSED = unicodedata.normalize("NFD", "봄 시즌 추천")


def violations(value: object) -> list[Violation]:
    """Return what is wrong with a request; something must be."""
    with pytest.raises(Refused) as refused:
        CreateService.parse(value)
    assert refused.value.problem.slug == "invalid-request"
    assert refused.value.problem.errors
    return list(refused.value.problem.errors)


def rules(value: object) -> list[tuple[str, str]]:
    """Return pointer and rule of each violation."""
    return [(violation.pointer, violation.rule) for violation in violations(value)]


def outcome(value: object) -> CreateService | Problem:
    """Return the request, or the problem of its refusal; anything else that is raised fails the test."""
    try:
        return CreateService.parse(value)
    except Refused as refused:
        return refused.problem


# --- what is accepted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["abc", "_ab", "A-1", "Z_9-", "a" * 20, "a--", "___", "batch"])
def test_documented_names_are_accepted(name: str) -> None:
    """Three to twenty of ASCII letters, digits, ``_`` and ``-``, the first a letter or ``_``."""
    assert CreateService.parse({"name": name}).name == name


def test_what_is_left_out_has_its_documented_default() -> None:
    """An absent description is an empty one and an absent type is ``batch``, both said explicitly."""
    expected = {"name": "shop-main", "description": "", "type": "batch"}
    assert CreateService.parse({"name": "shop-main"}).document() == expected
    assert CreateService.parse({"name": "shop-main", "description": "", "type": "batch"}).document() == expected


def test_both_types_are_accepted() -> None:
    """There are two types, and the one asked for is kept."""
    assert [CreateService.parse({"name": "abc", "type": kind}).type for kind in ("batch", "interval")] == [
        "batch",
        "interval",
    ]


def test_a_description_is_composed_before_it_is_counted() -> None:
    """Decomposed Hangul is three code points a syllable; it is made NFC, which is what is counted and sent."""
    syllables = unicodedata.normalize("NFD", "각" * 100)
    assert len(syllables) == 300
    assert CreateService.parse({"name": "abc", "description": syllables}).description == "각" * 100
    assert CreateService.parse({"name": "abc", "description": DECOMPOSED}).description == "봄 시즌 추천"


@pytest.mark.parametrize("character", ["a", "가", GRIN, "\N{COMBINING ACUTE ACCENT}", "\0", "\n"])
def test_a_description_is_counted_in_code_points(character: str) -> None:
    """A hundred characters are allowed, however many bytes or UTF-16 units each takes."""
    assert len(CreateService.parse({"name": "abc", "description": character * 100}).description) == 100
    assert rules({"name": "abc", "description": character * 101}) == [("#/description", "maxLength")]


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", [("minLength", "'' has 0 characters; 3 to 20 are needed")]),
        ("a", [("minLength", "'a' has 1 character; 3 to 20 are needed")]),
        ("ab", [("minLength", "'ab' has 2 characters; 3 to 20 are needed")]),
        ("a" * 21, [("maxLength", f"'{'a' * 21}' has 21 characters; 3 to 20 are needed")]),
        ("1abc", [("pattern", "'1abc' starts with a digit; start with a letter or '_'")]),
        ("-abc", [("pattern", "'-abc' starts with '-'; start with a letter or '_'")]),
        ("a b.c", [("pattern", "'a b.c' holds ' ', '.'; use A-Z, a-z, 0-9, '_' and '-' only")]),
        ("abc\n", [("pattern", r"'abc\n' holds '\n'; use A-Z, a-z, 0-9, '_' and '-' only")]),
        ("쇼핑몰", [("pattern", "'쇼핑몰' holds '몰', '쇼', '핑'; use A-Z, a-z, 0-9, '_' and '-' only")]),
        ("abc\ud800", [("pattern", r"'abc\ud800' holds '\ud800'; use A-Z, a-z, 0-9, '_' and '-' only")]),
        (GRIN * 3, [("pattern", f"'{GRIN * 3}' holds '{GRIN}'; use A-Z, a-z, 0-9, '_' and '-' only")]),
        ("١٢٣", [("pattern", "'١٢٣' holds '١', '٢', '٣'; use A-Z, a-z, 0-9, '_' and '-' only")]),
        (None, [("type", "'null' is not a string")]),
        (7, [("type", "'7' is not a string")]),
        (True, [("type", "'true' is not a string")]),
        (["abc"], [("type", "'[\"abc\"]' is not a string")]),
    ],
)
def test_names_that_break_a_rule(name: object, expected: list[tuple[str, str]]) -> None:
    """Each rule of the name has its own word, in JSON Schema's vocabulary, and says what the value did."""
    assert violations({"name": name}) == [Violation("#/name", rule, detail) for rule, detail in expected]


def test_decomposed_hangul_in_a_name_counts_as_composed() -> None:
    """The name is made NFC before anything is said of it: three syllables are not nine characters."""
    assert rules({"name": unicodedata.normalize("NFD", "각각각")}) == [("#/name", "pattern")]
    assert rules({"name": unicodedata.normalize("NFD", "각각")}) == [("#/name", "minLength"), ("#/name", "pattern")]


@pytest.mark.parametrize("kind", ["realtime", "BATCH", "", None, 1, True, ["batch"], {"batch": 1}])
def test_a_type_is_one_of_two(kind: object) -> None:
    """Anything but ``batch`` and ``interval`` is refused, the type of the value included."""
    assert rules({"name": "abc", "type": kind}) == [("#/type", "enum")]


@pytest.mark.parametrize(
    ("description", "rule"), [(None, "type"), (1, "type"), ([], "type"), ("\udc00", "type"), ("x\ud83d", "type")]
)
def test_descriptions_that_are_no_text(description: object, rule: str) -> None:
    """A description is a string of characters; half of a surrogate pair is none and could not be sent on."""
    assert rules({"name": "abc", "description": description}) == [("#/description", rule)]


def test_every_violation_is_told_at_once() -> None:
    """One answer names everything that is wrong, each with pointer, rule and detail; the sentence counts fields."""
    value = {"name": "1 b" + "c" * 20, "type": "realtime", "description": "x" * 101, "colour": "red", "a/b~c": 1}
    with pytest.raises(Refused) as refused:
        CreateService.parse(value)
    assert refused.value.problem.document() == {
        "type": "urn:aitems-bridge:problem:invalid-request",
        "title": "The request does not describe a service",
        "status": 422,
        "detail": "5 fields are wrong.",
        "retryable": "no",
        "errors": [
            {
                "pointer": "#/colour",
                "rule": "additionalProperties",
                "detail": "'colour' is not one of name, description, type",
            },
            {
                "pointer": "#/a~1b~0c",
                "rule": "additionalProperties",
                "detail": "'a/b~c' is not one of name, description, type",
            },
            {
                "pointer": "#/name",
                "rule": "maxLength",
                "detail": f"'1 b{'c' * 20}' has 23 characters; 3 to 20 are needed",
            },
            {
                "pointer": "#/name",
                "rule": "pattern",
                "detail": f"'1 b{'c' * 20}' starts with a digit; start with a letter or '_'",
            },
            {
                "pointer": "#/name",
                "rule": "pattern",
                "detail": f"'1 b{'c' * 20}' holds ' '; use A-Z, a-z, 0-9, '_' and '-' only",
            },
            {"pointer": "#/description", "rule": "maxLength", "detail": "has 101 characters; at most 100 are allowed"},
            {"pointer": "#/type", "rule": "enum", "detail": "'realtime' is not one of batch, interval"},
        ],
    }


@pytest.mark.parametrize("letter", ["a", "가", "😀", "\x7f"])
def test_a_problem_fits_into_an_event_whatever_was_wrong(letter: str) -> None:
    """Of thousands of wrong members the first are told, and how many there are; else nothing could be announced."""
    wrong = {f"{number}{letter * 60}": number for number in range(5000)}
    with pytest.raises(Refused) as refused:
        CreateService.parse(wrong, origins=dict.fromkeys(("name", "type"), "x" * 1000))
    problem = refused.value.problem
    assert problem.detail == "5001 fields are wrong. The first 20 things that are wrong are listed."
    assert len(problem.errors) == 20
    assert len(json.dumps(problem.document())) < 64_000


def test_the_documented_example_of_two_violations() -> None:
    """The contract's own example, word for word."""
    with pytest.raises(Refused) as refused:
        CreateService.parse({"name": "ab", "type": "realtime"})
    assert refused.value.problem.detail == "2 fields are wrong."
    assert [error.document() for error in refused.value.problem.errors] == [
        {"pointer": "#/name", "rule": "minLength", "detail": "'ab' has 2 characters; 3 to 20 are needed"},
        {"pointer": "#/type", "rule": "enum", "detail": "'realtime' is not one of batch, interval"},
    ]


def test_a_missing_name_is_told_as_missing() -> None:
    """Absent is another rule than empty, and one field is one field."""
    with pytest.raises(Refused) as refused:
        CreateService.parse({})
    assert refused.value.problem.detail == "1 field is wrong."
    assert rules({}) == [("#/name", "required")]


@pytest.mark.parametrize("value", [None, [], "shop-main", 1, True, [{"name": "abc"}]])
def test_what_is_no_object_is_no_request(value: object) -> None:
    """The pointer is then the whole document's."""
    assert rules(value) == [("#", "type")]


def test_mapped_fields_say_where_they_came_from() -> None:
    """With a mapping the pointer names the resulting field and the detail ends with the expression."""
    with pytest.raises(Refused) as refused:
        CreateService.parse({"name": "ab", "type": "x"}, origins={"name": "data.slug"})
    assert [error.detail for error in refused.value.problem.errors] == [
        "'ab' has 2 characters; 3 to 20 are needed (from data.slug)",
        "'x' is not one of batch, interval",
    ]


def test_values_are_quoted_in_short_and_on_one_line() -> None:
    """At most 40 characters of a value are told, control characters escaped: the text ends in logs and chats."""
    assert quoted("x" * 40) == f"'{'x' * 40}'"
    assert quoted("x" * 41) == f"'{'x' * 40}…'"
    assert quoted("a\x1b[31m\r\n\u202e\x00") == r"'a\x1b[31m\r\n\u202e\x00'"
    assert quoted({"b": 1}) == "'{\"b\": 1}'"


def test_nesting_that_was_read_can_be_told() -> None:
    """Whatever depth the parser still reads, the refusal can still quote: it is never an error of ours."""
    for depth in range(900, 1000):
        body = b'{"name":' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(Refused):
            CreateService.parse(json_object(body))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
near_names = st.text(st.sampled_from(["a", "Z", "9", "_", "-", " ", "가", "\n", GRIN, "\ud800", "é"]), max_size=23)
near_requests = st.fixed_dictionaries(
    {},
    optional={
        "name": near_names | json_values,
        "description": st.text(st.characters(codec=None), max_size=101) | json_values,
        "type": st.sampled_from(["batch", "interval", "realtime"]) | json_values,
        "more": json_values,
    },
)


@given(near_requests | json_values)
@example({"name": "abc", "description": "\ud83d\ude00"})
def test_parsing_refuses_or_obeys(value: object) -> None:
    """Nothing but ``Refused`` is ever raised, and what is accepted obeys the documentation to the letter."""
    request = outcome(value)
    if isinstance(request, Problem):
        assert request.errors
        assert json.dumps(request.document())
        assert all(error.detail.isprintable() for error in request.errors)
        return
    assert DOCUMENTED_NAME.match(request.name)
    assert len(request.description) <= 100
    assert unicodedata.is_normalized("NFC", request.description)
    assert request.type in ("batch", "interval")
    assert CreateService.parse(request.document()) == request
    request.description.encode()


JUDGE = TypeAdapter(CreateService)


@given(near_requests | json_values)
@example({"name": "\N{KELVIN SIGN}ab"})
@example({"name": "abc", "description": DECOMPOSED})
def test_parsing_takes_what_the_published_model_takes(value: object) -> None:
    """The model that the schemas are made of says the same of every request, once its text is composed."""
    composed = value
    if isinstance(value, dict):
        composed = {
            name: unicodedata.normalize("NFC", each) if isinstance(each, str) else each for name, each in value.items()
        }
    request = outcome(value)
    try:
        judged = JUDGE.validate_json(json.dumps(composed, ensure_ascii=False).encode())
    except (ValidationError, UnicodeEncodeError):
        judged = None
    assert (None if isinstance(request, Problem) else request) == judged


@given(st.from_regex(DOCUMENTED_NAME, fullmatch=True))
def test_every_documented_name_is_accepted(name: str) -> None:
    """The rule is not stricter than the documentation either."""
    assert CreateService.parse({"name": name}).name == name


# --- what comes back ----------------------------------------------------------------------------------------------

CREATED: dict[str, Any] = {
    "serviceId": "v5tmlhw3e5b",
    "name": "shop-main",
    "description": "",
    "type": "batch",
    "status": "datasetRequired",
    "datasets": [],
    "hpConfig": {"is_enabled": False},
    "infers": [],
    "createdDate": "2024-07-29T16:17:37.235",
    "updatedDate": "2024-07-29T16:17:37.235",
}


@pytest.mark.parametrize(
    "differing",
    [
        {},
        {"status": "somethingNew"},
        {"type": "realtime"},
        {"hpConfig": {"is_enabled": True, "group_column": ["a", "b"], "limit": 3}},
        {"infers": [{"dataType": "pop", "rowCount": 17}]},
        {"infers": [{"dataType": "neverHeardOf", "rowCount": "17"}]},
        {"actionName": "View/getServiceDetail", "permission": "Allow", "hpConfigs": {}},
        {"createdDate": 1722237457235, "description": None},
        {"datasets": "none", "hpConfig": [], "infers": {}, "status": 3, "type": False},
    ],
)
def test_recorded_and_thinkable_differences_are_tolerated(differing: dict[str, Any]) -> None:
    """Open enums, other types, unknown fields: nothing but the id and the name is insisted on."""
    service = Service.model_validate_json(json.dumps(CREATED | differing))
    assert (service.service_id, service.name) == ("v5tmlhw3e5b", "shop-main")


def test_unknown_fields_are_kept_and_documented_ones_of_another_type_read_as_absent() -> None:
    """Nobody downstream should stumble over ``rowCount`` being a number, or a date that is one."""
    service = Service.model_validate(CREATED | {"createdDate": 5, "owner": {"id": 1}})
    assert service.created_date is None
    assert service.model_extra == {"owner": {"id": 1}}
    assert service.updated_date == "2024-07-29T16:17:37.235"


@pytest.mark.parametrize("left", ["description", "type", "datasets", "hpConfig", "infers", "createdDate", "status"])
def test_anything_but_id_and_name_may_be_absent(left: str) -> None:
    """Answers of 2022 had no ``type``; others had no ``infers``."""
    Service.model_validate({name: value for name, value in CREATED.items() if name != left})


@pytest.mark.parametrize("wrong", [{"serviceId": ""}, {"serviceId": 5}, {"serviceId": None}, {"name": None}])
def test_a_service_without_id_or_name_is_none(wrong: dict[str, Any]) -> None:
    """Without an id there is nothing to record, and without a name nothing to compare."""
    with pytest.raises(ValidationError):
        Service.model_validate(CREATED | wrong)

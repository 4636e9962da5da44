"""Two readers of one statement: the quick one takes what pydantic, the judge, takes, and as the same value."""

from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aitems_bridge.shapes import Check, Fault, Limits, Misshapen, Shape, judged, read, surely


def _even(numbers: list[int]) -> None:
    if len(numbers) % 2:
        raise ValueError("must be pairs")


class Part(Shape):
    """Whatever a member can be."""

    name: Annotated[str, Limits(pattern=r"^[a-z]{2,4}$")]
    word: Literal["yes", "no"] = "yes"
    on: bool = True
    count: Annotated[int, Limits(ge=-1, le=3)] | None = None
    pairs: Annotated[list[int], Limits(min_length=1, max_length=4), Check(_even)] | None = None


class One(Shape):
    """A shape that has another in it."""

    kind: Literal["one"]
    part: Part
    texts: list[Annotated[str, Limits(max_length=2)]] | None = None


class Other(Shape):
    """A shape with a member that is either of two."""

    kind: Literal["other"]
    either: Part | list[Part]

    def __post_init__(self) -> None:
        if self.either == []:
            raise ValueError("must not be nothing at all")


Kind = One | Other

scalars = st.sampled_from(
    [None, True, False, 0, 1, 2, -1, 4, 1.0, 2.5, 2**70, "", "ab", "abcd", "abcde", "AB", "ab\n", "한글", "\ud800",
     "one", "other", "yes", "no", "true", "1"]
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "kind", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def nearly(lawful: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of lawful values, and now and then of something else."""
    return st.one_of(lawful, lawful, lawful, anything)


def members(required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of objects."""
    return st.fixed_dictionaries(
        {name: nearly(value) for name, value in required.items()},
        optional={name: nearly(value) for name, value in optional.items()},
    )


parts = members(
    {"name": st.sampled_from(["ab", "abcd"])},
    word=st.sampled_from(["yes", "no"]),
    on=st.booleans(),
    count=st.integers(-1, 3),
    pairs=st.lists(st.integers(), max_size=4),
)
values = nearly(
    members({"kind": st.just("one"), "part": parts}, texts=st.lists(st.sampled_from(["", "a", "한글"]), max_size=2))
    | members({"kind": st.just("other"), "either": parts | st.lists(parts, max_size=2)})
)


def verdict(reader: Any, *arguments: object) -> object:  # noqa: ANN401  # one of the two readers
    """Return what a reader makes of a value; None where it takes it for nothing."""
    try:
        return reader(Kind, *arguments)
    except ValueError:
        return None


@given(values)
@example({"kind": "one", "part": {"name": "ab\n"}})
@example({"kind": "one", "part": {"name": "ab", "count": True}})
@example({"kind": "one", "part": {"name": "ab", "count": 1.0}})
@example({"kind": "one", "part": {"name": "ab"}, "texts": ["\ud800"]})
@example({"kind": "other", "either": []})
def test_the_quick_reading_and_the_judge_agree(value: object) -> None:
    """On every value that JSON can hold, and both ways: what one takes, the other takes."""
    assert verdict(surely, value) == verdict(judged, value, "kind")


def test_what_is_right_is_read() -> None:
    """Defaults are filled in, and what has members is what they are."""
    value = {"kind": "one", "part": {"name": "ab", "pairs": [1, 2]}, "texts": ["a"]}
    found = read(Kind, value, by="kind")
    assert found == One(kind="one", part=Part(name="ab", pairs=[1, 2]), texts=["a"])
    assert (found.part.word, found.part.on, found.part.count) == ("yes", True, None)
    assert found != One(kind="one", part=Part(name="ba", pairs=[1, 2]), texts=["a"])


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        (
            {"kind": "one", "part": {"name": "a", "colour": "red", "pairs": [1]}},
            [
                Fault(("part", "name"), "String should match pattern '^[a-z]{2,4}$'"),
                Fault(("part", "pairs"), "Value error, must be pairs"),
                Fault(("part", "colour"), "Extra inputs are not permitted"),
            ],
        ),
        ({"kind": "one"}, [Fault(("part",), "Field required")]),
        ({"kind": "other", "either": []}, [Fault((), "Value error, must not be nothing at all")]),
        ({}, [Fault(("kind",), "Unable to extract tag using discriminator 'kind'")]),
        ({"kind": "hidden"}, [Fault(("kind",), "Input should be one of 'one', 'other'")]),
        (7, [Fault(("kind",), "Input should be an object")]),
        ({"kind": "one", "part": {"name": "\ud800"}}, [Fault((), "holds half of a surrogate pair")]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(value: object, faults: list[Fault]) -> None:
    """Everything at once, the place as a person would write it."""
    with pytest.raises(Misshapen) as misshapen:
        read(Kind, value, by="kind")
    assert list(misshapen.value.faults) == faults


@pytest.mark.parametrize("depth", [900, 5000])
def test_what_is_nested_without_end_is_misshapen(depth: int) -> None:
    """However deep a value is, it is no error of ours."""
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    for value in (deep, {"kind": "one", "part": deep}):
        with pytest.raises(Misshapen):
            read(Kind, value, by="kind")


@pytest.mark.parametrize(
    ("member", "taken", "left"),
    [
        ("name", ["ab", "abcd"], ["a", "abcde", "abc1"]),
        ("count", [-1, 3], [-2, 4]),
        ("pairs", [[1, 2], [1, 2, 3, 4]], [[], [1, 2, 3], [1, 2, 3, 4, 5, 6]]),
        ("word", ["yes", "no"], ["maybe"]),
    ],
)
def test_limits_are_themselves_within(member: str, taken: list[Any], left: list[Any]) -> None:
    """The quick reading draws them where the judge does, so that nothing lawful waits for it."""
    for value in taken:
        assert getattr(surely(Part, {"name": "ab"} | {member: value}), member) == value
    for value in left:
        with pytest.raises(ValueError):  # noqa: PT011  # which one is the judge's to say
            surely(Part, {"name": "ab"} | {member: value})


def test_no_member_shows() -> None:
    """Any may be a secret, and anything may end in a log."""
    assert repr(Part(name="ab")) == "<Part>"

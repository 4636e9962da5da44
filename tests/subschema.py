"""Whether every document of one JSON Schema is one of another, for the small part of JSON Schema that is used here."""

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

Json = dict[str, Any]

AT_LEAST = ("minimum", "minLength", "minItems", "minProperties")
AT_MOST = ("maximum", "maxLength", "maxItems", "maxProperties")
JUDGED = {
    *AT_LEAST, *AT_MOST, "$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf", "required", "properties", "items",
    "additionalProperties", "unevaluatedProperties",
}  # fmt: skip
UNMINDED = {"$schema", "$id", "$defs", "title", "description", "examples", "default", "format"}
"""What says nothing about what is valid."""


class Schema:
    """A part of a JSON Schema, and the whole that its references lead into."""

    def __init__(self, part: Json | bool, whole: Json, *, closed: bool = False) -> None:
        self.whole = whole
        self.part: Json = {} if part is True else {"not": {}} if part is False else part
        while "$ref" in self.part:
            name = self.part["$ref"].rpartition("/")[2]
            self.part = whole["$defs"][name] | {key: each for key, each in self.part.items() if key != "$ref"}
        self.closed = closed or any(
            self.part.get(name) is False for name in ("additionalProperties", "unevaluatedProperties")
        )

    def of(self, part: Json | bool, *, same: bool = False) -> "Schema":
        """Return another part of the whole; ``same`` where it speaks of the same value."""
        return Schema(part, self.whole, closed=same and self.closed)

    def under(self, keyword: str) -> list["Schema"]:
        """Return the alternatives that stand under a keyword."""
        return [self.of(each, same=True) for each in self.part.get(keyword, ())]

    @property
    def values(self) -> list[Any] | None:
        """Every value that it may be, where they are listed."""
        return [self.part["const"]] if "const" in self.part else self.part.get("enum")

    @property
    def types(self) -> set[str]:
        """The types that it may have."""
        found = self.part.get("type", ["object", "array", "string", "number", "boolean", "null"])
        return {found} if isinstance(found, str) else set(found)

    def takes(self, value: object) -> bool:
        """Whether a value is valid."""
        return Draft202012Validator({**self.part, "$defs": self.whole.get("$defs", {})}).is_valid(value)


def gaps(given: Schema, taken: Schema, at: str = "") -> Iterator[str]:
    """Yield what a document may be by ``given`` and may not be by ``taken``; nothing where all of one is of the other.

    It rather says too much than too little: two ways of saying the same count as different.
    """
    if alternatives := given.under("anyOf"):
        for each in alternatives:
            yield from gaps(each, taken, at)
        return
    if alternatives := taken.under("anyOf"):
        if all(any(True for _ in gaps(given, each, at)) for each in alternatives):
            yield f"{at}: may be none of what was said"
        return
    if given.values is not None:
        yield from (f"{at}: may be {value!r}" for value in given.values if not taken.takes(value))
        return
    if taken.values is not None:
        yield f"{at}: may be other than {taken.values}"
    if more := {each for each in given.types - taken.types if (each, "number" in taken.types) != ("integer", True)}:
        yield f"{at}: may be {', '.join(sorted(more))}"
    yield from _bounds(given, taken, at)
    yield from _members(given, taken, at)
    for keyword, of_given, of_taken in _pairs(given, taken):
        yield from gaps(of_given, of_taken, f"{at}{keyword}")


def _bounds(given: Schema, taken: Schema, at: str) -> Iterator[str]:
    for keyword, bound in taken.part.items():
        own = given.part.get(keyword)
        beyond = own is None or (keyword in AT_LEAST and own < bound) or (keyword in AT_MOST and own > bound)
        if keyword in AT_LEAST + AT_MOST and beyond:
            yield f"{at}: may go beyond {keyword} {bound}"
        elif keyword not in JUDGED | UNMINDED and own != bound:
            yield f"{at}: {keyword} is not {bound!r}"
    if len(given.under("oneOf")) > len(taken.under("oneOf")) or len(given.under("allOf")) < len(taken.under("allOf")):
        yield f"{at}: alternatives are others"


def _members(given: Schema, taken: Schema, at: str) -> Iterator[str]:
    of_given, of_taken = given.part.get("properties", {}), taken.part.get("properties", {})
    for name in taken.part.get("required", ()):
        if name not in given.part.get("required", ()):
            yield f"{at}/{name}: may be left out"
    for name, each in of_taken.items():
        if name in of_given:
            yield from gaps(given.of(of_given[name]), taken.of(each), f"{at}/{name}")
        elif each != {} and not given.closed:
            yield f"{at}/{name}: is gone"
    if taken.closed:
        yield from (f"{at}/{name}: is not taken" for name in of_given if name not in of_taken)
        if not given.closed and "object" in given.types:
            yield f"{at}: other members are not taken"


def _pairs(given: Schema, taken: Schema) -> Iterator[tuple[str, Schema, Schema]]:
    """Yield what stands at the same place in both."""
    for keyword, sign in (("items", "[]"), ("additionalProperties", "/*")):
        if isinstance(each := taken.part.get(keyword), dict):
            yield sign, given.of(given.part.get(keyword, True)), taken.of(each)
    for keyword in ("oneOf", "allOf"):
        for place, pair in enumerate(zip(given.under(keyword), taken.under(keyword), strict=False)):
            yield f" ({keyword} {place + 1})", *pair

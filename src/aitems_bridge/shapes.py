"""What a JSON document must look like: stated once, in dataclasses, and read twice.

:func:`read` takes by itself what is surely right, in microseconds. Everything else goes to pydantic, which reads the
same statement, decides, and says what is wrong and where; importing it is a quarter of a cold start. pydantic is the
judge, and the quick reading never contradicts it: what that takes, pydantic takes, and as the same value.
"""

import json
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, dataclass_transform, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import ConfigDict, GetCoreSchemaHandler, TypeAdapter
    from pydantic_core import ErrorDetails
    from pydantic_core.core_schema import CoreSchema


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Shape:
    """The base of what is read from a JSON object: its members and no others, each of exactly its type.

    Subclasses are dataclasses, without the methods that take a cold start longest to make. A member may be a secret:
    none shows in a ``repr``.
    """

    __pydantic_config__: ClassVar["ConfigDict"] = {"extra": "forbid", "strict": True}

    def __init_subclass__(cls) -> None:
        dataclass(kw_only=True, repr=False, eq=False)(cls)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # they hold lists

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Limits:
    """Bounds of a value, in ``Annotated``, by pydantic's own words for them.

    A pattern has to begin with ``^`` and to end with ``$``: one reader looks for it, the other takes it for the whole.
    """

    def __init__(
        self,
        *,
        pattern: str | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
        ge: int | None = None,
        le: int | None = None,
    ) -> None:
        limits = {"pattern": pattern, "min_length": min_length, "max_length": max_length, "ge": ge, "le": le}
        self._limits = {name: limit for name, limit in limits.items() if limit is not None}

    def check(self, value: Any) -> None:  # noqa: ANN401  # of the type that is annotated
        """Raise ``ValueError`` unless the value keeps to them."""
        if not all(_KEEPS[name](value, limit) for name, limit in self._limits.items()):
            raise ValueError(self._limits)

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":  # noqa: ANN401
        schema: Any = handler(source)
        found: CoreSchema = schema | self._limits
        return found


_KEEPS: dict[str, Callable[[Any, Any], bool]] = {
    "pattern": lambda text, pattern: re.fullmatch(pattern, text) is not None,
    "min_length": lambda value, least: len(value) >= least,
    "max_length": lambda value, most: len(value) <= most,
    "ge": lambda number, least: number >= least,
    "le": lambda number, most: number <= most,
}


class Check:
    """A rule in our own words, in ``Annotated``: ``check`` raises ``ValueError`` with what is wrong."""

    def __init__(self, check: Callable[[Any], object]) -> None:
        self.check = check

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":  # noqa: ANN401
        from pydantic_core.core_schema import no_info_after_validator_function  # noqa: PLC0415  # see the module

        return no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: object) -> object:
        self.check(value)
        return value


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where: members and positions, none for the whole."""

    place: tuple[str, ...]
    what: str


class Misshapen(ValueError):
    """The value is not of the shape; ``faults`` say all that is wrong.

    Only a `Check` quotes what stands there, which may be a secret.
    """

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(fault.what for fault in faults))
        self.faults = faults


def read(kind: Any, value: object, by: str) -> Any:  # noqa: ANN401  # one of the shapes in kind
    """Return a JSON value as one of ``kind``, a union of shapes told apart by their member ``by``.

    Raises ``Misshapen``.
    """
    try:
        return surely(kind, value)
    except ValueError:
        return judged(kind, value, by)


def surely(kind: Any, value: Any) -> Any:  # noqa: ANN401  # any type that a member can have
    """Return a JSON value as ``kind``. Raises ``ValueError`` where it is not plain to see that it is one."""
    if is_dataclass(kind):
        return _surely_object(kind, value)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = surely(parts[0], value)
        for rule in parts[1:]:
            rule.check(found)
        return found
    if origin is Union or origin is UnionType:
        return _surely_one(parts, value)
    if origin is list and type(value) is list:
        return [surely(parts[0], each) for each in value]
    if origin is Literal and value in parts:
        return value
    if type(value) is not kind:
        raise ValueError(kind)
    if kind is str:
        value.encode()  # half of a surrogate pair is no text; the error is a ValueError
    return value


def _surely_object(kind: Any, value: Any) -> Any:  # noqa: ANN401  # a shape
    members = {member.name: member for member in fields(kind)}
    required = {name for name, member in members.items() if member.default is MISSING}
    if type(value) is not dict or not required <= value.keys() <= members.keys():
        raise ValueError(kind)
    return kind(**{name: surely(members[name].type, each) for name, each in value.items()})


def _surely_one(kinds: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401  # as above
    for kind in kinds:
        try:
            return surely(kind, value)
        except ValueError:
            continue
    raise ValueError(kinds)


def judged(kind: Any, value: object, by: str) -> Any:  # noqa: ANN401  # as of read
    """Return what pydantic makes of it; arguments and exceptions are those of :func:`read`."""
    from pydantic import ValidationError  # noqa: PLC0415  # see the module

    try:
        # As JSON, in which no type is taken for another one, and an object for one of ours.
        text = json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else "holds half of a surrogate pair"
        raise Misshapen(Fault((), what)) from error
    try:
        return _judge(kind, by).validate_json(text)
    except ValidationError as error:
        raise Misshapen(*(_fault(each, by) for each in error.errors(include_url=False, include_input=False))) from error


@cache
def _judge(kind: Any, by: str) -> "TypeAdapter[Any]":  # noqa: ANN401  # as above
    from pydantic import Field, TypeAdapter  # noqa: PLC0415  # see the module

    return TypeAdapter(Annotated[kind, Field(discriminator=by)])


def _fault(error: "ErrorDetails", by: str) -> Fault:
    # A place starts with the shape that was read for; where that is not known, what tells it is at fault.
    place = tuple(map(str, error["loc"][1:])) if error["loc"] else (by,)
    match error:
        case {"type": "unexpected_keyword_argument"}:  # pydantic's word for a dataclass's
            what = "Extra inputs are not permitted"
        case {"type": "union_tag_invalid", "ctx": {"expected_tags": tags}}:  # its own words quote what stands there
            what = f"Input should be one of {tags}"
        case _:
            what = error["msg"]
    return Fault(place, what)

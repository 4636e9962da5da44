"""What a check found, in words for people and machines: never a secret, or a part of one."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

PATIENCE = 15.0
"""Seconds to wait for whoever is asked over the network."""


class Result(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Nobody could look."""

    @property
    def telling(self) -> str:
        """The word that follows a number."""
        return {Result.OK: "well", Result.WARNING: "to think about", Result.UNKNOWN: "not looked at"}.get(self, "wrong")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it where it is not well."""

    result: Result
    told: str
    remedy: str = ""
    check: str = ""


Findings = Iterator[Finding]


class Unseen(Exception):
    """What the check needs is not to be had; the text says why."""


def well(told: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(Result.OK, told)


def worth(told: str, remedy: str) -> Finding:
    """Return that something works, and may not be meant so."""
    return Finding(Result.WARNING, told, remedy)


def bad(told: str, remedy: str) -> Finding:
    """Return that something is wrong."""
    return Finding(Result.FAILED, told, remedy)


def span(seconds: int) -> str:
    """Return a length of time as people say it."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"

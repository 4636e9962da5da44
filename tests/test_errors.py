"""Problems: one table of kinds, and documents that survive the ledger."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitems_bridge.errors import KINDS, NotRecorded, Problem, Refused, Upstream, Violation
from contract import DUPLICATE, FAILED, UNREADABLE

CONTRACT = {
    "malformed-request": (400, "no"),
    "signature-refused": (401, "no"),
    "name-not-allowed": (403, "no"),
    "unknown-caller": (404, "no"),
    "unknown-request": (404, "no"),
    "body-too-large": (413, "no"),
    "unsupported-media-type": (415, "no"),
    "invalid-request": (422, "no"),
    "key-reused": (422, "no"),
    "duplicate-name": (422, "no"),
    "refused-by-aitems": (422, "no"),
    "caller-unavailable": (503, "yes"),
    "not-recorded": (503, "yes"),
    "outcome-unknown": (503, "same-key-only"),
    "aitems-unavailable": (503, "same-key-only"),
    "aitems-throttled": (503, "same-key-only"),
    "keys-refused": (503, "same-key-only"),
    "not-permitted": (503, "same-key-only"),
}


def test_the_kinds_are_the_contracts() -> None:
    """Every slug with its status and whether to send again; members may be added, never changed."""
    assert {slug: (kind.status, kind.retryable) for slug, kind in KINDS.items() if slug in CONTRACT} == CONTRACT


@pytest.mark.parametrize("slug", KINDS)
def test_every_kind_makes_a_document(slug: str) -> None:
    """Five members always; a title is a sentence's beginning without its end."""
    document = Problem(slug, "What to do.").document()
    assert list(document) == ["type", "title", "status", "detail", "retryable"]
    assert document["type"] == f"urn:aitems-bridge:problem:{slug}"
    assert document["title"]
    assert not document["title"].endswith(".")


@pytest.mark.parametrize("document", [DUPLICATE["data"], UNREADABLE["data"], FAILED["data"]])
def test_documents_are_read_back(document: dict[str, Any]) -> None:
    """The ledger keeps problems as documents: nothing is lost on the way there and back."""
    assert Problem.from_document(document).document(document["request_id"]) == document


texts = st.text(max_size=20)
upstreams = st.builds(
    Upstream, st.none() | st.integers(100, 599), st.none() | texts, st.none() | texts, st.none() | texts
)
problems = st.builds(
    Problem,
    st.sampled_from(sorted(KINDS)),
    texts,
    errors=st.lists(st.builds(Violation, texts, texts, texts), max_size=3).map(tuple),
    upstream=st.none() | upstreams,
    may_exist=st.booleans(),
)


@given(problems, st.none() | st.text(min_size=1))
def test_any_problem_is_read_back(problem: Problem, request_id: str | None) -> None:
    """Whatever it holds, over JSON too."""
    assert Problem.from_document(json.loads(json.dumps(problem.document(request_id)))) == problem


def test_doubt_is_said() -> None:
    """A problem in doubt is the same problem, and says that the service may exist."""
    problem = Problem("aitems-throttled", "Too many requests.")
    assert problem.in_doubt().document() == problem.document() | {"may_exist": True}


def test_an_exception_shows_its_slug_and_no_more() -> None:
    """Details quote what callers sent; logs and tracebacks get the kind only."""
    assert str(Refused(Problem("invalid-request", "'my secret plan' is wrong"))) == "invalid-request"
    assert NotRecorded().problem.slug == "not-recorded"

"""What the tests share: one deployed bridge, and names nobody else uses."""

import secrets
from collections.abc import Iterator

import pytest

from aitems_local.stack import Stack
from conversation import Conversation, held


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Return the project's own template, deployed with IAM enforced: shared, so use names and keys of your own."""
    with Stack.start() as running:
        yield running


@pytest.fixture(scope="session")
def talk(stack: Stack) -> Iterator[Conversation]:
    """Return every conversation that the doors know, held with a bridge of its own."""
    with held(stack) as conversation:
        yield conversation


@pytest.fixture
def name() -> str:
    """Return a service name that no other test uses."""
    return "t" + secrets.token_hex(6)

"""One HTTP exchange of which it is known whether a byte of it left.

``requests`` hides safe and unsafe failures under the same exceptions: a TLS handshake that failed and a connection
broken after the whole request was read look alike, down to the message. So the connection beneath it is ours, and says.
It connects first (TCP and TLS), then asks whether there is still time, then sends. What fails before that was not sent;
what fails after it may have taken effect. Nothing underneath sends again: no redirects, no retries, no proxy from the
environment, no connection kept from an earlier exchange (over a Lambda freeze it would be dead more often than not).
"""

import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aitems_bridge.errors import BridgeError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from requests import Response

MOST_BYTES = 4_000_000
"""A longer answer is not read to its end; nothing documented comes near it."""


class NotSent(BridgeError):
    """No byte of the request was handed over: surely nothing happened. The message is the cause's type."""


class Lost(BridgeError):
    """The request was handed over and no whole answer came back: it may have taken effect."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Permit = Callable[[], float]
"""Asked once, when connected: how many seconds the whole rest may take; 0 or less forbids to send."""


def exchange(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    connect_timeout: float,
    permit: Permit,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request over a fresh connection and return its whole answer, whatever its status.

    Time-outs are in seconds; ``permit`` bounds the sum of sending, waiting and reading, however slowly it drips.
    Raises ``NotSent`` or ``Lost``, and nothing else.
    """
    guard = _Guard(permit)
    try:
        from requests import Request  # noqa: PLC0415  # on first use: see the adapter

        from aitems_bridge.adapter import Adapter, default_context  # noqa: PLC0415  # as above

        if context is None and url.startswith("https:"):
            context = default_context()
        with closing(Adapter(guard.admit, context)) as adapter:
            # No session: it is what follows redirects, keeps cookies and reads the environment.
            request = Request(method, url, headers=dict(headers), data=body).prepare()
            response = adapter.send(request, stream=True, timeout=(connect_timeout, None))
            content = _read(response)
            return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, content)
    except Exception as error:  # whatever it is: only whether a byte left decides
        if guard.begun:
            raise Lost(_cause(error)) from error
        raise NotSent(_cause(error)) from error


class _TooLate(Exception):
    """Connected, and too little time left to send."""


class _Guard:
    """What one exchange may do, and whether it has begun to."""

    def __init__(self, permit: Permit) -> None:
        self.begun = False
        self._permit = permit

    def admit(self, sock: socket.socket) -> "_Bounded":
        """Let the connected socket be used, for as long as is permitted. Raises ``_TooLate``."""
        return _Bounded(sock, self._permit(), self)


class _Bounded(io.RawIOBase):
    """A connected socket that works for so many seconds in all, however many operations they are spread over.

    Raises ``_TooLate`` where there are none.
    """

    def __init__(self, sock: socket.socket, seconds: float, guard: _Guard) -> None:
        if seconds <= 0:
            raise _TooLate
        self._sock = sock
        self._guard = guard
        self._until = time.monotonic() + seconds

    def sendall(self, data: bytes) -> None:
        sock = self._in_time()
        self._guard.begun = True
        sock.sendall(data)

    def readinto(self, into: "WriteableBuffer") -> int:
        return self._in_time().recv_into(into)

    def readable(self) -> bool:
        return True

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def settimeout(self, _seconds: float | None) -> None:
        """Pass over what the layers above would set: the sum is bounded already."""

    def close(self) -> None:
        self._sock.close()
        super().close()

    def _in_time(self) -> socket.socket:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock


def _read(response: "Response") -> bytes:
    content: bytes = response.raw.read(MOST_BYTES + 1, decode_content=True)
    if len(content) > MOST_BYTES:
        raise Lost("the answer is too long")
    return content


def _cause(error: BaseException) -> str:
    """Return the innermost cause's type, for people: its message may hold addresses and bytes."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return "time-out" if isinstance(error, TimeoutError) else type(error).__name__

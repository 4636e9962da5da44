"""One HTTP exchange of which it is known whether a byte of it left.

``requests`` hides safe and unsafe failures under the same exceptions: a TLS handshake that failed and a connection
broken after the whole request was read look alike, down to the message. So the connection beneath it is ours, and says.
It connects first (TCP and TLS), then asks whether there is still time, then sends. What fails before that was not sent;
what fails after it may have taken effect. Nothing underneath sends again: no redirects, no retries, no proxy from the
environment, no connection kept from an earlier exchange (over a Lambda freeze it would be dead more often than not).
"""

import functools
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import certifi
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from aitems_bridge.errors import BridgeError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_BYTES = 1_000_000
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
        with requests.Session() as session:
            session.trust_env = False
            session.headers.clear()
            adapter = _Adapter(guard, context or default_context())
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            response = session.request(
                method,
                url,
                data=body,
                headers=dict(headers),
                timeout=(connect_timeout, None),
                allow_redirects=False,
                stream=True,
            )
            content = _read(response)
            return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, content)
    except Exception as error:  # whatever it is: only whether a byte left decides
        if guard.begun:
            raise Lost(_cause(error)) from error
        raise NotSent(_cause(error)) from error


@functools.cache
def default_context() -> ssl.SSLContext:
    """Return the TLS settings of every exchange, made once: reading the authorities costs more than a handshake."""
    return ssl.create_default_context(cafile=certifi.where())


class _TooLate(Exception):
    """Connected, and too little time left to send."""


class _Guard:
    """What one exchange may do, and whether it has begun to."""

    def __init__(self, permit: Permit) -> None:
        self.begun = False
        self._permit = permit

    def admit(self, sock: socket.socket) -> "_Bounded":
        """Let the connected socket be used, for as long as is permitted. Raises ``_TooLate``."""
        bounded = _Bounded(sock, self._permit())
        self.begun = True
        return bounded


class _Http(HTTPConnection):
    """A connection that asks its guard before the first byte."""

    def __init__(self, *args: Any, guard: _Guard, **kwargs: Any) -> None:  # noqa: ANN401  # urllib3's own arguments
        self._guard = guard
        super().__init__(*args, **kwargs)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # http.client's own arguments
        if self.sock is None:
            self.connect()
        self.sock = self._guard.admit(self.sock)
        super().putrequest(*args, **kwargs)


class _Https(_Http, HTTPSConnection):
    """The same over TLS."""


class _Adapter(HTTPAdapter):
    """Gives ``requests`` our connections and our TLS settings; everything else is its own."""

    def __init__(self, guard: _Guard, context: ssl.SSLContext) -> None:
        self._guard = guard
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # requests' own arguments
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as above
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = functools.partial(_Https if pool.scheme == "https" else _Http, guard=self._guard)
        return pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ANN401  # as above
        """Leave it to the context, which already demands a certificate and knows the authorities."""


class _Bounded(io.RawIOBase):
    """A connected socket that works for so many seconds in all, however many operations they are spread over.

    Raises ``_TooLate`` where there are none.
    """

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        if seconds <= 0:
            raise _TooLate
        self._sock = sock
        self._until = time.monotonic() + seconds

    def sendall(self, data: bytes) -> None:
        self._in_time().sendall(data)

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


def _read(response: requests.Response) -> bytes:
    content: bytes = response.raw.read(MOST_BYTES + 1, decode_content=True)
    if len(content) > MOST_BYTES:
        raise Lost("the answer is too long")
    return content


def _cause(error: BaseException) -> str:
    """Return the innermost cause's type, for people: its message may hold addresses and bytes."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return "time-out" if isinstance(error, TimeoutError) else type(error).__name__

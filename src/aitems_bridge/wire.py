"""One HTTP exchange of which it is known whether a byte of it left.

``requests`` hides safe and unsafe failures under the same exceptions: a TLS handshake that failed and a connection
broken after the whole request was read look alike, down to the message. So the connection itself says. It connects
first (TCP and TLS), then asks whether there is still time, then sends. What fails before that was not sent; what fails
after it may have taken effect. Nothing underneath sends again: no redirects, no retries, no proxy from the environment,
no connection kept from an earlier exchange (over a Lambda freeze it would be dead more often than not).
"""

import functools
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import certifi
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from aitems_bridge.errors import BridgeError

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
                timeout=(connect_timeout, _FOREVER),
                allow_redirects=False,
                stream=True,
            )
            content = _read(response, guard)
            return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, content)
    except Exception as error:  # whatever it is: only whether a byte left decides
        if guard.begun:
            raise Lost("time-out" if guard.expired else _cause(error)) from error
        raise NotSent(_cause(error)) from error
    finally:
        guard.release()


@functools.cache
def default_context() -> ssl.SSLContext:
    """Return the TLS settings of every exchange, made once: reading the authorities costs more than a handshake."""
    return ssl.create_default_context(cafile=certifi.where())


_FOREVER = 120.0
"""The socket's own time-out; the guard's, which bounds the sum, is always shorter."""


class _TooLate(Exception):
    """Connected, and too little time left to send."""


class _Guard:
    """Watches one exchange: asks for the permit, notes that sending begins, and ends it when its time is over."""

    def __init__(self, permit: Permit) -> None:
        self.begun = False
        self.expired = False
        self._permit = permit
        self._timer: threading.Timer | None = None

    def about_to_send(self, sock: socket.socket) -> None:
        seconds = self._permit()
        if seconds <= 0:
            raise _TooLate
        self._timer = threading.Timer(seconds, self._end, args=(sock,))
        self._timer.daemon = True
        self._timer.start()
        self.begun = True

    def release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, sock: socket.socket) -> None:
        self.expired = True
        with suppress(OSError):
            # On the plain socket: SSLSocket.shutdown would take TLS away from the thread that is reading.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Http(HTTPConnection):
    """A connection that asks its guard before the first byte."""

    def __init__(self, *args: Any, guard: _Guard, **kwargs: Any) -> None:  # noqa: ANN401  # urllib3's own arguments
        self._guard = guard
        super().__init__(*args, **kwargs)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # http.client's own arguments
        if self.sock is None:
            self.connect()
        self._guard.about_to_send(self.sock)
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
        kind = _Https if pool.scheme == "https" else _Http
        pool.ConnectionCls = functools.partial(kind, guard=self._guard)
        return pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ANN401  # as above
        """Leave it to the context, which already demands a certificate and knows the authorities."""


def _read(response: requests.Response, guard: _Guard) -> bytes:
    content: bytes = response.raw.read(MOST_BYTES + 1, decode_content=True)
    if len(content) > MOST_BYTES:
        raise Lost("the answer is too long")
    if guard.expired:
        raise Lost("time-out")
    return content


def _cause(error: BaseException) -> str:
    """Return the innermost cause's type, for people: its message may hold addresses and bytes."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return type(error).__name__

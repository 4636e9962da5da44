"""Beneath ``requests``: connections that ask before their first byte, and one set of TLS settings.

A module of its own, loaded with the first exchange: ``requests`` is a sixth of a cold start, and who only acknowledges
needs none of it.
"""

import functools
import ssl
from collections.abc import Callable
from typing import Any

import certifi
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

Admit = Callable[[Any], Any]
"""Given the connected socket, returns the one to use. Raises where nothing may be sent."""


class Adapter(HTTPAdapter):
    """Gives ``requests`` our connections and our TLS settings; everything else is its own."""

    def __init__(self, admit: Admit, context: ssl.SSLContext | None) -> None:
        self._admit = admit
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # requests' own arguments
        """Have every connection use our TLS settings."""
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as above
        """Have every connection ask before its first byte."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = functools.partial(_Https if pool.scheme == "https" else _Http, admit=self._admit)
        return pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ANN401  # as above
        """Leave it to the context, which already demands a certificate and knows the authorities."""


@functools.cache
def default_context() -> ssl.SSLContext:
    """Return the TLS settings of every exchange, made once: reading the authorities costs more than a handshake."""
    return ssl.create_default_context(cafile=certifi.where())


class _Http(HTTPConnection):
    """A connection that asks before the first byte."""

    def __init__(self, *args: Any, admit: Admit, **kwargs: Any) -> None:  # noqa: ANN401  # urllib3's own arguments
        self._admit = admit
        super().__init__(*args, **kwargs)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # http.client's own arguments
        if self.sock is None:
            self.connect()
        self.sock = self._admit(self.sock)
        super().putrequest(*args, **kwargs)


class _Https(_Http, HTTPSConnection):
    """The same over TLS."""

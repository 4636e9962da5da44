"""One exchange says whether a byte of it left: against real sockets, with and without TLS."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import trustme

from aitems_bridge.wire import Answer, Lost, NotSent, exchange

Serve = Callable[[socket.socket], None]
OK = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX-Trace: a\r\n\r\n{}"


class Server:
    """Accepts connections one by one and lets ``serve`` talk; ``received`` is every whole request it read."""

    def __init__(self, serve: Serve, context: ssl.SSLContext | None = None) -> None:
        self.received: list[bytes] = []
        self.connections = 0
        self._serve = serve
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with contextlib.suppress(OSError), plain:
                if self._context is None:
                    self._talk(plain, plain)
                else:
                    with self._context.wrap_socket(plain, server_side=True) as secure:
                        self._talk(secure, plain)

    def _talk(self, connection: socket.socket, plain: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request or not request.endswith(b"body"):
            piece = connection.recv(65536)
            if not piece:
                return
            request += piece
        self.received.append(request)
        self._serve(plain if self._serve is tls_garbage else connection)

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


def answering(data: bytes) -> Serve:
    """Answer with ``data``."""
    return lambda connection: connection.sendall(data)


def tls_garbage(plain: socket.socket) -> None:
    """Send what is no TLS record, past the TLS layer."""
    plain.sendall(b"this is no TLS record at all, but it comes after the request was read")


def dripping(connection: socket.socket) -> None:
    """Send the answer a byte at a time, always within any time-out of a single read."""
    for byte in OK:
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


@pytest.fixture
def authority() -> trustme.CA:
    """Return an authority of the test's own."""
    return trustme.CA()


@contextlib.contextmanager
def server(serve: Serve, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server."""
    running = Server(serve, context)
    try:
        yield running
    finally:
        running.close()


def post(url: str, *, seconds: float = 5, context: ssl.SSLContext | None = None, connect: float = 2) -> Answer:
    """Send a POST that may take so many seconds once connected."""
    return exchange(
        "POST",
        url,
        headers={"X-Test": "1"},
        body=b"body",
        connect_timeout=connect,
        permit=lambda: seconds,
        context=context,
    )


def secured(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the server's and the client's TLS settings of one authority."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return serving, trusting


def test_an_answer_comes_back_whole() -> None:
    """Status, headers in lower case, body; the request goes out with our headers and its body, once."""
    with server(answering(OK)) as running:
        answer = post(f"http://127.0.0.1:{running.port}/x?y=1")
    assert (answer.status, answer.headers["x-trace"], answer.body) == (201, "a", b"{}")
    (request,) = running.received
    assert request.startswith(b"POST /x?y=1 HTTP/1.1\r\n")
    assert b"X-Test: 1\r\n" in request


def test_over_tls(authority: trustme.CA) -> None:
    """The same over TLS, where the certificate is of a known authority."""
    serving, trusting = secured(authority)
    with server(answering(OK), serving) as running:
        assert post(f"https://127.0.0.1:{running.port}/", context=trusting).status == 201


def test_nobody_there_is_not_sent() -> None:
    """A refused connection surely did nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotSent, match="ConnectionRefusedError"):
        post(f"http://127.0.0.1:{port}/")


def test_no_such_host_is_not_sent() -> None:
    """A name that does not resolve surely did nothing."""
    with pytest.raises(NotSent):
        post("http://no-such-host.invalid/")


def test_a_connect_timeout_is_not_sent() -> None:
    """A server whose backlog is full lets nobody connect, and so gets no byte."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        with pytest.raises(NotSent):
            post(f"http://127.0.0.1:{listener.getsockname()[1]}/", connect=0.3)


def test_an_unknown_authority_is_not_sent(authority: trustme.CA) -> None:
    """A certificate nobody vouches for ends the exchange before a byte of the request."""
    serving, _ = secured(authority)
    with server(answering(OK), serving) as running:
        with pytest.raises(NotSent, match="SSLCertVerificationError"):
            post(f"https://127.0.0.1:{running.port}/")
        assert running.received == []


def test_a_failed_handshake_is_not_sent(authority: trustme.CA) -> None:
    """A server that speaks no TLS (C3, first half): nothing of the request left."""
    _, trusting = secured(authority)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=talk, daemon=True).start()
        with pytest.raises(NotSent, match="SSLError"):
            post(f"https://127.0.0.1:{listener.getsockname()[1]}/", context=trusting)


def test_broken_tls_after_the_request_is_lost(authority: trustme.CA) -> None:
    """A broken TLS record after the whole request was read (C3, second half) looks alike, and may have acted."""
    serving, trusting = secured(authority)
    with server(tls_garbage, serving) as running:
        with pytest.raises(Lost):
            post(f"https://127.0.0.1:{running.port}/", context=trusting)
        assert len(running.received) == 1


def test_too_little_time_sends_nothing() -> None:
    """The permit is asked once connected; without it the connection is closed and not a byte sent (rule 4)."""
    with server(answering(OK)) as running:
        with pytest.raises(NotSent, match="_TooLate"):
            post(f"http://127.0.0.1:{running.port}/", seconds=0)
        time.sleep(0.05)
        assert (running.connections, running.received) == (1, [])


def test_the_permit_is_asked_after_connecting() -> None:
    """What connecting cost is known when it is decided whether to send: the clock is read last."""
    asked: list[int] = []
    with server(answering(OK)) as running:

        def permit() -> float:
            asked.append(running.connections)
            return 5

        deadline = time.monotonic() + 1
        exchange(
            "POST",
            f"http://127.0.0.1:{running.port}/",
            headers={},
            body=b"body",
            connect_timeout=1,
            permit=permit,
        )
        assert time.monotonic() < deadline
    assert len(asked) == 1


@pytest.mark.parametrize(
    "serve",
    [
        answering(b""),
        answering(b"garbage\r\n\r\n"),
        answering(b"HTTP/1.1 201 Created\r\nContent-Length: 200\r\n\r\n{}"),
        answering(b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
        answering(b"HTTP/1.1 201 Created\r\nContent-Length: 4000002\r\n\r\n" + b" " * 4_000_002),
    ],
    ids=["closed", "no HTTP", "cut short", "not decodable", "endless"],
)
def test_no_whole_answer_is_lost(serve: Serve) -> None:
    """Once a byte was handed over, anything but a whole answer may have taken effect."""
    with server(serve) as running:
        with pytest.raises(Lost):
            post(f"http://127.0.0.1:{running.port}/")
        assert len(running.received) == 1


def test_a_silent_server_is_lost_in_time() -> None:
    """The permit's seconds bound the wait."""
    done = threading.Event()

    def silent(_: socket.socket) -> None:
        done.wait(5)

    with server(silent) as running:
        begun = time.monotonic()
        with pytest.raises(Lost, match="time-out"):
            post(f"http://127.0.0.1:{running.port}/", seconds=0.3)
        assert time.monotonic() - begun < 1
    done.set()


def test_a_dripping_server_is_lost_in_time() -> None:
    """The permit bounds the sum: a server that drips within every single read's time-out gains nothing (C3)."""
    with server(dripping) as running:
        begun = time.monotonic()
        with pytest.raises(Lost, match="time-out"):
            post(f"http://127.0.0.1:{running.port}/", seconds=0.5)
        assert time.monotonic() - begun < 1.5


def test_a_dripping_server_over_tls_is_lost_in_time(authority: trustme.CA) -> None:
    """The same over TLS, where the reading thread holds the TLS state."""
    serving, trusting = secured(authority)
    with server(dripping, serving) as running:
        begun = time.monotonic()
        with pytest.raises(Lost):
            post(f"https://127.0.0.1:{running.port}/", seconds=0.5, context=trusting)
        assert time.monotonic() - begun < 1.5


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    """A redirect is an answer like any other: to follow it would be a second POST (H14)."""
    with server(answering(OK)) as elsewhere:
        moved = f"HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{elsewhere.port}/\r\nContent-Length: 0\r\n\r\n"
        with server(answering(moved.encode())) as running:
            assert post(f"http://127.0.0.1:{running.port}/").status == status
            assert len(running.received) == 1
        assert elsewhere.connections == 0


def test_each_exchange_has_a_connection_of_its_own() -> None:
    """Nothing is kept alive: over a freeze it would be dead, and turn a safe failure into an unknown one."""
    with server(answering(OK)) as running:
        post(f"http://127.0.0.1:{running.port}/")
        post(f"http://127.0.0.1:{running.port}/")
        assert running.connections == 2


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables are not heeded: a proxy may send twice, and its refusals prove nothing."""
    with server(answering(OK)) as proxy, server(answering(OK)) as running:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(f"http://127.0.0.1:{running.port}/").status == 201
        assert proxy.connections == 0

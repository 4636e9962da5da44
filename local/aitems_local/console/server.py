"""The console: a page on loopback that shows each request of a local stack, live, and sends really signed ones.

    with Console(stack, port=4582) as console:
        ...                                     # open console.url in a browser

It can sign as every caller, so it answers nobody but itself: it listens on loopback, takes no name but loopback's for
its own (a foreign name that points here is refused), lets no other site's page send anything, and its own page may
load from nowhere else. No secret stands in what it serves.
"""

import json
import socket
import socketserver
import sys
import threading
import time
from contextlib import suppress
from functools import cached_property
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlencode

from aitems_local.cloud import LOOPBACK
from aitems_local.console.page import FEWEST, MOST, STATES, THEMES, Pages, View
from aitems_local.console.send import Asked, Desk, Sent
from aitems_local.console.watch import Watch
from aitems_local.console.words import LANGUAGES, Voice

if TYPE_CHECKING:
    from aitems_local.stack import Stack

_MOST_BYTES = 64 * 1024
_MOST_FOLLOWERS = 24
_MOST_DIGITS = 12
_PACE = 0.2  # seconds between two messages to one page
_HEARTBEAT = 10.0
_RETRY_MS = 500
_PREFERENCES = {"lang": tuple(LANGUAGES), "theme": THEMES}
_COOKIE = "aitems-bridge-{}"
_YEAR = 31_536_000

_FILES = {
    "/console.css": "text/css; charset=utf-8",
    "/console.js": "text/javascript; charset=utf-8",
    "/console.svg": "image/svg+xml",
}
_POLICY = "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without a referrer, browsers send forms as from nowhere
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Form = dict[str, str]


class Console:
    """Serves the page of one stack at `url`, between `start` and `stop` (or within `with`)."""

    def __init__(self, stack: "Stack", *, port: int = 0) -> None:
        self.watch = Watch(stack)
        self.desk = Desk(stack, self.watch)
        self.pages = Pages(self.watch, self.desk)
        self._server = _Server(self, port)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def start(self) -> Self:
        """Begin to watch and to listen."""
        self.watch.start()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="console", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop both, and hang up on every page."""
        self._server.shutdown()
        self._server.server_close()
        self.watch.stop()
        self._server.hang_up()

    def hang_up(self) -> None:
        """Close every connection, as a network does that breaks; pages connect again by themselves."""
        self._server.hang_up()
        self.watch.changed()  # who writes to a connection that is closed, goes

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, console: Console, port: int) -> None:
        self.console = console
        self.followers = threading.BoundedSemaphore(_MOST_FOLLOWERS)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((LOOPBACK, port), _Handler)

    def server_bind(self) -> None:
        """Bind, without asking the name service who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept, and remember the connection."""
        connection, address = super().get_request()
        with self._lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close a connection, and forget it."""
        super().shutdown_request(request)
        with self._lock:
            self._open.discard(request)

    def hang_up(self) -> None:
        """Close every connection that is open now."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over pages that are closed; anything else is a mistake of ours and is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "aitems-bridge"
    sys_version = ""
    timeout = 60  # of a client that connects and says nothing

    # --- what is asked --------------------------------------------------------------------------------------------

    def do_GET(self) -> None:
        """Answer what only reads."""
        if not self._is_us():
            return
        path = self._path
        match path:
            case "/":
                self._page()
            case "/events":
                self._follow()
            case "/prefer":
                self._prefer()
            case _ if path in _FILES:
                self._send(
                    HTTPStatus.OK, files("aitems_local.console").joinpath("files", path[1:]).read_bytes(), _FILES[path]
                )
            case _:
                self._say(HTTPStatus.NOT_FOUND, "There is nothing here. The page is at /.")

    do_HEAD = do_GET  # noqa: N815  # http.server's name

    def do_POST(self) -> None:
        """Do what the page's forms ask for."""
        if not self._is_us() or not self._is_our_page():
            return
        form = self._form()
        if form is None:
            return
        desk = self.server.console.desk
        sent: Sent | None = None
        match self._path:
            case "/send":
                sent = desk.send(_asked(form))
            case "/again":
                number = _number(form.get("number", ""))
                sent = None if number is None else desk.again(number)
            case "/faults":
                if form.get("do") == "off" or not form.get("kind"):
                    desk.clear()
                else:
                    desk.stand(form["kind"])
            case _:
                self._say(HTTPStatus.NOT_FOUND, "There is nothing to be sent to here.")
                return
        if self.headers.get("Accept") == "text/x-part":
            part = self.server.console.pages.result(self._view, sent) if sent else ""
            self._send(HTTPStatus.OK, part, "text/html; charset=utf-8")
        else:
            self._see_other(f"/?sent={sent.number}#result" if sent else "/")

    # --- who asks -------------------------------------------------------------------------------------------------

    def _is_us(self) -> bool:
        """Whether it is asked for under loopback's name: any other leads here by somebody's deceit."""
        port = self.server.server_port
        if self.headers.get("Host", "").lower() in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            return True
        self._say(HTTPStatus.MISDIRECTED_REQUEST, f"This is the console at http://{LOOPBACK}:{port}; open it there.")
        return False

    def _is_our_page(self) -> bool:
        """Whether it was this page that sent a form: every browser says where a form comes from."""
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "same-origin")
        if origin == f"http://{self.headers['Host'].lower()}" and site == "same-origin":
            return True
        self._say(HTTPStatus.FORBIDDEN, "Only this page itself may send: another one sent this, or none.")
        return False

    def _form(self) -> Form | None:
        length = _number(self.headers.get("Content-Length", ""))
        kind = self.headers.get_content_type()
        if kind != "application/x-www-form-urlencoded":
            self._say(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send a form: application/x-www-form-urlencoded.")
        elif length is None:
            self._say(HTTPStatus.LENGTH_REQUIRED, "Say how long it is: Content-Length.")
        elif length > _MOST_BYTES:
            self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {_MOST_BYTES:,} bytes.")
        else:
            body = self.rfile.read(length).decode("utf-8", "replace")
            try:
                return {name: values[-1] for name, values in parse_qs(body, max_num_fields=50).items()}
            except ValueError:
                self._say(HTTPStatus.BAD_REQUEST, "That is no form of this page.")
        return None

    @property
    def _path(self) -> str:
        return self.path.partition("?")[0]

    @cached_property
    def _query(self) -> Form:
        query = self.path.partition("?")[2]
        try:
            return {name: values[-1] for name, values in parse_qs(query, max_num_fields=50).items()}
        except ValueError:
            return {}

    @cached_property
    def _view(self) -> View:
        cookies = self._cookies()
        query = self._query
        most, state, theme = _number(query.get("limit", "")), query.get("state", ""), cookies.get("theme", "")
        return View(
            Voice.wanted(cookies.get("lang", ""), self.headers.get("Accept-Language", "")),
            theme if theme in THEMES else THEMES[0],
            state if state in STATES else "",
            query.get("q", "")[:200],
            min(max(FEWEST if most is None else most, 1), MOST),
        )

    def _cookies(self) -> Form:
        try:
            found = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            return {}
        return {name: found[_COOKIE.format(name)].value for name in _PREFERENCES if _COOKIE.format(name) in found}

    # --- what is answered -----------------------------------------------------------------------------------------

    def _page(self) -> None:
        console = self.server.console
        number = _number(self._query.get("sent", ""))
        sent = None if number is None else console.desk.sent(number)
        console.watch.look()
        page = console.pages.whole(self._view, sent)
        self._send(HTTPStatus.OK, page, "text/html; charset=utf-8")

    def _prefer(self) -> None:
        """Remember a language or a theme, and go back."""
        name, value = self._query.get("set", ""), self._query.get("to", "")
        back = self._query.get("back", "").partition("?")[2]
        headers = {}
        if value in _PREFERENCES.get(name, ()):
            headers["Set-Cookie"] = (
                f"{_COOKIE.format(name)}={value}; Path=/; Max-Age={_YEAR}; SameSite=Strict; HttpOnly"
            )
        self._see_other(f"/?{urlencode(parse_qs(back), doseq=True)}", headers)

    def _follow(self) -> None:
        """Send what changes for as long as the page is open: first what it missed, or all where that is not known."""
        if not self.server.followers.acquire(blocking=False):
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_FOLLOWERS} pages are open already: close some.")
            return
        try:
            self.send_response(HTTPStatus.OK)
            self._end_headers("text/event-stream; charset=utf-8")
            if self.command == "HEAD":
                return
            self.wfile.write(f"retry: {_RETRY_MS}\n\n".encode())
            self._stream()
        finally:
            self.server.followers.release()

    def _stream(self) -> None:
        console, view = self.server.console, self._view
        watch, pages = console.watch, console.pages
        epoch, _, told = (self.headers.get("Last-Event-ID") or self._query.get("last", "")).partition("-")
        number = _number(told) if epoch == watch.epoch else None
        since = -1 if number is None else number
        parts: dict[str, str] = {}
        order: list[int] = []
        shown: set[int] = set()
        first = True
        while not watch.stopping:
            if not first and not watch.wait(since, _HEARTBEAT):
                self.wfile.write(b":\n\n")
                continue
            with watch.changing:
                last = watch.last
                found, _ = watch.select(state=view.state, text=view.text, most=view.most)
                rows = {
                    str(request.number): pages.row(view, request)
                    for request in found
                    if request.changed > since or (not first and request.number not in shown)
                }
                now = pages.parts(view)
                title = pages.title(view)
            message: dict[str, object] = {"title": title, "rows": rows}
            message["parts"] = {name: part for name, part in now.items() if parts.get(name) != part}
            numbers = [request.number for request in found]
            if numbers != order or first:
                message["order"] = numbers
            data = json.dumps(message, ensure_ascii=False)
            self.wfile.write(_bytes(f"id: {watch.epoch}-{last}\ndata: {data}\n\n"))
            since, parts, order, shown, first = last, now, numbers, set(numbers), False
            time.sleep(_PACE)

    def _see_other(self, where: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", where)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self._end_headers("text/plain; charset=utf-8")

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._send(status, f"{text}\n", "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, content: str | bytes, media_type: str) -> None:
        body = _bytes(content) if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self._end_headers(media_type)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _end_headers(self, media_type: str) -> None:
        for name, value in {"Content-Type": media_type, **_HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _asked(form: Form) -> Asked:
    door, name, type_, key, fault = (form.get(each, "").strip() for each in ("door", "name", "type", "key", "fault"))
    return Asked(door, name, form.get("description", ""), type_, key, fault, form.get("forged") == "1")


def _number(text: str) -> int | None:
    """Return what is a number, and no longer than any of ours."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def _bytes(text: str) -> bytes:
    """Return UTF-8; half a surrogate pair, which an event may hold and no bytes stand for, as a question mark."""
    return text.encode("utf-8", "replace")

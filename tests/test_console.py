"""The console over plain HTTP: who may ask, what is never said, and that every step shown was really taken."""

import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from html import unescape
from html.parser import HTMLParser
from string import Formatter
from typing import Any
from urllib.parse import urlencode

import pytest

from aitems_bridge.record import State
from aitems_local import senders
from aitems_local.console.send import FAULTS, Asked, Desk, Sent
from aitems_local.console.server import Console
from aitems_local.console.steps import Kind, Request
from aitems_local.console.watch import Watch
from aitems_local.console.words import LANGUAGES, Voice, words
from aitems_local.faults import MANNERS, Fault
from aitems_local.stack import Stack

MARKUP = "<img src=x onerror=alert(1)>\"'&"
PATIENCE = 30.0


@pytest.fixture(scope="module")
def console(stack: Stack) -> Iterator[Console]:
    """Return the console of the shared stack."""
    with Console(stack) as running:
        # As if somebody had the page open all the time: else it looks seldom.
        threading.Thread(target=running.watch.wait, args=(1 << 60, 600.0), daemon=True).start()
        yield running


def eventually(holds: Callable[[], Any], timeout: float = PATIENCE) -> Any:  # noqa: ANN401  whatever holds
    """Return what holds once it does."""
    deadline = time.monotonic() + timeout
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.05)
    return found


def kinds(request: Request) -> list[str]:
    """Return the kinds of a request's steps in their order."""
    return [str(step.kind) for step in request.way]


def announced(console: Console, request_id: str) -> Request:
    """Return a request once its outcome was announced."""

    def found() -> Request | None:
        request = console.watch.find(request_id)
        return request if request and Kind.ANNOUNCED in kinds(request) else None

    request: Request = eventually(found)
    return request


class Visitor:
    """What a browser sends, with what a test wants otherwise; a header that is None is left out."""

    def __init__(self, console: Console) -> None:
        self.origin = console.url
        self.port = int(console.url.rpartition(":")[2])

    def ask(
        self, method: str, path: str, form: dict[str, str] | None = None, /, **headers: str | None
    ) -> http.client.HTTPResponse:
        """Return the answer, its body read into ``text``."""
        usual: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}"}
        if method == "POST":
            usual |= {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded"}
        given = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        sent = {name: value for name, value in usual.items() if name.lower() not in given} | given
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        connection.request(
            method,
            path,
            urlencode(form or {}) if method == "POST" else None,
            {name: value for name, value in sent.items() if value is not None},
        )
        return connection.getresponse()

    def read(self, path: str = "/", **headers: str | None) -> str:
        """Return a page's text."""
        answer = self.ask("GET", path, None, **headers)
        assert answer.status == 200
        return answer.read().decode()

    def send(self, **form: str) -> str:
        """Send the form as without JavaScript, and return the page that it leads to."""
        answer = self.ask("POST", "/send", form)
        assert answer.status == 303
        return self.read((answer.getheader("Location") or "").partition("#")[0])

    def follow(self, query: str = "", last: str | None = None) -> "Stream":
        """Open the stream of changes."""
        return Stream(self.ask("GET", f"/events?{query}", last_event_id=last))


class Stream:
    """Server-sent events, as a browser takes them apart."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        assert answer.status == 200
        assert answer.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        self.answer = answer
        self.id = ""

    def next(self) -> dict[str, Any]:
        """Return the next message; raise ``EOFError`` at the end, ``TimeoutError`` when none comes in time."""
        data: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while line := self.answer.readline().decode():
            if time.monotonic() > deadline:  # it is not silent: heartbeats come
                raise TimeoutError
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "id":
                self.id = value
            elif name == "data":
                data.append(value)
            elif not line.strip() and data:
                message: dict[str, Any] = json.loads("\n".join(data))
                return message
        raise EOFError

    def until(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Return the first message of which that holds."""
        while not holds(message := self.next()):
            pass
        return message

    def end(self) -> None:
        """Read until the other side has hung up."""
        with suppress(EOFError, OSError, http.client.HTTPException):
            while True:
                self.next()

    def close(self) -> None:
        """Go away."""
        self.answer.close()


class Elements(HTMLParser):
    """What a browser would make of HTML: ``strange`` holds elements and attributes that no page of ours has."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.strange: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element."""
        self.strange += [tag] if tag in ("img", "iframe", "object", "embed", "style") else []
        self.strange += [name for name, _ in attrs if name.startswith("on") or name == "style"]


@pytest.fixture(scope="module")
def visitor(console: Console) -> Visitor:
    """Return somebody who asks the console."""
    return Visitor(console)


# --- who may ask --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "[::1]:{port}"]
)
def test_only_loopbacks_own_name_is_answered(visitor: Visitor, host: str) -> None:
    """A name that somebody let point to loopback (DNS rebinding) reads nothing and sends nothing."""
    host = host.format(port=visitor.port)
    for method, path in (("GET", "/"), ("GET", "/events"), ("POST", "/send")):
        answer = visitor.ask(method, path, host=host, origin=f"http://{host}")
        assert answer.status == 421
        assert b"<html" not in answer.read()


def test_both_names_of_loopback_are_answered(visitor: Visitor) -> None:
    """People type either."""
    assert visitor.ask("GET", "/", host=f"localhost:{visitor.port}").status == 200
    assert visitor.ask("GET", "/", host=f"127.0.0.1:{visitor.port}").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": None},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
    ],
)
@pytest.mark.parametrize("path", ["/send", "/again", "/faults"])
def test_only_its_own_page_may_send(
    console: Console, visitor: Visitor, path: str, headers: dict[str, str | None], name: str
) -> None:
    """Another site's page can have a browser post a form here; it is refused before anything is done."""
    form = {"door": "standard:backoffice", "name": name, "kind": "lost", "do": "on", "number": "1"}
    answer = visitor.ask("POST", path, form, **headers)
    assert answer.status == 403
    console.watch.look()
    assert not [request for request in console.watch.requests.values() if request.record.name == name]
    assert console.watch.faults == ()


def test_it_listens_on_loopback_only(console: Console) -> None:
    """Nobody else on the network can sign with the secrets of this stack."""
    assert console.url.startswith("http://127.0.0.1:")
    assert console._server.server_address[0] == "127.0.0.1"  # noqa: SLF001  there is no other way to see it


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/json"}, 415),
        ({"content_length": "no"}, 411),
        ({"content_length": "-1"}, 411),
        ({"content_length": "9" * 5_000}, 411),
        ({"content_length": str(64 * 1024 + 1)}, 413),
    ],
)
def test_what_is_no_form_is_refused(visitor: Visitor, headers: dict[str, str | None], status: int) -> None:
    """Nothing large or strange is read."""
    assert visitor.ask("POST", "/send", None, **headers).status == status


def test_what_is_not_there(visitor: Visitor) -> None:
    """No path leads to a file that is not meant."""
    for path in ("/nothing", "/console.py", "/../console.py", "/files/../server.py", "//evil.example"):
        assert visitor.ask("GET", path).status == 404
    assert visitor.ask("POST", "/nothing").status == 404


def test_strange_addresses_and_numbers_break_nothing(visitor: Visitor) -> None:
    """What is no address, or a number of no use, has an answer: any page may lead a browser to these."""
    assert visitor.ask("GET", "http://[").status == 404
    assert visitor.ask("GET", "/prefer?set=lang&to=en&back=%2F%2F%5B").getheader("Location") == "/?"
    for name in ("sent", "limit"):
        assert visitor.ask("GET", f"/?{name}={'9' * 5_000}").status == 200
    assert visitor.ask("POST", "/again", {"number": "9" * 5_000}).status == 303


def test_every_answer_carries_the_policy(visitor: Visitor) -> None:
    """A page may load from here only, run no inline script, be framed by nobody, and is never kept."""
    for path in ("/", "/console.css", "/console.js", "/console.svg", "/nothing", "/prefer?set=lang&to=ko"):
        answer = visitor.ask("GET", path)
        policy = answer.getheader("Content-Security-Policy") or ""
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Cache-Control") == "no-store"
        assert answer.getheader("Access-Control-Allow-Origin") is None


def test_the_page_names_no_other_place_and_holds_no_inline_code(visitor: Visitor) -> None:
    """All it needs comes from here; no attribute and no element holds script or style."""
    page = visitor.read()
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page)
    assert not re.search(r"<script(?! src=\"/console.js\" defer></script>)", page)
    assert Elements(page).strange == []  # not by the letters: texts may well have `onerror=` in them
    for path in ("/console.css", "/console.js", "/console.svg"):
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import", visitor.read(path))


def test_no_secret_is_served(stack: Stack, visitor: Visitor, name: str) -> None:
    """Neither the page, nor what follows, nor the answer to a form holds a secret or a signature."""
    texts = [visitor.send(door="standard:backoffice", name=name), visitor.read("/?limit=1000")]
    stream = visitor.follow("limit=1000")
    texts.append(json.dumps(stream.next()))
    stream.close()
    whole = "\n".join(map(unescape, texts))
    for entry in stack.callers.values():
        for secret in entry["secrets"]:
            assert secret.removeprefix("whsec_") not in whole
    for hidden in (stack.document.producer.secret_access_key, "webhook-signature", "v1,", "sha256="):
        assert hidden not in whole


# --- what is shown ------------------------------------------------------------------------------------------------

WAITED_FOR = ["arrived", "verified", "recorded", "posted", "settled", "answered", "announced"]
DELIVERED = ["arrived", "verified", "recorded", "posted", "settled", "announced"]


@pytest.mark.parametrize(
    ("door", "expected"),
    [
        ("standard:backoffice", WAITED_FOR),
        ("github:deploys", DELIVERED),
        ("hmac:shopfront", DELIVERED),
        ("slack:slack", [*DELIVERED, "told"]),
        ("works:works", [*DELIVERED, "told"]),
        ("bus:com.acme.shop", DELIVERED[1:]),
    ],
)
def test_a_request_through_each_door_is_shown_step_by_step(
    stack: Stack, console: Console, door: str, expected: list[str], name: str
) -> None:
    """Each step that ledger, AiTEMS, log, bus and chat know of is there, in the order of their times."""
    sent = console.desk.send(Asked(door, name))
    assert sent.why == ""
    request = announced(console, sent.request_id)
    eventually(lambda: set(expected) <= set(kinds(request)))
    times = [step.at for step in request.way]
    assert times == sorted(times)
    firsts = [kinds(request).index(kind) for kind in expected if kind not in ("answered", "told")]
    assert firsts == sorted(firsts), kinds(request)
    (call,) = stack.aitems.posts_named(name)
    (posted,) = [step for step in request.way if step.kind is Kind.POSTED]
    assert posted.at == pytest.approx(call.arrived * 1000)
    assert posted.facts["service"] == call.service_id == request.record.service_id
    recorded = next(step.at for step in request.way if step.kind is Kind.RECORDED)
    assert request.record.requested_at - 1 <= recorded <= posted.at
    assert [event.metadata["request_id"] for event in request.events] == [sent.request_id]


def test_a_form_without_javascript_leads_to_a_page_that_says_what_came_of_it(visitor: Visitor, name: str) -> None:
    """The answer's status, the request in the list, and the form as it was filled in."""
    page = visitor.send(door="standard:backoffice", name=name, description="봄 시즌 추천")
    assert '<b class="status">201</b>' in page
    assert f'value="{name}"' in page
    assert 'value="봄 시즌 추천"' in page
    (row,) = re.findall(
        rf'<details id="r\d+" data-state="(\w+)" data-id="\w+"><summary>(?:(?!</summary>).)*{name}', page
    )
    assert row == "created"


def test_the_same_again_is_answered_from_the_record(
    stack: Stack, console: Console, visitor: Visitor, name: str
) -> None:
    """The same body under the same key, signed anew: no call, no second service, and the page says so."""
    sent = console.desk.send(Asked("standard:backoffice", name))
    answer = visitor.ask("POST", "/again", {"number": str(sent.number)}, accept="text/x-part")
    assert Voice("en").markup("answer-replayed") in answer.read().decode()
    assert len(stack.aitems.posts_named(name)) == 1
    request = announced(console, sent.request_id)
    eventually(lambda: "replayed" in [step.how for step in request.way])


@pytest.mark.parametrize(
    "door", ["standard:backoffice", "github:deploys", "hmac:shopfront", "slack:slack", "works:works"]
)
def test_one_byte_changed_after_signing_is_turned_away(stack: Stack, console: Console, door: str, name: str) -> None:
    """Nothing is recorded, nothing is called; the page counts it and says why, as the log does."""
    before, calls = console.watch.turned_away, len(stack.aitems.calls)
    sent = console.desk.send(Asked(door, name, forged=True))
    assert (sent.status, sent.request_id) == (401, "")
    assert [call for call in stack.aitems.calls[calls:] if call.name == name] == []
    eventually(lambda: console.watch.turned_away > before)
    assert console.watch.refusals[-1].cause


def test_what_aitems_refuses_is_shown_with_its_reason(console: Console, visitor: Visitor, name: str) -> None:
    """The state, the problem in words, what AiTEMS said, and what to do about it."""
    visitor.send(door="standard:backoffice", name=name, fault="refused")
    page = visitor.read(f"/?q={name}&state=rejected")
    assert 'data-state="rejected"' in page
    assert Voice("en").markup("advice-rejected") in page
    (request,) = console.watch.select(text=name, most=5)[0]
    assert request.record.problem is not None
    assert request.record.problem.detail in unescape(page)


def test_wrong_fields_from_the_bus_are_all_named(console: Console, visitor: Visitor) -> None:
    """An event that describes no service is a request too: rejected, announced, and shown with each wrong field."""
    sent = console.desk.send(Asked("bus:com.acme.shop", "1abc", type="realtime"))
    announced(console, sent.request_id)
    page = unescape(visitor.read(f"/?q={sent.request_id}"))
    assert "starts with a digit" in page
    assert "'realtime' is not one of" in page
    assert Voice("en")("invalid-name") in page


def test_what_was_given_up_says_what_a_person_can_do(
    stack: Stack, console: Console, visitor: Visitor, name: str
) -> None:
    """A request whose message ended among the dead letters is failed: the page names the commands."""
    sent = console.desk.send(Asked("standard:backoffice", name, fault="cut"))
    request = eventually(lambda: console.watch.find(sent.request_id))
    assert request.record.state is State.UNKNOWN
    pointer = json.dumps({"request_id": sent.request_id, "version": request.record.version})
    stack.cloud.sqs.send_message(QueueUrl=stack.outputs["DeadLetterQueueUrl"], MessageBody=pointer)
    eventually(lambda: request.record.state is State.FAILED)
    announced(console, sent.request_id)
    page = unescape(visitor.read("/?state=failed"))
    assert f"resolve {sent.request_id[:12]}" in page
    assert Voice("en")("advice-failed") in page
    assert kinds(request)[-2:] == ["failed", "announced"]


def test_a_lost_answer_is_seen_to_be_looked_for(stack: Stack, console: Console, name: str) -> None:
    """Posted, no answer, unknown; then the looks at AiTEMS, as its own record has them, and the service found."""
    sent = console.desk.send(Asked("standard:backoffice", name, fault="lost"))
    assert sent.status == 202
    request = announced(console, sent.request_id)
    hows = [step.how for step in request.way]
    assert hows.index("create") < hows.index("unknown") < hows.index("read") < hows.index("adopted")
    assert request.record.adopted
    (posted,) = [step for step in request.way if step.kind is Kind.POSTED]
    assert (posted.facts["status"], posted.facts["fault"]) == (None, "reset_after")
    assert len(stack.aitems.services_named(name)) == 1


def test_what_came_from_outside_is_only_text(console: Console, visitor: Visitor, name: str) -> None:
    """Markup in a description, a key, a name or the search stays text wherever it is shown."""
    sent = console.desk.send(Asked("standard:backoffice", name, MARKUP))
    announced(console, sent.request_id)
    bad = console.desk.send(Asked("bus:com.acme.shop", MARKUP, MARKUP, MARKUP))
    announced(console, bad.request_id)
    texts = [visitor.read(f"/?{urlencode({'q': name})}"), visitor.read(f"/?{urlencode({'q': MARKUP})}")]
    texts += [
        visitor.read(f"/?q={bad.request_id}"),
        visitor.send(door=MARKUP, name=MARKUP, description=MARKUP, key=MARKUP),
    ]
    stream = visitor.follow(f"q={name}")
    texts += [html for row in stream.next()["rows"].values() for html in row]
    stream.close()
    assert any("&lt;img src=x onerror=alert(1)&gt;" in text for text in texts)
    for text in texts:
        assert Elements(text).strange == []


def test_half_a_surrogate_breaks_nothing(console: Console, visitor: Visitor, name: str) -> None:
    """What no bytes stand for may stand in an event; the page shows a question mark in its place."""
    sent = console.desk.send(Asked("bus:com.acme.shop", name, "half \ud800"))
    announced(console, sent.request_id)
    assert sent.request_id in visitor.read(f"/?q={sent.request_id}")
    stream = visitor.follow(f"q={sent.request_id}")
    assert stream.next()["rows"]
    stream.close()


def test_what_cannot_be_sent_says_why(console: Console) -> None:
    """A caller that is not there, a key that no header can hold: a sentence, and nothing was sent."""
    for asked in (
        Asked("standard:nobody", "abc"),
        Asked("nothing:at-all", "abc"),
        Asked("standard:backoffice", "abc", key="é"),
        Asked("bus:com.acme.shop", "abc", forged=True),
    ):
        sent = console.desk.send(asked)
        assert sent.why
        assert sent.status is None
    assert console.desk.again(10_000) is None


def test_the_counts_are_those_of_ledger_and_emulator(stack: Stack, console: Console, visitor: Visitor) -> None:
    """What the page sums up was counted, not added up along the way."""
    console.watch.look()
    recorded = [record.state for record in stack.ledger.scan()]
    counts = console.watch.counts
    assert {state: recorded.count(state) for state in set(recorded)} == {s: n for s, n in counts.items() if n}
    assert console.watch.services == len([each for each in stack.aitems.services if each.call is not None])
    assert console.watch.made_twice == 0
    assert f"<b>{len(recorded):,}</b> requests" in visitor.read()


def test_what_is_made_twice_is_counted(stack: Stack, name: str) -> None:
    """An AiTEMS that makes two services of one call: the page would not say that all is well."""
    other = stack.deploy("doubled")
    try:
        other.aitems.configure(uniqueness="none")
        other.aitems.add_faults(Fault("doubled", name=name))
        watch = Watch(other)
        assert senders.webhook(other.document, senders.service(name)).send().status == 201
        watch.look()
        assert (watch.services, watch.made_twice, sum(watch.counts.values())) == (2, 1, 1)
    finally:
        other.stop()


def test_the_queues_are_measured(stack: Stack, console: Console, visitor: Visitor) -> None:
    """What lies among the dead letters is shown, and taking a look takes nothing away."""
    url = stack.outputs["RuleDeadLetterQueueUrl"]
    stack.cloud.sqs.send_message(QueueUrl=url, MessageBody=f"a letter {MARKUP}")
    try:
        eventually(lambda: console.watch.depths.get("rule") and console.watch.depths["rule"].waiting == 1)
        page = visitor.read()
        assert "a letter &lt;img" in page
        (message,) = stack.cloud.sqs.receive_message(
            QueueUrl=url, VisibilityTimeout=0, AttributeNames=["ApproximateReceiveCount"]
        )["Messages"]
        assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    finally:
        stack.cloud.sqs.purge_queue(QueueUrl=url)


def test_standing_faults_are_switched_on_and_off(console: Console, visitor: Visitor) -> None:
    """A fault for everybody stands in the emulator until it is taken away."""
    visitor.ask("POST", "/faults", {"kind": "throttled", "do": "on"})
    try:
        (fault,) = console.watch.faults
        assert (fault.kind, fault.name, fault.times) == ("error_before", None, None)
        assert "error_before" in visitor.read()
    finally:
        visitor.ask("POST", "/faults", {"kind": "throttled", "do": "off"})
    assert console.watch.faults == ()


def test_every_fault_of_the_form_is_one_the_emulator_knows() -> None:
    """Each can be made, for one name or for all."""
    for make in FAULTS.values():
        assert make("abc", 1).kind in MANNERS
        assert make(None, None).times is None


# --- live ---------------------------------------------------------------------------------------------------------


def test_what_happens_is_pushed(console: Console, visitor: Visitor, name: str) -> None:
    """A page hears of a request while it is under way, and of its outcome, without asking."""
    stream = visitor.follow(f"q={name}")
    assert stream.next()["rows"] == {}
    sent = console.desk.send(Asked("standard:backoffice", name))
    message = stream.until(lambda message: message["rows"])
    assert {row[3] for row in message["rows"].values()} == {sent.request_id}
    if not any("AiTEMS Service Created" in row[2] for row in message["rows"].values()):
        stream.until(lambda message: any("AiTEMS Service Created" in row[2] for row in message["rows"].values()))
    stream.close()


def test_a_page_that_was_cut_off_gets_what_it_missed(console: Console, visitor: Visitor, name: str) -> None:
    """After the connection is cut, the same place in the stream gives the changes since, and not all again."""
    first = console.desk.send(Asked("standard:backoffice", name))
    earlier = announced(console, first.request_id)
    eventually(lambda: "answered" in [step.how for step in earlier.way])  # the last that is heard of it
    stream = visitor.follow()
    assert stream.next()["rows"]
    console.hang_up()
    stream.end()
    missed = console.desk.send(Asked("standard:backoffice", f"{name}x"))
    announced(console, missed.request_id)
    again = visitor.follow(last=stream.id)
    rows = again.next()["rows"]
    assert any(missed.request_id in row[2] for row in rows.values())
    assert not any(first.request_id in row[2] for row in rows.values())
    again.close()


@pytest.mark.parametrize("last", ["", "0", "another-1", "another-99999999", "-", "x", "1" * 400])
def test_a_place_in_another_stream_gives_everything(console: Console, visitor: Visitor, last: str, name: str) -> None:
    """A page that outlived its stack, or says nonsense, is told all there is."""
    console.desk.send(Asked("standard:backoffice", name))
    stream = visitor.follow("limit=5", last=last)
    message = stream.next()
    assert len(message["rows"]) == len(message["order"]) > 0
    stream.close()


def test_only_what_is_looked_for_is_sent(console: Console, visitor: Visitor, name: str) -> None:
    """Filter and limit hold for the stream as for the page."""
    for ending in "abc":
        console.desk.send(Asked("standard:backoffice", f"{name}{ending}"))
    stream = visitor.follow(f"q={name}&limit=2&state=created")
    message = stream.next()
    assert len(message["order"]) == 2
    assert all(name in row[1] for row in message["rows"].values())
    assert "2 of 3" in message["parts"]["shown"]
    stream.close()


def test_stopping_ends_every_thread_and_every_stream(stack: Stack) -> None:
    """A stack that stops leaves no thread of its console behind, and no page waiting."""
    before = set(threading.enumerate())
    console = Console(stack).start()
    streams = [Visitor(console).follow() for _ in range(3)]
    for stream in streams:
        stream.next()
    begun = time.monotonic()
    console.stop()
    assert time.monotonic() - begun < 5
    for stream in streams:
        stream.end()
    eventually(lambda: set(threading.enumerate()) <= before, 5)


def test_more_pages_than_a_person_opens_are_refused(console: Console, visitor: Visitor) -> None:
    """Streams are bounded; whoever closes one makes room."""
    streams: list[Stream] = []
    try:
        while (answer := visitor.ask("GET", "/events")).status == 200:
            streams.append(Stream(answer))
            assert len(streams) < 100
        assert answer.status == 503
    finally:
        console.hang_up()
        for stream in streams:
            stream.close()
    eventually(lambda: visitor.ask("GET", "/events").status == 200)


def test_only_so_many_requests_are_kept(stack: Stack, console: Console) -> None:
    """Beyond the limit the oldest that are final are only counted: the counts stay those of the ledger."""
    del console
    watch = Watch(stack, most=2)
    for number in range(4):
        senders.bus_event(stack.document, senders.service(f"kept-{number}"), key=f"kept-{number}").send()
    eventually(lambda: sum(event.metadata["idempotency_key"].startswith("kept-") for event in stack.events()) == 4)
    watch.look()
    still_open = sum(
        request.record.state is State.FAILED or request.record.state.open for request in watch.requests.values()
    )
    assert len(watch.requests) <= 2 + still_open
    assert sum(watch.counts.values()) == len(list(stack.ledger.scan()))


# --- words --------------------------------------------------------------------------------------------------------


def test_both_languages_say_everything(console: Console) -> None:
    """Each text is there in both languages, with the same values in it; only the bridge's own titles are not."""
    del console
    for what, texts in words().items():
        assert len(texts) == len(LANGUAGES)
        assert all(texts) or (what.startswith("slug-") and texts[1]), what
        if all(texts):
            english, korean = ({field for _, field, _, _ in Formatter().parse(text) if field} for text in texts)
            assert english == korean, what


def test_every_state_kind_and_fault_has_its_words() -> None:
    """Nothing that can be shown is without a name."""
    say = Voice("ko")
    assert all(say.has(f"state-{state}") for state in State)
    assert all(say.has(f"kind-{kind}") for kind in Kind)
    assert all(say.has(f"fault-{fault}") for fault in FAULTS)


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        ("", "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("", "en-GB,en;q=0.9,ko;q=0.1", "en"),
        ("", "de-DE,de,ko;q=0.5", "ko"),
        ("", "de", "en"),
        ("", "", "en"),
        ("ko", "en", "ko"),
        ("en", "ko", "en"),
        ("xx", "ko", "ko"),
    ],
)
def test_the_language_is_the_chosen_one_else_the_browsers(
    visitor: Visitor, cookie: str, accepted: str, language: str
) -> None:
    """A choice outlives the visit; without one the browser's first language that there is counts."""
    page = visitor.read(cookie=f"aitems-bridge-lang={cookie}", accept_language=accepted)
    assert f'<html lang="{language}"' in page


def test_a_preference_is_remembered_and_leads_back(visitor: Visitor) -> None:
    """To the same view of this page, and nowhere else, whatever the address says."""
    answer = visitor.ask("GET", "/prefer?set=theme&to=dark&back=%2F%3Fstate%3Dopen")
    assert answer.getheader("Location") == "/?state=open"
    assert "aitems-bridge-theme=dark" in (answer.getheader("Set-Cookie") or "")
    assert 'data-theme="dark"' in visitor.read(cookie="aitems-bridge-theme=dark")
    elsewhere = visitor.ask("GET", "/prefer?set=theme&to=evil&back=https%3A%2F%2Fevil.example%2F%3Fx%3D1")
    assert elsewhere.getheader("Location") == "/?x=1"
    assert elsewhere.getheader("Set-Cookie") is None


@pytest.mark.parametrize(
    ("milliseconds", "english"),
    [
        (0.2, "<1 ms"),
        (1, "1 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (5_916, "5.92 s"),
        (75_000, "75.0 s"),
        (600_000, "10.0 min"),
        (2e7, "5.56 h"),
    ],
)
def test_durations_have_three_figures(milliseconds: float, english: str) -> None:
    """As many as can be read at a glance."""
    assert Voice("en").duration(milliseconds) == english


def test_what_was_sent_is_remembered_within_bounds(stack: Stack) -> None:
    """Old ones are forgotten, and cannot be sent again."""
    desk = Desk(stack, Watch(stack))
    numbers = [desk.send(Asked("standard:nobody", "abc")).number for _ in range(60)]
    assert desk.sent(numbers[0]) is None
    assert isinstance(desk.sent(numbers[-1]), Sent)

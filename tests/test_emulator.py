"""The AiTEMS emulator behaves as documented and recorded, fails as told, and remembers what happened."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from pydantic import ValidationError

from aitems_local.emulator import Emulator, Fault, Kind, signature
from aitems_local.faults import MANNERS

ACCESS_KEY, SECRET_KEY = "AK_TEST", "SK_TEST"
SERVICES = "/api/v1/services"


class Reply(NamedTuple):
    """An answer as it came over the wire."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON of any kind
        """The body as JSON."""
        return json.loads(self.body)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Give a fresh emulator that keeps the documented rules."""
    with Emulator(access_key=ACCESS_KEY, secret_key=SECRET_KEY) as running:
        yield running


def signed(method: str, target: str, *, secret_key: str = SECRET_KEY, age: float = 0) -> dict[str, str]:
    """Make the headers of a call that was signed `age` seconds ago."""
    timestamp = str(int((time.time() - age) * 1000))
    return {
        "Content-Type": "application/json",
        "x-ncp-apigw-timestamp": timestamp,
        "x-ncp-iam-access-key": ACCESS_KEY,
        "x-ncp-apigw-signature-v2": signature(method, target, timestamp, ACCESS_KEY, secret_key),
    }


def call(
    emulator: Emulator,
    method: str,
    target: str = SERVICES,
    document: object = None,
    *,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 5,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Make one call over a connection of its own, signed unless headers are given."""
    host = emulator.url.partition("//")[2]
    connection = (
        http.client.HTTPSConnection(host, timeout=timeout, context=tls)
        if tls
        else http.client.HTTPConnection(host, timeout=timeout)
    )
    content = json.dumps(document).encode() if document is not None else body
    try:
        connection.request(method, target, content, signed(method, target) if headers is None else headers)
        answer = connection.getresponse()
        return Reply(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def create(emulator: Emulator, name: str = "shop-main", timeout: float = 5, **others: object) -> Reply:
    """Ask for a service."""
    return call(emulator, "POST", document={"name": name, **others}, timeout=timeout)


def listed(emulator: Emulator, query: str = "") -> list[str]:
    """Give the names in one page of the list."""
    return [each["name"] for each in call(emulator, "GET", SERVICES + query).document["services"]]


def test_it_shares_no_code_with_the_bridge() -> None:
    """What stands in for AiTEMS is written a second time, so that a mistake in the bridge is not made twice."""
    folder = Path(sys.modules[Emulator.__module__].__file__ or "").parent
    sources = [(folder / name).read_text("utf-8") for name in ("emulator.py", "emulated.py", "faults.py")]

    assert not [source for source in sources if "aitems_bridge" in source]


# The gateway


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("POST", "/vserver/v2/createServerInstances?regionCode=KR", "xBcE26XFU55BMjppdPT7ZY3oDrqoOedfPyAn3Cq4lUw="),
        ("POST", "/api/v1/services", "VTpDX11cGv8BWsQFhqkYrYP4jf4P1U08v/10QV64g6g="),
        ("GET", "/api/v1/services", "eQzbiR1kxd5FBFK5QAOpmNaqaqKjyO6arAwEOmlQ89o="),
        ("GET", "/api/v1/services?offset=0&limit=1000", "8+OIII3On5jB9jTbyjtsZdzhq3ZT+RZRM860UySgqd8="),
    ],
)
def test_signature_agrees_with_the_published_vectors(method: str, target: str, expected: str) -> None:
    """The signature is NCP's version 2: checked against a vector published elsewhere and three by the same rule."""
    assert expected == signature(method, target, "1700000000000", "AK_TEST", "SK_TEST")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "missing"),
        (signed("POST", SERVICES) | {"x-ncp-apigw-timestamp": ""}, "missing"),
        (signed("POST", SERVICES) | {"x-ncp-apigw-signature-v2": ""}, "missing"),
        (signed("POST", SERVICES) | {"x-ncp-apigw-signature-v2": "\xe9"}, "Invalid"),
        (signed("POST", SERVICES) | {"x-ncp-iam-access-key": "AK_OTHER"}, "Invalid"),
        (signed("POST", SERVICES) | {"x-ncp-apigw-timestamp": "1700000000000"}, "Invalid"),
        (signed("POST", SERVICES) | {"x-ncp-apigw-timestamp": "now"}, "Invalid"),
        (signed("POST", SERVICES, secret_key="SK_OTHER"), "Invalid"),
        (signed("POST", SERVICES + "?a=1"), "Invalid"),
        (signed("GET", SERVICES), "Invalid"),
        (signed("POST", SERVICES, age=301), "Invalid"),
        (signed("POST", SERVICES, age=-7200), "Invalid"),
    ],
)
def test_a_wrong_signature_is_refused(emulator: Emulator, headers: dict[str, str], message: str) -> None:
    """Without a right, fresh signature over this method and target a call gets 401/200 and has no effect."""
    refused = call(emulator, "POST", document={"name": "shop"}, headers=headers)

    assert (refused.status, refused.document["error"]["errorCode"]) == (401, "200")
    assert message in refused.document["error"]["details"]
    assert not emulator.services
    assert (emulator.calls[0].signed, emulator.calls[0].name) == (False, "shop")


def test_the_clock_window_is_the_emulators_own(emulator: Emulator) -> None:
    """Five minutes count from AiTEMS's clock, which may be off ours: 100 s of skew refuse a call 201 s old."""
    emulator.configure(clock_skew=100)

    assert call(emulator, "POST", document={"name": "in-time"}, headers=signed("POST", SERVICES, age=190)).status == 201
    assert call(emulator, "POST", document={"name": "late"}, headers=signed("POST", SERVICES, age=201)).status == 401


def test_a_rotated_key_counts_at_once(emulator: Emulator) -> None:
    """After a change of the secret key the old one is refused and the new one taken, without a restart."""
    emulator.configure(secret_key="SK_NEW")

    assert create(emulator).status == 401
    assert call(emulator, "GET", headers=signed("GET", SERVICES, secret_key="SK_NEW")).status == 200


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code"),
    [
        ("GET", "/api/v2/services", None, 404, "300"),
        ("GET", SERVICES + "/", None, 404, "300"),
        ("PATCH", SERVICES, b"{}", 404, "300"),
        ("POST", SERVICES, b'{"name": "\xff"}', 400, "100"),
        ("POST", SERVICES, b" " * 65_537, 413, "430"),
        ("POST", SERVICES, b" " * 1_000_000, 413, "430"),
    ],
)
def test_what_the_gateway_does_not_pass_on(
    emulator: Emulator, *, method: str, target: str, body: bytes | None, status: int, code: str
) -> None:
    """Unknown resources, bodies over 64 KiB and what is no UTF-8 are refused in the gateway's shape."""
    refused = call(emulator, method, target, body=body)

    assert (status, code) == (refused.status, refused.document["error"]["errorCode"])
    assert refused.headers["Content-Type"] == "application/json"


def test_a_request_that_does_not_come_whole_is_no_call(emulator: Emulator) -> None:
    """Half a request has no effect and is not in the journal."""
    host, port = emulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"POST /api/v1/services HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""

    assert emulator.calls == ()


def test_what_is_no_http_is_answered_in_the_gateways_shape(emulator: Emulator) -> None:
    """A malformed request line, or a body of unstated length, gets 400/100."""
    host, port = emulator.url.removeprefix("http://").split(":")
    for sent in (b"no http at all\r\n\r\n", b"POST /api/v1/services HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(sent)
            answer = connection.makefile("rb").read()
        assert b'"errorCode": "100"' in answer


def test_every_answer_says_when_and_which(emulator: Emulator) -> None:
    """Each answer, also a refusal, has a Date by AiTEMS's clock, a trace id and a request id."""
    emulator.configure(clock_skew=-200)
    for reply in (create(emulator), create(emulator), call(emulator, "GET", headers={}), call(emulator, "GET", "/x")):
        behind = datetime.now(UTC) - parsedate_to_datetime(reply.headers["Date"])
        assert 199 <= behind.total_seconds() <= 203
        assert reply.headers["x-ncp-trace-id"]
        assert reply.headers["x-ncp-apigw-request-id"]


# AiTEMS


def test_a_created_service_has_the_recorded_shape(emulator: Emulator) -> None:
    """201 with an id of 11 small letters and digits, waiting for datasets, dated in Korean time without saying so."""
    made = create(emulator, "shop-main", description="봄 시즌 추천", type="interval")

    document = made.document
    service_id, date = document.pop("serviceId"), document.pop("createdDate")
    assert made.status == 201
    assert (len(service_id), set(service_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789")) == (11, True)
    expected = {
        "name": "shop-main",
        "description": "봄 시즌 추천",
        "type": "interval",
        "status": "datasetRequired",
        "datasets": [],
        "hpConfig": {"is_enabled": False},
        "infers": [],
        "updatedDate": date,
    }
    assert expected == document
    assert "봄".encode() in made.body
    assert len("2024-07-29T16:17:37.235") == len(date)
    korean = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=9)
    assert abs(korean - datetime.fromisoformat(date)) < timedelta(seconds=5)


@pytest.mark.parametrize("offset", [0, 32_400, "PT1H", timedelta(hours=-3)])
def test_dates_are_written_in_the_zone_that_is_set(emulator: Emulator, offset: object) -> None:
    """The zone of all dates is a setting, given as seconds, ISO 8601 or a timedelta."""
    emulator.configure(utc_offset=offset)

    shown = datetime.fromisoformat(create(emulator).document["createdDate"])
    expected = datetime.now(UTC).replace(tzinfo=None) + emulator.settings.utc_offset
    assert abs(expected - shown) < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ([], "BODY"),
        ({}, "NAME"),
        ({"name": None}, "NAME"),
        ({"name": 5}, "NAME"),
        ({"name": "ab"}, "NAME"),
        ({"name": "a" * 21}, "NAME"),
        ({"name": "1shop"}, "NAME"),
        ({"name": "-shop"}, "NAME"),
        ({"name": "shop\n"}, "NAME"),
        ({"name": "shöp"}, "NAME"),
        ({"name": "shop", "description": "가" * 101}, "DESCRIPTION"),
        ({"name": "shop", "description": 5}, "DESCRIPTION"),
        ({"name": "shop", "type": "realtime"}, "TYPE"),
        ({"name": "shop", "type": []}, "TYPE"),
    ],
)
def test_fields_are_checked_by_the_documented_rules(emulator: Emulator, document: object, word: str) -> None:
    """A field outside its rule is refused with 400 in AiTEMS's flat shape, and nothing is made."""
    refused = call(emulator, "POST", document=document)

    assert (refused.status, refused.document["status"]) == (400, 400)
    assert (refused.document["error"], refused.document["errorCode"]) == ("BAD_REQUEST", "BAD_REQUEST")
    assert f"[{word}]" in refused.document["message"]
    assert not emulator.services


def test_the_limits_themselves_are_allowed(emulator: Emulator) -> None:
    """3 and 20 characters of name, 100 of description, null for what is optional."""
    assert create(emulator, "_ab", description="가" * 100).status == 201
    assert create(emulator, "a" * 20, description=None, type=None).status == 201


def test_what_is_no_json_is_refused_by_aitems(emulator: Emulator) -> None:
    """The gateway passes it on; the flat shape comes from AiTEMS."""
    for body in (b"", b"{", b"[" * 60_000):
        assert call(emulator, "POST", body=body).document["error"] == "BAD_REQUEST"


def test_a_taken_name_is_answered_as_recorded(emulator: Emulator) -> None:
    """The duplicate answer is flat, dated by AiTEMS's clock and zone, and does not say whose the name is."""
    emulator.configure(clock_skew=30, utc_offset=0)
    create(emulator)
    refused = create(emulator)

    document = refused.document
    seen = datetime.fromisoformat(document.pop("timestamp"))
    assert len(document.pop("requestId")) == 8
    expected = {
        "path": "/api/services",
        "status": 400,
        "error": "DUPLICATE_NAME",
        "errorCode": "BAD_REQUEST",
        "message": "[shop-main] is a duplicate name.",
    }
    assert expected == document
    assert refused.status == 400
    assert refused.headers["Content-Type"] == "application/json;charset=UTF-8"
    ahead = seen - datetime.now(UTC).replace(tzinfo=None)
    assert timedelta(seconds=25) < ahead < timedelta(seconds=31)

    emulator.configure(timestamps_in_duplicate=False)
    assert "timestamp" not in create(emulator).document


@pytest.mark.parametrize(("ignore_case", "status"), [(False, 201), (True, 400)])
def test_letter_case_in_names_is_a_setting(emulator: Emulator, ignore_case: bool, status: int) -> None:
    """Nobody knows whether AiTEMS tells `Shop` from `shop`: both can be had."""
    emulator.configure(ignore_case=ignore_case)
    create(emulator, "shop")

    assert status == create(emulator, "Shop").status


def test_a_service_is_read_renamed_and_deleted_by_its_id(emulator: Emulator) -> None:
    """The id stays when the name changes; a deleted service is gone and its name free."""
    made = create(emulator, "first").document
    create(emulator, "second")
    target = f"{SERVICES}/{made['serviceId']}"

    assert made == call(emulator, "GET", target).document
    assert call(emulator, "PUT", target, {"name": "second"}).document["error"] == "DUPLICATE_NAME"
    assert call(emulator, "PUT", target, {"name": "third"}).document["name"] == "third"
    assert call(emulator, "DELETE", target).document == {"result": "ok"}
    missing = call(emulator, "GET", target)
    assert (404, f"/api/services/{made['serviceId']}") == (missing.status, missing.document["path"])
    assert call(emulator, "DELETE", target).status == 404
    assert create(emulator, "third").status == 201
    assert [service.status for service in emulator.services_named("first")] == ["deleted"]


def test_a_service_being_deleted_can_keep_its_name(emulator: Emulator) -> None:
    """With `deleting_reserves_name` it stays in the list as `deleting`, and the name stays taken."""
    emulator.configure(deleting_reserves_name=True)
    made = create(emulator).document
    call(emulator, "DELETE", f"{SERVICES}/{made['serviceId']}")

    assert create(emulator).document["error"] == "DUPLICATE_NAME"
    assert [each["status"] for each in call(emulator, "GET").document["services"]] == ["deleting"]


def test_list_elements_say_less_than_a_service(emulator: Emulator) -> None:
    """The list has no description, no type and no total."""
    made = create(emulator, description="told only when read").document
    page = call(emulator, "GET").document

    assert {"services", "offset", "limit"} == set(page)
    assert (page["offset"], page["limit"]) == (0, 1000)
    expected = {"serviceId", "name", "status", "createdDate", "updatedDate", "actionName", "permission"}
    assert expected == set(page["services"][0])
    assert made["serviceId"] == page["services"][0]["serviceId"]


def test_the_list_comes_in_pages(emulator: Emulator) -> None:
    """Newest first, or oldest; no page is longer than asked for, nor than the cap the server keeps to itself."""
    for age in range(5):
        emulator.by_hand(f"shop-{age}", created=time.time() - age)

    assert listed(emulator, "?offset=1&limit=2") == ["shop-1", "shop-2"]
    emulator.configure(page_cap=3)
    assert listed(emulator, "?offset=0&limit=1000") == ["shop-0", "shop-1", "shop-2"]
    assert listed(emulator, "?offset=3&limit=1000") == ["shop-3", "shop-4"]
    assert listed(emulator, "?offset=5") == []
    emulator.configure(oldest_first=True)
    assert listed(emulator, "?limit=1") == ["shop-4"]
    assert call(emulator, "GET", SERVICES + "?limit=-1").status == 400


def test_a_service_can_be_listed_late(emulator: Emulator) -> None:
    """Within `list_delay` a new service is readable by its id and its name is taken, but it is not listed."""
    emulator.configure(list_delay=3600)
    made = create(emulator).document

    assert listed(emulator) == []
    assert call(emulator, "GET", f"{SERVICES}/{made['serviceId']}").status == 200
    assert create(emulator).status == 400
    emulator.by_hand("older-one", created=time.time() - 3601)
    assert listed(emulator) == ["older-one"]


def test_answers_can_hold_what_nobody_documented(emulator: Emulator) -> None:
    """Unknown fields, floats, a lone surrogate, 300 KB, and missing fields: AiTEMS's answers are not ours to choose."""
    extra = {"score": 0.1, "blob": "x" * 300_000, "odd": "\ud800", "status": "learnable"}
    emulator.configure(extra_fields=extra, omit_fields=["type", "infers"], created_status=200)
    made = create(emulator)

    assert made.status == 200
    assert extra == {name: made.document[name] for name in extra}
    assert not {"type", "infers"} & set(made.document)
    assert call(emulator, "GET").document["services"][0]["score"] == 0.1


@pytest.mark.parametrize(("uniqueness", "made"), [("atomic", 1), ("race", 2), ("none", 2)])
def test_uniqueness_can_be_a_race(emulator: Emulator, uniqueness: str, made: int) -> None:
    """Two creations of one name at once: one service if looking and inserting are one step, else two."""
    emulator.configure(uniqueness=uniqueness, race_window=0.3)
    with ThreadPoolExecutor(2) as pool:
        statuses = [reply.status for reply in pool.map(lambda _: create(emulator, "shop"), range(2))]

    assert made == statuses.count(201)
    assert made == len(emulator.services_named("shop"))


def test_latency_comes_before_the_effect(emulator: Emulator) -> None:
    """A slow AiTEMS has done nothing yet while it thinks, and calls that wait together overlap."""
    emulator.configure(latency=0.2, uniqueness="none")
    with ThreadPoolExecutor(2) as pool:
        replies = [pool.submit(create, emulator, "shop") for _ in range(2)]
        assert emulator.wait_until(lambda: len(emulator.calls) == 2)
        assert emulator.services == ()
        assert [reply.result().status for reply in replies] == [201, 201]

    first, second = emulator.posts_named("shop")
    assert ((first, second),) == emulator.overlapping_posts()


# Faults

Seen = Callable[[Reply | Exception], bool]


def broken_off(seen: Reply | Exception) -> bool:
    """Tell whether the connection was closed, properly, without an answer."""
    return isinstance(seen, http.client.RemoteDisconnected)


def reset(seen: Reply | Exception) -> bool:
    """Tell whether the connection was reset."""
    return isinstance(seen, ConnectionResetError) and not broken_off(seen)


def answered(status: int) -> Seen:
    """Make a check that an answer with this status came."""
    return lambda seen: isinstance(seen, Reply) and seen.status == status


def timed_out(seen: Reply | Exception) -> bool:
    """Tell whether nothing came in time."""
    return isinstance(seen, TimeoutError)


@pytest.mark.parametrize(
    ("fault", "expected", "services", "status"),
    [
        (Fault("hang_before", seconds=0.1), broken_off, 0, None),
        (Fault("hang_after", seconds=0.1), broken_off, 1, None),
        (Fault("hang_before", seconds=60), timed_out, 0, None),
        (Fault("hang_after"), timed_out, 1, None),
        (Fault("close_before"), broken_off, 0, None),
        (Fault("close_after"), broken_off, 1, None),
        (Fault("reset_before"), reset, 0, None),
        (Fault("reset_after"), reset, 1, None),
        (Fault("error_before", status=429, code=410), answered(429), 0, 429),
        (Fault("error_before"), answered(500), 0, 500),
        (Fault("error_after", status=504), answered(504), 1, 504),
        (Fault("error_after", status=201, shape="empty"), answered(201), 1, 201),
        (Fault("status_only", status=409), answered(409), 0, 409),
        (Fault("redirect", location="/elsewhere"), answered(307), 0, 307),
        (Fault("slow", seconds=0.1), answered(201), 1, 201),
        (Fault("slow_answer", seconds=0.1), answered(201), 1, 201),
        (Fault("dripping", seconds=0.0001), answered(201), 1, 201),
        (Fault("broken_json"), lambda seen: isinstance(seen, Reply) and not is_json(seen.body), 1, 201),
        (Fault("cut_short"), lambda seen: isinstance(seen, http.client.IncompleteRead), 1, 201),
        (Fault("garbage"), lambda seen: isinstance(seen, http.client.BadStatusLine) and not broken_off(seen), 1, None),
        (Fault("wrong_name"), lambda seen: isinstance(seen, Reply) and seen.document["name"] != "shop", 1, 201),
        (Fault("doubled"), answered(400), 1, 400),
        (Fault("late_commit", seconds=60), answered(504), 0, 504),
        (Fault("late_commit", seconds=60, answer="reset"), reset, 0, None),
        (Fault("late_commit", seconds=60, answer="close"), broken_off, 0, None),
        (Fault("late_commit", seconds=60, answer="hang"), timed_out, 0, None),
    ],
    ids=lambda value: f"{value.kind}-{value.answer}-{value.seconds}" if isinstance(value, Fault) else "",
)
def test_each_kind_of_fault(
    emulator: Emulator, fault: Fault, expected: Seen, services: int, status: int | None
) -> None:
    """What the caller sees, whether the service is there nevertheless, and what the journal says."""
    emulator.add_faults(fault)
    seen: Reply | Exception
    try:
        seen = create(emulator, "shop", timeout=0.4 if expected is timed_out else 5)
    except (OSError, http.client.HTTPException) as error:
        seen = error

    assert expected(seen), seen
    assert emulator.wait_until(lambda: len(emulator.services_named("shop")) == services)
    assert (fault.kind, status) == (emulator.calls[0].fault, emulator.calls[0].status)
    made = emulator.services[0].service_id if services else None
    assert made == emulator.calls[0].service_id
    assert emulator.faults == ()


def is_json(body: bytes) -> bool:
    """Tell whether it can be parsed."""
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def test_every_kind_has_its_manner() -> None:
    """No kind can be asked for that the emulator does not know how to do."""
    assert set(get_args(Kind)) == set(MANNERS)


@pytest.mark.parametrize("answer", ["504", "reset", "close", "hang"])
def test_a_late_commit_lands(emulator: Emulator, answer: Any) -> None:  # noqa: ANN401 - a literal
    """The caller is answered at once, or cut off; the service comes later, and until then the call is under way."""
    emulator.add_faults(Fault("late_commit", seconds=0.3, answer=answer))
    started = time.time()
    try:
        create(emulator, "shop")
    except (OSError, http.client.HTTPException):
        assert answer != "504"
    else:
        assert answer == "504"
    if answer != "hang":
        assert (len(emulator.services), emulator.calls[0].done) == (0, None)

    assert emulator.wait_until(lambda: emulator.calls[0].done is not None)
    landed = emulator.calls[0]
    assert emulator.services[0].service_id == landed.service_id
    assert landed.done is not None
    assert 0.3 <= landed.done - started < 3


def test_a_late_commit_obeys_uniqueness(emulator: Emulator) -> None:
    """If the name is taken by then, nothing lands; the two calls were under way at once, and that can be seen."""
    emulator.add_faults(Fault("late_commit", seconds=0.3))
    create(emulator, "shop")

    assert create(emulator, "shop").status == 201
    assert emulator.wait_until(lambda: emulator.calls[0].done is not None)
    assert len(emulator.services_named("shop")) == 1
    first, second = emulator.posts_named("shop")
    assert ((first, second),) == emulator.overlapping_posts()
    assert (first.service_id, first.status, second.status) == (None, 504, 201)


def test_calls_one_after_the_other_do_not_overlap(emulator: Emulator) -> None:
    """A call whose answer is held back is over; so is one whose caller was answered."""
    emulator.add_faults(Fault("hang_after", seconds=60))
    with pytest.raises(TimeoutError):
        create(emulator, "shop", timeout=0.1)
    create(emulator, "shop")
    create(emulator, "shop")

    assert emulator.overlapping_posts() == ()


@pytest.mark.parametrize(
    ("fault", "content_type", "expected"),
    [
        (
            Fault("error_before", status=401, code=210, message="<b>No</b>"),
            "application/json",
            {
                "error": {
                    "errorCode": 210,
                    "message": "<b>No</b>",
                    "details": "A subscription to the API is required.",
                }
            },
        ),
        (
            Fault("error_before", status=503, content_type="text/plain"),
            "text/plain",
            {"error": {"errorCode": "500", "message": "Endpoint Error"}},
        ),
        (Fault("error_before", status=403, shape="flat"), "application/json;charset=UTF-8", {"error": "FORBIDDEN"}),
        (
            Fault("error_before", status=400, code="DUPLICATE_NAME", shape="flat"),
            "application/json;charset=UTF-8",
            {"message": "[NAME] is a duplicate name.", "path": "/api/services", "status": 400},
        ),
        (Fault("error_before", status=502, shape="html"), "text/html", None),
        (Fault("error_before", status=408, shape="empty"), "text/plain", None),
    ],
)
def test_an_error_has_the_shape_asked_for(
    emulator: Emulator, fault: Fault, content_type: str, expected: dict[str, object] | None
) -> None:
    """The gateway's, AiTEMS's, a proxy's page or nothing; the code as text or number; any content type."""
    emulator.add_faults(fault)
    reply = create(emulator)

    assert (fault.status, content_type) == (reply.status, reply.headers["Content-Type"])
    if expected is None:
        assert not is_json(reply.body)
    else:
        assert expected == {name: reply.document[name] for name in expected}


def test_a_redirect_names_its_target(emulator: Emulator) -> None:
    """A 307 carries the location to which no caller should take its signature."""
    emulator.add_faults(Fault("redirect", location="http://127.0.0.1:9/"))

    assert create(emulator).headers["Location"] == "http://127.0.0.1:9/"


def test_faults_wait_for_the_calls_they_are_meant_for(emulator: Emulator) -> None:
    """By name, by operation and as often as asked, in the order they were added; other calls go through."""
    emulator.add_faults(
        Fault("status_only", name="shop", status=408),
        Fault("status_only", name="shop", status=409, times=2),
        Fault("error_before", on="list"),
        Fault("error_before", on="read", status=503, times=None),
    )

    service_id = create(emulator, "other").document["serviceId"]
    assert [create(emulator, "shop").status for _ in range(4)] == [408, 409, 409, 201]
    assert [call(emulator, "GET").status for _ in range(2)] == [500, 200]
    assert [call(emulator, "GET", f"{SERVICES}/{service_id}").status for _ in range(2)] == [503, 503]
    emulator.clear_faults()
    assert call(emulator, "GET", f"{SERVICES}/{service_id}").status == 200


def test_a_wrongly_signed_call_uses_up_no_fault(emulator: Emulator) -> None:
    """The gateway refuses it before anything else can go wrong."""
    emulator.add_faults(Fault("error_before", on="any"))

    assert call(emulator, "GET", headers={}).status == 401
    assert call(emulator, "GET").status == 500


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("empty_list"), []),
        (Fault("list_missing"), ["shop-1", "shop-2"]),
        (Fault("list_missing", name="shop-1"), ["shop-0", "shop-2"]),
        (Fault("list_missing", name="shop-9"), ["shop-0", "shop-1", "shop-2"]),
    ],
)
def test_the_list_can_lie_by_omission(emulator: Emulator, fault: Fault, expected: list[str]) -> None:
    """Once empty, without the newest or without a certain service, though all are there."""
    for age in range(3):
        emulator.by_hand(f"shop-{age}", created=time.time() - age)
    emulator.add_faults(fault)

    assert expected == listed(emulator)
    assert listed(emulator) == ["shop-0", "shop-1", "shop-2"]


def test_a_deletion_between_two_pages_hides_a_service(emulator: Emulator) -> None:
    """`list_then_delete` shifts the rest by one: pages that only abut miss `shop-2`."""
    for age in range(4):
        emulator.by_hand(f"shop-{age}", created=time.time() - age)
    emulator.add_faults(Fault("list_then_delete"))

    assert listed(emulator, "?offset=0&limit=2") == ["shop-0", "shop-1"]
    assert listed(emulator, "?offset=2&limit=2") == ["shop-3"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"kind": "hiccup"}, "kind"),
        ({}, "kind"),
        ({"kind": "slow", "seconds": -1}, "seconds"),
        ({"kind": "slow", "seconds": "long"}, "seconds"),
        ({"kind": "slow", "times": 0}, "times"),
        ({"kind": "slow", "second": 1}, "second"),
        ({"kind": "late_commit", "on": "list"}, "on"),
        ({"kind": "empty_list", "on": "create"}, "on"),
        ({"kind": "slow", "name": "shop", "on": "list"}, "on"),
        ({"kind": "status_only", "status": 99}, "status"),
    ],
)
def test_a_fault_that_could_not_happen_is_refused(emulator: Emulator, given: dict[str, object], field: str) -> None:
    """Over HTTP with 400 and the field, in Python with an exception, and no fault of the list is taken."""
    refused = call(emulator, "POST", "/_emulator/faults", [{"kind": "slow"}, given], headers={})

    assert (400, f"1.{field}") == (refused.status, refused.document["error"]["field"])
    assert emulator.faults == ()
    with pytest.raises((ValidationError, TypeError)):
        Fault(**given)  # type: ignore[arg-type]


# Memory and control


def test_the_journal_tells_each_call(emulator: Emulator) -> None:
    """In order of arrival: what was asked, when, whether rightly signed, how it was answered and what it made."""
    before = time.time()
    made = create(emulator, "shop").document
    call(emulator, "GET", SERVICES + "?limit=5")
    call(emulator, "GET", f"{SERVICES}/{made['serviceId']}")
    after = time.time()

    post, listing, reading = emulator.calls
    assert (post.method, post.path, post.operation, post.name) == ("POST", SERVICES, "create", "shop")
    assert (201, True, None, made["serviceId"]) == (post.status, post.signed, post.fault, post.service_id)
    assert ("list", f"{SERVICES}?limit=5", None) == (listing.operation, listing.path, listing.name)
    assert (reading.operation, reading.name) == ("read", "shop")
    assert post.done is not None
    assert before <= post.arrived <= emulator.services[0].created <= post.done <= listing.arrived <= after
    assert [each.number for each in emulator.calls] == [1, 2, 3]
    assert (post.number, None) == (emulator.services[0].call, emulator.by_hand("other").call)


def test_people_make_rename_and_delete_services_too(emulator: Emulator) -> None:
    """Without a call and without rules: an old date, a second service of one name."""
    old = emulator.by_hand("shop", "made last week", created=time.time() - 604_800)
    twin = emulator.by_hand("shop")
    emulator.rename_by_hand(old.service_id, "shop-old")
    emulator.delete_by_hand(twin.service_id)

    assert listed(emulator) == ["shop-old"]
    assert len(emulator.services_named("shop")) == 2
    assert emulator.services[1].deleted is not None
    assert [each.operation for each in emulator.calls] == ["list"]
    with pytest.raises(KeyError):
        emulator.delete_by_hand("unheard-of")


def test_another_process_can_steer_it(emulator: Emulator) -> None:
    """Everything a test does in Python is there over HTTP, unsigned and outside the journal."""

    def steer(method: str, path: str, document: object = None) -> Any:  # noqa: ANN401
        reply = call(emulator, method, f"/_emulator/{path}", document, headers={})
        assert reply.status == 200
        return reply.document

    steer("PATCH", "settings", {"page_cap": 7, "utc_offset": 0})
    steer("POST", "faults", [{"kind": "error_after", "status": 503, "times": 2}])
    made = steer("POST", "services", {"name": "by-hand", "created": 1.5})["serviceId"]
    assert create(emulator, "shop").status == 503
    steer("DELETE", f"services/{made}")

    state = steer("GET", "state")
    assert [("by-hand", 1.5, "deleted"), ("shop", emulator.services[1].created, "datasetRequired")] == [
        (each["name"], each["created"], each["status"]) for each in state["services"]
    ]
    assert [(each["fault"], each["status"]) for each in state["calls"]] == [("error_after", 503)]
    assert (state["settings"]["page_cap"], state["settings"]["utc_offset"]) == (7, "PT0S")
    assert [(each["kind"], each["times"]) for each in state["faults"]] == [("error_after", 1)]
    steer("DELETE", "faults")
    assert emulator.faults == ()
    steer("POST", "reset")
    assert (emulator.services, emulator.calls, emulator.settings.page_cap) == ((), (), None)


def test_keys_are_told_to_nobody(emulator: Emulator, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither state, nor representations, nor error texts, nor the terminal shows a key."""
    create(emulator)
    state = call(emulator, "GET", "/_emulator/state", headers={}).body.decode()
    refused = call(emulator, "PATCH", "/_emulator/settings", {"secret_key": ["SK_TEST"]}, headers={})
    with pytest.raises(ValidationError) as raised:
        emulator.configure(secret_key=["SK_TEST"])

    shown = [state, refused.body.decode(), repr(emulator.settings), str(raised.value), *capfd.readouterr()]
    assert not [text for text in shown if SECRET_KEY in text or ACCESS_KEY in text]
    assert tuple(shown[-2:]) == ("", "")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("PATCH", "settings", b'{"uniqueness": "sometimes"}', 400, "uniqueness"),
        ("PATCH", "settings", b'{"page_cap": 0}', 400, "page_cap"),
        ("PATCH", "settings", b'{"latency": Infinity}', 400, "latency"),
        ("PATCH", "settings", b'{"colour": 1}', 400, "colour"),
        ("PATCH", "settings", b"[]", 400, "body"),
        ("POST", "faults", b"{", 400, "body"),
        ("POST", "services", b'{"name": 5}', 400, "name"),
        ("POST", "services", b'{"name": "shop", "type": "realtime"}', 400, "type"),
        ("DELETE", "services/unheard-of", None, 404, "id"),
        ("GET", "secrets", None, 404, "path"),
    ],
)
def test_bad_control_input_is_named(
    emulator: Emulator, *, method: str, path: str, body: bytes | None, status: int, field: str
) -> None:
    """A mistake in what another process sends changes nothing and comes back with the field it is in."""
    before = emulator.settings
    refused = call(emulator, method, f"/_emulator/{path}", body=body, headers={})

    assert (status, field) == (refused.status, refused.document["error"]["field"])
    assert before == emulator.settings


def test_it_cannot_be_made_wrongly() -> None:
    """Keys are required and settings checked when the emulator is made."""
    with pytest.raises(ValidationError, match="secret_key"):
        Emulator(access_key=ACCESS_KEY)
    with pytest.raises(ValidationError, match="uniquenes"):
        Emulator(access_key=ACCESS_KEY, secret_key=SECRET_KEY, uniquenes="race")


@pytest.mark.parametrize("end", [Emulator.stop, Emulator.reset])
def test_held_calls_are_let_go(emulator: Emulator, end: Callable[[Emulator], None]) -> None:
    """Stopping and resetting do not wait for a hang, and what was to land late never does."""
    emulator.add_faults(Fault("hang_before", seconds=600), Fault("late_commit", name="late", seconds=600))
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(create, emulator, "held", timeout=5)
        assert emulator.wait_until(lambda: [each.fault for each in emulator.calls] == ["hang_before"])
        create(emulator, "late")
        started = time.monotonic()
        end(emulator)
        with pytest.raises((OSError, http.client.HTTPException)):
            held.result(timeout=5)

    assert time.monotonic() - started < 1
    assert emulator.services == ()
    for _ in range(100):
        if not any(each.name.startswith("late-commit") for each in threading.enumerate()):
            break
        time.sleep(0.01)
    else:
        pytest.fail("the late commit still waits")


def test_it_comes_back_where_it_was(emulator: Emulator) -> None:
    """After stop nobody listens, kept-alive connections included; after start it is the same AiTEMS again."""
    create(emulator, "shop")
    kept = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=5)
    kept.request("GET", "/_emulator/state")
    kept.getresponse().read()
    url = emulator.url

    emulator.stop()
    emulator.stop()
    with pytest.raises(ConnectionRefusedError):
        create(emulator)
    assert kept.sock is not None
    assert kept.sock.recv(1) == b""
    kept.close()

    emulator.start()
    assert url == emulator.url
    assert listed(emulator) == ["shop"]


def test_connections_are_kept_for_many_calls(emulator: Emulator) -> None:
    """HTTP/1.1: a connection serves one call after another, refusals of either layer included."""
    connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=5)
    connection.connect()
    used = connection.sock
    statuses = []
    for name in ("shop", "shop", "x"):
        connection.request("POST", SERVICES, json.dumps({"name": name}), signed("POST", SERVICES))
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)

    assert statuses == [201, 400, 400]
    assert used is connection.sock
    connection.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_garbage_goes_past_tls(tmp_path: Path) -> None:
    """With TLS, garbage is no TLS record: to the client it looks like a failed handshake."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=emulator", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    made += ["-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)  # noqa: S603 - fixed words
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=certificate)

    with Emulator(access_key=ACCESS_KEY, secret_key=SECRET_KEY, tls=context) as emulator:
        assert call(emulator, "POST", document={"name": "fine"}, tls=trusting).status == 201
        emulator.add_faults(Fault("garbage"))
        with pytest.raises(ssl.SSLError):
            call(emulator, "POST", document={"name": "shop"}, tls=trusting)
        emulator.add_faults(Fault("reset_after"))
        with pytest.raises(ConnectionResetError):
            call(emulator, "POST", document={"name": "shop-2"}, tls=trusting)
        assert [service.name for service in emulator.services] == ["fine", "shop", "shop-2"]

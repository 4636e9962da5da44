"""What a sender sees when things go wrong, on the deployed stack: it retries, or does not, and is served once.

Times are short (`chaos.PARAMETERS`); `make chaos` shows recovery at the settings that are shipped.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from standardwebhooks import Webhook

from aitems_local import chaos, senders
from aitems_local.audit import Sent, Verdict, audit, settled, status
from aitems_local.cloud import StackError
from aitems_local.entries import standard_secret
from aitems_local.faults import Fault
from aitems_local.intercept import Interceptor, Kill
from aitems_local.journal import Announced
from aitems_local.senders import Answer
from aitems_local.stack import Stack, Template

PATIENCE = 120
RECOVERED_WITHIN = 45
"""Seconds: the process's 20, margins, a look, and time for a slow machine."""
QUEUED = 200


@dataclass(frozen=True)
class Place:
    """A bridge with short times, whose functions can be killed."""

    stack: Stack
    interceptor: Interceptor

    def send(self, name: str, *, timeout: float = 35, prefer: str | None = None) -> Answer:
        """Send a webhook, once; its key is the name's."""
        return senders.webhook(self.stack.document, senders.service(name), key=name, prefer=prefer).send(timeout)

    def request_id(self, name: str) -> str:
        """Return the id of the request for a name."""
        return chaos.WEBHOOK.letter(self.stack, name, name).request_id

    def kill(self, name: str, kill: Kill) -> None:
        """Have the process of a webhook killed."""
        self.interceptor.plan(self.request_id(name), name, [kill])

    def verdict(self, name: str) -> Verdict:
        """Wait for the announcement, and judge whether it is true."""
        request_id = self.request_id(name)
        self.stack.event(timeout=PATIENCE, request_id=request_id, final=True)
        (verdict,) = audit(self.stack, [Sent(request_id, name)], {request_id: []})
        return verdict

    def served_once(self, name: str) -> None:
        """Wait for the announcement, and check that it is true and that there is one service."""
        verdict = self.verdict(name)
        assert verdict.faults == []
        assert (verdict.state, verdict.services) == ("created", 1)


Story = Callable[[], object]
"""Something that takes long, mostly waiting: all of them happen at once, and each test is told one's end."""


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[Place]:
    """Return a bridge with short times; its names are each test's own."""
    with chaos.bridge(stack, "recovery", batch=10) as (bridge, interceptor):
        yield Place(bridge, interceptor)


@pytest.fixture(scope="module")
def stories(stack: Stack, place: Place) -> Iterator[dict[str, "Future[Any]"]]:
    """Begin everything that takes long."""
    told: dict[str, Story] = {"outage": lambda: sit_out(stack), "giving up": lambda: give_up(stack)}
    for what, kills in chaos.RECOVERIES.items():
        told[what] = partial(recover, place, what, kills)
    for kill in CRASHES:
        told[str(kill)] = partial(crash, place, kill)
    with ThreadPoolExecutor(len(told)) as pool:
        yield {what: pool.submit(story) for what, story in told.items()}


# --- recovery without help ----------------------------------------------------------------------------------------


def recover(place: Place, what: str, kills: Sequence[Kill]) -> chaos.Recovery:
    """Kill a call and wait."""
    return chaos.recover(place.stack, place.interceptor, f"rec-{what.replace(' ', '-')}", kills, PATIENCE)


@pytest.mark.parametrize("what", chaos.RECOVERIES)
def test_a_killed_call_is_settled_announced_and_shown_without_help(
    stories: dict[str, "Future[chaos.Recovery]"], what: str
) -> None:
    """Its sender hears nothing and does nothing; the service is found, or made, and the status address tells."""
    recovery = stories[what].result()
    assert recovery.services == 1
    assert recovery.shown["state"] == "created"
    assert recovery.shown["adopted"] == (what == "made")
    assert recovery.seconds < RECOVERED_WITHIN


def sit_out(stack: Stack) -> tuple[list[Verdict], int]:
    """AiTEMS hangs, then is gone, then answers 503, while requests are queued: return what became of them."""
    with stack.deploy("outage", parameters=chaos.PARAMETERS) as bridge:
        aitems = bridge.aitems
        aitems.add_faults(Fault("hang_before", seconds=2, times=None))
        letters = {
            name: chaos.BUS.letter(bridge, name, name) for name in (f"o{number:04d}" for number in range(QUEUED))
        }
        sent = [Sent(letter.request_id, name) for name, letter in letters.items()]
        for letter in letters.values():
            letter.send()
        assert aitems.wait_until(lambda: len(aitems.calls) >= 10, PATIENCE)
        aitems.stop()
        aitems.clear_faults()
        time.sleep(3)
        aitems.add_faults(Fault("error_before", status=503, times=None))
        seen = len(aitems.calls)
        aitems.start()
        assert aitems.wait_until(lambda: len(aitems.calls) >= seen + 20, PATIENCE)
        aitems.clear_faults()
        settled(bridge, sent, PATIENCE)
        return audit(bridge, sent, {each.request_id: [] for each in sent}), bridge.queued("DeadLetterQueueUrl")


def test_an_outage_of_aitems_is_sat_out(stories: dict[str, "Future[tuple[list[Verdict], int]]"]) -> None:
    """It hangs, then is gone, then answers 503: two hundred queued requests all settle afterwards, untouched."""
    verdicts, dead_letters = stories["outage"].result()
    assert [fault for verdict in verdicts for fault in verdict.faults] == []
    assert [verdict.state for verdict in verdicts] == ["created"] * QUEUED
    assert dead_letters == 0


def give_up(stack: Stack) -> list[tuple[Announced, Verdict]]:
    """Refuse longer than the bridge tries, then no more, and send again under the same key: return what was heard."""

    def change(template: Template) -> None:
        for function in ("WebhookFunction", "WorkerFunction"):
            environment = template["Resources"][function]["Properties"]["Environment"]["Variables"]
            environment["GIVE_UP_AFTER_MINUTES"] = "0.1"

    with stack.deploy("gives-up", parameters=chaos.PARAMETERS, change=change) as bridge:
        letters = {name: chaos.LATER.letter(bridge, name, name) for name in GIVEN_UP}
        for (name, code), letter in zip(GIVEN_UP.items(), letters.values(), strict=True):
            bridge.aitems.add_faults(Fault("error_before", name=name, status=code, times=None))
            letter.send()
        failed = [bridge.event(timeout=PATIENCE, request_id=letter.request_id) for letter in letters.values()]
        bridge.aitems.clear_faults()
        for letter in letters.values():
            letter.send()
        sent = [Sent(letter.request_id, name) for name, letter in letters.items()]
        settled(bridge, sent, PATIENCE)
        return list(zip(failed, audit(bridge, sent, {each.request_id: [] for each in sent}), strict=True))


GIVEN_UP = {"throttled": 429, "in-doubt": 500}


def test_what_the_world_keeps_refusing_is_announced_as_failed_and_can_be_revived(
    stories: dict[str, "Future[list[tuple[Announced, Verdict]]]"],
) -> None:
    """Giving up is announced, is not final, and the same key sent again leads to the one outcome there is."""
    for failed, verdict in stories["giving up"].result():
        assert failed.kind == "AiTEMS Service Creation Failed"
        assert failed.metadata["final"] is False
        assert verdict.failed_events >= 1
        assert (verdict.faults, verdict.state, verdict.services) == ([], "created", 1)


# --- what every receiver of webhooks should stand -----------------------------------------------------------------


def test_the_same_delivery_twice_is_served_once(place: Place, name: str) -> None:
    """The second is answered with the first one's outcome, and says so."""
    first, second = place.send(name), place.send(name)
    assert (first.status, second.status) == (201, 201)
    assert first.body == second.body
    assert (first.replayed, second.replayed) == (False, True)
    place.served_once(name)


def test_the_same_delivery_at_the_same_time_is_served_once(place: Place, name: str) -> None:
    """Whoever comes second finds the first at work: nobody is refused, one service is made."""
    place.stack.aitems.add_faults(Fault("slow_answer", name=name, seconds=1))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: place.send(name), range(8)))
    assert {answer.status for answer in answers} <= {201, 202}
    assert len({answer.request_id for answer in answers}) == 1
    assert len(place.stack.aitems.posts_named(name)) == 1
    place.served_once(name)


def test_a_crash_before_anything_is_recorded_leaves_nothing(place: Place, name: str) -> None:
    """The sender hears of it (5xx), sends again under the same key, and is served as if for the first time."""
    place.kill(name, Kill("before", "record"))
    assert place.send(name).status >= 500
    assert place.stack.ledger.get(place.request_id(name)) is None
    again = place.send(name)
    assert (again.status, again.replayed) == (201, False)
    place.served_once(name)


CRASHES = [Kill("after", "record"), Kill("after", "post")]


def crash(place: Place, kill: Kill) -> tuple[Answer, Answer, Verdict, Answer]:
    """Send, be killed, send again, wait for the outcome and send once more; return all that was heard."""
    name = f"crash-{kill.point}"
    place.kill(name, kill)
    return place.send(name), place.send(name), place.verdict(name), place.send(name)


@pytest.mark.parametrize("kill", CRASHES, ids=str)
def test_a_crash_around_the_effect_is_no_second_effect(
    stories: dict[str, "Future[tuple[Answer, Answer, Verdict, Answer]]"], kill: Kill
) -> None:
    """Killed between recording and POST, or between POST and settling: sent again, it is under way, and made once."""
    first, again, verdict, resumed = stories[str(kill)].result()
    assert first.status >= 500
    assert again.status == 202
    assert again.body["state"] in ("creating", "unknown")
    assert (verdict.faults, verdict.state, verdict.services) == ([], "created", 1)
    assert (resumed.status, resumed.replayed) == (201, True)


def test_a_sender_that_gives_up_waiting_and_sends_again_is_served_once(place: Place, name: str) -> None:
    """Hanging up does not stop the work, and the second sending starts none."""
    place.stack.aitems.add_faults(Fault("slow_answer", name=name, seconds=3))
    with pytest.raises(StackError, match="no answer"):
        place.send(name, timeout=1)
    assert place.send(name).status in (201, 202)
    place.served_once(name)
    assert len(place.stack.aitems.posts_named(name)) == 1


def test_an_outcome_can_be_picked_up_later(place: Place, name: str) -> None:
    """Accepted with 202, it can be asked for: at the status address, or by sending it again."""
    accepted = place.send(name, prefer="respond-async")
    assert accepted.status == 202
    assert accepted.request_id
    place.served_once(name)
    code, shown = status(place.stack, accepted.request_id)
    assert (code, shown["state"]) == (200, "created")
    resumed = place.send(name)
    assert (resumed.status, resumed.replayed) == (201, True)
    assert resumed.body == shown["service"]


def _spoiled(signed: senders.SignedWebhook) -> senders.SignedWebhook:
    return replace(signed, body=signed.body.replace(b"{", b"{ ", 1))


def _of_a_stranger(signed: senders.SignedWebhook) -> senders.SignedWebhook:
    return _signed_anew(signed, secret=standard_secret(), at=datetime.now(UTC))


def _unsigned(signed: senders.SignedWebhook) -> senders.SignedWebhook:
    return replace(signed, headers={"Content-Type": "application/json", "webhook-id": signed.key})


@pytest.mark.parametrize("spoil", [_spoiled, _of_a_stranger, _unsigned])
def test_a_bad_signature_has_no_effect(
    place: Place, name: str, spoil: Callable[[senders.SignedWebhook], senders.SignedWebhook]
) -> None:
    """Refused, not recorded, and the key is still free for who may use it."""
    signed = senders.webhook(place.stack.document, senders.service(name), key=name)
    refused = spoil(signed).send()
    assert refused.status == 401
    assert place.stack.ledger.get(place.request_id(name)) is None
    assert place.stack.aitems.posts_named(name) == ()
    assert signed.send().status == 201


@pytest.mark.parametrize("age", [timedelta(minutes=6), timedelta(minutes=-6)], ids=["old", "of the future"])
def test_a_stale_signature_has_no_effect(place: Place, name: str, age: timedelta) -> None:
    """A signature is good for five minutes, either way; a sender that retries signs anew."""
    signed = senders.webhook(place.stack.document, senders.service(name), key=name)
    secret = place.stack.callers[signed.caller]["secrets"][0]
    stale = _signed_anew(signed, secret=secret, at=datetime.now(UTC) - age)
    assert stale.send().status == 401
    assert place.stack.ledger.get(place.request_id(name)) is None
    assert signed.send().status == 201


def _signed_anew(signed: senders.SignedWebhook, *, secret: str, at: datetime) -> senders.SignedWebhook:
    signature = Webhook(secret).sign(signed.key, at, signed.body.decode())
    stamp = str(int(at.timestamp()))
    return replace(signed, headers={**signed.headers, "webhook-timestamp": stamp, "webhook-signature": signature})

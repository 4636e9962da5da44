"""What `make run` shows: a creation through each door, and what happens when it goes wrong.

Every ✓ is a check against the AiTEMS emulator, the ledger and the announced events; every time was measured.
"""

import json
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aitems_bridge.record import Record
from aitems_local import payloads, senders
from aitems_local.document import StackDocument
from aitems_local.faults import Fault
from aitems_local.journal import Announced
from aitems_local.stack import Stack
from aitems_local.terminal import Terminal, typed

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE = 30.0
_CREATED = "AiTEMS Service Created"
_CALLER = "backoffice"


class StepError(Exception):
    """What was to be shown did not happen; the text says what did."""

    def __init__(self, why: str, function: str, request_id: str | None = None) -> None:
        super().__init__(why)
        self.function = function
        self.request_id = request_id


def show(stack: Stack, terminal: Terminal, begun: float) -> bool:
    """Show everything; return whether all of it was as promised."""
    showing = _Showing(stack, stack.document, terminal)
    doors: tuple[Callable[[], None], ...] = (
        showing.webhook,
        showing.bus,
        showing.github,
        showing.hmac,
        showing.slack,
        showing.works,
    )
    step = ""
    try:
        for number, door in enumerate(doors, 1):
            step = f"{number}/{len(doors)} "
            terminal.line(f"{terminal.strong(f'{number}/{len(doors)}')}  {door.__doc__}")
            door()
            terminal.line()
        step = ""
        terminal.line(terminal.strong("And when it goes wrong"))
        for mishap in (showing.same_again, showing.one_byte_changed, showing.answer_lost):
            mishap()
        terminal.line()
        showing.count(begun)
    except StepError as error:
        terminal.line()
        terminal.line(terminal.bad(f"✗ {step}{error}"))
        showing.explain(error)
        return False
    return True


@dataclass
class _Showing:
    stack: Stack
    document: StackDocument
    terminal: Terminal
    sent: senders.SignedWebhook | None = None
    answer: senders.Answer | None = None

    # --- each door ------------------------------------------------------------------------------------------------

    def webhook(self) -> None:
        """Webhook, signed with Standard Webhooks (caller backoffice)"""  # noqa: D400  it is a heading
        asked = senders.service("shop-main", "봄 시즌 추천")
        self.sent = senders.webhook(self.document, asked, caller=_CALLER, key="msg_demo1")
        self._line(f"→ POST /hooks/{_CALLER}   webhook-id {self.sent.key}   {json.dumps(asked, ensure_ascii=False)}")
        self.answer = self.sent.send()
        answered = time.time()
        request_id = self.answer.request_id
        if self.answer.status != 201 or not request_id:  # noqa: PLR2004
            raise StepError(f"answered {_in_short(self.answer)}", "WebhookFunction", request_id)
        self._call("shop-main")
        self._recorded(request_id)
        location = self.answer.headers.get("Location", "")
        self._line(
            f"← 201  Location: {location.replace(request_id, self.terminal.id(request_id))}", self.answer.seconds
        )
        self._event(self._wait("RelayFunction", request_id=request_id), answered)
        self._one_of_each("shop-main", request_id)

    def bus(self) -> None:
        """Event bus (source com.acme.shop)"""  # noqa: D400  it is a heading
        event = senders.bus_event(self.document, senders.service("blog-main"), key="order-4711")
        self._line(f"→ PutEvents  {senders.REQUESTED}   {json.dumps(event.detail, ensure_ascii=False)}")
        event.send()
        put = time.time()
        announced = self._wait("WorkerFunction", caller=event.source, idempotency_key=event.key)
        self._call("blog-main")
        self._recorded(announced.metadata["request_id"])
        self._event(announced, put)
        self._one_of_each("blog-main", announced.metadata["request_id"])

    def github(self) -> None:
        """GitHub, a deployment event (caller deploys)"""  # noqa: D400  it is a heading
        asked = senders.service("ci-models", "from a deployment")
        self._delivered(senders.delivery(self.document, "github", asked, key=str(uuid.uuid4())), asked)

    def hmac(self) -> None:
        """HMAC, a shop's product webhook (caller shopfront)"""  # noqa: D400  it is a heading
        asked = senders.service("shop-shoes", "신발 추천")
        self._delivered(senders.delivery(self.document, "hmac", asked), asked)

    def slack(self) -> None:
        """Slack, a slash command (caller slack)"""  # noqa: D400  it is a heading
        asked = senders.service("try-chat", "from a chat", "batch")
        sent = senders.delivery(self.document, "slack", asked)
        self._line(f"→ POST /hooks/{sent.caller}   /aitems {payloads.chat_text(asked)}")
        answer = sent.send()
        text = str(answer.body.get("text", ""))
        if answer.status != 200 or "try-chat" not in text:  # noqa: PLR2004
            raise StepError(f"answered {_in_short(answer)}", "WebhookFunction", sent.request_id)
        self._line(f"← 200  {_shortened(text, 72)}", answer.seconds)
        self._settled(sent, "try-chat", time.time())
        self._said(sent, "try-chat* is created")
        self._line(self.terminal.good(f"✓ acknowledged in {answer.seconds * 1000:.0f} ms, outcome told in the channel"))

    def works(self) -> None:
        """NAVER WORKS, a message to the bot (caller works)"""  # noqa: D400  it is a heading
        asked = senders.service("try-works", "웍스에서", "batch")
        sent = senders.delivery(self.document, "works", asked)
        self._line(f"→ POST /hooks/{sent.caller}   aitems {payloads.chat_text(asked)}")
        answer = sent.send()
        if answer.status != 200:  # noqa: PLR2004
            raise StepError(f"answered {_in_short(answer)}", "WebhookFunction", sent.request_id)
        self._line(f"← 200  {json.dumps(answer.body)}", answer.seconds)
        self._settled(sent, "try-works", time.time())
        self._said(sent, "만들고 있습니다")
        self._said(sent, "만들었습니다")
        self._line(self.terminal.good(f"✓ acknowledged in {answer.seconds * 1000:.0f} ms, 봇이 답했습니다"))

    # --- what goes wrong ------------------------------------------------------------------------------------------

    def same_again(self) -> None:
        """Show that a repetition is answered from the record."""
        calls = len(self.stack.aitems.calls)
        again = senders.webhook(
            self.document, senders.service("shop-main", "봄 시즌 추천"), caller=_CALLER, key="msg_demo1"
        )
        answer = again.send()
        first = self.answer.body if self.answer else {}
        if answer.status != 201 or not answer.replayed or answer.body != first:  # noqa: PLR2004
            raise StepError(f"the same webhook again was answered {_in_short(answer)}", "WebhookFunction")
        self._no_call_since(calls)
        self._mishap("the same webhook again", "← 201 Idempotency-Replayed: true", "same service, no call, no event")

    def one_byte_changed(self) -> None:
        """Show that nobody gets in with a signature that does not fit."""
        calls, items = len(self.stack.aitems.calls), len(self.stack.items())
        sent = senders.webhook(self.document, senders.service("shop-fake"), caller=_CALLER)
        answer = replace(sent, body=sent.body.replace(b"fake", b"mine")).send()
        if answer.status != 401 or not str(answer.body.get("type")).endswith(":signature-refused"):  # noqa: PLR2004
            raise StepError(f"a forged webhook was answered {_in_short(answer)}", "WebhookFunction")
        if len(self.stack.items()) != items:
            raise StepError("a forged webhook was recorded", "WebhookFunction")
        self._no_call_since(calls)
        self._mishap("one byte changed", "← 401 signature-refused", "nothing recorded, nothing called")

    def answer_lost(self) -> None:
        """Show that a creation whose answer was lost is found again, and not repeated."""
        self.stack.aitems.add_faults(Fault("reset_after", name="shop-lost"))
        answer = senders.webhook(self.document, senders.service("shop-lost"), caller=_CALLER).send()
        state = answer.body.get("state")
        if answer.status != 202 or state != "unknown":  # noqa: PLR2004
            raise StepError(f"a lost answer was answered {_in_short(answer)}", "WebhookFunction")
        with self.terminal.meanwhile("     AiTEMS creates, then breaks off ← 202 unknown → looking …"):
            announced = self._wait("WorkerFunction", request_id=answer.request_id)
        if announced.kind != _CREATED or not announced.metadata["adopted"]:
            raise StepError(f"a lost answer became {announced.event}", "WorkerFunction", answer.request_id)
        self._one_of_each("shop-lost", announced.metadata["request_id"], quietly=True)
        self._mishap("AiTEMS creates, then breaks off", "← 202 unknown → looked for", "found: Created, adopted: true")

    def count(self, begun: float) -> None:
        """Count everything once more, from all sides."""
        made = [service.made_as for service in self.stack.aitems.services]
        announced = [event.metadata["event_id"] for event in self.stack.events()]
        recorded = list(self.stack.ledger.scan())
        copied = self.stack.queued("outcomes")
        twice = len(made) - len(set(made)) + len(announced) - len(set(announced))
        counts = f"{len(recorded)} requests, {len(made)} services, {copied} events, {twice} duplicates"
        if not len(recorded) == len(made) == len(announced) == copied or twice:
            raise StepError(f"the counts do not agree: {counts}", "RelayFunction")
        self._line(self.terminal.good(f"All doors work: {counts}."), time.monotonic() - begun, indent="")

    # --- parts of the doors ---------------------------------------------------------------------------------------

    def _delivered(self, sent: senders.SignedWebhook, asked: dict[str, Any]) -> None:
        """Show a delivery of a sender that only wants to know that it arrived."""
        signature = next(name for name in sent.headers if "Hub-Signature" in name or "Hmac" in name)
        self._line(f"→ POST /hooks/{sent.caller}   {signature}: {sent.headers[signature][:20]}…")
        self._line(f"  mapping     {_shortened(sent.body.decode(), 40)} → {json.dumps(asked, ensure_ascii=False)}")
        answer = sent.send()
        if answer.status not in (200, 202) or answer.request_id != sent.request_id:
            raise StepError(f"answered {_in_short(answer)}", "WebhookFunction", sent.request_id)
        self._line(f"← {answer.status}  {answer.body.get('state')}", answer.seconds)
        self._settled(sent, asked["name"], time.time())
        self._line(self.terminal.good("✓ one service, one event"))

    def _settled(self, sent: senders.SignedWebhook, name: str, since: float) -> None:
        announced = self._wait("RelayFunction", request_id=sent.request_id)
        self._call(name)
        self._recorded(sent.request_id)
        self._event(announced, since)
        self._one_of_each(name, sent.request_id, quietly=True)

    def _said(self, sent: senders.SignedWebhook, words: str) -> None:
        """Show what the chat was told in these words."""
        begun = time.time()
        heard = self.stack.chats.wait(lambda message: message.to == sent.reply_to and words in message.text, _PATIENCE)
        if heard is None:
            raise StepError(f"the chat was not told that {words}", "ReplyFunction", sent.request_id)
        first, *_ = heard.text.splitlines()
        self._line(f"⇐ {heard.chat}  {_shortened(first, 66)}", max(0.0, heard.at - begun), mark="+")

    # --- what is checked ------------------------------------------------------------------------------------------

    def _call(self, name: str) -> None:
        calls = [call for call in self.stack.aitems.calls if call.operation == "create" and call.name == name]
        for call in calls:
            seconds = call.done - call.arrived if call.done else None
            self._line(f"  AiTEMS      POST {call.path} → {call.status}  {call.service_id or ''}", seconds)

    def _recorded(self, request_id: str) -> None:
        record = self.stack.ledger.get(request_id)
        if record is None:
            raise StepError("nothing is recorded", "WebhookFunction", request_id)
        took = (record.settled_at - record.requested_at) / 1000 if record.settled_at else None
        self._line(f"  recorded    request {self.terminal.id(request_id)}  {record.state}", took)

    def _wait(self, function: str, **metadata: object) -> Announced:
        found = self.stack.journal.wait(lambda event: metadata.items() <= event.metadata.items(), _PATIENCE)
        if found is None:
            request_id = metadata.get("request_id")
            raise StepError(f"no event within {_PATIENCE:.0f} s", function, str(request_id) if request_id else None)
        return found

    def _one_of_each(self, name: str, request_id: str, *, quietly: bool = False) -> None:
        made, announced = len(self.stack.aitems.services_named(name)), self.stack.events(request_id)
        record = self.stack.ledger.get(request_id)
        if made != 1 or [event.kind for event in announced] != [_CREATED] or not record or record.state != "created":
            kinds = [event.kind for event in announced]
            raise StepError(f"{made} services, events {kinds} for {name}", "RelayFunction", request_id)
        if not quietly:
            self._line(self.terminal.good("✓ one service, one event"))

    def _no_call_since(self, calls: int) -> None:
        if len(self.stack.aitems.calls) != calls:
            raise StepError("AiTEMS was called", "WebhookFunction")

    # --- how it is told -------------------------------------------------------------------------------------------

    def _event(self, event: Announced, since: float) -> None:
        service = event.event["detail"]["data"].get("serviceId", "")
        event_id = self.terminal.id(event.metadata["event_id"])
        self._line(f"⇒ event  {event.kind}  {event_id}  {service}", max(0.0, event.arrived - since), mark="+")

    def _mishap(self, what: str, answer: str, so: str) -> None:
        """Tell it in as few lines as have room for it; the check mark stands last."""
        lines, room = [""], self.terminal.width - 7
        for part in (f"{what:<32}", f"{answer:<34}", f"{so:<33}"):
            if len(lines[-1] + part.rstrip()) > room:
                lines.append("  ")
            lines[-1] += part
        for line in lines[:-1]:
            self._line(line)
        self._line(lines[-1] + self.terminal.good("✓"))

    def _line(self, text: str, seconds: float | None = None, *, mark: str = "", indent: str = "     ") -> None:
        self.terminal.line(indent + text, seconds, mark, whole=False)

    def explain(self, error: StepError) -> None:
        """Say what is known about a step that failed, and how to learn more."""
        record = self._latest(error.request_id)
        if record:
            problem = record.problem or record.last
            why = problem.detail if problem else "no problem noted"
            self._hint(f"ledger: {record.state}, {record.name}, attempts {record.attempts}, {why}")
        else:
            self._hint("ledger: no such request")
        words = [line for line in self.stack.logs(error.function) if not line.startswith(("START ", "END ", "REPORT "))]
        self._hint(f"{error.function}: {words[-1] if words else 'wrote nothing'}")
        self._hint(f"more: run `{typed('up')}`, repeat it with `{typed('send')}`, look with `{typed('requests')}`")

    def _hint(self, text: str) -> None:
        """Write what helps to find out why: whole, however long it is."""
        self.terminal.line(f"     {text}")

    def _latest(self, request_id: str | None) -> Record | None:
        if request_id:
            return self.stack.ledger.get(request_id)
        return max(self.stack.ledger.scan(), key=lambda record: record.requested_at, default=None)


def _in_short(answer: senders.Answer) -> str:
    """Return what an answer says: the kind of problem, or the state, and why."""
    problem = answer.body.get("problem") or answer.body.get("last_problem") or answer.body
    said = [answer.body.get("state", ""), str(problem.get("type", "")).rpartition(":")[2], problem.get("detail", "")]
    return f"{answer.status}: {', '.join(filter(None, said)) or json.dumps(answer.body, ensure_ascii=False)}"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

"""Every conversation that the HTTP door and the event bus know, held once with a bridge as deployed.

What the documents in `schemas/` promise is checked against it, and their examples are taken from it.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import requests

from aitems_bridge.config import now
from aitems_bridge.record import Numbers
from aitems_local import operate, senders, signing
from aitems_local.emulator import Fault
from aitems_local.entries import standard_secret
from aitems_local.openapi import ASK, SHOW
from aitems_local.schemas import EXAMPLES
from aitems_local.senders import SignedWebhook
from aitems_local.stack import Stack, Template, default_callers

Json = dict[str, Any]
Spoil = Callable[[SignedWebhook], SignedWebhook]

TRANSPORT = {"apigw-requestid", "connection", "content-length", "content-type", "date", "server"}
"""Headers that whatever carries the answer adds."""
NO_SUCH_ID = "a" * 52


@dataclass(frozen=True)
class Told:
    """An answer as it came, and what it is an example of."""

    operation: str
    summary: str
    status: int
    media_type: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Heard:
    """An event as the bus delivered it, and what it is an example of."""

    summary: str
    event: Json


class Conversation:
    """Calls a bridge through its HTTP API, and keeps what it answers and announces."""

    def __init__(self, bridge: Stack) -> None:
        self.bridge = bridge
        self.told: dict[str, Told] = {}
        self.heard: dict[str, Heard] = {}

    def ask(
        self,
        example: str,
        summary: str,
        caller: str = "backoffice",
        *,
        spoil: Spoil = lambda sent: sent,
        key: str | None = None,
        prefer: str | None = None,
        name: str | None = None,
        description: str | None = None,
        type_: str | None = None,
    ) -> SignedWebhook:
        """Send a request through a caller's door, ``spoil`` having been at it, and return what was sent."""
        entry = self.bridge.callers[caller]
        said = {"name": name, "description": description, "type": type_}
        asked = {field: value for field, value in said.items() if value is not None}
        key = key or (None if entry["scheme"] == "works" else f"{example}-1")
        sent = spoil(
            senders.delivery(self.bridge.document, entry["scheme"], asked, caller=caller, key=key, prefer=prefer)
        )
        self._keep(example, ASK, summary, "POST", sent)
        return sent

    def show(
        self,
        example: str,
        summary: str,
        request_id: str,
        caller: str = "backoffice",
        *,
        body: bytes = b"",
        key: str = "",
    ) -> None:
        """Ask how a request stands."""
        headers = signing.signed(
            caller, self.bridge.callers["backoffice"] | {"secrets": self._secrets(caller)}, body, key or request_id
        )
        url = f"{self.bridge.webhook_url}/hooks/{caller}/requests/{request_id}"
        self._keep(example, SHOW, summary, "GET", SignedWebhook(url, caller, request_id, body, headers))

    def hear(self, example: str, summary: str, sent: SignedWebhook, kind: str) -> None:
        """Wait for what the bus says of a request."""
        found = self.bridge.journal.wait(
            lambda each: each.metadata["request_id"] == sent.request_id and each.kind.endswith(kind), 30
        )
        assert found is not None, f"no {kind} of {example}"
        self.heard[example] = Heard(summary, found.event)

    def _secrets(self, caller: str) -> list[str]:
        entry = self.bridge.callers.get(caller, {})
        return entry["secrets"] if entry.get("scheme") == "standard" else [standard_secret()]

    def _keep(self, example: str, operation: str, summary: str, method: str, sent: SignedWebhook) -> None:
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands before loopback
            answer = session.request(method, sent.url, data=sent.body, headers=dict(sent.headers), timeout=35)
        assert example not in self.told
        media_type = answer.headers["Content-Type"].partition(";")[0]
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in TRANSPORT}
        self.told[example] = Told(operation, summary, answer.status_code, media_type, headers, answer.json())


def callers() -> Json:
    """Return the callers of a local stack, and some whose doors are particular."""
    mapping = {"name": "join('-', ['rel', tag])", "description": "name"}
    return default_callers() | {
        "gitlab": {
            "scheme": "standard",
            "secrets": [standard_secret()],
            "when": "object_kind == 'release'",
            "mapping": mapping,
        },
        "narrow": {"scheme": "standard", "secrets": [standard_secret()], "allow": ["blog-*"]},
        "shut": {"scheme": "standard", "secrets": [standard_secret()], "enabled": False},
        "till": {
            "scheme": "hmac",
            "secrets": ["hush-hush-hush-hush-4711"],
            "hmac": {"header": "X-Signature", "key": {"header": "X-Key"}},
            "answer": "outcome",
            "wait": 20,
        },
    }


def impatient(template: Template) -> None:
    """Let a bridge give up as soon as it may, so that every outcome can be had from it."""
    for function in ("WebhookFunction", "WorkerFunction"):
        template["Resources"][function]["Properties"]["Environment"]["Variables"]["GIVE_UP_AFTER_MINUTES"] = "0"


def converse(talk: Conversation) -> None:
    """Hold every conversation that the document knows."""
    bridge = talk.bridge
    lost = made(talk)
    refused_at_the_door(talk)
    refused(talk)
    bridge.cloud.functions.update_function_configuration(
        FunctionName=bridge.resources["WebhookFunction"],
        Environment={"Variables": environment(bridge) | {"LEDGER_TABLE": "nowhere"}},
    )
    talk.ask("not-recorded", "The ledger does not answer", name="shop-main")
    talk.hear("adopted", "AiTEMS's answer was lost, and the service found by looking: `adopted`", lost, "Created")
    talk.show("ledger-away", "The ledger does not answer", NO_SUCH_ID)


def environment(bridge: Stack) -> dict[str, str]:
    """Return the webhook function's variables."""
    found = bridge.cloud.functions.get_function_configuration(FunctionName=bridge.resources["WebhookFunction"])
    return found["Environment"]["Variables"]


def made(talk: Conversation) -> SignedWebhook:
    """Ask for what is given; return what AiTEMS's answer is lost to."""
    aitems = talk.bridge.aitems
    spring = "봄 시즌 추천"
    sent = talk.ask("created", "Made at once", name="shop-main", description=spring)
    talk.ask("replayed", "The same again", key=sent.key, name="shop-main", description=spring)
    talk.show("shown", "A request that made its service", sent.request_id)
    talk.hear("created", "Made", sent, "Created")
    talk.ask("not-waited-for", "`Prefer: respond-async`", prefer="respond-async, wait=0", name="later-main")
    aitems.add_faults(Fault("close_after", name="lost-main"))
    lost = talk.ask("in-doubt", "AiTEMS's answer was lost: it is being looked for", name="lost-main")
    talk.ask("by-hmac", "A caller of another scheme that reads answers", "till", name="till-main")
    talk.ask("github", "A delivery, recorded", "deploys", name="ci-main")
    talk.ask("shopify", "A delivery, recorded", "shopfront", name="shoes-main")
    talk.ask("delivered", "A delivery that is settled", "gitlab", name="rel-1-0")
    sent = talk.ask(
        "delivered-refused", "A delivery that is refused: recorded, and announced", "gitlab", name="rel-1.0"
    )
    talk.hear("rejected-as-it-came", "Refused for its fields: nothing was sent to AiTEMS", sent, "Rejected")
    talk.ask(
        "ignored",
        "What the caller's filter leaves out",
        "deploys",
        spoil=with_headers({"X-GitHub-Event": "ping"}),
        name="ci-2",
    )
    talk.ask("slack", "Slack: shown to the person who asked", "slack", name="chat-main")
    talk.ask("works", "NAVER WORKS: what is said comes as a message", "works", name="works-main")
    return lost


def refused_at_the_door(talk: Conversation) -> None:
    """Ask as nobody may."""
    talk.ask("not-json", "No JSON", spoil=resigned(talk, b'{"name": '))
    talk.ask("forged", "One byte changed", spoil=one_byte_more, name="shop-main")
    for caller in ("deploys", "shopfront", "slack", "works"):
        talk.ask(f"forged-{caller}", "", caller, spoil=one_byte_more, name="shop-main")
    talk.ask("not-allowed", "A name outside `allow`", "narrow", name="shop-main")
    talk.ask("nobody", "No such caller", spoil=elsewhere("nobody"), name="shop-main")
    talk.ask("too-large", "More than 64 KiB", spoil=resigned(talk, b" " * 65_537))
    talk.ask(
        "form",
        "A form at a door for JSON",
        spoil=with_headers({"Content-Type": "application/x-www-form-urlencoded"}),
        name="shop-main",
    )
    talk.ask("shut", "An operator has to mend something", "shut", name="shop-main")
    talk.show("show-forged", "Signed for another request", "b" * 52, key=NO_SUCH_ID)
    talk.show("show-nobody", "No such caller", NO_SUCH_ID, "nobody")
    talk.show("show-none", "No such request of this caller", NO_SUCH_ID)
    talk.show("show-github", "A caller of another scheme", NO_SUCH_ID, "deploys")
    talk.show("show-too-large", "More than 64 KiB", NO_SUCH_ID, body=b" " * 65_537)
    talk.show("show-shut", "An operator has to mend something", NO_SUCH_ID, "shut")


def refused(talk: Conversation) -> None:
    """Ask for what is not given."""
    bridge = talk.bridge
    talk.ask("wrong-fields", "Every wrong field at once", name="ab", type_="realtime")
    talk.ask("reused", "The key of another request", key="created-1", name="other-main")
    bridge.aitems.by_hand("taken-main")
    sent = talk.ask("taken", "AiTEMS has a service of that name", name="taken-main")
    talk.hear("rejected", "Refused by AiTEMS", sent, "Rejected")
    bridge.aitems.add_faults(
        Fault("error_before", name="odd-main", status=400, shape="flat", code="INVALID", message="No.")
    )
    talk.ask("refused", "Refused by AiTEMS", name="odd-main")
    bridge.aitems.add_faults(Fault("error_before", name="full-main", status=429, times=None))
    sent = talk.ask("given-up", "Nothing was made yet: AiTEMS takes no more requests for now", name="full-main")
    talk.hear("failed", "Given up for now: AiTEMS took no more requests", sent, "Failed")
    failed = bridge.ledger.get(sent.request_id)
    assert failed is not None
    operate.resolve_rejected(bridge.ledger, failed, "asked for by mistake", now=now(), numbers=Numbers())
    talk.ask("closed", "Closed by an operator", key=sent.key, name="full-main")


def one_byte_more(sent: SignedWebhook) -> SignedWebhook:
    """Return a call whose body is not what was signed."""
    return replace(sent, body=sent.body + b" ")


def with_headers(headers: dict[str, str]) -> Spoil:
    """Return what lays headers over a call's."""
    return lambda sent: replace(sent, headers={**sent.headers, **headers})


def elsewhere(caller: str) -> Spoil:
    """Return what sends a call to another caller's address."""
    return lambda sent: replace(sent, url=f"{sent.url.rpartition('/')[0]}/{caller}")


def resigned(talk: Conversation, body: bytes) -> Spoil:
    """Return what gives a call another body, rightly signed."""
    entry = talk.bridge.callers["backoffice"]
    return lambda sent: replace(sent, body=body, headers=signing.signed("backoffice", entry, body, sent.key))


@contextmanager
def held(stack: Stack) -> Iterator[Conversation]:
    """Deploy a bridge beside another one, and hold every conversation with it."""
    parameters = {"BackoffBaseSeconds": "1", "QuietSeconds": "0"}
    with stack.deploy("contract", callers=callers(), change=impatient, parameters=parameters) as bridge:
        talk = Conversation(bridge)
        converse(talk)
        yield talk


def examples(talk: Conversation) -> Json:
    """Return what is worth showing: answers and events that have a summary."""
    shown = {
        "http": {name: asdict(told) for name, told in talk.told.items() if told.summary},
        "events": {name: asdict(heard) for name, heard in talk.heard.items()},
    }
    plain: Json = json.loads(json.dumps(shown))
    return plain


def record(talk: Conversation) -> None:
    """Write the examples anew."""
    EXAMPLES.write_text(json.dumps(examples(talk), ensure_ascii=False, indent=1) + "\n", "utf-8")

"""Every path, and what of it can be read afterwards: no secret, no signature, no body, in whatever form.

A bridge of its own is deployed at each log level, and everything happens to it that can: every door, good and bad;
every refusal; AiTEMS failing in its ways; documents that cannot be read; chats that do not listen; dead letters;
operators' commands. Then all that was written is searched for pieces of what must not be there: as it is, in base64,
in hex, escaped for URLs or JSON.

What a log may hold: request ids, message ids, callers' names, causes, statuses. What it may not: secrets, signatures
(those received, and those expected), anything of a body (names, descriptions and keys too), a chat's reply address.
Answers, events, ledger items and the commands' output hold what was asked for, and no secret and no signature; the
reply address stands in the ledger alone, encrypted, since somebody has to report there.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus

import pytest
import requests

import aitems_bridge
from aitems_local import payloads, senders, signing
from aitems_local.cli import main
from aitems_local.emulator import Fault
from aitems_local.entries import standard_secret
from aitems_local.senders import Answer, SignedWebhook
from aitems_local.stack import Callers, Stack, default_callers
from world import ROOT

Json = dict[str, Any]

PIECE = 12
"""Characters of a secret that are too many to be seen: less could be there by chance, and helps nobody."""
FUNCTIONS = ("WebhookFunction", "WorkerFunction", "RelayFunction", "ReplyFunction")
PATIENCE = 30.0
SECRET = re.compile(r"(?!X-)(?=.*[0-9])[A-Za-z0-9+/=_!-]{12,}")
"""Of the texts in a secret, those that are one: not the settings beside them."""


# --- the search ---------------------------------------------------------------------------------------------------


def forms(text: str) -> Iterator[str]:
    """Yield the ways in which a text could stand somewhere."""
    raw = text.encode("utf-8", "surrogatepass")
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(json.dumps(text)[1:-1])[1:-1]
    yield repr(text)[1:-1]
    yield quote(text, safe="")
    yield quote_plus(text)
    yield raw.hex()
    yield raw.hex().upper()
    yield base64.b32encode(raw).decode().rstrip("=")
    for shift in range(3):  # where in a longer text the encoding began
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * shift + raw).decode()[4 if shift else 0 :].rstrip("=")[:-1]
    if text.startswith("whsec_") and text.isascii():
        key = base64.b64decode(text.removeprefix("whsec_"))
        yield from (key.hex(), repr(key)[2:-1])


def pieces(text: str) -> set[str]:
    """Return the pieces of a text that are long enough to tell."""
    return {text[place : place + PIECE] for place in range(len(text) - PIECE + 1)}


def leaks(text: str, secrets: dict[str, str]) -> dict[str, str]:
    """Return which of the secrets can be read in a text, and what of each."""
    seen = pieces(text)
    found = {}
    for what, secret in secrets.items():
        for form in forms(secret):
            if shown := seen & pieces(form):
                found[what] = min(shown)
    return found


def strings(document: object) -> Iterator[str]:
    """Yield every text of a JSON document that could be a secret."""
    match document:
        case dict():
            for value in document.values():
                yield from strings(value)
        case list():
            for value in document:
                yield from strings(value)
        case str():
            yield document


# --- a bridge's life ----------------------------------------------------------------------------------------------


@dataclass
class Life:
    """What a bridge went through, and what must not be seen of it."""

    stack: Stack
    whole: bool
    """Whether everything happened, or only what takes no time."""
    secrets: dict[str, str] = field(default_factory=dict)
    """Nowhere."""
    bodies: dict[str, str] = field(default_factory=dict)
    """Not in a log."""
    answers: list[Answer] = field(default_factory=list)
    output: str = ""
    logs: dict[str, str] = field(default_factory=dict)

    def marked(self, what: str) -> str:
        """Return a text for a body, to be looked for."""
        self.bodies[f"{what} {len(self.bodies)}"] = text = f"m{os.urandom(12).hex()}"
        return text

    def name(self) -> str:
        """Return a service's name, to be looked for."""
        self.bodies[f"name {len(self.bodies)}"] = name = f"n{os.urandom(8).hex()}"
        return name

    def keep(self, sent: SignedWebhook) -> SignedWebhook:
        """Remember what a delivery brings that must not be seen."""
        number = len(self.secrets)
        entry = self.stack.callers[sent.caller]
        expected = signing.signed(sent.caller, entry, sent.body, sent.key)
        for kind, headers in (("received", sent.headers), ("expected", expected)):
            for name, value in headers.items():
                if "sign" in name.lower() or "hmac" in name.lower():
                    self.secrets[f"{kind} {name} {number}"] = value.removeprefix("v1,").removeprefix("sha256=")
        if entry["scheme"] == "slack":
            (address,) = parse_qs(sent.body.decode())["response_url"]
            self.bodies[f"reply address {number}"] = address.rpartition("/")[2]
        elif sent.body:  # who asks for a request signs its id
            self.bodies[f"key {number}"] = sent.key
        return sent

    def send(self, sent: SignedWebhook) -> Answer:
        """Send a delivery."""
        answer = self.keep(sent).send()
        self.answers.append(answer)
        return answer

    def delivery(self, scheme: str) -> SignedWebhook:
        """Return a delivery that asks for a service with a marked name and description."""
        asked = {"name": self.name(), "description": self.marked("description")}
        return senders.delivery(self.stack.document, scheme, asked)

    def with_body(self, caller: str, body: bytes, **headers: str) -> Answer:
        """Send any body, rightly signed but for the headers laid over."""
        entry = self.stack.callers[caller]
        key = signing.fresh_key(entry["scheme"])
        made = signing.signed(caller, entry, body, key) | headers
        sent = SignedWebhook(f"{self.stack.webhook_url}/hooks/{caller}", caller, key, body, made)
        return self.send(sent)


def all_callers() -> Callers:
    """Return a caller of each scheme, one that is shut, one that may do little, and some that cannot be read."""
    unread = [os.urandom(20).hex() for _ in range(5)]
    return default_callers() | {
        "off": {"scheme": "standard", "secrets": [standard_secret()], "enabled": False},
        "narrow": {"scheme": "standard", "secrets": [standard_secret()], "allow": ["shop-*"]},
        "quiet": {
            "scheme": "standard",
            "secrets": [standard_secret()],
            "answer": "delivery",
            "when": "type == 'batch'",
        },
        "broken": {"scheme": "standard", "secrets": [f"whsec_{unread[0]}!"], "wait": "long"},
        "twisted": {"scheme": "github", "secrets": unread[1], "github": {"events": [unread[2]]}},
        "crowded": {"scheme": "hmac", "secrets": [unread[3]] * 2, "secret": unread[4], "hmac": {"header": "a b"}},
    }


def knocks(life: Life) -> None:
    """Call at each door: rightly, again, wrongly in every way, and ask."""
    stack = life.stack
    for scheme in ("standard", "github", "hmac", "slack", "works"):
        good = life.delivery(scheme)
        life.send(good)
        life.send(good)
        life.send(replace(good, body=good.body.replace(b"a", b"b")))
        forged = {
            name: value[:-6] + "AAAAA=" if "sign" in name.lower() or "hmac" in name.lower() else value
            for name, value in good.headers.items()
        }
        life.send(replace(good, headers=forged))
        life.send(replace(good, headers={name: value for name, value in good.headers.items() if "ign" not in name}))
    sent = life.delivery("standard")
    life.send(replace(sent, headers={**sent.headers, "Prefer": "respond-async"}))
    stale = signing.signed("backoffice", stack.callers["backoffice"], sent.body, sent.key, time.time() - 900)
    life.send(replace(sent, headers=stale))
    other = json.dumps({"name": life.name(), "description": life.marked("reused")}).encode()
    life.send(
        replace(sent, body=other, headers=signing.signed("backoffice", stack.callers["backoffice"], other, sent.key))
    )
    mark = life.marked("refused")
    for caller in ("off", "narrow", "quiet"):
        life.with_body(caller, json.dumps({"name": life.name(), "description": mark}).encode())
    for body in (
        f'{{"name": "{mark}", "name": "b"}}',
        f'{{"name": "{mark}"',
        f'"{mark}"',
        json.dumps({"name": f"-{mark}", "description": mark * 9, "type": mark, mark: mark}),
        json.dumps({"name": life.name(), "description": mark + "x" * 70_000}),
        "[" * 5000,
    ):
        life.with_body("backoffice", body.encode())
        life.with_body("quiet", body.encode())
        life.with_body("deploys", body.encode())
    life.with_body("backoffice", mark.encode(), **{"Content-Type": "text/plain"})
    life.with_body("deploys", b"{}", **{"X-GitHub-Event": "ping"})
    life.with_body("deploys", json.dumps({"zen": mark}).encode(), **{"X-GitHub-Event": mark})
    life.with_body("shopfront", b"{}", **{"X-Shopify-Webhook-Id": "\x7f" + mark})
    entry = stack.callers["slack"]
    for text in (f"create {mark * 3}", f"status {mark}", mark, f"create x1 {mark}"):
        form = payloads.slack_form(
            entry, {"name": "n"}, signing.fresh_key("slack"), f"{stack.chats.url}/commands/T/{os.urandom(9).hex()}"
        )
        life.with_body("slack", form + b"&text2=" + quote_plus(text).encode())
    nobody = life.delivery("standard")
    life.answers.append(replace(nobody, url=nobody.url.replace("backoffice", "nobody")).send())
    for number, request_id in enumerate((sent.request_id, "x" * 52)):
        headers = signing.signed("backoffice", stack.callers["backoffice"], b"", request_id)
        asking = SignedWebhook(sent.url, "backoffice", request_id, b"", headers)
        life.keep(asking)
        life.answers.append(_get(f"{sent.url}/requests/{sent.request_id}", headers))
        life.answers.append(_get(f"{sent.url}/requests/{number}", headers))


def _get(url: str, headers: Json) -> Answer:
    answered = requests.get(url, headers=headers, timeout=30)
    return Answer(answered.status_code, dict(answered.headers), answered.json(), 0.0)


def faults(life: Life) -> None:
    """Have AiTEMS fail in its ways, before the webhook and before the worker."""
    statuses = [Fault("error_before", status=status) for status in (400, 401, 403, 404, 413, 429, 500, 503, 504)]
    flat = [Fault("error_before", status=400, shape="flat", code="BAD", message=life.marked("said"))]
    kinds = [Fault(kind) for kind in ("close_after", "broken_json", "cut_short", "garbage", "wrong_name")]
    for number, fault in enumerate([*statuses, *flat, *kinds]):
        life.stack.aitems.add_faults(fault)
        if number % 3:
            life.send(life.delivery("standard"))
        else:
            put(life, {"name": life.name(), "description": life.marked("on the bus")})
        assert settle(lambda: not life.stack.aitems.faults)


def put(life: Life, detail: Json) -> None:
    """Put a request on the bus."""
    document = life.stack.document
    senders.bus_event(document, detail, key=life.marked("bus key")).send()


def settle(done: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Wait until something is so, and return whether it is."""
    until = time.monotonic() + patience
    while not done() and time.monotonic() < until:
        time.sleep(0.1)
    return done()


def messages(life: Life) -> None:
    """Put what cannot be read, or failed too often, where the worker and the relay find it."""
    stack, mark = life.stack, life.marked("message")
    put(life, {"name": f"-{mark}", "description": mark * 9, "type": mark, mark: mark})
    put(life, {"name": life.name(), "idempotency_key": "\x7f" + mark})
    envelope = {"detail-type": senders.REQUESTED, "source": "com.acme.shop", "account": "1", "id": mark, "detail": {}}
    bodies = [mark, json.dumps({mark: mark}), json.dumps({"request_id": mark}), json.dumps(envelope), '{"a": "' + mark]
    for queue in ("QueueUrl", "DeadLetterQueueUrl"):
        for body in bodies:
            stack.cloud.sqs.send_message(QueueUrl=stack.outputs[queue], MessageBody=body)
    key = {"pk": {"S": "request#written-by-hand"}}
    odd = key | {"state": {"S": "rejected"}, "answer": {"S": mark}, "version": {"N": "1"}, "problem": {"S": mark}}
    stack.cloud.dynamodb.put_item(TableName=stack.outputs["LedgerTable"], Item=odd)
    stack.cloud.dynamodb.delete_item(TableName=stack.outputs["LedgerTable"], Key=key)
    for body in (mark, json.dumps({"kind": mark}), json.dumps({"kind": "say", "to": {"user": mark}, "text": mark})):
        stack.cloud.sqs.send_message(QueueUrl=stack.outputs["RepliesQueueUrl"], MessageBody=body)
    assert settle(lambda: "a record cannot be relayed" in written(stack, "RelayFunction"))
    assert settle(lambda: written(stack, "WorkerFunction").count("a message cannot be read") >= len(bodies))


def chats(life: Life) -> None:
    """Have the chats refuse what they are told, at addresses of theirs and others."""
    stack = life.stack
    stack.chats.refusals = [500, 404, 401]
    for scheme in ("slack", "works", "slack"):
        life.send(life.delivery(scheme))
    sent = life.delivery("slack")
    for host in ("http%3A%2F%2F127.0.0.1%3A1", "https%3A%2F%2Fevil.example", "http%3A%2F%2F%5B"):
        form = parse_qs(sent.body.decode())
        address = form["response_url"][0]
        body = sent.body.replace(quote_plus(address[: address.index("/", 8)]).encode(), host.encode())
        life.with_body("slack", body.replace(b"trigger_id=", b"trigger_id=1" + os.urandom(4).hex().encode()))
    assert settle(lambda: "not replied" in written(stack, "ReplyFunction"))
    assert settle(lambda: "is not Slack" in written(stack, "ReplyFunction"))
    stack.chats.refusals = []


def documents(life: Life) -> None:
    """Make each secret one that cannot be read, and have every function begin afresh with it."""
    stack, vault = life.stack, life.stack.cloud.secrets
    kept = {output: secret_text(stack, output) for output in SECRETS}
    access_key = json.loads(kept["KeysSecretArn"])["access_key"]
    for damage in (lambda text: text[:-3], lambda text: f"[{text}]"):
        for output, text in kept.items():
            vault.put_secret_value(SecretId=stack.outputs[output], SecretString=damage(text))
        stack.recycle()
        life.send(life.delivery("standard"))
        put(life, {"name": life.name()})
    stack.set_secret("CallersSecretArn", kept["CallersSecretArn"])
    stack.set_secret("KeysSecretArn", json.dumps({"access_key": access_key, "secret_key": "wrong-" + "k" * 20}))
    stack.recycle()
    for scheme in ("standard", "works"):
        life.send(life.delivery(scheme))
    stack.set_secret("ChatSecretArn", kept["ChatSecretArn"].replace("MII", "XII"))
    stack.set_secret("KeysSecretArn", kept["KeysSecretArn"])
    stack.recycle()
    life.send(life.delivery("works"))
    assert settle(
        lambda: "no RSA key" in written(stack, "ReplyFunction") or "not replied" in written(stack, "ReplyFunction")
    )
    stack.set_secret("ChatSecretArn", kept["ChatSecretArn"])


def commands(life: Life, folder: Path) -> None:
    """Run what an operator runs, and keep what it prints."""
    output, usual = StringIO(), (sys.stdout, sys.stderr)
    (folder / "callers.json").write_text(secret_text(life.stack, "CallersSecretArn"), "utf-8")
    life.stack.document.save(folder)
    record = life.stack.items("request#")[0]["pk"]["S"].removeprefix("request#")
    sys.stdout = sys.stderr = output
    try:
        for arguments in (
            ["requests"],
            ["requests", record],
            ["requests", record, "--json"],
            ["events"],
            ["events", "--json"],
            ["redrive", "--all", "--dry-run", "--json"],
            ["resolve", record, "--rejected", "by hand"],
            ["callers", "check", str(folder / "callers.json")],
            ["doctor"],
        ):
            main(arguments)
    finally:
        sys.stdout, sys.stderr = usual
    life.output = output.getvalue()


SECRETS = ("KeysSecretArn", "CallersSecretArn", "ChatSecretArn")


def secret_text(stack: Stack, output: str) -> str:
    """Return the text of a secret."""
    return stack.cloud.secrets.get_secret_value(SecretId=stack.outputs[output])["SecretString"]


def written(stack: Stack, function: str) -> str:
    """Return a function's log."""
    return "\n".join(stack.logs(function))


def lived(stack: Stack, folder: Path, *, whole: bool) -> Life:
    """Let everything happen to a bridge, or only what takes no time."""
    life = Life(stack, whole)
    for output in SECRETS:
        for number, text in enumerate(strings(json.loads(secret_text(stack, output)))):
            if SECRET.fullmatch(text):
                life.secrets[f"{output} {number}"] = text
            elif text.startswith("-----BEGIN"):  # the frame is no secret
                life.secrets[f"{output} {number}"] = "".join(text.splitlines()[1:-1])
    knocks(life)
    if whole:
        faults(life)
        messages(life)
        chats(life)
        documents(life)
        commands(life, folder)
    life.secrets |= {f"token {number}": token for number, token in enumerate(stack.chats.tokens)}
    life.logs = {function: written(stack, function) for function in FUNCTIONS}
    return life


@pytest.fixture(scope="module", params=["DEBUG", "INFO"])
def life(request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Return a bridge that has been through everything at DEBUG, and one that has been called at INFO."""
    folder, level = tmp_path_factory.mktemp("operator"), request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AITEMS_BRIDGE_FOLDER", str(folder))
        parameters = {"LogLevel": level}
        with stack.deploy(f"leak{level.lower()}", parameters=parameters, callers=all_callers()) as deployed:
            yield lived(deployed, folder, whole=level == "DEBUG")


# --- what can be read ---------------------------------------------------------------------------------------------


def test_everything_happened(life: Life) -> None:
    """Each path was gone: every status, and every function had something to say."""
    assert {answer.status for answer in life.answers} >= {200, 201, 202, 400, 401, 403, 404, 413, 415, 422, 503}
    assert all(life.logs.values())
    said = "".join(life.logs.values())
    for words in ("signature refused", "replied", *(LATE if life.whole else ())):
        assert words in said
    assert len(life.secrets) > 100


LATE = ("a record cannot be relayed", "not replied", "a message cannot be read", "callers document unreadable")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_logs_hold_nothing_of_secrets_signatures_and_bodies(life: Life, function: str) -> None:
    """Not at any level: neither what came nor what was expected, nor a piece of it in another form."""
    assert leaks(life.logs[function], life.secrets | life.bodies) == {}
    for word in ("-----BEGIN", "eyJ", "x-ncp-apigw-signature", "v0=", "sha256="):
        assert word not in life.logs[function]


def test_answers_and_events_hold_no_secret(life: Life) -> None:
    """What was asked for is in them; what was signed with is not, and neither is the address to report to."""
    answered = "\n".join(f"{answer.headers} {answer.body}" for answer in life.answers)
    announced = "\n".join(json.dumps(event.event) for event in life.stack.events())
    addresses = {what: text for what, text in life.bodies.items() if what.startswith("reply address")}
    assert addresses
    assert leaks(answered + announced, life.secrets | addresses) == {}


def test_the_ledger_holds_no_secret(life: Life) -> None:
    """Nothing that one could sign with, and no signature."""
    assert leaks(json.dumps(life.stack.items()), life.secrets) == {}


def test_commands_print_no_secret(life: Life) -> None:
    """An operator's screen is no place for one either."""
    addresses = {what: text for what, text in life.bodies.items() if what.startswith("reply address")}
    assert bool(life.output) is life.whole
    assert leaks(life.output, life.secrets | addresses) == {}


# --- that the search finds something ------------------------------------------------------------------------------


LEAKY = """
        import base64
        logger.debug("leak", extra={"seen": base64.b64encode(("x" + str(call.headers)).encode()).decode()})
        logger.debug("leak", extra={"body": call.body[5:60].hex()})
"""


def test_a_bridge_that_leaks_is_found_out(stack: Stack, tmp_path: Path) -> None:
    """The same search, over a bridge that logs headers in base64 and a piece of the body in hex."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / "src" / "aitems_bridge" / "webhook.py"
    text = module.read_text("utf-8")
    place = '    def _take(self, call: "Call", caller: Caller) -> Response:\n'
    assert text.count(place) == 1
    module.write_text(text.replace(place, place + LEAKY), "utf-8")
    with stack.deploy("leaky", parameters={"LogLevel": "DEBUG"}, source=tmp_path / "src") as deployed:
        life = Life(deployed, whole=False)
        life.send(life.delivery("standard"))
        log = written(deployed, "WebhookFunction")
    found = leaks(log, life.secrets | life.bodies)
    assert {what.split()[0] for what in found} >= {"received", "description", "name"}


@pytest.mark.parametrize("form", range(len(list(forms("whsec_AAAA")))))
def test_every_form_is_found(form: int) -> None:
    """A secret in the middle of anything, however it is written."""
    secret = "whsec_" + base64.b64encode(bytes(range(60, 90))).decode()
    found = list(forms(secret))
    assert leaks(f"before {found[form]} after", {"s": secret})
    assert leaks("nothing to see here", {"s": secret}) == {}


def test_libraries_have_nothing_to_say() -> None:
    """At DEBUG it is our functions that say more: botocore would log secrets as it reads them, urllib3 addresses."""
    code = (
        "import logging, sys\n"
        "logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)\n"
        "from aitems_bridge import config, reply, relay, webhook, worker\n"
        "for name in ('botocore', 'botocore.parsers', 'botocore.endpoint', 'urllib3.connectionpool'):\n"
        "    print(name, logging.getLogger(name).getEffectiveLevel())\n"
    )
    environment = os.environ | {
        "POWERTOOLS_LOG_LEVEL": "DEBUG",
        "PYTHONPATH": str(Path(aitems_bridge.__file__).parents[1]),
    }
    ran = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    levels = dict(line.split() for line in ran.stdout.splitlines() if line.startswith(("botocore", "urllib3")))
    assert {int(level) for level in levels.values()} == {30}

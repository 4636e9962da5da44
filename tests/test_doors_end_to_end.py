"""Each door as deployed: signed as its vendor signs, to the service, the event and the reply.

The project's template on MiniStack with IAM enforced; Slack and NAVER WORKS are stand-ins that check what they get.
"""

import secrets
from dataclasses import replace

import pytest
from slack_sdk.models.blocks import Block

from aitems_local import senders, signing
from aitems_local.chats import Message
from aitems_local.journal import Announced
from aitems_local.senders import Answer, SignedWebhook
from aitems_local.stack import Stack

CREATED = "AiTEMS Service Created"
REJECTED = "AiTEMS Service Creation Rejected"


def ask(stack: Stack, scheme: str, name: str, *, key: str | None = None, **more: str) -> tuple[SignedWebhook, Answer]:
    """Ask for a service through a door, and return what was sent and answered."""
    sent = senders.delivery(stack.document, scheme, {"name": name, **more}, key=key)
    return sent, sent.send()


def created(stack: Stack, sent: SignedWebhook, name: str, channel: str) -> Announced:
    """Return the event of a request, after checking that it was made once and says where it came from."""
    event = stack.event(request_id=sent.request_id)
    assert event.kind == CREATED
    metadata = event.metadata
    assert (metadata["channel"], metadata["caller"], metadata["idempotency_key"]) == (channel, sent.caller, sent.key)
    assert len(stack.aitems.services_named(name)) == 1
    return event


def reply(stack: Stack, sent: SignedWebhook, words: str) -> Message:
    """Return what the chat was told in these words."""
    said = stack.chats.wait(lambda message: message.to == sent.reply_to and words in message.text, 30)
    assert said is not None, [message.text for message in stack.chats.said]
    return said


def test_github(stack: Stack, name: str) -> None:
    """A deployment event makes a service; delivered again it is the same request, answered with how it ended."""
    sent, answer = ask(stack, "github", name, type="interval", description="봄 시즌")
    assert (answer.status, answer.request_id) == (202, sent.request_id)
    event = created(stack, sent, name, "github")
    assert event.event["detail"]["request"] == {"name": name, "description": "봄 시즌", "type": "interval"}
    _, again = ask(stack, "github", name, key=sent.key, type="interval", description="봄 시즌")
    assert (again.status, again.body["state"], again.replayed) == (200, "created", True)
    ping = replace(sent, headers={**sent.headers, "X-GitHub-Event": "ping"}).send()
    assert (ping.status, ping.body) == (200, {"status": "ignored", "reason": "pong"})


def test_hmac(stack: Stack, name: str) -> None:
    """A Shopify-like delivery makes a service; one changed byte and it is nobody's."""
    sent, answer = ask(stack, "hmac", name, description="신발")
    assert answer.status == 202
    created(stack, sent, name, "hmac")
    assert replace(sent, body=sent.body + b" ").send().status == 401


def test_slack(stack: Stack, name: str) -> None:
    """A slash command is acknowledged; the outcome comes to its ``response_url``, in Block Kit."""
    sent, answer = ask(stack, "slack", name, type="batch", description="from a chat")
    assert answer.status == 200
    assert answer.body["text"].startswith(f"Creating *{name}* … I'll report here.")
    event = created(stack, sent, name, "slack")
    assert event.metadata["requested_by"] == "slack:U2CERLKJA"
    said = reply(stack, sent, f"*{name}* is created")
    service_id = stack.aitems.services_named(name)[0].service_id
    assert (said.body["response_type"], said.body["replace_original"]) == ("ephemeral", False)
    _, facts = Block.parse_all(said.body["blocks"])
    texts = [field["text"] for field in facts.to_dict()["fields"]]
    assert texts[:4] == [f"*Name*\n{name}", "*Type*\nbatch", f"*Service*\n{service_id}", "*Status*\ndatasetRequired"]
    assert len([message for message in stack.chats.said if message.to == sent.reply_to]) == 1


def test_slack_hears_of_a_refusal(stack: Stack, name: str) -> None:
    """The reason, and the usage."""
    stack.aitems.by_hand(name)
    sent, _ = ask(stack, "slack", name)
    assert stack.event(request_id=sent.request_id).kind == REJECTED
    said = reply(stack, sent, "was not created")
    assert f"already has a service named '{name}'" in said.text
    assert "Usage:" in str(said.body["blocks"])


def test_works(stack: Stack, name: str) -> None:
    """A message to the bot is acknowledged and answered through the message API, with a token by the JWT grant."""
    sent, answer = ask(stack, "works", name, description="웍스에서")
    assert (answer.status, answer.body) == (200, {"status": "accepted"})
    event = created(stack, sent, name, "works")
    assert event.metadata["requested_by"] == f"works:{sent.reply_to.removeprefix('users/')}"
    reply(stack, sent, "만들고 있습니다")
    service_id = stack.aitems.services_named(name)[0].service_id
    assert f"만들었습니다: {service_id}" in reply(stack, sent, "만들었습니다").text
    assert len(stack.chats.tokens) >= 1


def test_a_chat_that_cannot_be_reached_touches_nothing(stack: Stack, name: str) -> None:
    """Slack's refusal for good is logged and dropped: the service is made and announced all the same."""
    sent = senders.delivery(stack.document, "slack", {"name": name})
    elsewhere = replace(sent, body=sent.body.replace(b"%2Fcommands%2F", b"%2Fnowhere%2F"))
    entry = stack.callers["slack"]
    headers = signing.signed("slack", entry, elsewhere.body, sent.key)
    assert replace(elsewhere, headers=headers).send().status == 200
    created(stack, sent, name, "slack")


@pytest.mark.parametrize("scheme", ["github", "hmac", "slack", "works"])
def test_a_forged_signature_is_refused(stack: Stack, name: str, scheme: str) -> None:
    """401 at every door as deployed, and nothing is recorded."""
    sent = senders.delivery(stack.document, scheme, {"name": name})
    body = sent.body.replace(name.encode(), secrets.token_hex(6).encode())
    assert replace(sent, body=body).send().status == 401
    assert stack.ledger.get(sent.request_id) is None

"""The Reply function: what became of a chat command, told where it was given. The only one that has the chat secret.

A reply that fails is tried again by its queue, a few times and not for longer than half an hour; it never touches the
creation, whose outcome stands in the ledger and on the bus in any case.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import jwt
import requests
from aws_lambda_powertools import Logger

from aitems_bridge import chat, config, metrics
from aitems_bridge.errors import BridgeError, Misconfigured
from aitems_bridge.events import event_id
from aitems_bridge.ledger import Ledger
from aitems_bridge.record import SECOND

TIMEOUT = (3.0, 5.0)
"""Seconds to connect, and to wait for each piece of an answer."""
TOKEN_MARGIN = 300
"""Seconds before its end at which a token is no longer used."""
_UNAUTHORISED, _TOO_MANY, _SERVER_ERROR = 401, 429, 500

logger = Logger()


class NotReplied(BridgeError):
    """The chat did not take the message for now: the queue tries again."""


Post = Callable[[str, dict[str, str], bytes], requests.Response]
"""Posts a body to an address with headers. Raises ``requests.RequestException``."""


def post(url: str, headers: dict[str, str], body: bytes) -> requests.Response:
    """Post without following redirects: an address was allowed, and no other."""
    with requests.Session() as session:
        session.trust_env = False
        return session.post(url, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False)


@dataclass(frozen=True)
class Slack:
    """Slack's response addresses, of the allowed origins only: whatever else is named is not Slack's.

    Source: https://docs.slack.dev/interactivity/handling-user-interaction
    """

    origins: tuple[str, ...]
    post: Post = post

    def send(self, url: str, message: dict[str, Any]) -> None:
        """Post a message. Raises ``NotReplied`` where that may work later; what never will is logged and dropped."""
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if f"{parts.scheme}://{parts.netloc}" not in self.origins:
            logger.error("a reply address is not Slack's", extra={"host": parts.hostname})
            return
        headers = {"Content-Type": "application/json; charset=utf-8"}
        _check(self.post(url, headers, json.dumps(message).encode()), "Slack")


class Works:
    """NAVER WORKS's message API, by the JWT grant of a service account; one token for as long as it lasts.

    Source: https://developers.worksmobile.com/en/docs/auth-jwt and `…/bot-user-message-send`
    """

    def __init__(
        self,
        api_url: str,
        auth_url: str,
        secret: Callable[[], str],
        *,
        post: Post = post,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._auth_url = auth_url.rstrip("/")
        self._secret = secret
        self._post = post
        self._clock = clock
        self._tokens: dict[str, tuple[str, float]] = {}

    def send(self, to: dict[str, str], text: str) -> None:
        """Send a text to a person or a channel. Raises as :meth:`Slack.send` does, and ``Misconfigured``."""
        bot = to["bot"]
        where = (
            f"channels/{quote(to['channel'], safe='')}" if "channel" in to else f"users/{quote(to['user'], safe='')}"
        )
        url = f"{self._api_url}/v1.0/bots/{quote(bot, safe='')}/{where}/messages"
        body = json.dumps({"content": {"type": "text", "text": text}}).encode()
        answer = self._post(url, self._headers(bot), body)
        if answer.status_code == _UNAUTHORISED:
            self._tokens.pop(bot, None)
            answer = self._post(url, self._headers(bot), body)
        _check(answer, "NAVER WORKS")

    def _headers(self, bot: str) -> dict[str, str]:
        token, until = self._tokens.get(bot, ("", 0.0))
        if until - TOKEN_MARGIN <= self._clock():
            token, until = self._tokens[bot] = self._grant(bot)
        return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def assertion(self, bot: str, issued: int) -> str:
        """Return what proves to NAVER WORKS who asks for a token. Raises ``Misconfigured`` where it cannot be made."""
        account = self._account(bot)
        claims = {"iss": account["client_id"], "sub": account["service_account"], "iat": issued, "exp": issued + 600}
        try:
            return jwt.encode(claims, account["private_key"], algorithm="RS256")
        except (ValueError, TypeError, AttributeError, jwt.PyJWTError) as error:  # a public key has no sign()
            raise Misconfigured(f"The chat secret's private_key for bot {bot} is no RSA key.") from error

    def _grant(self, bot: str) -> tuple[str, float]:
        issued = int(self._clock())
        assertion, account = self.assertion(bot, issued), self._account(bot)
        form = {
            "assertion": assertion,
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "client_id": account["client_id"],
            "client_secret": account["client_secret"],
            "scope": "bot",
        }
        body = "&".join(f"{name}={quote(value, safe='')}" for name, value in form.items()).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self._post(f"{self._auth_url}/oauth2/v2.0/token", headers, body)
        if not answer.ok:
            raise NotReplied(f"NAVER WORKS gave no token ({answer.status_code})")
        try:
            granted = answer.json()
            return str(granted["access_token"]), issued + float(granted["expires_in"])
        except (ValueError, KeyError, TypeError) as error:
            raise NotReplied("NAVER WORKS's token answer cannot be read") from error

    def _account(self, bot: str) -> dict[str, str]:
        try:
            account: dict[str, str] = json.loads(self._secret())["works"][bot]
            if all(isinstance(account[name], str) for name in _ACCOUNT):
                return account
        except (ValueError, KeyError, TypeError):
            pass
        raise Misconfigured(f"The chat secret has no {', '.join(_ACCOUNT)} under works.{bot}.")


_ACCOUNT = ("client_id", "client_secret", "service_account", "private_key")


@dataclass(frozen=True)
class Replies:
    """Tells chats, by what the ledger holds. ``now`` gives milliseconds since the epoch."""

    ledger: Ledger
    slack: Slack
    works: Works
    now: Callable[[], int]

    def tell(self, message: dict[str, Any]) -> None:
        """Do what one message of the replies queue stands for. Raises ``NotReplied`` to have it tried again."""
        if message["kind"] == "say":
            if self._in_time(message["at"], message.get("request_id")):
                self.works.send(message["to"], message["text"])
                logger.info("said")
            return
        record = self.ledger.get(message["request_id"])
        if record is None or record.reply is None or event_id(record) != message["event_id"]:
            return  # said meanwhile, or overtaken by what will be said
        if not self._in_time(record.requested_at, record.id):
            return
        service = json.loads(record.answer) if record.answer else {}
        if record.reply["kind"] == "slack":
            self.slack.send(record.reply["url"], chat.slack_message(record, service))
        else:
            self.works.send(record.reply, chat.works_text(record, service, record.reply["language"]))
        logger.info("replied", extra={"state": str(record.state)})

    def _in_time(self, since: int, request_id: str | None) -> bool:
        if self.now() - since <= chat.LAPSE:
            return True
        logger.warning("ReplyLapsed", extra={"after_seconds": (self.now() - since) // SECOND})
        metrics.put(request_id, ReplyLapsed=1)
        return False


def _check(answer: requests.Response, who: str) -> None:
    if answer.ok:
        return
    if answer.status_code in (_UNAUTHORISED, _TOO_MANY) or answer.status_code >= _SERVER_ERROR:
        raise NotReplied(f"{who} answered {answer.status_code}")
    logger.error("a reply was refused for good", extra={"chat": who, "status": answer.status_code})


@cache
def _replies() -> Replies:
    secret = config.Secret("CHAT_SECRET_ARN")

    def origins(name: str, example: str) -> list[str]:
        return [config.origin(name, each.strip(), example) for each in config.setting(name).split(",")]

    (api_url,) = origins("WORKS_API_URL", "https://www.worksapis.com")
    (auth_url,) = origins("WORKS_AUTH_URL", "https://auth.worksmobile.com")
    return Replies(
        Ledger(config.ledger_client(), config.setting("LEDGER_TABLE")),
        Slack(tuple(origins("SLACK_RESPONSE_ORIGINS", "https://hooks.slack.com"))),
        Works(api_url, auth_url, lambda: secret.text()[0]),
        config.now,
    )


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Tell what a batch of the replies queue stands for; what was not told is reported, and comes again."""
    return answer(_replies(), event)


def answer(replies: Replies, event: dict[str, Any]) -> dict[str, Any]:
    """Tell a batch, and return what of it failed."""
    failed = []
    for record in event["Records"]:
        logger.thread_safe_clear_keys()
        try:
            message = json.loads(record["body"])
            logger.thread_safe_append_keys(request_id=message.get("request_id"))
            replies.tell(message)
        except (NotReplied, requests.RequestException, Misconfigured) as error:
            # A transport's own message holds the address, and Slack's address is a right to post.
            cause = str(error) if isinstance(error, BridgeError) else type(error).__name__
            logger.warning("not replied", extra={"cause": cause})
            failed.append(record["messageId"])
        except Exception:
            logger.exception("a reply failed", extra={"message_id": record["messageId"]})
            failed.append(record["messageId"])
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}

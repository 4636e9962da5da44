"""What the environment says: settings, AWS clients, secrets. Read on first use, never at import."""

import functools
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

# Here, not on first use: Lambda gives a starting function a whole processor, and a first call only its share.
from aitems_bridge import aws
from aitems_bridge.errors import Misconfigured
from aitems_bridge.record import DAY, MINUTE, SECOND, Numbers

if TYPE_CHECKING:
    from aitems_bridge.ncp import Keys

SECRET_AGE = 300
"""Seconds a secret is kept before it is read again."""
EARLY_REFRESH = 30.0
"""Seconds that must pass between two refreshes that somebody's bad key or signature asked for."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")
_OFFSET = re.compile(r"([+-])(0\d|1[0-4]):([0-5]\d)")


def now() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def setting(name: str) -> str:
    """Return an environment variable. Raises ``Misconfigured`` naming it when it is missing or empty."""
    value = os.environ.get(name, "")
    if not value:
        raise Misconfigured(f"The environment variable {name} is not set; template.yaml sets it.")
    return value


def number(name: str, default: float) -> float:
    """Return an environment variable as a number. Raises ``Misconfigured`` when it is none."""
    value = os.environ.get(name, "")
    try:
        read = float(value) if value else default
    except ValueError as error:
        raise Misconfigured(f"The environment variable {name} is no number.") from error
    if not math.isfinite(read):
        raise Misconfigured(f"The environment variable {name} is no number.")
    return read


def numbers() -> Numbers:
    """Return the times that rule the ledger, as the template's parameters set them."""
    usual = Numbers()
    return Numbers(
        lease_margin=round(number("LEASE_MARGIN_SECONDS", usual.lease_margin / SECOND) * SECOND),
        quiet=round(number("QUIET_SECONDS", usual.quiet / SECOND) * SECOND),
        backoff_base=round(number("BACKOFF_BASE_SECONDS", usual.backoff_base / SECOND) * SECOND),
        give_up=round(number("GIVE_UP_AFTER_MINUTES", usual.give_up / MINUTE) * MINUTE),
        retention=round(number("RETENTION_DAYS", usual.retention / DAY) * DAY),
    )


def aitems_base_url() -> str:
    """Return AiTEMS's origin. Raises as :func:`origin` does."""
    return origin("AITEMS_BASE_URL", setting("AITEMS_BASE_URL"), "https://aitems.apigw.ntruss.com")


def origin(name: str, value: str, example: str) -> str:
    """Return ``value`` if it is an https origin, or an http one of this very machine.

    Raises ``Misconfigured`` naming the variable for anything else: keys and tokens go there.
    """
    wrong = Misconfigured(f"{name} must be an https origin such as {example}.")
    value = value.rstrip("/")
    try:
        parts = urlsplit(value)
        found = f"{parts.scheme}://{parts.netloc}"
        whole = parts.port != 0 and value.lower() == found.lower()  # a port out of range raises
    except ValueError as error:
        raise wrong from error
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not whole or not secure or not parts.hostname or "@" in parts.netloc or not _HOST.fullmatch(parts.netloc):
        raise wrong
    return found


def aitems_utc_offset() -> int:
    """Return how far AiTEMS's wall clock is ahead of UTC, in milliseconds."""
    value = os.environ.get("AITEMS_UTC_OFFSET") or "+09:00"
    match = _OFFSET.fullmatch(value)
    if match is None:
        raise Misconfigured("AITEMS_UTC_OFFSET must look like +09:00.")
    sign, hours, minutes = match.groups()
    return (1 if sign == "+" else -1) * (int(hours) * 60 + int(minutes)) * MINUTE


def client(service: str, **times: Any) -> Any:  # noqa: ANN401  # one of botocore's run-time classes
    """Return a client of an AWS service. ``times`` are ``botocore.config.Config``'s own."""
    return aws.client(service, **times)


def ledger_client() -> Any:  # noqa: ANN401  # as above
    """Return DynamoDB's client: quick to give up on one try, so that an answer is found while the caller waits."""
    retries = {"mode": "standard", "total_max_attempts": 2}
    return client("dynamodb", connect_timeout=1, read_timeout=1, retries=retries, parameter_validation=False)


class Secret:
    """A JSON secret, kept for five minutes.

    Somebody's bad key or signature may ask to read it early; that is granted once in 30 seconds per process, so that
    nobody outside can make us read it at will.
    """

    def __init__(self, variable: str, *, monotonic: Callable[[], float] = time.monotonic, provider: Any = None) -> None:  # noqa: ANN401
        self._variable = variable
        self._monotonic = monotonic
        self._provider = provider
        self._refreshed = float("-inf")
        self._last: str | None = None
        self._not_before = float("-inf")
        self._lock = threading.Lock()

    def text(self, *, early: bool = False) -> tuple[str, bool]:
        """Return the secret's text and whether it was read just now.

        Where it cannot be read, the text of an earlier reading holds: an outage of Secrets Manager is no change of
        keys. Raises ``Misconfigured`` where there is none.
        """
        arn = setting(self._variable)
        with self._lock:
            provider = self._provider = self._provider or _vault()
            if early:
                early = self._monotonic() - self._refreshed >= EARLY_REFRESH
                if early:
                    self._refreshed = self._monotonic()
            read = early or not provider.has_not_expired_in_cache((arn, None, False))
            if self._last is not None and read and self._monotonic() < self._not_before:
                return self._last, False
            try:
                self._last = text = provider.get(arn, max_age=SECRET_AGE, force_fetch=early)
            except Exception as error:
                if self._last is not None:
                    self._not_before = self._monotonic() + EARLY_REFRESH  # who waits here holds up all who ask
                    return self._last, False
                what = type(error.__cause__ or error.__context__ or error).__name__
                raise Misconfigured(f"The secret that {self._variable} names cannot be read ({what}).") from error
            return text, read


class KeysSecret:
    """The keys secret: ``{"access_key": "…", "secret_key": "…"}``, exactly these."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def __call__(self, early: bool) -> "tuple[Keys, bool]":
        """Return the keys, and whether they were read just now. Raises ``Misconfigured`` in words for an operator."""
        from aitems_bridge.ncp import Keys  # noqa: PLC0415  # the relay has no keys

        text, read = self._secret.text(early=early)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or set(document) != {"access_key", "secret_key"}:
            raise Misconfigured('The keys secret must be {"access_key": "…", "secret_key": "…"} and nothing else.')
        if not all(isinstance(value, str) for value in document.values()):
            raise Misconfigured("Both members of the keys secret must be strings.")
        if not all(value.isascii() and (value.isprintable() or not value) for value in document.values()):
            raise Misconfigured("The keys secret holds characters that no key has: was it copied with quotes around?")
        if not document["access_key"] or not document["secret_key"]:
            raise Misconfigured("The keys secret is not filled in yet: put the Sub Account's keys there.")
        return Keys(document["access_key"], document["secret_key"]), read


class Vault:
    """Secrets Manager with a cache: Powertools' ``SecretsProvider`` by its own method names, without its package.

    That package imports boto3 and every other store of parameters (docs/decisions/what-a-cold-start-imports.md).
    """

    def __init__(self, secrets: Any) -> None:  # noqa: ANN401  # botocore's client
        self._secrets = secrets
        self._kept: dict[str, tuple[float, str]] = {}

    def has_not_expired_in_cache(self, key: tuple[str, object, object]) -> bool:
        """Whether the secret, the first of ``key``, would be given without being read."""
        expires, _ = self._kept.get(key[0], (float("-inf"), ""))
        return time.monotonic() < expires

    def get(self, name: str, *, max_age: int, force_fetch: bool) -> str:
        """Return the secret's text, read now where it must be."""
        if force_fetch or not self.has_not_expired_in_cache((name, None, False)):
            text = self._secrets.get_secret_value(SecretId=name)["SecretString"]
            self._kept[name] = (time.monotonic() + max_age, text)
        return self._kept[name][1]


@functools.cache
def _vault() -> Vault:
    retries = {"mode": "standard", "total_max_attempts": 2}
    return Vault(client("secretsmanager", connect_timeout=1, read_timeout=2, retries=retries))

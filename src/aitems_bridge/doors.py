"""Inbound schemes: who sent this, and under which key. Each is one function over raw body, headers, secrets and clock.

A refusal has one text for every cause, so that nobody learns from it what was wrong; the cause goes to the log.
Signatures are compared as bytes, in constant time, against every known secret.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeGuard
from urllib.parse import parse_qsl

from aitems_bridge.errors import Problem, Refused
from aitems_bridge.events import timestamp
from aitems_bridge.record import SECOND

MOST_BYTES = 65_536
TOLERANCE = 300 * SECOND

_KEY = re.compile(r"[\x21-\x7e]{1,256}")
_SECONDS = re.compile(r"[0-9]{1,12}")
_MOMENT = re.compile(r"[0-9]{1,15}")
_MILLISECONDS = 100_000_000_000
"""What is at least this is no time in seconds that anybody will send (year 5138), but one in milliseconds."""


class SignatureRefused(Refused):
    """No known secret verifies this; ``cause`` is for the log, never for the sender."""

    def __init__(self, cause: str, now: int) -> None:
        server_time = timestamp(now)[:19] + "Z"
        super().__init__(
            Problem("signature-refused", f"No valid signature within 5 minutes of now (server time {server_time}).")
        )
        self.cause = cause


def standard(body: bytes, headers: Mapping[str, str], keys: Iterable[bytes], now: int) -> str:
    """Verify a Standard Webhooks delivery and return its ``webhook-id``.

    ``headers`` have lower-case names; ``now`` is in milliseconds. Raises ``SignatureRefused``.
    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    key = headers.get("webhook-id", "")
    if not _KEY.fullmatch(key) or "." in key:
        raise SignatureRefused("webhook-id is missing or malformed", now)
    sent = headers.get("webhook-timestamp", "")
    if not _SECONDS.fullmatch(sent):
        raise SignatureRefused("webhook-timestamp is missing or malformed", now)
    given = [version_1 for version_1 in map(_version_1, headers.get("webhook-signature", "").split(" ")) if version_1]
    if not given:
        raise SignatureRefused("webhook-signature is missing or holds no v1 signature", now)
    signed = f"{key}.{sent}.".encode() + body
    if not any_verifies(given, (base64.b64encode(hmac.digest(k, signed, hashlib.sha256)) for k in keys)):
        raise SignatureRefused("no secret of this caller makes that signature", now)
    if abs(int(sent) * SECOND - now) > TOLERANCE:
        raise SignatureRefused("webhook-timestamp is more than 5 minutes off", now)
    return key


@dataclass(frozen=True, slots=True)
class HmacScheme:
    """How a sender signs with an HMAC over its body: enough for GitHub-, Shopify-, GitLab- and Stripe-like senders.

    ``header`` bears the signature, either after ``prefix``, or (``signature_pair``) among ``k=v`` pairs. ``content`` is
    the signed text, ``{body}`` or ``{timestamp}``, one of ``. : |`` and ``{body}``. The time stands in
    ``timestamp_header`` or ``timestamp_pair``, in seconds or milliseconds since the epoch, told apart by magnitude;
    ``tolerance`` is in seconds, both ways. Without a time nothing is known of freshness.
    """

    header: str
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    signature_pair: str | None = None
    timestamp_pair: str | None = None
    timestamp_header: str | None = None
    tolerance: int = 300
    content: str = "{body}"


GITHUB = HmacScheme("X-Hub-Signature-256", prefix="sha256=")
"""Source: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries."""


def hmac_signed(scheme: HmacScheme, body: bytes, headers: Mapping[str, str], secrets: Iterable[str], now: int) -> None:
    """Verify a delivery that is signed by ``scheme``. Raises ``SignatureRefused``."""
    given, sent = _hmac_parts(scheme, headers, now)
    signed = body
    if scheme.content != "{body}":
        if sent is None or not _MOMENT.fullmatch(sent):
            raise SignatureRefused("the time is missing or malformed", now)
        separator = scheme.content.removeprefix("{timestamp}").removesuffix("{body}")
        signed = f"{sent}{separator}".encode() + body
    digests = [hmac.digest(secret.encode(), signed, scheme.algorithm) for secret in secrets]
    if scheme.encoding == "hex":
        expected = [digest.hex().encode() for digest in digests]
        given = [one.lower() for one in given]
    else:
        expected = [base64.b64encode(digest) for digest in digests]
    if not any_verifies(given, expected):
        raise SignatureRefused("no secret of this caller makes that signature", now)
    if sent is not None:
        _check_fresh(sent, scheme.tolerance, now)


def slack(body: bytes, headers: Mapping[str, str], secrets: Iterable[str], now: int) -> None:
    """Verify a Slack request. Raises ``SignatureRefused``.

    Source: https://docs.slack.dev/authentication/verifying-requests-from-slack
    """
    sent = headers.get("x-slack-request-timestamp", "")
    if not _SECONDS.fullmatch(sent):
        raise SignatureRefused("X-Slack-Request-Timestamp is missing or malformed", now)
    signed = f"v0:{sent}:".encode() + body
    given = _bytes(headers.get("x-slack-signature", ""))
    expected = [b"v0=" + hmac.digest(secret.encode(), signed, "sha256").hex().encode() for secret in secrets]
    if not any_verifies([given], expected):
        raise SignatureRefused("no secret of this caller makes that signature", now)
    _check_fresh(sent, TOLERANCE // SECOND, now)


def works(body: bytes, headers: Mapping[str, str], secrets: Iterable[str], bot_id: str, now: int) -> None:
    """Verify a NAVER WORKS bot callback; its freshness stands in the body. Raises ``SignatureRefused``.

    Source: https://developers.worksmobile.com/en/docs/bot-callback
    """
    if headers.get("x-works-botid", "") != bot_id:
        raise SignatureRefused("X-WORKS-BotId is another bot's", now)
    given = _bytes(headers.get("x-works-signature", ""))
    expected = [base64.b64encode(hmac.digest(secret.encode(), body, "sha256")) for secret in secrets]
    if not any_verifies([given], expected):
        raise SignatureRefused("no secret of this caller makes that signature", now)


def check_issued(issued: object, now: int) -> None:
    """Check an ISO 8601 time of a signed body against the five minutes. Raises ``SignatureRefused``."""
    try:
        moment = datetime.fromisoformat(issued) if isinstance(issued, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SignatureRefused("issuedTime is missing or malformed", now)
    if abs(moment.timestamp() * SECOND - now) > TOLERANCE:
        raise SignatureRefused("issuedTime is more than 5 minutes off", now)


def key_header(name: str, headers: Mapping[str, str]) -> str:
    """Return a delivery's key from a header. Raises ``Refused`` where it is missing or unusable."""
    return checked_key(headers.get(name.lower()), name)


def checked_key(value: object, what: str) -> str:
    """Return a delivery's key if it is one: 1 to 256 printable ASCII characters. Raises ``Refused``."""
    if not is_id(value):
        detail = f"{what} must be 1 to 256 printable ASCII characters: it tells one delivery from another."
        raise Refused(Problem("malformed-request", detail))
    return value


def is_id(value: object) -> TypeGuard[str]:
    """Whether it can be the id of a delivery, a person or a place: 1 to 256 printable ASCII characters."""
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def any_verifies(given: Iterable[bytes], expected: Iterable[bytes]) -> bool:
    """Whether any given signature is any of the expected ones; takes as long whichever it is."""
    wanted = list(expected)
    return any([hmac.compare_digest(one, other) for one in given for other in wanted])  # noqa: C419  # all, always


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that ``body`` is.

    Raises ``Refused`` with ``malformed-request`` for anything else, a member given twice included: two parsers would
    read two requests in it.
    """
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise malformed("The body is not UTF-8.") from error
    except (ValueError, RecursionError) as error:
        told = (
            f"Member {error.args[0]!r} is given twice." if isinstance(error, _TwiceError) else "The body is not JSON."
        )
        raise malformed(told) from error
    if not isinstance(value, dict):
        raise malformed("The body is JSON, but not an object.")
    return value


def form(body: bytes) -> dict[str, str]:
    """Return the fields of an urlencoded form.

    Raises ``Refused`` with ``malformed-request`` for anything else, a field given twice included.
    """
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError as error:
        raise Refused(Problem("malformed-request", "The body is no form.")) from error
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused(Problem("malformed-request", "A field of the form is given twice."))
    return found


def malformed(detail: str) -> Refused:
    """Return the refusal of a body that cannot be read."""
    return Refused(Problem("malformed-request", f'{detail} Send an object such as {{"name": "shop-main"}}.'))


class _TwiceError(ValueError):
    pass


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1)[:40])
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _version_1(signature: str) -> bytes | None:
    version, _, value = signature.partition(",")
    return _bytes(value) if version == "v1" and value else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _hmac_parts(scheme: HmacScheme, headers: Mapping[str, str], now: int) -> tuple[list[bytes], str | None]:
    """Return the signatures given, and the time where the scheme has one."""
    value = headers.get(scheme.header.lower(), "")
    sent = headers.get(scheme.timestamp_header.lower()) if scheme.timestamp_header else None
    if scheme.signature_pair is None:
        if not value.startswith(scheme.prefix):
            raise SignatureRefused("the signature lacks its prefix", now)
        return [_bytes(value.removeprefix(scheme.prefix))], sent
    pairs = [tuple(pair.strip().partition("=")[::2]) for pair in value.split(",")]
    if scheme.timestamp_pair is not None:
        times = [text for name, text in pairs if name == scheme.timestamp_pair]
        if len(times) != 1:
            raise SignatureRefused("the time is missing or given twice", now)
        (sent,) = times
    return [_bytes(text) for name, text in pairs if name == scheme.signature_pair], sent


def _check_fresh(sent: str, tolerance: int, now: int) -> None:
    if not _MOMENT.fullmatch(sent):
        raise SignatureRefused("the time is missing or malformed", now)
    moment = int(sent) if int(sent) >= _MILLISECONDS else int(sent) * SECOND
    if abs(moment - now) > tolerance * SECOND:
        raise SignatureRefused("the time is too far off", now)

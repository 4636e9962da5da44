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
from typing import Any

from aitems_bridge.errors import Problem, Refused
from aitems_bridge.events import timestamp
from aitems_bridge.record import SECOND

MOST_BYTES = 65_536
TOLERANCE = 300 * SECOND

_KEY = re.compile(r"[\x21-\x7e]{1,256}")
_SECONDS = re.compile(r"[0-9]{1,12}")


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
    return value.encode("utf-8", "surrogatepass") if version == "v1" and value else None

"""NAVER Cloud's request signature, version 2.

Source: https://api.ncloud-docs.com/docs/en/common-ncpapi. The body is not part of the signed text, and a signature is
good for five minutes: it is made anew for each send and never kept.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Keys:
    """A Sub Account's API authentication key. The secret half never shows in a ``repr``."""

    access_key: str
    secret_key: str = field(repr=False)


def signature(method: str, target: str, timestamp: int, keys: Keys) -> str:
    """Return the signature of one request: standard base64, 44 characters.

    ``target`` is the path and query exactly as they go over the wire, ``timestamp`` milliseconds since the epoch and
    the very value sent in the header.
    """
    signed = f"{method} {target}\n{timestamp}\n{keys.access_key}"
    digest = hmac.digest(
        keys.secret_key.encode("utf-8", "surrogatepass"), signed.encode("utf-8", "surrogatepass"), hashlib.sha256
    )
    return base64.b64encode(digest).decode("ascii")


def signed_headers(method: str, target: str, timestamp: int, keys: Keys) -> dict[str, str]:
    """Return the headers that every call carries."""
    return {
        "Content-Type": "application/json",
        "x-ncp-apigw-timestamp": str(timestamp),
        "x-ncp-iam-access-key": keys.access_key,
        "x-ncp-apigw-signature-v2": signature(method, target, timestamp, keys),
    }

"""Entries of the callers document, each with a fresh secret: for a local stack, and for an operator to begin with."""

import secrets
from base64 import b64encode
from typing import Any

Json = dict[str, Any]

_ALWAYS: dict[str, Json] = {
    "github": {
        "github": {"events": ["deployment"]},
        "when": "deployment.task == 'aitems'",
        "mapping": {
            "name": "deployment.payload.name",
            "description": "deployment.description",
            "type": "deployment.payload.type",
        },
    },
}
"""What every entry of a scheme says, unless somebody wants it otherwise."""


def standard_secret() -> str:
    """Return a fresh secret for a caller that signs with Standard Webhooks."""
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode()


def entry(scheme: str, **settings: object) -> Json:
    """Return an entry of a scheme with a fresh secret; ``settings`` are its other members."""
    secret = standard_secret() if scheme == "standard" else secrets.token_hex(32)
    return {"scheme": scheme, "secrets": [secret], **_ALWAYS.get(scheme, {}), **settings}

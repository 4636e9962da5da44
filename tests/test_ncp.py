"""The signature of NAVER Cloud's gateway, against vectors that this code did not compute."""

from base64 import b64decode

import pytest

from aitems_bridge.ncp import Keys, signature, signed_headers
from aitems_local.emulator import signature as gateways_signature

KEYS = Keys("AK_TEST", "SK_TEST")
TIMESTAMP = 1_700_000_000_000


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        # published in the tests of a public SDK
        ("POST", "/vserver/v2/createServerInstances?regionCode=KR", "xBcE26XFU55BMjppdPT7ZY3oDrqoOedfPyAn3Cq4lUw="),
        # made with openssl by the same rule
        ("POST", "/api/v1/services", "VTpDX11cGv8BWsQFhqkYrYP4jf4P1U08v/10QV64g6g="),
        ("GET", "/api/v1/services", "eQzbiR1kxd5FBFK5QAOpmNaqaqKjyO6arAwEOmlQ89o="),
        ("GET", "/api/v1/services?offset=0&limit=1000", "8+OIII3On5jB9jTbyjtsZdzhq3ZT+RZRM860UySgqd8="),
    ],
)
def test_vectors(method: str, target: str, expected: str) -> None:
    """Method, path, query, time and access key are signed exactly as they are sent."""
    assert signature(method, target, TIMESTAMP, KEYS) == expected


def test_headers_bear_the_very_time_that_is_signed() -> None:
    """The header's timestamp is the signed one: a clock read twice would make a signature that is refused."""
    expected = {
        "Content-Type": "application/json",
        "x-ncp-apigw-timestamp": "1700000000000",
        "x-ncp-iam-access-key": "AK_TEST",
        "x-ncp-apigw-signature-v2": "VTpDX11cGv8BWsQFhqkYrYP4jf4P1U08v/10QV64g6g=",
    }
    assert signed_headers("POST", "/api/v1/services", TIMESTAMP, KEYS) == expected


@pytest.mark.parametrize("secret_key", ["k", "한글 열쇠", "x" * 500, "with\nnewline", "+/=="])
def test_any_secret_key_is_used_as_its_utf8_bytes(secret_key: str) -> None:
    """Lengths and alphabets of keys vary, so nothing is assumed of them; the emulator's own signature agrees."""
    made = signature("POST", "/api/v1/services", TIMESTAMP, Keys("AK", secret_key))
    assert made == gateways_signature("POST", "/api/v1/services", str(TIMESTAMP), "AK", secret_key)
    assert len(made) == 44
    assert len(b64decode(made, validate=True)) == 32


def test_a_secret_key_does_not_show() -> None:
    """Neither ``repr`` nor ``str`` of the keys holds the secret half: they end in logs and tracebacks."""
    assert "SK_TEST" not in f"{KEYS!r} {KEYS}"
    assert "AK_TEST" in repr(KEYS)

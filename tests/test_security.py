"""SECURITY.md says what is so; and what of it no other test shows."""

import ast
import json
import re
import shutil
import subprocess

import pytest

from aitems_bridge.callers import Callers
from aitems_local.stack import load_template
from knock import CALLERS, SCHEMES, Scheme, knock
from world import ROOT, Vault, World, post

TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
THREATS = [line for line in TEXT.splitlines() if line.startswith("| **")]
NAMED = sorted(set(re.findall(r"`(tests/test_\w+\.py)::(\w+)`", TEXT)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    """A renamed test must not leave a defence that nothing shows."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_threat_has_a_defence_and_a_test() -> None:
    """A row without a test is a hope."""
    assert len(THREATS) > 20
    for row in THREATS:
        threat, defence, shown = row.strip("| ").split(" | ")
        assert threat.startswith("**")
        assert len(defence) > 40
        assert "`tests/" in shown


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_links_lead_somewhere(link: str) -> None:
    """To a file, and to a heading in it."""
    path, _, anchor = link.partition("#")
    text = (ROOT / path).read_text("utf-8") if path else TEXT
    headings = [re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines() if
                line.startswith("#")]  # fmt: skip
    assert not anchor or anchor in headings


# --- what no other test shows -------------------------------------------------------------------------------------

SPOOFED = {
    "host": "evil.example",
    "forwarded": "for=127.0.0.1;host=evil.example;proto=http",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "http",
    "x-real-ip": "127.0.0.1",
    "x-original-url": "/hooks/slack",
    "x-rewrite-url": "/hooks/slack",
    "x-http-method-override": "GET",
    "x-amzn-request-context": "{}",
    "authorization": "Bearer x",
    "cookie": "session=x",
    "origin": "https://evil.example",
    "idempotency-key": "another",
    "expect": "100-continue",
    "via": "1.1 evil.example",
}


@pytest.mark.parametrize("name", sorted(SPOOFED))
def test_no_other_header_counts(name: str) -> None:
    """What proxies add and strangers forge opens no door, and shuts none; no answer repeats it."""
    extra = {name: SPOOFED[name]}
    with World() as world:
        body = {"name": "shop-main"}
        plain = world.answer(post(body))
        spoofed = world.answer(post(body, headers=extra))
        assert (spoofed.status, spoofed.text) == (plain.status, plain.text)
        assert "evil" not in json.dumps(spoofed.headers)
        refused = world.answer(post(body, headers=extra | {"webhook-signature": "v1,AAAA"}))
        assert refused.slug == "signature-refused"
        assert world.posts == 1


@pytest.mark.parametrize(
    "scheme", [each for each in SCHEMES.values() if each.caller in CALLERS], ids=lambda it: it.caller
)
def test_no_address_lets_in(scheme: Scheme) -> None:
    """A call that says it comes from the vendor, or from this very machine, is as good as its signature."""
    with World(CALLERS) as world:
        event = knock(scheme.caller, scheme.body, headers=SPOOFED | {scheme.signature: "x"})
        event["requestContext"]["http"]["sourceIp"] = "127.0.0.1"
        assert world.answer(event).slug == "signature-refused"


def test_a_shared_secret_is_told() -> None:
    """What is signed for one caller is valid for the other: an operator has to hear of it."""
    entry = {"scheme": "standard", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}
    reports: list[tuple[str, str]] = []
    callers = Callers(Vault(json.dumps({"one": entry, "other": entry})), lambda *report: reports.append(report))
    callers.find("one")
    assert [name for name, _ in reports] == ["other"]
    assert "in common with one" in reports[0][1]
    assert "MfKQ9r8GKYqr" not in reports[0][1]


def test_calls_are_limited() -> None:
    """Rate and burst at the API, before a function costs anything; the functions' number is bounded too."""
    resources = load_template()["Resources"]
    limits = resources["HttpStage"]["Properties"]["DefaultRouteSettings"]
    assert limits == {"ThrottlingRateLimit": {"Ref": "RateLimit"}, "ThrottlingBurstLimit": {"Ref": "BurstLimit"}}
    parameters = load_template()["Parameters"]
    assert 0 < parameters["RateLimit"]["Default"] <= 100
    assert 0 < parameters["BurstLimit"]["Default"] <= 200
    assert "ReservedConcurrentExecutions" in resources["WebhookFunction"]["Properties"]
    queue = next(each for each in resources["WorkerFunction"]["Properties"]["Events"].values() if each["Type"] == "SQS")
    assert queue["Properties"]["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "WorkerConcurrency"}}


LOOKS_LIKE_ONE = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{36}"
    r"|\bxox[abeprs]-[A-Za-z0-9-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----\s*\\?n?[A-Za-z0-9+/]{40}"
    r"|\bpypi-[A-Za-z0-9_-]{50,}"
)


def test_the_repository_holds_no_secret() -> None:
    """Nothing that looks like a key of AWS, GitHub, Slack or PyPI, or a private one; and CI asks for none."""
    listed = subprocess.run(  # noqa: S603  # our own checkout
        [shutil.which("git") or "true", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False
    ).stdout.decode()
    paths = [ROOT / name for name in listed.split("\0") if name] or [
        path for folder in ("src", "local", "tests", "docs", "events") for path in (ROOT / folder).rglob("*.*")
    ]
    texts = {path: path.read_bytes().decode("utf-8", "replace") for path in paths if path.is_file()}
    assert {str(path): found[0] for path, text in texts.items() if (found := LOOKS_LIKE_ONE.search(text))} == {}
    assert not re.search(r"secrets\.|TOKEN|PASSWORD|ACCESS_KEY", (ROOT / ".ci" / "run").read_text("utf-8"))

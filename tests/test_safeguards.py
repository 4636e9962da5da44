"""Each safeguard holds something up: taken out alone, some test fails.

The shipped sources are copied, one safeguard is taken out of the copy, and the tests that tell of it are run against
the copy. A safeguard whose absence no test notices is one that nobody will miss when it breaks.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SIMULATED = ("tests/test_holes.py", "tests/test_promise.py")


@dataclass(frozen=True)
class Safeguard:
    """What is taken out: in which module, which text, what stands there instead; and the tests that must notice."""

    name: str
    module: str
    text: str
    without: str
    tests: tuple[str, ...] = SIMULATED


SAFEGUARDS = [
    Safeguard(
        "doubt is never forgotten",
        "record",
        "        case NotDone(problem) if not record.doubt:",
        "        case NotDone(problem):",
    ),
    Safeguard(
        "redrive remembers the doubt",
        "record",
        "state=State.UNKNOWN if record.doubt else State.RECEIVED,",
        "state=State.RECEIVED,",
    ),
    Safeguard("the quiet time", "record", "    early = now < record.quiet_until\n", "    early = False\n"),
    Safeguard(
        "a refusal in doubt leads to a look",
        "record",
        "        case Rejection(problem) if not record.doubt:",
        "        case Rejection(problem):",
    ),
    Safeguard(
        "doubt keeps the name",
        "record",
        " or (self.state is State.FAILED and self.doubt)",
        "",
    ),
    Safeguard(
        "only a POST in doubt dates the request",
        "record",
        "sent_at=record.sent_at if record.doubt else now,",
        "sent_at=record.requested_at,",
    ),
    Safeguard(
        "the lease is the process's end",
        "bridge",
        "return invocation.ends + self.numbers.lease_margin",
        "return self.now() + 5 * SECOND",
    ),
    Safeguard(
        "the lease is checked",
        "record",
        "return self.state is State.CREATING and self.lease_until is not None and now <= self.lease_until",
        "return False",
    ),
    Safeguard(
        "the name lock",
        "record",
        "return self.state in (State.CREATING, State.UNKNOWN) or (self.state is State.FAILED and self.doubt)",
        "return False",
    ),
    Safeguard(
        "a second POST is claimed in writing",
        "bridge",
        "            self.ledger.write(record, looked)\n        except ServiceClaimed:",
        "            if looked.state is not State.CREATING:\n                self.ledger.write(record, looked)\n"
        "        except ServiceClaimed:",
    ),
    Safeguard(
        "age",
        "reconcile",
        "    sent_at = record.sent_at\n",
        "    return Age.OURS\n    sent_at = record.sent_at\n",
    ),
    Safeguard(
        "early looks adopt only with one POST in doubt",
        "record",
        "and not gone and (record.posts == 1 or not early)",
        "and not gone",
    ),
    Safeguard(
        "the list before the second POST",
        "bridge",
        "        return reconcile.look(record, self.aitems, self.ledger.claimant, self.now, permit)",
        "        return View(reconcile.Sight.NONE)",
    ),
    Safeguard(
        "a look counts from when it was begun",
        "bridge",
        "judged = begun if begun < (record.quiet_until or 0) else self.now()",
        "judged = self.now()",
    ),
    Safeguard(
        "what was seen and is gone is not made again",
        "record",
        "record.seen is not None and record.seen not in view.ids",
        "False",
    ),
    Safeguard(
        "one service, one request",
        "ledger",
        '"attribute_not_exists(pk) OR #request = :me"',
        '"attribute_not_exists(pk) OR #request = :me OR #request <> :me"',
        ("tests/test_ledger.py",),
    ),
    Safeguard(
        "the fencing condition",
        "ledger",
        '"#version = :version AND #state = :state"',
        '"#version <> :version OR #version = :version OR #state = :state"',
        ("tests/test_ledger.py",),
    ),
    Safeguard(
        "the name item's condition",
        "ledger",
        '"attribute_not_exists(#holder) OR #holder = :me"',
        '"attribute_not_exists(#holder) OR attribute_exists(#holder) OR #holder = :me"',
        ("tests/test_ledger.py",),
    ),
    Safeguard(
        "the pointer of a claim",
        "relay",
        "for item in items if item[0].state.open]",
        "for item in items if item[0].state == 'received']",
        ("tests/test_relay.py",),
    ),
    Safeguard(
        "the connection says whether a byte left",
        "wire",
        "        self._guard.begun = True\n",
        "        self._guard.begun = False\n",
        ("tests/test_wire.py",),
    ),
    Safeguard(
        "the clock is read once connected",
        "wire",
        "        if seconds <= 0:\n            raise _TooLate\n",
        "",
        ("tests/test_wire.py",),
    ),
    Safeguard(
        "the time-out bounds the sum of all reads",
        "wire",
        "left = self._until - time.monotonic()",
        "left = 60.0",
        ("tests/test_wire.py",),
    ),
    Safeguard(
        "the size limit",
        "webhook",
        "    if len(body) > doors.MOST_BYTES:\n",
        "    if False:\n",
        ("tests/test_webhook.py::test_exactly_the_most_bytes",),
    ),
    Safeguard(
        "signatures are compared in constant time",
        "doors",
        "hmac.compare_digest(one, other)",
        "one == other",
        ("tests/test_doors.py",),
    ),
    Safeguard(
        "every secret is compared",
        "doors",
        "any([hmac.compare_digest(one, other) for one in given for other in wanted])",
        "any(hmac.compare_digest(one, other) for one in given for other in wanted[:1])",
        ("tests/test_doors.py",),
    ),
    Safeguard(
        "a delivery is fresh",
        "doors",
        "    if abs(int(sent) * SECOND - now) > TOLERANCE:\n",
        "    if False:\n",
        ("tests/test_doors.py",),
    ),
    Safeguard(
        "a delivery with an HMAC is fresh",
        "doors",
        "    if abs(moment - now) > tolerance * SECOND:\n",
        "    if False:\n",
        ("tests/test_schemes.py",),
    ),
    Safeguard(
        "a bot's message is fresh",
        "doors",
        "    if abs(moment.timestamp() * SECOND - now) > TOLERANCE:\n",
        "    if False:\n",
        ("tests/test_hooks.py::test_a_message_out_of_its_time_is_refused",),
    ),
    Safeguard(
        "a member stands once",
        "doors",
        "        raise _TwiceError(next(name for name in names if names.count(name) > 1)[:40])\n",
        "        return found\n",
        ("tests/test_doors.py",),
    ),
    Safeguard(
        "a question is signed over its own id",
        "webhook",
        " or call.body or key != request_id:",
        " or call.body:",
        ("tests/test_webhook.py::test_who_may_ask",),
    ),
    Safeguard(
        "a caller's names are bounded",
        "callers",
        "return self.allow is None or any(",
        "return True or any(",
        ("tests/test_callers.py",),
    ),
    Safeguard(
        "replies go to allowed origins",
        "reply",
        '        if f"{parts.scheme}://{parts.netloc}" not in self.origins:\n',
        "        if False:\n",
        ("tests/test_reply.py",),
    ),
    Safeguard(
        "replies follow no redirect",
        "reply",
        "allow_redirects=False",
        "allow_redirects=True",
        ("tests/test_reply.py",),
    ),
    Safeguard(
        "an outcome fits into an event",
        "models",
        " in violations[:MOST_TOLD])",
        " in violations)",
        ("tests/test_models.py",),
    ),
    Safeguard(
        "what cannot be used is given away",
        "relay",
        ", ArithmeticError, OSError, RecursionError)",
        ")",
        ("tests/test_relay.py",),
    ),
    Safeguard(
        "libraries keep quiet",
        "aws",
        "    logging.getLogger(_library).setLevel(logging.WARNING)\n",
        "    logging.getLogger(_library)\n",
        ("tests/test_leaks.py::test_libraries_have_nothing_to_say",),
    ),
]


def run_without(safeguard: Safeguard, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the safeguard's tests against sources that lack it."""
    source = folder / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    module = source / "aitems_bridge" / f"{safeguard.module}.py"
    text = module.read_text("utf-8")
    assert text.count(safeguard.text) >= 1, f"{safeguard.name}: its text is no longer in {safeguard.module}.py"
    module.write_text(text.replace(safeguard.text, safeguard.without), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *safeguard.tests]
    command += ["-o", f"pythonpath={source} local tests", "--no-header", "--tb=line"]
    environment = os.environ | {"PYTHONPATH": str(source)}
    return subprocess.run(  # noqa: S603  # our own tests
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_document_tells_of_each() -> None:
    """docs/reliability.md has a row for every safeguard, by the name it has here."""
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    table = text.partition("<!-- safeguards -->")[2].partition("## ")[0]
    named = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    assert named == [safeguard.name for safeguard in SAFEGUARDS]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """Return what the tests said without each safeguard, all of them tried at once as far as there are processors."""
    folders = {safeguard.name: tmp_path_factory.mktemp("without") for safeguard in SAFEGUARDS}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        ran = pool.map(lambda safeguard: run_without(safeguard, folders[safeguard.name]), SAFEGUARDS)
        return dict(zip((safeguard.name for safeguard in SAFEGUARDS), ran, strict=True))


@pytest.mark.parametrize("safeguard", SAFEGUARDS, ids=lambda safeguard: safeguard.name)
def test_its_absence_is_noticed(safeguard: Safeguard, outcomes: dict[str, subprocess.CompletedProcess[str]]) -> None:
    """Without the safeguard a test fails, and not because nothing runs any more."""
    ran = outcomes[safeguard.name]
    assert ran.returncode == 1, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert "failed" in ran.stdout

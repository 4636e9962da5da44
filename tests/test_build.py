"""The build: locks that say everything, artefacts for Lambda's own machine, and commands that say what is missing."""

import os
import py_compile
import re
import subprocess
import sys
from base64 import urlsafe_b64encode
from hashlib import sha256
from importlib.util import cache_from_source
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from aitems_local.artefact import faults, main

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

ARM = bytes([0x7F, *b"ELF", 2, 1, *[0] * 10, 3, 0, 183, 0])
INTEL = bytes([0x7F, *b"ELF", 2, 1, *[0] * 10, 3, 0, 62, 0])


def pins(lock: str) -> dict[str, str]:
    """Return the versions that a lock file fixes."""
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", text, flags=re.MULTILINE))


def artefact(folder: Path, *, tag: str = "py3-none-any", library: bytes = ARM) -> Path:
    """Make what a build would have made, with one more package of that tag and library."""
    (folder / "aitems_bridge").mkdir()
    (folder / "aitems_bridge" / "__init__.py").touch()
    (folder / "fast").mkdir()
    (folder / "fast" / "fast.so").write_bytes(library)
    (folder / "fast-1.0.dist-info").mkdir()
    (folder / "fast-1.0.dist-info" / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag}\n")
    digest = urlsafe_b64encode(sha256(library).digest()).decode().rstrip("=")
    brought = f"fast/fast.so,sha256={digest},{len(library)}\nfast-1.0.dist-info/WHEEL,,\nfast-1.0.dist-info/RECORD,,\n"
    (folder / "fast-1.0.dist-info" / "RECORD").write_text(f"bin/fast,sha256=none,1\n{brought}")
    return folder


@pytest.mark.parametrize(
    "tag",
    [
        "py3-none-any",
        "py2.py3-none-any",
        "cp313-cp313-manylinux_2_17_aarch64",
        "cp39-abi3-manylinux2014_aarch64",
        "py3-none-manylinux_2_17_aarch64",
    ],
)
def test_wheels_that_run_there(tmp_path: Path, tag: str) -> None:
    """Pure wheels and those for arm64 and Python 3.13, or for any later Python, are accepted."""
    assert list(faults(artefact(tmp_path, tag=tag), "3.13", "aarch64")) == []


@pytest.mark.parametrize(
    "tag",
    [
        "cp313-cp313-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux_2_17_aarch64",
        "cp313-cp313-musllinux_1_2_aarch64",
        "cp313-cp313t-manylinux_2_17_aarch64",
        "cp313-cp313-macosx_11_0_arm64",
        "py2-none-any",
    ],
)
def test_wheels_that_do_not(tmp_path: Path, tag: str) -> None:
    """Any other processor, Python, libc or system is named."""
    assert [f"fast-1.0 is built for {tag}"] == list(faults(artefact(tmp_path, tag=tag), "3.13", "aarch64"))


@pytest.mark.parametrize("library", [INTEL, b"", b"not a library at all"])
def test_libraries_are_looked_into(tmp_path: Path, library: bytes) -> None:
    """A library is what its own header says, whatever the wheel around it calls itself."""
    assert list(faults(artefact(tmp_path, library=library), "3.13", "aarch64")) == ["fast/fast.so is not for aarch64"]


@pytest.mark.parametrize("name", ["boto3", "botocore", "s3transfer"])
def test_the_runtime_brings_boto3(tmp_path: Path, name: str) -> None:
    """The artefact leaves the AWS SDK to the runtime."""
    (artefact(tmp_path) / name).mkdir()
    assert [f"{name} is in it, but the runtime has its own"] == list(faults(tmp_path, "3.13", "aarch64"))


def test_files_are_as_their_packages_brought_them(tmp_path: Path) -> None:
    """What was changed, lost or added since a package was installed is named; its commands are left out on purpose."""
    artefact(tmp_path)
    (tmp_path / "fast" / "fast.so").write_bytes(ARM + b"changed")
    (tmp_path / "fast" / "more.py").touch()
    with (tmp_path / "fast-1.0.dist-info" / "RECORD").open("a") as record:
        record.write("fast/lost.py,,\n")
    assert list(faults(tmp_path, PYTHON, "aarch64")) == [
        "fast/fast.so is not as fast-1.0 brought it",
        "fast/lost.py is not as fast-1.0 brought it",
        "fast/more.py belongs to no package",
    ]


def compiled(folder: Path, *, mode: PycInvalidationMode = PycInvalidationMode.UNCHECKED_HASH) -> Path:
    """Compile an artefact's one module, as this Python would."""
    source = folder / "aitems_bridge" / "__init__.py"
    py_compile.compile(str(source), dfile="/var/task/aitems_bridge/__init__.py", invalidation_mode=mode)
    return Path(cache_from_source(str(source)))


def test_byte_code_is_whole_or_absent(tmp_path: Path) -> None:
    """Each module has byte code, or none has; what belongs to no module of the artefact is named."""
    code = compiled(artefact(tmp_path))
    assert list(faults(tmp_path, PYTHON, "aarch64")) == []
    (tmp_path / "aitems_bridge" / "lonely.py").touch()
    code.with_name(f"gone.{sys.implementation.cache_tag}.pyc").write_bytes(code.read_bytes())
    name = code.relative_to(tmp_path)
    assert list(faults(tmp_path, PYTHON, "aarch64")) == [
        "aitems_bridge/lonely.py has no byte code",
        f"{name.with_name(f'gone.{sys.implementation.cache_tag}.pyc')} belongs to no module",
    ]


@pytest.mark.parametrize("mode", [PycInvalidationMode.CHECKED_HASH, PycInvalidationMode.TIMESTAMP])
def test_byte_code_is_taken_unasked(tmp_path: Path, mode: PycInvalidationMode) -> None:
    """Byte code that Lambda would compare with its source at each start fails the build."""
    code = compiled(artefact(tmp_path), mode=mode).relative_to(tmp_path)
    assert list(faults(tmp_path, PYTHON, "aarch64")) == [f"{code} is not its module's byte code"]


def test_byte_code_of_another_source(tmp_path: Path) -> None:
    """Nothing at run time would notice byte code that its source has left behind, so the build does."""
    code = compiled(artefact(tmp_path))
    (tmp_path / "aitems_bridge" / "__init__.py").write_text("changed = True\n")
    assert list(faults(tmp_path, PYTHON, "aarch64")) == [f"{code.relative_to(tmp_path)} is not its module's byte code"]


def test_byte_code_of_another_python(tmp_path: Path) -> None:
    """Byte code that the target's Python would not look at is as good as none."""
    code = compiled(artefact(tmp_path)).relative_to(tmp_path)
    assert list(faults(tmp_path, "3.99", "aarch64")) == [
        "aitems_bridge/__init__.py has no byte code",
        f"{code} belongs to no module",
    ]


def test_an_artefact_has_the_package(tmp_path: Path) -> None:
    """An artefact without aitems_bridge fails the build, and says so."""
    assert list(faults(tmp_path, "3.13", "aarch64")) == ["aitems_bridge is missing"]


def test_the_check_fails_the_build(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Faults go to standard error and the exit code; the size to standard output."""
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    assert main([str(artefact(tmp_path / "good")), "3.13", "aarch64"]) == 0
    assert main([str(artefact(tmp_path / "bad", library=INTEL)), "3.13", "aarch64"]) == 1
    out, err = capfd.readouterr()
    assert out == "good: 0.0 MB in 4 files, 0 of them byte code\nbad: 0.0 MB in 4 files, 0 of them byte code\n"
    assert err == "bad: fast/fast.so is not for aarch64\n"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_locks_are_whole(lock: Path) -> None:
    """Each requirement is pinned and hashed, and no lock ties its reader to somebody's registry."""
    text = lock.read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text


@pytest.mark.parametrize("lock", ["dev.txt", "relay.txt", "reply.txt"])
def test_tests_run_what_ships(lock: str) -> None:
    """What ships is tested, and shipped to each function, at one version."""
    shipped, others = pins("ship.txt"), pins(lock)
    common = shipped.keys() & others.keys()
    assert {name: shipped[name] for name in common} == {name: others[name] for name in common}


def test_what_is_locked_for_whom() -> None:
    """Everything that ships is tested; the relay carries neither pydantic nor requests; nobody carries boto3."""
    assert pins("ship.txt").keys() | pins("reply.txt").keys() <= pins("dev.txt").keys()
    assert {"aws-lambda-powertools", "pydantic", "requests"} <= pins("ship.txt").keys()
    assert {"pydantic", "pydantic-core", "requests", "urllib3"}.isdisjoint(pins("relay.txt"))
    assert {"pydantic", "pydantic-core"}.isdisjoint(pins("reply.txt"))
    for lock in ("ship.txt", "relay.txt", "reply.txt"):
        assert {"boto3", "botocore"}.isdisjoint(pins(lock))


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the project, as a person would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words


def test_make_alone_helps() -> None:
    """`make` changes nothing: it lists what it can do."""
    done = make()
    assert done.returncode == 0
    assert re.findall(r"^make (\w+)", done.stdout, re.MULTILINE) == [
        "help",
        "setup",
        "run",
        "test",
        "browser",
        "chaos",
        "lint",
        "build",
        "artefact",
        "sbom",
        "bench",
        "clean",
    ]


@pytest.mark.parametrize(
    ("version", "says"),
    [("3.10", "is 3.10"), (None, "there is no")],
)
def test_an_old_python_is_named(tmp_path: Path, version: str | None, says: str) -> None:
    """Python older than 3.11, or none, is one line that says so, before anything is installed."""
    python = tmp_path / "python3"
    if version:
        pretend = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0); exec(sys.argv[1])"
        python.write_text(f"#!/bin/sh\nshift\nexec '{sys.executable}' -c '{pretend}' \"$1\"\n")
        python.chmod(0o755)
    done = make("setup", f"PYTHON={python}")
    (line, _) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("aitems-bridge needs Python 3.11 or newer: ")
    assert says in line


def test_an_old_python_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where python3 is too old and a newer one stands beside it, that is taken; a name that was given is obeyed."""
    for name, ends in (("python3", 1), ("python3.13", 1), ("python3.12", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {ends}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.delenv("PYTHON", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert "command -v python3.12 " in make("--dry-run", "setup").stdout
    assert "command -v python3 " in make("--dry-run", "setup", "PYTHON=python3").stdout


def test_sam_builds_from_the_root_only(tmp_path: Path) -> None:
    """Built in a copy, without our samconfig, the build says how it is meant to be run."""
    (tmp_path / "src").mkdir()
    makefile = (ROOT / "src" / "Makefile").read_text(encoding="utf-8")
    (tmp_path / "src" / "Makefile").write_text(makefile, encoding="utf-8")
    done = make("-C", str(tmp_path / "src"), "at-home")
    assert done.returncode == 2
    assert "run sam build from the repository root" in done.stderr

"""The bills of materials: what is in an artefact, and a refusal to say what is not so."""

import json
import re
import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from aitems_local.sbom import LOCKS, Bill, Untrue, locked, main

ROOT = Path(__file__).parents[1]

Json = dict[str, Any]


def artefact(folder: Path, function: str) -> Path:
    """Make what a build leaves of each package that says what it is: its metadata."""
    made = folder / function
    for name, package in locked(LOCKS[function]).items():
        metadata = distribution(name).read_text("METADATA")
        assert metadata
        (made / f"{name}-{package.version}.dist-info").mkdir(parents=True)
        (made / f"{name}-{package.version}.dist-info" / "METADATA").write_text(metadata, "utf-8")
    return made


def edit(made: Path, name: str, was: str, now: str) -> None:
    """Change what a package says of itself."""
    (path,) = made.glob(f"{name}-*/METADATA")
    text, changes = re.subn(was, now, path.read_text("utf-8"), flags=re.MULTILINE)
    assert changes
    path.write_text(text, "utf-8")


@pytest.mark.parametrize("function", LOCKS)
def test_every_package_is_in_its_bill(function: str, tmp_path: Path) -> None:
    """With version, licence, address and the digests of its lock; and nothing else is, no folder of this machine."""
    made = artefact(tmp_path, function)
    text = Bill(made).json()
    bill: Json = json.loads(text)
    told = {component["name"]: component for component in bill["components"]}
    wanted = locked(LOCKS[function])
    assert told.keys() == wanted.keys()
    for name, package in wanted.items():
        component = told[name]
        assert component["purl"] == f"pkg:pypi/{name}@{package.version}"
        assert component["licenses"]
        (files,) = component["externalReferences"]
        assert sorted(package.digests) == [each["content"] for each in files["hashes"]]
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert re.findall(r"\bhttps?://[^\"]+", text) == ["http://cyclonedx.org/schema/bom-1.6.schema.json"]
    assert str(tmp_path) not in text
    assert str(ROOT) not in text


def test_a_bill_says_who_needs_what(tmp_path: Path) -> None:
    """What the project asks for itself, and what follows: an extra that was asked for, and none that was not."""
    bill: Json = json.loads(Bill(artefact(tmp_path, "ReplyFunction")).json())
    needs = {
        each["ref"].partition("@")[0]: {need.partition("@")[0] for need in each.get("dependsOn", ())}
        for each in bill["dependencies"]
    }
    pypi = "pkg:pypi/"
    asked = {"aws-lambda-powertools", "requests", "pyjwt"}
    assert needs["ReplyFunction"] == {f"{pypi}{name}" for name in asked}
    assert needs[f"{pypi}pyjwt"] == {f"{pypi}cryptography"}
    assert f"{pypi}pydantic" not in needs[f"{pypi}aws-lambda-powertools"]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    """A package that the lock has and another needs is missed twice."""
    made = artefact(tmp_path, "RelayFunction")
    shutil.rmtree(next(made.glob("jmespath-*")))
    with pytest.raises(Untrue) as raised:
        Bill(made).json()
    missing, needed = str(raised.value).splitlines()
    assert re.fullmatch(r"RelayFunction: of jmespath, nothing is in it, and [\d.]+ in relay\.txt", missing)
    assert re.fullmatch(r"RelayFunction: aws-lambda-powertools needs jmespath\S+, and has nothing", needed)


def test_what_nobody_asked_for_is_told(tmp_path: Path) -> None:
    """A package that no lock has is no silent passenger."""
    made = artefact(tmp_path, "RelayFunction")
    (made / "passenger-1.0.dist-info").mkdir()
    (made / "passenger-1.0.dist-info" / "METADATA").write_text("Name: passenger\nVersion: 1.0\nLicense: MIT\n", "utf-8")
    assert list(Bill(made).untruths()) == ["RelayFunction: of passenger, 1.0 is in it, and nothing in relay.txt"]


def test_another_version_is_told(tmp_path: Path) -> None:
    """The version in the artefact is the lock's, and one that those who need it can use."""
    made = artefact(tmp_path, "RelayFunction")
    edit(made, "jmespath", r"^Version: .*", "Version: 9.9")
    different, unusable = Bill(made).untruths()
    assert different.startswith("RelayFunction: of jmespath, 9.9 is in it, and ")
    assert unusable.endswith(", and has 9.9")


def test_a_package_without_a_licence_is_told(tmp_path: Path) -> None:
    """Nothing ships that nobody may use."""
    made = artefact(tmp_path, "RelayFunction")
    edit(made, "jmespath", r"^License: .*\n", "")
    assert list(Bill(made).untruths()) == ["RelayFunction: jmespath declares no licence"]


def test_bills_are_written_for_all_or_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One file a function; without a build, the way to one; and no bill of an artefact that it would not fit."""
    assert main([str(tmp_path), str(tmp_path / "bills")]) == 1
    assert capfd.readouterr().err == f"{tmp_path / 'WebhookFunction'} is missing: run `make build` first\n"
    for function in LOCKS:
        artefact(tmp_path, function)
    assert main([str(tmp_path), str(tmp_path / "bills")]) == 0
    assert {path.name for path in (tmp_path / "bills").iterdir()} == {f"{function}.cdx.json" for function in LOCKS}
    shutil.rmtree(next((tmp_path / "RelayFunction").glob("jmespath-*")))
    assert main([str(tmp_path), str(tmp_path / "bills")]) == 1
    assert not (tmp_path / "bills" / "RelayFunction.cdx.json").exists()


def test_the_build_takes_the_same_locks() -> None:
    """What the bills are compared with is what `src/Makefile` installs."""
    rules = re.findall(
        r"^(build-.+): LOCK := (\w+)\.txt$", (ROOT / "src" / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    assert {name.removeprefix("build-"): lock for names, lock in rules for name in names.split()} == LOCKS

"""A bill of materials for each artefact that `sam build` made: `make sbom` writes them, in CycloneDX 1.6.

What is listed was found in the artefact, not read off the lock; lock and artefact are then compared, and so is what
each package says it needs. A bill that would not be true is not written.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution, distributions, version
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aitems_local.document import ROOT

LOCKS = {"WebhookFunction": "ship", "WorkerFunction": "ship", "RelayFunction": "relay", "ReplyFunction": "reply"}
"""What each function's artefact is made from; `src/Makefile` says so too, and a bill tells where they differ."""

_MAKER = "cyclonedx-python-lib"
_REQUIREMENTS = ROOT / "requirements"
_LAMBDA = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "aarch64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.13.0",
    "python_version": "3.13",
    "sys_platform": "linux",
}
_ENTRY = re.compile(r"^(\S+==[^\\#]+?) *\\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


class Untrue(Exception):
    """A bill would not say what is so; the text says what differs, one thing a line."""


@dataclass(frozen=True, slots=True)
class Locked:
    """What a lock says of a package: the version, and the digests of the files that may be installed for it."""

    version: str
    digests: tuple[str, ...]


def locked(lock: str) -> dict[str, Locked]:
    """Return what a lock ("ship", "relay", "reply") has installed for Lambda, by name."""
    found: dict[str, Locked] = {}
    for entry, hashes in _ENTRY.findall((_REQUIREMENTS / f"{lock}.txt").read_text("utf-8")):
        asked = Requirement(entry)
        if asked.marker is None or asked.marker.evaluate(_LAMBDA):
            (exactly,) = asked.specifier
            digests = tuple(re.findall(r"sha256:(\w+)", hashes))
            found[_name(asked)] = Locked(exactly.version, digests)
    return found


def asked_for(lock: str) -> Iterator[Requirement]:
    """Yield what this project asks for itself; the rest of a lock follows from that."""
    for line in (_REQUIREMENTS / f"{lock}.in").read_text("utf-8").splitlines():
        if line.startswith("-r "):
            yield from asked_for(line.removeprefix("-r ").strip().removesuffix(".in"))
        elif line and not line.startswith(("#", "-")):
            yield Requirement(line)


def licence(package: Distribution) -> str:
    """Return a package's licence as it declares it, an SPDX expression; "" where it declares none."""
    declared = [*(package.metadata.get_all("License-Expression") or ()), *(package.metadata.get_all("License") or ())]
    return next((str(words) for words in declared if words and "\n" not in words), "")


class Bill:
    """What one artefact is made of."""

    def __init__(self, artefact: Path) -> None:
        self.name = artefact.name
        self.lock = LOCKS[self.name]
        self.packages: dict[str, Distribution] = {
            canonicalize_name(found.name): found for found in distributions(path=[str(artefact)])
        }
        self.locked = locked(self.lock)
        self._extras: dict[str, set[str]] = {_name(asked): asked.extras for asked in asked_for(self.lock)}

    @cached_property
    def needs(self) -> dict[str, list[Requirement]]:
        """What each package needs on Lambda, with the extras that were asked for, by its name."""
        return {name: list(self._needs(name)) for name in self.packages}

    def _needs(self, name: str) -> Iterator[Requirement]:
        for text in self.packages[name].requires or ():
            need = Requirement(text)
            extras = {""} | self._extras.get(name, set())
            if need.marker is None or any(need.marker.evaluate(_LAMBDA | {"extra": extra}) for extra in extras):
                yield need

    def untruths(self) -> Iterator[str]:
        """Say where artefact, lock and the packages' own words differ, and which package declares no licence."""
        for name in sorted(self.packages.keys() | self.locked.keys()):
            shipped = self.packages[name].version if name in self.packages else "nothing"
            wanted = self.locked[name].version if name in self.locked else "nothing"
            if shipped != wanted:
                yield f"{self.name}: of {name}, {shipped} is in it, and {wanted} in {self.lock}.txt"
        for name, needs in sorted(self.needs.items()):
            if not licence(self.packages[name]):
                yield f"{self.name}: {name} declares no licence"
            for need in needs:
                found = self.packages.get(_name(need))
                if found is None or not need.specifier.contains(found.version):
                    yield f"{self.name}: {name} needs {need}, and has {found.version if found else 'nothing'}"

    def json(self) -> str:
        """Return it as a CycloneDX document. Raises `Untrue`, and what the schema does not allow as `ValueError`."""
        if wrong := list(self.untruths()):
            raise Untrue("\n".join(wrong))
        components: dict[str, Component] = {name: self._component(name) for name in self.packages}
        function = Component(
            name=f"aitems-bridge {self.name}",
            version=version("aitems-bridge"),
            type=ComponentType.APPLICATION,
            bom_ref=self.name,
            licenses=[_licence("MIT")],
        )
        bom = Bom(components=components.values())
        bom.metadata.component = function
        bom.metadata.lifecycles = [PredefinedLifecycle(LifecyclePhase.BUILD)]
        maker = Component(name=_MAKER, version=version(_MAKER), type=ComponentType.LIBRARY)
        bom.metadata.tools.components.add(maker)
        asked = [components[_name(each)] for each in asked_for(self.lock)]
        bom.register_dependency(function, asked)
        for name, needs in self.needs.items():
            bom.register_dependency(components[name], [components[_name(need)] for need in needs])
        text = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
        if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
            raise ValueError(f"{self.name}: {fault}")
        return text

    def _component(self, name: str) -> Component:
        url = PackageURL("pypi", name=name, version=self.packages[name].version)
        files = ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION,
            url=XsUri(str(url)),
            comment="The files that the lock admits: the installer took the one for Lambda, and would take no other.",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in self.locked[name].digests],
        )
        return Component(
            name=name,
            version=url.version,
            type=ComponentType.LIBRARY,
            bom_ref=str(url),
            purl=url,
            licenses=[_licence(licence(self.packages[name]))],
            external_references=[files],
        )


def _name(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


def _licence(expression: str) -> License:
    return LicenseFactory().make_from_string(expression, license_acknowledgement=LicenseAcknowledgement.DECLARED)


def main(argv: list[str]) -> int:
    """Write a bill for each artefact of a build: `sbom.py BUILD_FOLDER INTO`."""
    build, into = map(Path, argv)
    into.mkdir(parents=True, exist_ok=True)
    failed = False
    for function in LOCKS:
        if not (build / function).is_dir():
            print(f"{build / function} is missing: run `make build` first", file=sys.stderr)
            return 1
        target = into / f"{function}.cdx.json"
        target.unlink(missing_ok=True)
        bill = Bill(build / function)
        try:
            target.write_text(bill.json(), "utf-8")
        except Untrue as untrue:
            print(untrue, file=sys.stderr)
            failed = True
        else:
            print(f"{target}: {len(bill.packages)} packages")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

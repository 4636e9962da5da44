"""What the artefacts weigh, zipped as they are uploaded, and which package weighs what."""

import zlib
from collections import Counter
from pathlib import Path

from built import Built

MEGABYTE = 1_000_000
_ENTRY = 120
"""Bytes that a zip file spends on each name, about."""


def weigh(built: Built) -> dict[str, dict[str, float]]:
    """Return MB by package and in all, by artefact; arm64's differ by a few hundredths."""
    return {name: weight(built.folder / name) for name in ("webhook", "relay", "reply")}


def weight(folder: Path) -> dict[str, float]:
    """Return MB by package and in all of one artefact."""
    packages: Counter[str] = Counter()
    for file in folder.rglob("*"):
        if file.is_file():
            package = file.relative_to(folder).parts[0]
            package = "everything else" if package.endswith((".dist-info", ".py")) or package[0] == "_" else package
            packages[package] += len(zlib.compress(file.read_bytes(), 6)) + _ENTRY
    heavy = {package: round(size / MEGABYTE, 2) for package, size in packages.most_common() if size > MEGABYTE / 20}
    return {"all": round(packages.total() / MEGABYTE, 2), **heavy}

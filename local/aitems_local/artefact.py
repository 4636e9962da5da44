"""What `sam build` made, looked at before it is deployed: only what ships, and all of it for Lambda's own machine.

Run by `src/Makefile` with Lambda's Python or, where there is none, with whatever there is, so it needs nothing but the
standard library.
"""

import csv
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path

_MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine of an ELF file
_LITTLE_ENDIAN_64 = b"\x7fELF\x02\x01"
_OWN = "aitems_bridge"
_IN_THE_RUNTIME = ("boto3", "botocore", "s3transfer")
_UNCHECKED_HASH = (1).to_bytes(4, "little")  # the flags of PEP 552
_MEGABYTE = 1_000_000


def faults(artefact: Path, python: str, machine: str) -> Iterator[str]:
    """Say what is wrong with an artefact for that Python ("3.13") and machine ("aarch64"), one line each."""
    if not (artefact / _OWN / "__init__.py").is_file():
        yield f"{_OWN} is missing"
    for name in _IN_THE_RUNTIME:
        if (artefact / name).exists():
            yield f"{name} is in it, but the runtime has its own"
    for wheel in sorted(artefact.glob("*.dist-info/WHEEL")):
        tags = [line.removeprefix("Tag: ") for line in wheel.read_text().splitlines() if line.startswith("Tag: ")]
        if not any(_fits(tag, python.replace(".", ""), machine) for tag in tags):
            yield f"{wheel.parent.stem} is built for {' '.join(tags) or 'nothing'}"
    for library in sorted(artefact.rglob("*.so*")):
        header = library.read_bytes()[:20]
        if not header.startswith(_LITTLE_ENDIAN_64) or int.from_bytes(header[18:20], "little") != _MACHINES[machine]:
            yield f"{library.relative_to(artefact)} is not for {machine}"
    yield from _foreign(artefact)
    compiled = {file for file in artefact.rglob("*.pyc") if file.is_file()}
    if compiled:
        tag = f"cpython-{python.replace('.', '')}"
        yield from _byte_code_faults(artefact, compiled, tag, _same(python))


def _foreign(artefact: Path) -> Iterator[str]:
    """Name what is not as a wheel brought it: files that were changed or lost since, and files that nobody brought."""
    files = {file for file in artefact.rglob("*") if file.is_file() and file.suffix != ".pyc"}
    files -= set((artefact / _OWN).rglob("*"))
    for record in sorted(artefact.glob("*.dist-info/RECORD")):
        for name, digest, _ in csv.reader(record.read_text("utf-8").splitlines()):
            file = artefact / name
            if name.startswith("bin/"):  # commands, which the build leaves out
                continue
            if file not in files or (digest and digest != _digest(file)):
                yield f"{name} is not as {record.parent.stem} brought it"
            files.discard(file)
    for file in sorted(files):
        yield f"{file.relative_to(artefact)} belongs to no package"


def _digest(file: Path) -> str:
    """Return a file's digest as a wheel's RECORD has it."""
    return f"sha256={urlsafe_b64encode(sha256(file.read_bytes()).digest()).rstrip(b'=').decode()}"


def _same(python: str) -> bool:
    """Whether it is the Python that runs this: no other can tell whether its byte code is good."""
    return f"{sys.version_info.major}.{sys.version_info.minor}" == python


def _byte_code_faults(artefact: Path, compiled: set[Path], tag: str, readable: bool) -> Iterator[str]:
    """Name what Lambda would have to compile at each cold start, and what it would run though the source says else."""
    for module in sorted(artefact.rglob("*.py")):
        file = module.parent / "__pycache__" / f"{module.stem}.{tag}.pyc"
        if file not in compiled:
            yield f"{module.relative_to(artefact)} has no byte code"
            continue
        compiled.remove(file)
        head = file.read_bytes()[:16]
        wanted = MAGIC_NUMBER + _UNCHECKED_HASH + source_hash(module.read_bytes())
        if head[4:8] != _UNCHECKED_HASH or (readable and head != wanted):
            yield f"{file.relative_to(artefact)} is not its module's byte code"
    for file in sorted(compiled):
        yield f"{file.relative_to(artefact)} belongs to no module"


def _fits(tag: str, python: str, machine: str) -> bool:
    interpreter, abi, platform = tag.split("-")
    if abi == "none" and platform == "any":
        return "py3" in interpreter.split(".")
    ours = platform.startswith("manylinux") and platform.endswith(machine)
    return ours and (abi in (f"cp{python}", "abi3") or (abi == "none" and interpreter in ("py3", f"cp{python}")))


def summary(artefact: Path) -> str:
    """Give the artefact's size, and whether it carries byte code."""
    files = [file for file in artefact.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    compiled = sum(file.suffix == ".pyc" for file in files)
    return f"{artefact.name}: {size / _MEGABYTE:.1f} MB in {len(files)} files, {compiled} of them byte code"


def main(argv: list[str]) -> int:
    """Check the artefact in a folder: `artefact.py FOLDER 3.13 aarch64`."""
    folder, python, machine = argv
    wrong = list(faults(Path(folder), python, machine))
    for fault in wrong:
        print(f"{Path(folder).name}: {fault}", file=sys.stderr)
    print(summary(Path(folder)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

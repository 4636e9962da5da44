"""What is measured: the locked requirements as the build installs them, but for this machine and a Python it has.

The byte code is compiled as in the artefact. The Python is Lambda's where this machine has one, else the one at hand.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

ROOT = Path(__file__).parents[1]
LAMBDAS = "3.13"
_LOCKS = {"webhook": "ship.txt", "relay": "relay.txt", "runtime": "bench.txt"}


@dataclass(frozen=True, slots=True)
class Built:
    """The folders that functions run from, and the Python that runs them."""

    python: Path
    version: str
    folder: Path

    @property
    def certificate(self) -> Path:
        """A certificate for loopback that everything built here trusts."""
        return self.folder / "loopback.pem"

    def path(self, artefact: str) -> list[Path]:
        """Return what stands on a function's path: its artefact, then what the runtime brings, as on Lambda."""
        return [self.folder / artefact, self.folder / "runtime", self.folder / "contenders"]


def find_python() -> Path:
    """Return Lambda's Python where there is one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        os.environ.get("PYTHON313"),
        *sorted(pyenv.glob(f"{LAMBDAS}.*/bin/python")),
        shutil.which(f"python{LAMBDAS}"),
    ]
    for candidate in candidates:
        if candidate and _version(Path(candidate)).startswith(f"{LAMBDAS}."):
            return Path(candidate)
    print(f"There is no Python {LAMBDAS} here: measured on {sys.version.split()[0]} instead.", file=sys.stderr)
    return Path(sys.executable)


def build(uv: str) -> Built:
    """Make the folders, those whose lock is the same as last time excepted."""
    python = find_python()
    version = _version(python)
    folder = ROOT / ".bench" / version
    for name, lock in _LOCKS.items():
        text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
        made_from = folder / f"{name}.txt"
        if not made_from.exists() or made_from.read_text(encoding="utf-8") != text:
            shutil.rmtree(folder / name, ignore_errors=True)
            _install(uv, python, folder / name, ROOT / "requirements" / lock)
            made_from.write_text(text, encoding="utf-8")
            (folder / "loopback.pem").unlink(missing_ok=True)
    if not (folder / "loopback.pem").exists():
        _certify(folder)
    for artefact in ("webhook", "relay"):
        _copy(ROOT / "src" / "aitems_bridge", folder / artefact / "aitems_bridge")
    _copy(ROOT / "bench" / "contenders", folder / "contenders")
    compile_all = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([str(python), *compile_all, *(str(folder / name) for name in (*_LOCKS, "contenders"))], check=True)  # noqa: S603  # fixed words
    return Built(python, version, folder)


def _install(uv: str, python: Path, folder: Path, lock: Path) -> None:
    command = [uv, "pip", "install", "--quiet", "--python", str(python), "--only-binary", ":all:", "--require-hashes"]
    command += ["--no-deps", "--link-mode", "copy", "--target", str(folder), "-r", str(lock)]
    subprocess.run(command, check=True)  # noqa: S603  # fixed words
    shutil.rmtree(folder / "bin", ignore_errors=True)


def _certify(folder: Path) -> None:
    """Make an authority, have every list of authorities here name it, and let it certify loopback."""
    authority = trustme.CA()
    for bundle in _bundles(folder):
        with bundle.open("ab") as known:
            known.write(authority.cert_pem.bytes())
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "loopback.pem"))


def _bundles(folder: Path) -> Iterator[Path]:
    for name in _LOCKS:
        yield from (folder / name).glob("*/cacert.pem")


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def _version(python: Path) -> str:
    ask = [str(python), "-c", "import platform; print(platform.python_version())"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
    return done.stdout.strip()

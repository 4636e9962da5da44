"""What is measured, and what `make artefact` tries: artefacts as `sam build` makes them, but for this machine.

The same rules of `src/Makefile` make them. The Python is Lambda's where this machine has one, else the one at hand.
"""

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

ROOT = Path(__file__).parents[1]
LAMBDAS = "3.13"
_ARTEFACTS = {"webhook": "WebhookFunction", "relay": "RelayFunction", "reply": "ReplyFunction"}


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


def lambdas_python() -> Path | None:
    """Return Lambda's Python, found where the build finds it, or None."""
    found = _make("runtime-python")
    return Path(found) if found else None


def build(uv: str) -> Built:
    """Make the folders."""
    python = lambdas_python()
    if python is None:
        print(f"There is no Python {LAMBDAS} here: measured on {sys.version.split()[0]} instead.", file=sys.stderr)
        python = Path(sys.executable)
    version = _version(python)
    folder = ROOT / ".bench" / version
    for name, function in _ARTEFACTS.items():
        build_artefact(function, folder / name, python)
    install_runtime(uv, folder / "runtime", python)
    _certify(folder)
    contenders = folder / "contenders"
    shutil.rmtree(contenders, ignore_errors=True)
    shutil.copytree(ROOT / "bench" / "contenders", contenders, ignore=shutil.ignore_patterns("__pycache__"))
    _compile(python, contenders)
    return Built(python, version, folder)


def build_artefact(function: str, folder: Path, python: Path) -> None:
    """Make a function's artefact anew in a folder, for this machine and that Python, and have it checked.

    Raises `subprocess.CalledProcessError` where the build does not end well.
    """
    shutil.rmtree(folder, ignore_errors=True)
    target = {"ARTIFACTS_DIR": folder, "MACHINE": platform.machine(), "RUNTIME": _minor(python), "PYTHON313": python}
    _make(f"build-{function}", *(f"{name}={value}" for name, value in target.items()))


def install_runtime(uv: str, folder: Path, python: Path) -> None:
    """Put into a folder, anew, what Lambda brings: its runtime client and the AWS SDK."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [uv, "pip", "install", "--quiet", "--only-binary", ":all:", "--require-hashes", "--no-deps"]
    command += ["--python-platform", f"{platform.machine()}-manylinux2014", "--python-version", _minor(python)]
    command += ["--link-mode", "copy", "--target", str(folder)]
    subprocess.run([*command, "-r", str(ROOT / "requirements" / "runtime.txt")], check=True)  # noqa: S603  # fixed words
    _compile(python, folder)


def _make(*arguments: str) -> str:
    """Have `src/Makefile` make something, and return what it says."""
    command = ["make", "--silent", "--no-print-directory", "-C", str(ROOT / "src"), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()  # noqa: S603  # fixed words


def _compile(python: Path, folder: Path) -> None:
    command = [str(python), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603  # fixed words


def _certify(folder: Path) -> None:
    """Make an authority, have every list of authorities here name it, and let it certify loopback."""
    authority = trustme.CA()
    for bundle in _bundles(folder):
        with bundle.open("ab") as known:
            known.write(authority.cert_pem.bytes())
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "loopback.pem"))


def _bundles(folder: Path) -> Iterator[Path]:
    for name in (*_ARTEFACTS, "runtime"):
        yield from (folder / name).glob("*/cacert.pem")


def _minor(python: Path) -> str:
    return ".".join(_version(python).split(".")[:2])


def _version(python: Path) -> str:
    ask = [str(python), "-c", "import platform; print(platform.python_version())"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
    return done.stdout.strip()

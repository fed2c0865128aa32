"""Put the content of the Lambda artifact into a directory; ``sam build`` calls this through ``pik/Makefile``.

The content is what SOURCES names below ``pik/`` and the libraries of ``requirements/lambda.lock``,
all pure Python, so one artifact runs on every architecture and every Python that Lambda offers, and can be built by any
Python 3 without Docker. The same inputs give the same bytes, so a deploy after an unchanged build is a no-op.

Only the standard library is used: this runs on a fresh clone, before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "lambda.lock"
CACHE = ROOT / ".aws-sam" / "pik-libraries"
LAMBDA_PYTHON = "3.14"  # template.yaml's Runtime; a test compares
SOURCES = ("__init__.py", "errors.py", "events.py", "text.py", "pipeline")
NATIVE = (".so", ".pyd", ".dylib")
# Written by the installer, different from host to host, read by nothing at run time. METADATA and licences stay.
INSTALLER_FILES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


class BuildError(Exception):
    """The artifact cannot be built; the text says why and what to do."""


def main(arguments: list[str]) -> int:
    """Build into the directory named by the only argument; return the exit code."""
    if len(arguments) != 1 or not arguments[0]:
        print("usage: build_lambda.py TARGET_DIRECTORY", file=sys.stderr)
        return 2
    try:
        build(Path(arguments[0]))
    except BuildError as error:
        print(f"pik: {error}", file=sys.stderr)
        return 1
    return 0


def build(target: Path) -> None:
    """Copy libraries and sources to ``target``; raise BuildError when they cannot be had or are not pure Python."""
    if not LOCK.is_file():
        raise BuildError(f"{LOCK} is not there. Run `sam build` in the checkout, without --use-container.")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(libraries(), target, dirs_exist_ok=True)
    package = target / "pik"
    package.mkdir(exist_ok=True)
    for name in SOURCES:
        source = ROOT / "pik" / name
        if source.is_dir():
            shutil.copytree(source, package / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, package / name)
    _same_modes(target)


def libraries() -> Path:
    """Return the directory with the locked libraries; install them when this lock was not seen before."""
    digest = hashlib.sha256(LOCK.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:16]
    ready = CACHE / digest
    if ready.is_dir():
        return ready
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="new-") as scratch:
        fresh = Path(scratch) / "libraries"
        _install(fresh)
        _prune(fresh)
        try:
            fresh.rename(ready)
        except OSError:
            if not ready.is_dir():  # otherwise a build beside this one was first, with the same content
                raise
    return ready


def _install(target: Path) -> None:
    """Install the lock's universal wheels (``py3-none-any``) only, whatever the host is."""
    options = [
        "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--require-hashes",
        "--only-binary=:all:", "--platform", "any", "--implementation", "py", "--abi", "none",
        "--python-version", LAMBDA_PYTHON, "--target", str(target), "--requirement", str(LOCK),
    ]  # fmt: skip
    pip = next(_pips(), None)
    if pip is None:
        raise BuildError("no pip and no uv was found. Install one, or name a Python that has pip: PYTHON=… sam build")
    done = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"`{' '.join(pip)}` could not install requirements/lambda.lock:\n{done.stderr.strip()}")


def _pips() -> Iterator[list[str]]:
    """Yield every way to run pip on this host, best first; uv brings pip along where no Python has it."""
    for python in (sys.executable, str(ROOT / ".venv" / "bin" / "python"), shutil.which("python3") or ""):
        if python and _runs([python, "-m", "pip", "--version"]):
            yield [python, "-m", "pip"]
    for uv in (shutil.which("uv") or "", str(ROOT / ".tools" / "uv" / "bin" / "uv")):
        if uv and _runs([uv, "--version"]):
            yield [uv, "tool", "run", "--no-python-downloads", "--python", sys.executable, "pip"]


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _prune(root: Path) -> None:
    """Drop what differs from host to host; refuse native code, which would tie the artifact to one platform."""
    shutil.rmtree(root / "bin", ignore_errors=True)
    for path in sorted(root.rglob("*"), reverse=True):
        if path.name == "__pycache__":
            shutil.rmtree(path)
        elif path.suffix in NATIVE:
            raise BuildError(f"{path.relative_to(root)} is native code; the artifact must be pure Python.")
        elif path.parent.suffix == ".dist-info" and path.name in INSTALLER_FILES:
            path.unlink()


def _same_modes(root: Path) -> None:
    """Give every file the same mode, because the zip carries it and the host's umask must not change the artifact."""
    for folder, _, files in os.walk(root):
        for name in files:
            (Path(folder) / name).chmod(0o644)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

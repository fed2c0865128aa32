"""Make the tool environments from their lock files: standard library only, any Python from 3.11 on.

    python3 scripts/setup.py workbench emulator sam [lint]

Each environment is made once and again only when its lock file (or Python) changes. What is made is complete or absent:
an interrupted set-up starts over. uv, itself installed from a lock file, downloads and links the packages.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
PLACES = {"workbench": ROOT / ".venv", **{name: TOOLS / name for name in ("uv", "emulator", "sam", "lint")}}
LOCKS = {name: ROOT / "requirements" / f"{'bootstrap' if name == 'uv' else name}.lock" for name in PLACES}
MINIMUM = (3, 11)


def digest(name: str) -> str:
    """Return what an environment is made of: its lock file and the Python that runs it."""
    text = LOCKS[name].read_bytes() + sys.version.encode() + str(PLACES[name]).encode()
    return hashlib.sha256(text).hexdigest()


def stamp(name: str) -> Path:
    """Return the file that says which lock an environment was made from."""
    return PLACES[name] / ".made-from"


def is_ready(name: str) -> bool:
    """Whether an environment is there, whole and up to date."""
    return stamp(name).is_file() and stamp(name).read_text() == digest(name)


def run(*command: str | Path, attempts: int = 1, hint: str = "") -> None:
    """Run a command; show what it said, and a hint, only when it failed."""
    for left in reversed(range(attempts)):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if not result.returncode:
            return
        if not left:
            said = f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}"
            raise SystemExit(f"setup failed: {said}{hint}")


def make(name: str, uv: Path | None) -> str:
    """Make one environment; return a line that says so."""
    started, place = time.monotonic(), PLACES[name]
    shutil.rmtree(place, ignore_errors=True)
    if uv is None:
        hint = "do this  install your system's package for Python's venv module (Debian: python3-venv), then again"
        run(sys.executable, "-m", "venv", "--clear", place, attempts=2, hint=hint)
        pip = (place / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
        run(*pip, "install", "-q", "--require-hashes", "-r", LOCKS[name], attempts=2)
    else:
        python = place / "bin" / "python"
        run(uv, "venv", "-q", "--python", sys.executable, place)
        run(uv, "pip", "install", "-q", "--python", python, "--require-hashes", "-r", LOCKS[name])
        if name == "workbench":
            run(uv, "pip", "install", "-q", "--python", python, "--no-deps", "--editable", ROOT)
    stamp(name).write_text(digest(name))
    return f"{name} {time.monotonic() - started:.0f} s"


def main(names: list[str]) -> None:
    """Make the environments named that are not ready."""
    if sys.version_info < MINIMUM:
        raise SystemExit(f"this needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    unknown = [name for name in names if name not in PLACES]
    if unknown:
        raise SystemExit(f"no such environment: {', '.join(unknown)}; one of {', '.join(PLACES)}")
    missing = [name for name in names if not is_ready(name)]
    if not missing:
        return
    print(f"  making tool environments: {', '.join(missing)} (cached next time)", flush=True)
    # Settings of the person's own pip or uv must not change what is installed; where to get it from is theirs to say.
    for variable in ("PIP_REQUIRE_VIRTUALENV", "PIP_USER", "PIP_TARGET", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV"):
        os.environ.pop(variable, None)
    if not is_ready("uv"):
        make("uv", None)
    uv = PLACES["uv"] / "bin" / "uv"
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda name: make(name, uv), (name for name in missing if name != "uv")))
    if done:
        print(f"✓ environments ready ({', '.join(done)})", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["workbench", "emulator", "sam"])

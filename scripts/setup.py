"""Make the tool environments from their lock files: standard library only, any Python from 3.11 on.

    python3 scripts/setup.py workbench emulator sam [dev] [lint] [docs]

Each environment is made once and again only when its lock file (or Python) changes. What is made is complete or absent:
an interrupted set-up starts over. uv, itself installed from a lock file, downloads and links the packages. ``dev`` is
no environment of its own: it adds to the workbench what only tests and linters need.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
WORKBENCH = ROOT / ".venv"
PLACES = {
    "workbench": WORKBENCH,
    "dev": WORKBENCH,
    **{name: TOOLS / name for name in ("uv", "emulator", "sam", "lint", "docs")},
}
BEGUN = WORKBENCH / ".dev-begun"  # there while dev is added, and after it was interrupted
LOCKS = {name: ROOT / "requirements" / f"{'bootstrap' if name == 'uv' else name}.lock" for name in PLACES}
MINIMUM = (3, 11)
# What one tool goes by, and what else may say it: pip and uv do not read each other's settings.
SAME = {
    "SSL_CERT_FILE": ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "PIP_CERT": ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "UV_DEFAULT_INDEX": ("UV_INDEX_URL", "PIP_INDEX_URL"),
    "PIP_INDEX_URL": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
}
UNTRUSTED = re.compile(r"UnknownIssuer|CERTIFICATE_VERIFY_FAILED|invalid peer certificate", re.IGNORECASE)
UNREACHED = re.compile(
    r"Failed to fetch|error sending request|NewConnectionError|Temporary failure in name resolution|No matching"
    r" distribution found",
)


def digest(name: str) -> str:
    """Return what an environment is made of: its lock file and the Python that runs it."""
    text = LOCKS[name].read_bytes() + sys.version.encode() + str(PLACES[name]).encode()
    return hashlib.sha256(text).hexdigest()


def stamp(name: str) -> Path:
    """Return the file that says which lock an environment was made from."""
    return PLACES[name] / (".dev-made-from" if name == "dev" else ".made-from")


def is_ready(name: str) -> bool:
    """Whether an environment is there, whole and up to date."""
    return stamp(name).is_file() and stamp(name).read_text() == digest(name)


def run(*command: str | Path, attempts: int = 1, hint: str = "") -> None:
    """Run a command; show what it said, and a hint, only when it failed."""
    while True:
        trusting = "UV_SYSTEM_CERTS" in os.environ  # already, when this attempt begins: two commands run at once
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if not result.returncode:
            return
        said, attempts = f"{result.stdout}{result.stderr}", attempts - 1
        if UNTRUSTED.search(said) and not trusting:
            trust_the_system()
        elif attempts <= 0:
            raise SystemExit(f"setup failed: {' '.join(map(str, command))}\n{said}{next_step(said) or hint}")


def trust_the_system() -> None:
    """Have uv and pip trust the certificates that this machine trusts, not only those that they bring along."""
    os.environ["UV_SYSTEM_CERTS"] = "1"
    if bundle := ssl.get_default_verify_paths().cafile:
        os.environ.setdefault("PIP_CERT", bundle)


def next_step(said: str) -> str:
    """Return what to do about a failure that has a usual cause outside of the project; empty when it has none."""
    if UNTRUSTED.search(said):
        return (
            "because  the certificate of the package index is not trusted here: usually a proxy that reads TLS\n"
            "do this  SSL_CERT_FILE=/path/to/certificates.pem make setup    (your company's certificates, as PEM)"
        )
    if UNREACHED.search(said):
        return (
            "because  the package index could not be reached\n"
            "do this  check the network; HTTPS_PROXY names a proxy, UV_DEFAULT_INDEX and PIP_INDEX_URL another index"
        )
    return ""


def make_uv() -> None:
    """Make the environment that holds uv, with the pip that comes with Python."""
    place = PLACES["uv"]
    shutil.rmtree(place, ignore_errors=True)
    hint = "do this  install your system's package for Python's venv module (Debian: python3-venv), then again"
    run(sys.executable, "-m", "venv", "--clear", place, attempts=2, hint=hint)
    pip = (place / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "-q", "--require-hashes", "-r", LOCKS["uv"], attempts=2)
    stamp("uv").write_text(digest("uv"))


def make(name: str) -> str:
    """Make one environment with uv; return a line that says so."""
    started, place = time.monotonic(), PLACES[name]
    uv, python = PLACES["uv"] / "bin" / "uv", place / "bin" / "python"
    if name == "dev":  # it comes on top of the workbench
        BEGUN.touch()
    else:
        shutil.rmtree(place, ignore_errors=True)
        run(uv, "venv", "-q", "--python", sys.executable, place)
    run(uv, "pip", "install", "-q", *bytecode(), "--python", python, "--require-hashes", "-r", LOCKS[name])
    if name == "workbench":
        run(uv, "pip", "install", "-q", "--python", python, "--no-deps", "--editable", ROOT)
    stamp(name).write_text(digest(name))
    if name == "dev":
        BEGUN.unlink()
    return f"{name} {time.monotonic() - started:.0f} s"


def bytecode() -> list[str]:
    """Compile what is installed where Python is told not to keep what it compiles, as in many containers.

    Otherwise every start of every command and notebook would compile all modules again.
    """
    return ["--compile-bytecode"] if os.environ.get("PYTHONDONTWRITEBYTECODE") else []


def to_make(names: list[str]) -> list[str]:
    """Return what must be made for the environments named to be ready.

    A developer's workbench stays one: it is made anew with what the tests need.
    """
    missing = [name for name in names if not is_ready(name)]
    if "workbench" in missing and "dev" not in missing and (WORKBENCH / "bin" / "pytest").exists():
        missing.append("dev")
    if "dev" in missing and "workbench" not in missing and (BEGUN.exists() or not is_ready("workbench")):
        missing.append("workbench")
    return missing


def make_in_order(names: list[str]) -> list[str]:
    """Make environments one after the other."""
    return [make(name) for name in names]


def prepare(environ: MutableMapping[str, str]) -> None:
    """Keep the person's own settings of pip and uv from changing what is installed.

    Where it comes from, and whom to trust there, is theirs to say; it is said once for both tools.
    """
    for variable in ("PIP_REQUIRE_VIRTUALENV", "PIP_USER", "PIP_TARGET", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV"):
        environ.pop(variable, None)
    for variable, others in SAME.items():
        found = next((environ[other] for other in others if environ.get(other)), None)
        if found and not environ.get(variable):
            environ[variable] = found


def keep_cache() -> None:
    """Keep uv's downloads in the checkout where there is no home folder to keep them in."""
    asked = subprocess.run(
        [PLACES["uv"] / "bin" / "uv", "cache", "dir", "--color", "never"], capture_output=True, text=True, check=False
    )
    folder = asked.stdout.strip()
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        usable = bool(folder) and os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        usable = False
    if not usable:
        os.environ["UV_CACHE_DIR"] = str(TOOLS / "cache")


def main(names: list[str]) -> None:
    """Make the environments named that are not ready."""
    if os.name != "posix":
        raise SystemExit(
            "this needs Linux or macOS: it uses POSIX file locks, signals and process groups\n"
            "do this  on Windows, use WSL (Windows Subsystem for Linux) and run it there"
        )
    if sys.version_info < MINIMUM:
        raise SystemExit(
            f"this needs Python 3.11 or newer; this is {sys.version.split()[0]} ({sys.executable})\n"
            "do this  make setup PYTHON=python3.12    (the name or path of one that is installed)"
        )
    unknown = [name for name in names if name not in PLACES]
    if unknown:
        raise SystemExit(f"no such environment: {', '.join(unknown)}; one of {', '.join(PLACES)}")
    missing = to_make(names)
    if not missing:
        return
    print(f"  making tool environments: {', '.join(missing)} (cached next time)", flush=True)
    prepare(os.environ)
    if not is_ready("uv"):
        make_uv()
    keep_cache()
    first = [name for name in ("workbench", "dev") if name in missing]
    jobs = [first, *([name] for name in missing if name not in (*first, "uv"))]
    with ThreadPoolExecutor(2) as pool:
        done = [line for lines in pool.map(make_in_order, jobs) for line in lines]
    if done:
        print(f"✓ environments ready ({', '.join(done)})", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["workbench", "emulator", "sam"])

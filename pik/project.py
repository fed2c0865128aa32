"""Where things are on disk: one place for every path the kit uses, and how they are kept from others."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "template.yaml"
SAMCONFIG = ROOT / "samconfig.toml"
CONFIG = ROOT / "pik.toml"
NOTEBOOKS = ROOT / "notebooks"
RUNBOOKS = ROOT / "runbooks"
RUNS = ROOT / "runs"
STATE = ROOT / ".pik"
LOCAL_STATE = STATE / "local"
TOOLS = ROOT / ".tools"
SAM = TOOLS / "sam" / "bin" / "sam"
EMULATOR_PYTHON = TOOLS / "emulator" / "bin" / "python"
FLIGHTS = Path(__file__).resolve().parent / "data" / "nyc-flights-2013-01.csv.gz"
BUILT_IN_MAPPINGS = Path(__file__).resolve().parent / "data" / "mappings.toml"


def private_folder(folder: Path) -> Path:
    """Make a folder, and those above it that are missing, for its owner alone, and return it.

    What the kit keeps on disk can hold payloads. :data:`STATE` and :data:`RUNS` are closed to others also when an
    earlier version left them open.
    """
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
    for home in (STATE, RUNS):
        if home == folder or home in folder.parents:
            with suppress(PermissionError):  # somebody else's
                home.chmod(0o700)
    folder.mkdir(exist_ok=True)  # raises FileExistsError when it is a file
    return folder


def private_file(path: Path, mode: str = "w") -> IO[Any]:
    """Open a file that only its owner may read: to write text (``w``) or bytes (``wb``), or to append text (``a``)."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if mode == "a" else os.O_TRUNC)
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8")

"""Where things are on disk: one place for every path the kit uses."""

from __future__ import annotations

from pathlib import Path

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

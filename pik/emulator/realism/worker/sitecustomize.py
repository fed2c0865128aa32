"""Sets the clock of a function of the embedded AWS, before anything of it is imported (see ``skew.py``)."""

import importlib.util
import os
from pathlib import Path

_AHEAD = os.environ.get("PIK_LOCAL_CLOCK_SKEW")
if _AHEAD:
    _SPEC = importlib.util.spec_from_file_location("_pik_skew", Path(__file__).resolve().parent.parent / "skew.py")
    if _SPEC and _SPEC.loader:
        _SKEW = importlib.util.module_from_spec(_SPEC)
        _SPEC.loader.exec_module(_SKEW)
        _SKEW.install(float(_AHEAD))

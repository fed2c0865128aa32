"""Runbooks: notebooks in order, with typed parameters and gates, executed by papermill, each run with its report.

>>> import pik.runbooks
>>> pik.runbooks.run("rollout", "local", {"events": "flights:2013-01-01"}).report       # doctest: +SKIP
"""

from __future__ import annotations

from pik.headless import HEADLESS, headless
from pik.runbooks.record import Run, State, StepRecord
from pik.runbooks.runbook import Runbook, catalog, load
from pik.runbooks.runner import Interrupted, Progress, find, resume, run

__all__ = [
    "HEADLESS",
    "Interrupted",
    "Progress",
    "Run",
    "Runbook",
    "State",
    "StepRecord",
    "catalog",
    "find",
    "headless",
    "load",
    "resume",
    "run",
]

"""Incidents made on purpose, for tests and for practice: what went wrong is known exactly, and kept aside.

:func:`make` builds an incident in memory, the same for the same name and seed: every arrival, and the truth about it.
:func:`simulate` makes it happen on the embedded AWS. :func:`pik.incidents.memory.frame` gives the same arrivals as the
workbench would read them, without any AWS, so that many seeds can be measured quickly.

>>> make("duplicate-storm", 7).source
'DL-sim-duplicate-storm-7'
"""

from __future__ import annotations

from pik.incidents.inject import simulate, truth_path
from pik.incidents.kinds import NAMES, make
from pik.incidents.model import Arrived, Incident

__all__ = ["NAMES", "Arrived", "Incident", "make", "simulate", "truth_path"]

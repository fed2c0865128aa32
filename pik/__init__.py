"""Pipeline Investigation Kit: roll out, observe, replay and explain an event capture-and-replay pipeline on AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pik.workbench import Workbench

__all__ = ["__version__", "connect"]
__version__ = "0.1.0"


def connect(env: str = "local") -> Workbench:
    """Return the workbench of an environment: ``wb = pik.connect("dev")``; see :func:`pik.workbench.connect`."""
    from pik.workbench import connect as connected

    return connected(env)

"""How a notebook knows that nobody is watching: one name, one place."""

from __future__ import annotations

import os

HEADLESS = "PIK_HEADLESS"


def headless() -> bool:
    """Whether this process is a step of a run (no input widgets, no questions) rather than somebody's notebook."""
    return os.environ.get(HEADLESS, "") not in ("", "0")

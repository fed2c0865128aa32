"""Pipeline Investigation Kit: roll out, observe, replay and explain an event capture-and-replay pipeline on AWS."""

from __future__ import annotations

__version__ = "0.1.0"

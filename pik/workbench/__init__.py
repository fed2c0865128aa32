"""What an engineer reads with: events, raw objects, queues, replays, aggregates, and what they say together."""

from __future__ import annotations

from pik.workbench.workbench import Workbench, connect

__all__ = ["Workbench", "connect"]

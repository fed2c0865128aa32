"""How much memory the embedded AWS takes and how much more it may: it keeps everything but S3's objects in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

# Measured: the rows of one event in the tables 13 kB, its log lines 6 kB, the rest data points and S3's index.
EVENT_BYTES = 22_000
RESERVE_BYTES = 200_000_000  # for everything else on the machine
WORKER_BYTES = 60_000_000  # each warm Lambda worker; ten of them run at most
FEW_EVENTS = 5_000
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """What the processes of an instance take, and what is left on this machine (or in this container), in bytes."""

    used: int
    left: int

    @property
    def events(self) -> int:
        """How many more events fit, about. A snapshot is written by a copy that needs a quarter of what there is."""
        return max(0, (self.left - RESERVE_BYTES - self.used // 4) // EVENT_BYTES)

    @property
    def warning(self) -> str:
        """What to do when there is little left; an empty text otherwise.

        >>> Memory(used=400_000_000, left=8_000_000_000).warning
        ''
        >>> Memory(used=400_000_000, left=250_000_000).warning[:34]
        'memory is short: about 0 more even'
        """
        if self.events >= FEW_EVENTS:
            return ""
        return (
            f"memory is short: about {self.events:,} more events fit. Ingest less, end other programs, or start anew: "
            "pik local reset"
        )


def memory(pids: Iterable[int], cgroup: Path = _CGROUP) -> Memory:
    """Return what processes take together (pages that they share count once each) and what is left."""
    used = 0
    for pid in pids:
        try:
            used += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    return Memory(used, min(psutil.virtual_memory().available, _left_in_container(cgroup)))


def _left_in_container(cgroup: Path) -> int:
    """Return what the control group (version 2) of a container has left; a very large number without a limit."""
    try:
        return int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return 2**62

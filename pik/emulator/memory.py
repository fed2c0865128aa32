"""How much memory the embedded AWS takes and how much more it may: it keeps everything but S3's objects in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

# Measured with python -m bench memory; docs/bench.md says what of.
EVENT_BYTES = 14_000
COPY_SHARE = 0.9  # of what the process takes, the copy that writes a snapshot takes once more
RESERVE_BYTES = 200_000_000  # for everything else on the machine
FEW_EVENTS = 5_000
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryUse:
    """What an instance takes, and what is left, in bytes.

    ``used``: by all its processes; ``left``: on this machine, or in this container; ``own``: of what is used, by the
    process that holds the data. The others are Lambda workers, which do not grow.
    """

    used: int
    left: int
    own: int = 0

    @property
    def events(self) -> int:
        """How many more events fit, about. An event takes a part of its bytes once more while it is saved."""
        room = self.left - RESERVE_BYTES - COPY_SHARE * self.own
        return max(0, int(room / (EVENT_BYTES * (1 + COPY_SHARE))))

    @property
    def warning(self) -> str:
        """What to do when there is little left; an empty text otherwise.

        >>> MemoryUse(used=400_000_000, left=8_000_000_000).warning
        ''
        >>> MemoryUse(used=400_000_000, left=250_000_000, own=200_000_000).warning[:34]
        'memory is short: about 0 more even'
        """
        if self.events >= FEW_EVENTS:
            return ""
        return (
            f"memory is short: about {self.events:,} more events fit. Ingest less, end other programs, or start anew:\n"
            "pik local reset"
        )


def memory(pids: Iterable[int], cgroup: Path = _CGROUP) -> MemoryUse:
    """Return what processes take together (a page that they share counts once) and what is left."""
    taken = [0]
    for pid in pids:
        try:
            taken.append(_taken(psutil.Process(pid)))
        except psutil.Error:
            continue
    left = min(psutil.virtual_memory().available, _left_in_container(cgroup))
    return MemoryUse(sum(taken), left, max(taken))


def _taken(process: psutil.Process) -> int:
    """Return a process's share: of a page that three have a third each, as the copy that writes a snapshot has most."""
    if psutil.LINUX:
        return int(process.memory_full_info().pss)
    return int(process.memory_info().rss)


def _left_in_container(cgroup: Path) -> int:
    """Return what the control group (version 2) of a container has left; a very large number without a limit."""
    try:
        return int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return 2**62

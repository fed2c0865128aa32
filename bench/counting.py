"""How fast the processor counts many events of one entity and day: all of them add to the same row.

On an embedded AWS of its own, with the real template and event source mapping: the events are ingested, a replay of
all of them is put into the queue while the mapping is off, and the time runs from its being switched on to the last
contribution in the aggregates table.

``PIK_BENCH_BESIDE=DIR`` names another checkout (``make setup`` done in it): its code counts in the same run, in turns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.rollback import BESIDE, worker
from pik import project

COLUMNS = ["code", "messages", "seconds, median", "smallest", "largest", "messages a second", "dead letters"]
ENTITY, PATIENCE = "hot", 900.0  # seconds


def run(*, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Have the processor count replays of one entity and day; return the measurements."""
    plan = {"rounds": 1 if quick else 3, "events": 200 if quick else 3_000}
    started, load = datetime.now(UTC).isoformat(timespec="seconds"), f"{os.getloadavg()[0]:.2f}"
    checkouts = {"this": project.ROOT}
    if os.environ.get(BESIDE):
        checkouts["before"] = Path(os.environ[BESIDE])
    measured: list[dict[str, Any]] = []
    with ExitStack() as stack:
        workers = [(name, stack.enter_context(worker(path))) for name, path in checkouts.items()]
        for name, ask in workers:
            ask({"do": "start"})
            ask({"do": "ingest", "entity": ENTITY, "events": plan["events"]})
            say(f"{name}: {plan['events']:,} events ingested")
        for number in range(plan["rounds"]):
            for name, ask in workers if number % 2 == 0 else reversed(workers):
                found = ask({"do": "drain", "entity": ENTITY, "replay": f"bench-{number}", "patience": PATIENCE})
                measured.append({"code": name, **found})
                say(str(measured[-1]))
    return {
        "bench": "counting",
        "started": started,
        "quick": quick,
        "note": f"Measured {started} on {os.cpu_count()} CPUs, load average {load} before.",
        "plan": plan,
        "measured": measured,
        "tables": [["Counting", COLUMNS, list(_rows(measured))]],
    }


def _rows(measured: list[dict[str, Any]]) -> Iterator[list[str]]:
    for code in dict.fromkeys(one["code"] for one in measured):
        part = [one for one in measured if one["code"] == code]
        seconds = [one["seconds"] for one in part]
        speed = median(one["counted"] / one["seconds"] for one in part)
        figures = (f"{n:.1f}" for n in (median(seconds), min(seconds), max(seconds), speed))
        sent, dead = (", ".join(f"{one[name]:,}" for one in part) for name in ("sent", "dead"))
        yield [code, sent, *figures, dead]

"""How long from ``pik rollback`` to the last message consumed, and to the end.

On an embedded AWS of its own the processor is at work on a full queue while ``pik rollback`` is run, as the command:
with the events of a day in the stores, then with 300,000 rows more, which expire at 20 a second and are deleted
meanwhile: neither must make it slower. When each message was counted is in the aggregates table (``counted`` of each
contribution), so the last message consumed is read there, and not from what the rollback says of itself.

``PIK_BENCH_BESIDE=DIR`` names another checkout (``make setup`` done in it): its code rolls back in the same run, in
turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from pik import project

BESIDE = "PIK_BENCH_BESIDE"
WORKER = Path(__file__).with_name("checkout_worker.py")
COLUMNS = ["code", "rows", "seconds since the command was started", "median", "smallest", "largest", "exit codes"]
FIGURES = {
    "last_message": "last message consumed, as the aggregates table has it",
    "done": "the whole command: stack converged, stores compared, recorded in the ledger",
}
SMALL, LARGE = "the events of a day", "{rows:,} more, expiring"


def run(*, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Roll back from a processor at work, half the times with many rows in the stores; return the measurements."""
    plan = {"rounds": 1 if quick else 3, "copies": 4, "rows": 1_000 if quick else 300_000}
    started, load = datetime.now(UTC).isoformat(timespec="seconds"), f"{os.getloadavg()[0]:.2f}"
    checkouts = {"this": project.ROOT}
    if os.environ.get(BESIDE):
        checkouts["before"] = Path(os.environ[BESIDE])
    measured: list[dict[str, Any]] = []
    with ExitStack() as stack:
        workers = [(name, stack.enter_context(worker(path))) for name, path in checkouts.items()]
        for _, ask in workers:
            ask({"do": "start"})
        for size in (SMALL, LARGE):
            for name, ask in workers if size == LARGE else ():
                say(f"{name}: {ask({'do': 'seed', 'rows': plan['rows'] // 2})}")
            for number in range(plan["rounds"]):
                for name, ask in workers if number % 2 == 0 else reversed(workers):
                    found = ask({"do": "round", "number": len(measured), "copies": plan["copies"]})
                    measured.append({"code": name, "size": size.format(**plan), **found})
                    say(str(measured[-1]))
    kept = [one["kept"] for one in measured]
    return {
        "bench": "rollback",
        "started": started,
        "quick": quick,
        "note": f"Measured {started} on {os.cpu_count()} CPUs, load average {load} before; {len(measured)} rollbacks, "
        f"{min(kept)} to {max(kept)} messages kept in the queue; "
        f"{sum(one['expired'] for one in measured):,} rows expired and were deleted meanwhile.",
        "plan": plan,
        "measured": measured,
        "tables": [["Rollback", COLUMNS, list(_rows(measured))]],
    }


def _rows(measured: list[dict[str, Any]]) -> Iterator[list[str]]:
    for size in dict.fromkeys(one["size"] for one in measured):
        for code in dict.fromkeys(one["code"] for one in measured):
            part = [one for one in measured if (one["size"], one["code"]) == (size, code)]
            exits = ", ".join(str(one["exit"]) for one in part)
            for name, words in FIGURES.items():
                values = [one[name] for one in part]
                yield [code, size, words, *(f"{n:.2f}" for n in (median(values), min(values), max(values))), exits]


@contextmanager
def worker(checkout: Path) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """Start a worker with the code of a checkout; yield what sends it an order and returns its answer."""
    python = checkout / ".venv" / "bin" / "python"
    command = [str(python if python.exists() else sys.executable), "-P", str(WORKER)]
    with subprocess.Popen(command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin  # noqa: S101 - they are pipes
        assert process.stdout  # noqa: S101
        stdin, stdout = process.stdin, process.stdout

        def ask(order: dict[str, Any]) -> dict[str, Any]:
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
            line = stdout.readline()
            if not line:
                raise RuntimeError(f"the worker of {checkout} ended: see above")
            return dict(json.loads(line))

        try:
            yield ask
        finally:
            stdin.close()

"""Reading: rows to a frame and raw objects to a frame, the project beside boto3, in turns, each in its own process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

COLUMNS = ["", "", "seconds", "CPU seconds", "memory MB", "times as fast as boto3"]
# (what, the project's way, boto3's way), first to last as they are shown
PAIRS = (
    ("{rows:,} rows to a frame", "rows_project", "rows_boto3"),
    ("{rows:,} rows, boto3 with 16 segments in threads", "rows_project", "rows_boto3_segments"),
    ("{objects:,} raw objects to a frame (project: verified)", "objects_project", "objects_boto3"),
    ("{objects:,} raw objects, bytes only", "objects_project_bytes", "objects_boto3_bytes"),
)


def run(*, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the benchmark and return everything that was measured, JSON-able."""
    plan = {"rows": 2_000, "objects": 200, "rounds": 1} if quick else {"rows": 100_000, "objects": 10_000, "rounds": 3}
    load, started = round(os.getloadavg()[0], 2), datetime.now(UTC).isoformat(timespec="seconds")
    say("preparing answers")
    command = [sys.executable, "-m", "bench.reading_server", str(plan["rows"]), str(plan["objects"])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout  # noqa: S101 - it is a pipe
        port = server.stdout.readline().strip()
        measured = _rounds(plan, port, say)
        assert server.stdin  # noqa: S101 - it is a pipe
        server.stdin.close()
    machine = f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, {platform.python_version()}"
    return {
        "bench": "reading",
        "started": started,
        "quick": quick,
        "note": f"Measured {started} on {machine}, load average {load} before; medians of {plan['rounds']} rounds.",
        "plan": plan,
        "measured": measured,
        "tables": [["Reading", COLUMNS, _rows(measured, plan)]],
    }


def _rounds(plan: dict[str, int], port: str, say: Callable[[str], None]) -> dict[str, list[dict[str, float]]]:
    kinds = list(dict.fromkeys(kind for _, *pair in PAIRS for kind in pair))
    measured: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for number in range(plan["rounds"]):
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            count = plan["rows" if kind.startswith("rows") else "objects"]
            done = subprocess.run(
                [sys.executable, "-m", "bench.reading_client", kind, port, str(count)],
                capture_output=True,
                check=True,
                text=True,
            )
            figures = json.loads(done.stdout)
            if figures["found"] != count:
                raise RuntimeError(f"{kind} found {figures['found']} of {count}")
            measured[kind].append(figures)
            say(f"round {number + 1} of {plan['rounds']}: {kind} {figures['seconds']:.2f} s")
    return measured


def _rows(measured: dict[str, list[dict[str, float]]], plan: dict[str, int]) -> list[list[str]]:
    rows = []
    for what, ours, theirs in PAIRS:
        ratios = sorted(b["seconds"] / a["seconds"] for a, b in zip(measured[ours], measured[theirs], strict=True))
        for name, kind in (("project", ours), ("boto3", theirs)):
            middle = {
                key: median(entry[key] for entry in measured[kind]) for key in ("seconds", "cpu_seconds", "peak_mb")
            }
            ratio = f"{median(ratios):.1f} ({ratios[0]:.1f}–{ratios[-1]:.1f})" if kind == ours else ""
            figures = [f"{middle['seconds']:.2f}", f"{middle['cpu_seconds']:.2f}", f"{middle['peak_mb']:,.0f}"]
            rows.append([what.format(**plan), name, *figures, ratio])
    return rows

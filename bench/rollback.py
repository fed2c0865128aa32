"""How long from ``pik rollback`` to the last message consumed, and to the end.

On an embedded AWS of its own the processor is at work on a full queue while ``pik rollback`` is run, as the command:
with the events of a day in the stores, then with many rows more, which a rollback must not take longer for.
When each message was counted is in the aggregates table (``counted`` of each contribution), so the last message
consumed is read there, and not from what the rollback says of itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.embedded import embedded

PIK = Path(sys.executable).with_name("pik")
COLUMNS = ["seconds since the command was started", "median", "smallest", "largest"]
FIGURES = {
    "last_message": "last message consumed, as the aggregates table has it",
    "done": "the whole command: stack converged, stores proven the same, recorded in the ledger",
}


def run(*, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Roll back from a processor at work, half the times with many rows in the stores; return the measurements."""
    plan = {"rounds": 2 if quick else 10, "copies": 4, "rows": 1_000 if quick else 30_000}
    started, load = datetime.now(UTC).isoformat(timespec="seconds"), f"{os.getloadavg()[0]:.2f}"
    with embedded() as env:
        half = plan["rounds"] // 2
        measured = [_round(env, number, plan["copies"], say) for number in range(half)]
        _seed(env, plan["rows"])
        measured += [_round(env, number, plan["copies"], say) for number in range(half, plan["rounds"])]
    rows = []
    for size, part in (("the events of a day", measured[:half]), (f"{2 * plan['rows']:,} rows more", measured[half:])):
        for name, words in FIGURES.items():
            values = [one[name] for one in part]
            rows.append([f"{size}: {words}", *(f"{one:.2f}" for one in (median(values), min(values), max(values)))])
    kept = [one["kept"] for one in measured]
    return {
        "bench": "rollback",
        "started": started,
        "quick": quick,
        "note": f"Measured {started} on {os.cpu_count()} CPUs, load average {load} before; {plan['rounds']} rollbacks, "
        f"{min(kept)} to {max(kept)} messages kept in the queue.",
        "plan": plan,
        "measured": measured,
        "tables": [["Rollback", COLUMNS, rows]],
    }


def _round(env: Any, number: int, copies: int, say: Callable[[str], None]) -> dict[str, Any]:
    from pik import producer
    from pik.rollout import mapping
    from pik.rollout.deploy import deploy

    if not number and not producer.send(producer.load("flights:2013-01-01"), env).safe:
        raise RuntimeError("the events were not taken: there is nothing to measure")
    deploy(env, "processor")
    mapping.switch(env, env.outputs(), on=False)
    sent = _fill(env, f"bench-{number}", copies)
    mapping.switch(env, env.outputs(), on=True)
    time.sleep(1.0)  # it is in the middle of its work
    began = time.time()
    done = subprocess.run([PIK, "rollback", "--env", env.name, "--json"], capture_output=True, text=True, check=True)
    seconds = time.time() - began
    said, times = json.loads(done.stdout), _counted(env, began)
    if not times or not said["queue_after"]:
        raise RuntimeError(f"the processor was not at work: {len(times)} counted, {said['queue_after']} left of {sent}")
    last = max(times) - began
    say(f"rollback {number + 1}: last message after {last:.2f} s, done after {seconds:.1f} s")
    return {
        "last_message": round(last, 2),
        "done": round(seconds, 2),
        "counted": len(times),
        "kept": said["queue_after"],
    }


def _fill(env: Any, replay: str, copies: int) -> int:
    """Put every event into the queue, ``copies`` times, each time as another replay; return how many messages."""
    from pik.pipeline import queue
    from pik.rollout.reading import Stores
    from pik.rollout.replaying import busiest

    stores, bodies = Stores(env), list[str]()
    for selection in busiest(stores, 1000):
        bodies += [
            queue.dumps(
                queue.message(
                    row,
                    replay_id=f"{replay}-{copy}",
                    entity_id=selection.entity_id,
                    bucket=stores.outputs["RawBucket"],
                )
            )
            for row in selection.rows
            for copy in range(copies)
        ]
    for start in range(0, len(bodies), queue.BATCH):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + queue.BATCH])]
        env.client("sqs").send_message_batch(QueueUrl=stores.outputs["QueueUrl"], Entries=entries)
    return len(bodies)


def _seed(env: Any, rows: int) -> None:
    """Put rows into the events table and as many into the dedupe table, past the pipeline: it is size that counts."""
    client, outputs = env.client("dynamodb"), env.outputs()

    def put(start: int) -> None:
        numbers = range(start, min(start + 25, rows))
        events = [
            {"PK": {"S": f"ENTITY#seed-{n % 500}"}, "SK": {"S": f"TS#{n:012d}"}, "x": {"S": "x" * 300}} for n in numbers
        ]
        dedupe = [{"event_id": {"S": f"{n:064d}"}, "x": {"S": "x" * 120}} for n in numbers]
        for table, items in (("EventsTable", events), ("DedupeTable", dedupe)):
            client.batch_write_item(RequestItems={outputs[table]: [{"PutRequest": {"Item": one}} for one in items]})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(0, rows, 25)))


def _counted(env: Any, since: float) -> list[float]:
    """When each message was counted that was counted since a moment (seconds since 1970)."""
    from pik.events import parse_time

    scan = env.client("dynamodb").get_paginator("scan")
    pages = scan.paginate(TableName=env.outputs()["AggregatesTable"], ConsistentRead=True)
    items = (item for page in pages for item in page["Items"] if "counted" in item)
    return [moment for item in items if (moment := parse_time(item["counted"]["S"]).timestamp()) >= since]

"""One way of reading in its own process: ``python -m bench.reading_client KIND PORT COUNT`` prints its figures."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from boto3.dynamodb.types import TypeDeserializer

from bench.reading_server import make
from pik import (
    events,
    frames,
)
from pik.environments import Environment
from pik.workbench import Workbench

OUTPUTS = {"EventsTable": "events", "RawBucket": "raw-bucket"}


def _workbench(port: int) -> Workbench:
    return Workbench(Environment("local", "us-east-1", f"http://127.0.0.1:{port}"), "000000000000", "bench", OUTPUTS)


def _known(count: int) -> pd.DataFrame:
    rows = []
    for number in range(count):
        event, arrival, _ = make(number)
        facts = {"event_id": event.event_id, "status": "ACCEPTED", "s3_key": events.raw_key(event)}
        rows.append({**facts, "payload_sha256": event.payload_sha256, "body_sha256": arrival.body_sha256})
    return frames.frame(frames.EVENTS, rows)


def rows_project(wb: Workbench, count: int) -> int:
    """Read all rows as the workbench does: segments in parallel, Arrow columns."""
    return len(wb.events(allow_scan=True))


def rows_boto3(wb: Workbench, count: int) -> int:
    """Read all rows as the boto3 documentation shows."""
    deserialize = TypeDeserializer().deserialize
    found = [
        {name: deserialize(value) for name, value in item.items()}
        for page in wb.environment.client("dynamodb").get_paginator("scan").paginate(TableName="events")
        for item in page["Items"]
    ]
    return len(pd.DataFrame(found))


def rows_boto3_segments(wb: Workbench, count: int) -> int:
    """The same with segments in 16 threads."""
    deserialize = TypeDeserializer().deserialize
    client = wb.environment.client("dynamodb", max_pool_connections=16)

    def segment(number: int) -> list[dict[str, object]]:
        pages = client.get_paginator("scan").paginate(TableName="events", Segment=number, TotalSegments=16)
        return [{k: deserialize(v) for k, v in item.items()} for page in pages for item in page["Items"]]

    with ThreadPoolExecutor(16) as pool:
        return len(pd.DataFrame([row for rows in pool.map(segment, range(16)) for row in rows]))


def objects_project(wb: Workbench, count: int) -> int:
    """Raw objects as ``wb.raw`` returns them: verified, payloads as columns."""
    found = wb.raw(_KNOWN)
    return int(found["hash_ok"].sum())


def objects_project_bytes(wb: Workbench, count: int) -> int:
    """Only the bytes, as the workbench fetches them."""
    keys = _KNOWN["s3_key"].tolist()
    return sum(1 for body in wb.objects.many(keys, lambda _, o: o and o.body) if body)


def objects_boto3_bytes(wb: Workbench, count: int) -> int:
    """Only the bytes, with boto3 in 32 threads."""
    client = wb.environment.client("s3", max_pool_connections=32)
    with ThreadPoolExecutor(32) as pool:
        return sum(
            1
            for body in pool.map(
                lambda k: client.get_object(Bucket="raw-bucket", Key=k)["Body"].read(), _KNOWN["s3_key"]
            )
            if body
        )


def objects_boto3(wb: Workbench, count: int) -> int:
    """Payloads as columns with boto3 in 32 threads; nothing is verified."""
    client = wb.environment.client("s3", max_pool_connections=32)
    with ThreadPoolExecutor(32) as pool:
        bodies = pool.map(lambda k: json.load(client.get_object(Bucket="raw-bucket", Key=k)["Body"]), _KNOWN["s3_key"])
        return len(pd.json_normalize(list(bodies)))


KINDS: dict[str, Callable[[Workbench, int], int]] = {
    function.__name__: function
    for function in (
        *(rows_project, rows_boto3, rows_boto3_segments),
        *(objects_project, objects_boto3, objects_project_bytes, objects_boto3_bytes),
    )
}
_KNOWN: pd.DataFrame


def _memory() -> float:
    """Resident memory now, in MB."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Measure one way of reading."""
    global _KNOWN  # noqa: PLW0603 - made before the clock starts
    kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    wb = _workbench(port)
    _KNOWN = _known(count if kind.startswith("objects") else 0)
    for service in ("dynamodb", "s3"):
        wb.environment.client(service)
    before = _memory()
    started, cpu = time.perf_counter(), time.process_time()
    found = KINDS[kind](wb, count)
    figures = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 - before,
        "found": found,
    }
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()

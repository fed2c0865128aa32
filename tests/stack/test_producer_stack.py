"""The producer against the real API: exactly once, and sending again changes nothing that was stored first."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pik
from pik import producer
from pik.aws import stored
from pik.environments import Environment
from pik.mappings import catalog
from pik.mappings.apply import Applied
from pik.pipeline.parsing import parse_event
from pik.producer import Item

Deploy = Callable[[str], dict[str, str]]
CASES = Path(__file__).parent.parent / "cases"
DAY, EVENTS = "flights:2013-01-13", 250


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    """A file of its own: events that no other test sends, each line with bytes that no JSON library would write."""
    items = [json.loads(item.body) for item in producer.open_source(DAY)][:EVENTS]
    lines = [json.dumps({**event, "entity_id": f"t-{event['entity_id']}"}, indent=None) + "  " for event in items]
    path = tmp_path / "flights.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_all_accepted_exactly_once_then_all_duplicates(
    embedded_env: Environment, deployed: Deploy, flights: Path
) -> None:
    outputs = deployed("ingest")
    first = run_cli(flights)
    assert first["accepted"] == first["total"] == EVENTS, first
    assert first["safe"] is True
    stored = snapshot(embedded_env, outputs)
    mine = {item.body for item in producer.open_source(str(flights))}
    assert mine <= raw_bodies(embedded_env, outputs, stored)  # byte for byte

    again = run_cli(flights)
    assert again["duplicate"] == again["total"] == EVENTS, again
    assert snapshot(embedded_env, outputs) == stored  # not one row or object changed, none added
    assert duplicates(embedded_env, outputs) >= EVENTS  # and yet every arrival has its own row


def test_the_same_event_many_times_at_once_is_accepted_once(embedded_env: Environment, deployed: Deploy) -> None:
    deployed("ingest")
    events = [{**event, "entity_id": f"u-{event['entity_id']}"} for event in producer.load(DAY)][:20]
    summary = producer.send([event for event in events for _ in range(4)], embedded_env, concurrency=16)
    assert (summary.accepted, summary.duplicate, summary.total) == (20, 60, 80), summary


def test_what_is_not_an_event_is_kept_aside_not_lost(
    embedded_env: Environment, deployed: Deploy, tmp_path: Path
) -> None:
    outputs = deployed("ingest")
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"not json \xff\n")
    summary = producer.send(producer.open_source(str(path)), embedded_env)
    assert (summary.rejected, summary.exit_code) == (1, 4)
    s3 = embedded_env.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=outputs["RawBucket"], Prefix="rejected/")
    kept = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    bodies = [s3.get_object(Bucket=outputs["RawBucket"], Key=key)["Body"].read() for key in kept]
    assert b"not json \xff" in bodies


def test_an_idempotency_key_with_other_facts_is_a_conflict(embedded_env: Environment, deployed: Deploy) -> None:
    deployed("ingest")
    event = next(producer.load(DAY)) | {"entity_id": "v-1", "idempotency_key": "k-1"}
    other = event | {"payload": {"changed": True}}
    assert producer.send([event], embedded_env).accepted == 1
    summary = producer.send([Item(42, producer.encode(other))], embedded_env)
    assert (summary.conflict, summary.exit_code, summary.problems[0].number) == (1, 4, 42)


def test_a_dry_run_writes_nothing(embedded_env: Environment, deployed: Deploy) -> None:
    outputs = deployed("ingest")
    before = snapshot(embedded_env, outputs)
    events = [{**event, "entity_id": f"w-{event['entity_id']}"} for event in producer.load(DAY)][:5]
    summary = producer.send(events, embedded_env, dry_run=True)
    assert (summary.accepted, summary.dry_run, summary.safe) == (5, True, True)
    assert snapshot(embedded_env, outputs) == before


def test_a_record_of_another_shape_is_kept_with_its_line_and_explained(
    embedded_env: Environment, deployed: Deploy
) -> None:
    outputs = deployed("ingest")
    path, mapping = CASES / "stripe.jsonl", catalog.find("stripe")
    assert producer.send(producer.open_source(str(path)), embedded_env).problems[0].mapping == "stripe"
    before = snapshot(embedded_env, outputs)
    (item,) = producer.open_source(str(path), mapping=Applied(mapping))
    for verdict in ("accepted", "duplicate"):
        assert getattr(producer.send([item], embedded_env), verdict) == 1
    kept = raw_bodies(embedded_env, outputs, snapshot(embedded_env, outputs)) - raw_bodies(
        embedded_env, outputs, before
    )
    assert {stored.original(body) for body in kept} == {path.read_bytes().rstrip()}
    told = pik.connect("local").explain(parse_event(item.body, {}).event_id).to_text()
    assert f"made by mapping {mapping.reference}" in told


def run_cli(path: Path) -> dict[str, Any]:
    """Run the real command, as a person would, with a proxy in the shell that must not matter."""
    done = subprocess.run(
        [sys.executable, "-c", "from pik.cli import main; main()", "ingest", str(path), "--env", "local", "--json"],
        env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def snapshot(env: Environment, outputs: dict[str, str]) -> dict[str, Any]:
    """Everything that a first arrival wrote: base rows, dedupe rows, and every version of every raw object."""
    base = [row for row in scan(env, outputs["EventsTable"]) if "#ARR#" not in row["SK"]["S"]]
    versions = env.client("s3").get_paginator("list_object_versions")
    pages = list(versions.paginate(Bucket=outputs["RawBucket"], Prefix="raw/"))
    return {
        "events": sorted(json.dumps(row, sort_keys=True) for row in base),
        "dedupe": sorted(json.dumps(row, sort_keys=True) for row in scan(env, outputs["DedupeTable"])),
        "raw": sorted((v["Key"], v["VersionId"], v["ETag"]) for page in pages for v in page.get("Versions", [])),
        "deleted": [marker for page in pages for marker in page.get("DeleteMarkers", [])],
    }


def raw_bodies(env: Environment, outputs: dict[str, str], stored: dict[str, Any]) -> set[bytes]:
    s3 = env.client("s3")
    return {s3.get_object(Bucket=outputs["RawBucket"], Key=key)["Body"].read() for key, _, _ in stored["raw"]}


def duplicates(env: Environment, outputs: dict[str, str]) -> int:
    return sum(row["status"]["S"] == "DUPLICATE" for row in scan(env, outputs["EventsTable"]))


def scan(env: Environment, table: str) -> list[dict[str, Any]]:
    pages = env.client("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [item for page in pages for item in page["Items"]]

"""The workbench reads a deployed stack: arrivals, raw objects, SQL on both engines; nothing is changed by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pik
from pik import events, frames, project
from pik.aws import signed
from pik.environments import Environment
from pik.workbench import Workbench
from tests.conftest import Deploy
from tests.inventory import inventory

SOURCE, PLAIN, DAY = "reading/ä", "READING", "2013-05-01"
COUNT = 30


def send(env: Environment, outputs: dict[str, str], source: str, n: int) -> dict[str, Any]:
    body = {
        "source": source,
        "event_type": "read.odd" if n % 2 else "read.even",
        "entity_id": f"reader {n % 3}",
        "event_time": f"{DAY}T{n % 24:02d}:00:00Z",
        "payload": {"n": n, "inner": {"text": f"ü{n}"}},
    }
    answer = signed.request(env, "POST", outputs["IngestUrl"], json.dumps(body).encode())
    return dict(answer.json())


@pytest.fixture(scope="module")
def sent(embedded_env: Environment, deployed: Deploy) -> list[str]:
    outputs = deployed("ingest")
    ids = [send(embedded_env, outputs, SOURCE, n)["event_id"] for n in range(COUNT)]
    assert send(embedded_env, outputs, SOURCE, 0)["status"] == "DUPLICATE"
    for n in range(4):
        send(embedded_env, outputs, PLAIN, n)
    return ids


@pytest.fixture
def wb(sent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setattr(project, "STATE", tmp_path)
    return pik.connect("local")


def test_every_way_of_asking_finds_the_same_arrivals(wb: Workbench, sent: list[str]) -> None:
    today = events.now()[:10]
    by_source = wb.events(source=SOURCE, day=DAY)
    assert len(by_source) == COUNT + 1
    assert sorted(by_source["event_id"].unique()) == sorted(sent)
    assert by_source["event_time"].is_monotonic_increasing
    assert by_source.attrs["consumed_capacity"] > 0
    ways = {
        "window": wb.events(source=SOURCE, start=f"{DAY}T00:00:00Z", end="2013-05-02"),
        "types": wb.events(source=SOURCE, event_type="read.odd", day=DAY),
        "even": wb.events(source=SOURCE, event_type="read.even", day=DAY),
        "ids": wb.events(event_ids=[*sent, "0" * 64]),
        "scan": wb.events(source=SOURCE, allow_scan=True),
        "lag": wb.events(source=SOURCE, day=DAY, min_lag="1d"),
        "ingested": wb.events(source=SOURCE, ingested=(f"{today}T00:00:00Z", "2100-01-01")),
    }
    assert len(ways["types"]) + len(ways["even"]) == COUNT + 1
    assert ways["ids"].attrs["not_found"] == ["0" * 64]
    for name in ("window", "ids", "scan", "lag", "ingested"):
        assert ways[name].equals(by_source), name
    assert list(wb.events(source=SOURCE, day=DAY, status="DUPLICATE")["event_id"]) == [sent[0]]
    entity = wb.events(entity="reader 1", source=SOURCE, start=f"{DAY}T01:00:00Z", end=f"{DAY}T04:00:01Z")
    assert [t.hour for t in entity["event_time"]] == [1, 1, 4, 4]
    assert len(wb.events(source=SOURCE, day=DAY, min_lag="40000d")) == 0


def test_pages_are_read_to_the_end(wb: Workbench, monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    from pik.aws.dynamodb import Reader
    from pik.workbench import metadata

    said: list[str] = []
    requests, _ = metadata._requests(wb, metadata.EventFilter(source=SOURCE, start=f"{DAY}", allow_scan=True))
    reader = Reader(wb.environment, metadata.COLUMNS)
    table = reader.read([(name, {**arguments, "Limit": 2}) for name, arguments in requests], said.append)
    assert set(sent) <= set(metadata._conform(table)["event_id"].to_pylist())  # which most rows leave to their keys
    assert reader.consumed.requests > len(requests)
    assert said[-1].startswith(f"{table.num_rows:,} rows")


def test_raw_objects_are_verified_and_flattened(wb: Workbench, sent: list[str]) -> None:
    frame = wb.raw(wb.events(source=SOURCE, day=DAY))
    assert len(frame) == COUNT
    assert frame["hash_ok"].all()
    assert frame["problem"].isna().all()
    assert sorted(frame["payload.n"]) == list(range(COUNT))
    assert set(frame["payload.inner.text"]) == {f"ü{n}" for n in range(COUNT)}
    assert list(frame.columns[: len(frames.RAW.names)]) == frames.RAW.names
    by_id = wb.raw(sent[:3], flatten=False)
    assert set(by_id["event_id"]) == set(sent[:3])
    assert json.loads(by_id["payload"][0])["n"] in range(COUNT)
    assert list(wb.raw(wb.events(source=SOURCE, day=DAY), sample=2)["event_id"]) == list(
        wb.raw(wb.events(source=SOURCE, day=DAY), sample=2)["event_id"]
    )


def test_sql_runs_here_on_what_it_needs_and_fetches_it_once(wb: Workbench) -> None:
    query = (
        "SELECT hour, count(*) AS n, sum(CAST(json_extract_scalar(body, '$.payload.n') AS INTEGER)) AS total,"
        " min(event_time) AS first FROM raw"
        " WHERE source = 'reading/ä' AND event_date = '2013-05-01' GROUP BY hour ORDER BY 1"
    )
    said: list[str] = []
    first, again = (wb.sql(query, progress=said.append) for _ in range(2))
    assert first["n"].sum() == COUNT
    assert first["total"].sum() == sum(range(COUNT))
    assert [str(kind) for kind in first.dtypes] == [*["int64[pyarrow]"] * 3, "timestamp[us, tz=UTC][pyarrow]"]
    assert first.equals(again)
    assert said[0].startswith(f"{COUNT} objects")
    assert first.attrs["fetched_bytes"] > 0 == again.attrs["fetched_bytes"]


def test_athena_answers_as_duckdb_does(wb: Workbench) -> None:
    query = (
        "SELECT event_type, hour, json_extract(body, '$.payload.n') AS n FROM raw WHERE source = 'READING'"
        " AND event_type IN ('read.odd', 'read.even') AND event_date = '2013-05-01' ORDER BY hour"
    )
    said: list[str] = []
    there, here = wb.sql(query, engine="athena", progress=said.append), wb.sql(query, progress=None)
    assert there.equals(here)
    assert list(there["n"]) == ["0", "1", "2", "3"]
    assert said[0].startswith("Athena reads 4 objects")
    assert "$" in said[0]


def test_reading_changes_nothing(wb: Workbench, sent: list[str]) -> None:
    before = inventory(wb.environment)
    wb.raw(wb.events(source=SOURCE, day=DAY))
    wb.sql("SELECT count(*) FROM raw WHERE source = 'READING'", progress=None)
    wb.events(event_ids=sent)
    assert inventory(wb.environment) == before

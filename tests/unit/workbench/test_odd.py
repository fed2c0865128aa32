"""What people have and send: odd messages, long names, deep payloads. Nothing of it blinds the workbench."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import boto3
import pytest

from pik import events, frames
from pik.aws import stored
from pik.aws.objects import Object
from pik.events import encode
from pik.notebooks.investigations import base
from pik.notebooks.investigations.health import DailyHealth
from pik.pipeline import ingest
from pik.pipeline.http import Request
from pik.pipeline.parsing import Rejected
from pik.pipeline.settings import Settings
from pik.workbench import Workbench, raw, versions
from pik.workbench.consistency import snapshot
from pik.workbench.consistency.reconcile import disagreements
from pik.workbench.consistency.snapshot import StoredObject
from pik.workbench.log_lines import fields
from pik.workbench.sql import cache, layout
from pik.workbench.telemetry import LOGS
from tests.unit.moto_workbench import workbench
from tests.unit.workbench.consistency.test_reconcile import snapshot as made_up

Ask = Callable[..., dict[str, Any]]
HALF = '{"v": 1, "entity_id": "raw\\ud800", "s3_key": "raw/\\ud800", "replay_id": 7, "event_time": []}'
DEEP = "[" * 100_000
LONG = "航空会社の" * 12  # 60 characters, 540 when they are encoded


@pytest.fixture
def wb(deployed: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Workbench:
    """The workbench over the stores of the test."""
    monkeypatch.setattr(snapshot, "retention_days", lambda _: 365)
    monkeypatch.setattr("pik.project.STATE", tmp_path)
    return workbench(deployed)


ODD = [HALF, DEEP, "7", "null", '"\\ud800"', f'{{"entity_id": {DEEP}}}', "{" * 9, "\ufeff{}"]


def test_odd_messages_are_shown(wb: Workbench) -> None:
    for url in ("QueueUrl", "DeadLetterQueueUrl"):
        for body in ODD:
            boto3.client("sqs").send_message(QueueUrl=wb.outputs[url], MessageBody=body)

    waiting, dead = wb.queue.peek(live=True, max_messages=20), wb.dlq.peek(live=True, max_messages=20)

    assert sorted(waiting["body"]) == sorted(dead["body"]) == sorted(ODD)
    assert set(dead["mended"]) == {False}
    assert dead["fault_now"].notna().all()
    assert "raw\\ud800" in set(waiting["entity_id"])


def test_an_odd_log_line_is_shown() -> None:
    assert fields(DEEP.replace("[", '{"a":')) == {}
    row = {"reason": "half \ud800", "line": "\udfff", "message": json.loads('"\\ud83d"')}
    assert frames.frame(LOGS, [row]).to_dict("records")[0]["reason"] == "half \\ud800"


@pytest.fixture
def limit() -> Iterator[int]:
    """Python's limit on recursion, put back afterwards."""
    before = sys.getrecursionlimit()
    yield before
    sys.setrecursionlimit(before)


def below(frames: int, work: Callable[[], Any]) -> Any:
    """Do something with ``frames`` frames of somebody else's above it, as in a notebook."""
    return below(frames - 1, work) if frames else work()


@pytest.mark.parametrize("depth", [100, 500, 970])
@pytest.mark.parametrize("above", [0, 120])
@pytest.mark.usefixtures("limit")
def test_a_payload_as_deep_as_was_once_accepted_is_read(depth: int, above: int) -> None:
    payload = '{"a":' * depth + "1" + "}" * depth
    body = f'{{"source":"s","event_type":"t","entity_id":"e","event_time":"2025-01-01T00:00:00Z","payload":{payload}}}'

    event = below(above, lambda: stored.event(body.encode(), {}))

    text = below(above, lambda: stored.text(event.payload))
    assert text == payload.replace(":", ": ")
    assert below(above, lambda: stored.value(text)) == event.payload
    _, columns = below(above, lambda: raw._payload_columns([event.payload], True))
    ((name, column),) = columns.items()
    assert name == "payload" + ".a" * 20
    assert column.to_pylist() == [stored.text(json.loads(payload[100:-20]))]


@pytest.mark.usefixtures("limit")
def test_what_is_too_deep_for_ever_is_refused() -> None:
    with pytest.raises(Rejected, match="too deep"):
        stored.event(DEEP.encode(), {})
    with pytest.raises(RecursionError):
        stored.value(DEEP)


def test_names_with_dots_hide_nothing() -> None:
    payload = {"a.b": 1, "a": {"b": 2, "": {"c": 3}}, "a.": 4, '"a': {"b": 5}}
    _, columns = raw._payload_columns([payload], True)
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        'payload."a.b"': [1],
        "payload.a.b": [2],
        'payload.a."".c': [3],
        'payload."a."': [4],
        'payload."\\"a".b': [5],
    }
    assert dict(versions.leaves(payload)) == {"a.b": "2", '"a.b"': "1", 'a."".c': "3", '"a."': "4", '"\\"a".b': "5"}
    assert len(versions.differences({"a.b": 1, "a": {"b": 2}}, {"a.b": 9, "a": {"b": 2}})) == 1


@pytest.fixture
def long_name(wb: Workbench, deployed: Settings, request_of: Ask) -> Workbench:
    """Two sources, one with a name that no key holds whole."""
    for source in (LONG, "短い"):
        body = {"source": source, "event_type": LONG, "entity_id": LONG, "event_time": "2025-01-01T00:00:00Z"}
        ingest.ingest(Request.of(request_of({**body, "payload": {"n": 1}})), deployed)
    return wb


def test_a_long_name_is_found_by_sql(long_name: Workbench) -> None:
    for name in (LONG, "短い"):
        found = long_name.sql(f"SELECT source, event_type FROM raw WHERE source = '{name}'", progress=None)  # noqa: S608
        assert found.to_dict("records") == [{"source": name, "event_type": LONG}]
    everything = long_name.sql(f"SELECT source FROM raw WHERE event_type LIKE '{LONG[:20]}%'", progress=None)  # noqa: S608
    assert sorted(everything["source"]) == sorted([LONG, "短い"])


def test_a_long_name_is_a_source_of_the_day(long_name: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "connect", lambda _: long_name)
    monkeypatch.setattr(base, "environment", lambda _: long_name.environment)

    assert DailyHealth("dev", day="2025-01-01", most=1).sources == sorted([LONG, "短い"])


def test_a_name_that_only_looks_cut_is_what_it_says() -> None:
    class Empty:
        def first(self, prefix: str) -> None:
            return None

    values = (f"abc~{'0' * 64}", "t")
    names = layout.Names(Empty(), decode=True)  # type: ignore[arg-type]
    assert names.of(f"raw/source={values[0]}/event_type=t", values) == [unquote(values[0]), "t"]


@pytest.mark.parametrize("name", ["client_request_id", "producer"])
def test_a_value_that_older_metadata_cut_is_no_mismatch(name: str) -> None:
    value = "/" * 100
    change: dict[str, Any] = {name: value}
    seen = made_up(**change)
    (kept,) = seen.raw.values()
    assert kept.arrival is not None
    cut = unquote(encode(value))
    assert cut != value
    seen.raw[kept.key] = with_arrival(kept, name, cut)
    assert list(disagreements(seen)) == []
    seen.raw[kept.key] = with_arrival(kept, name, unquote(encode("/" * 99 + "x")))
    assert [row["class"] for row in disagreements(seen)] == ["row_mismatch"]


def with_arrival(kept: StoredObject, name: str, value: str) -> StoredObject:
    assert kept.arrival is not None
    change: dict[str, Any] = {name: value}
    return replace(kept, arrival=replace(kept.arrival, **change))


def test_sql_knows_the_id_of_an_object_stored_anew_after_its_retention() -> None:
    body = b'{"source":"s","event_type":"t","entity_id":"e","event_time":"2025-01-01T00:00:00Z","payload":{}}'
    key = events.next_raw_key("raw/a/event_id=12ab.json", "2025-01-01T00:00:00.000000Z")

    row = cache._row(key, Object(key, body, "application/json", {}, "e"))

    assert row is not None
    assert (row["event_id"], row["entity_id"]) == ("12ab", "e")

"""Which sources there are: from the names of folders, in a bounded number of requests, however old the data is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import boto3
import pandas as pd
import pytest

from pik import events, frames
from pik.errors import NotDeployed
from pik.notebooks.choices import Choices
from pik.pipeline import ingest
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from pik.workbench import Workbench
from pik.workbench.sources import source_names, streams
from tests.unit.moto_workbench import workbench

LONG = "航空会社の" * 12  # 60 characters, 540 when they are encoded: a key has the beginning of it
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def wb(deployed: Settings) -> Workbench:
    """The workbench over the stores of the test."""
    return workbench(deployed)


def put(wb: Workbench, source: str, day: str, number: int = 0, event_type: str = "t") -> None:
    """Put an empty raw object where an event of that day is kept."""
    key = f"raw/{events.hive_path(source, event_type, f'{day}T00:00:00.000000Z', f'{number:064d}')}.json"
    wb.environment.client("s3").put_object(Bucket=wb.outputs["RawBucket"], Key=key, Body=b"")


def rows(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(None if pd.isna(value) else value for value in row) for row in frame.itertuples(index=False)]


def test_each_stream_with_its_days_and_the_events_of_the_last(wb: Workbench) -> None:
    for n in range(3):
        put(wb, "a/b", "2025-01-09", n)
    put(wb, "a/b", "2025-01-01")
    put(wb, "a/b", "2025-01-02", event_type="other")
    put(wb, "z", "2024-02-29")
    put(wb, events.PROBE_SOURCE, "2025-01-01")

    found = wb.sources()

    assert list(found.columns) == frames.SOURCES.names
    assert rows(found) == [
        ("a/b", "other", "2025-01-02", "2025-01-02", 1, 1),
        ("a/b", "t", "2025-01-01", "2025-01-09", 2, 3),
        ("z", "t", "2024-02-29", "2024-02-29", 1, 1),
    ]
    assert found.attrs == {"requests": 1 + 2 + 2 * 3, "complete": True}
    assert source_names(wb) == ["a/b", "z"]
    assert rows(wb.sources("z")) == [("z", "t", "2024-02-29", "2024-02-29", 1, 1)]
    assert wb.sources("nobody").shape == (0, 6)
    assert {one.event_type: one.days for one in streams(wb, "a/b")}["t"] == ("2025-01-01", "2025-01-09")


def test_an_environment_without_events_has_no_sources(wb: Workbench) -> None:
    assert list(wb.sources().columns) == frames.SOURCES.names
    assert len(wb.sources()) == 0


def test_a_name_too_long_for_a_key_is_read_whole(wb: Workbench, deployed: Settings, request_of: Ask) -> None:
    event = {"source": LONG, "event_type": LONG, "entity_id": "e", "event_time": "2025-01-01T00:00:00Z", "payload": {}}
    ingest.ingest(Request.of(request_of(event)), deployed)

    assert rows(wb.sources())[0][:2] == (LONG, LONG)
    assert source_names(wb) == [LONG]


def test_more_streams_than_asked_for_are_said(wb: Workbench) -> None:
    for source in "abc":
        put(wb, source, "2025-01-01")

    found = wb.sources(most=2)

    assert list(found["source"]) == ["a", "b"]
    assert not found.attrs["complete"]


@pytest.mark.parametrize("last", ["2019-05-05", "9999-12-31"])
def test_the_last_day_of_years_is_found_in_a_few_requests(wb: Workbench, last: str) -> None:
    """Three years without a gap from 2015 on, and one day later: long ago, or where a clock is wrong."""
    for n in range(1_100):
        put(wb, "s", (date(2015, 1, 1) + timedelta(days=n)).isoformat())
    put(wb, "s", last)

    found = wb.sources()

    assert rows(found) == [("s", "t", "2015-01-01", last, None, 1)]
    assert found.attrs["requests"] <= 1 + 1 + 2 + 24


def test_a_busy_day_is_not_counted_through(wb: Workbench) -> None:
    for n in range(1_001):
        put(wb, "s", "2025-01-01", n)

    found = wb.sources()

    assert rows(found)[0][-1] is None
    assert found.attrs["requests"] == 4


def test_what_may_be_chosen(wb: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    put(wb, "s", "2025-01-01")
    put(wb, "s", "2025-01-09")
    late = [{"entity_id": entity, "event_id": event_id} for entity, event_id in ("2c", "1b", "2a")]
    monkeypatch.setattr("pik.notebooks.choices.latest_rows", lambda *_, **__: late)
    connected = list[str]()

    def connect(env: str) -> Workbench:
        connected.append(env)
        if env == "prod":
            raise NotDeployed("prod has no stack")
        return wb

    choices = Choices(connect, lambda _: "s")
    empty = {"env": "dev", "source": ""}

    assert choices.of("source", empty) == ["s"]
    assert choices.of("event_type", empty) == ["t"]
    assert choices.of("day", empty) == ["2025-01-09", "2025-01-01"]
    assert choices.of("day", {**empty, "source": "nobody"}) == []
    assert choices.of("entity", empty) == ["2", "1"]
    assert choices.of("event_id", empty) == ["c", "b", "a"]
    assert connected == ["dev"]
    assert choices.of("source", {**empty, "env": "prod"}) == []  # one types then


def test_it_lists_and_reads_nothing(wb: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    put(wb, "s", "2025-01-01")
    client = boto3.client("s3")
    asked = list[str]()
    client.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    monkeypatch.setitem(wb.environment.__dict__.setdefault("clients", {}), "s3", client)

    wb.sources()

    assert set(asked) == {"ListObjectsV2"}

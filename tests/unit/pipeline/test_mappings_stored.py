"""What a mapping made is kept with its line, read back the same way for ever, and an event like every other."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pik import producer
from pik.aws import stored
from pik.items import Record
from pik.mappings import catalog
from pik.mappings.apply import Applied
from pik.pipeline import ingest, replay
from pik.pipeline.aggregates import Aggregates
from pik.pipeline.http import Request
from pik.pipeline.parsing import parse_event
from pik.pipeline.processor import contribution
from pik.pipeline.rows import compact
from pik.pipeline.settings import Settings
from pik.pipeline.strict_json import Rejected
from pik.producer import Item
from pik.workbench.consistency import reindex
from pik.workbench.raw import _describe
from tests.unit.ingest_world import CASES
from tests.unit.moto_workbench import workbench
from tests.unit.pipeline.test_rows import billed_bytes
from tests.unit.world import World

BUILT_IN = {
    "stripe.jsonl": "stripe",
    "eventbridge.jsonl": "eventbridge",
    "s3_notification.jsonl": "s3",
    "segment.jsonl": "segment",
    "snowplow.jsonl": "snowplow",
    "otel_log.jsonl": "otlp-logs",
    "cloudevents_batch.jsonl": "cloudevents",
    "gharchive_hour.json.gz": "github-archive",
    "github_deliveries.json": "github",
}
MONTH = ("2026-11-01", "2026-12-01")


def mapped(name: str) -> list[Item]:
    return list(producer.open_source(str(CASES / name), mapping=Applied(catalog.find(BUILT_IN[name]))))


@pytest.fixture
def send(deployed: Settings, request_of: Callable[..., Any]) -> Callable[[bytes], dict[str, Any]]:
    def call(body: bytes) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(ingest.ingest(Request.of(request_of(body)), deployed)["body"])
        return answer

    return call


@pytest.mark.parametrize("name", BUILT_IN)
def test_it_is_explained_replayed_aggregated_and_rebuilt(
    name: str,
    deployed: Settings,
    request_of: Callable[..., Any],
    send: Callable[[bytes], dict[str, Any]],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pik.workbench.consistency.snapshot.retention_days", lambda _: 365)
    items, wb = mapped(name), workbench(deployed)
    answers = [send(item.body) for item in items]
    assert [answer["status"] for answer in answers] == ["ACCEPTED"] * len(items)
    raw = world.objects("raw/")
    assert {stored.original(body) for body in raw.values()} == {item.original for item in items}
    before = world.table("events"), world.table("dedupe")
    assert max(billed_bytes(compact(row)) for row in before[0]) <= 1024

    reference = catalog.find(BUILT_IN[name]).reference
    for answer in answers:
        told = wb.explain(answer["event_id"])
        assert f"made by mapping {reference}, its original line kept with it" in told.to_text()
        assert not [problem for problem in told.problems if "log line" not in problem]
    shown = [_describe(row, wb.objects.get(row["s3_key"]), True)[0] for row in before[0]]
    assert all(row["hash_ok"] for row in shown)
    assert {row["mapping"] for row in shown} == {reference}
    assert sorted(row["original"] for row in shown) == sorted(item.original.decode() for item in items)

    made = [parse_event(item.body, {}) for item in items]
    for number, event in enumerate({event.entity_id: event for event in made}.values()):
        window = {"start_time": f"{event.date}T00:00:00Z", "end_time": f"{event.date}T23:59:59Z"}
        asked = {"entity_id": event.entity_id, "replay_id": f"rp-{number}", **window}
        replay.replay(Request.of(request_of(asked)), deployed, lambda: True)
    for message in world.messages(deployed.queue_url):
        Aggregates(deployed).add([contribution(message["Body"], message["MessageId"], deployed)])
    versions = [row for row in world.table("aggregates") if row["SK"].startswith("V#")]
    assert sum(int(row["input_count"]) for row in versions) == len(items)

    for table, keys in (("events", ("PK", "SK")), ("dedupe", ("event_id",))):
        for row in world.table(table):
            boto3.client("dynamodb").delete_item(TableName=table, Key={key: {"S": row[key]} for key in keys})
    assert reindex.reindex(wb, *MONTH, apply=True).written == len(items) * 2
    assert (world.table("events"), world.table("dedupe")) == before
    assert world.objects("raw/") == raw


def test_another_version_of_a_mapping_changes_nothing_that_is_stored(
    deployed: Settings, send: Callable[[bytes], dict[str, Any]], world: World
) -> None:
    (item,) = mapped("stripe.jsonl")
    first, raw = send(item.body), world.objects()
    changed = Applied(catalog.find("stripe").changed(payload=("data.object",)))
    (later,) = producer.open_source(str(CASES / "stripe.jsonl"), mapping=changed)
    answer = send(later.body)
    # The same key with another payload: seen, kept aside, and the first stays what it was.
    assert (answer["status"], answer["event_id"], answer["differs"]) == ("CONFLICT", first["event_id"], ["payload"])
    assert {key: body for key, body in world.objects().items() if key in raw} == raw
    (message_of,) = [row for row in world.table("events") if row["status"] == "ACCEPTED"]
    assert parse_event(raw[message_of["s3_key"]], {}).mapping == catalog.find("stripe").reference
    assert parse_event(later.body, {}).mapping == changed.mapping.reference != catalog.find("stripe").reference


def test_a_description_that_changed_makes_no_difference(send: Callable[[bytes], dict[str, Any]], world: World) -> None:
    (item,) = mapped("stripe.jsonl")
    renamed = Applied(catalog.find("stripe").changed(time_format="auto"))
    (again,) = producer.open_source(str(CASES / "stripe.jsonl"), mapping=renamed)
    assert item.body != again.body
    assert [send(body)["status"] for body in (item.body, again.body)] == ["ACCEPTED", "DUPLICATE"]
    assert len(world.objects("raw/")) == 1


_leaf = st.one_of(
    *(st.none(), st.booleans(), st.text(max_size=8), st.lists(st.none(), max_size=2), st.just({}), st.just("\ud800")),
    *(st.integers(-(10**30), 10**30), st.floats(), st.sampled_from(["0", "-1", "9" * 40, "2026-13-01", "{", "'"])),
)


def _changed(value: Any, draw: Callable[[Any], Any]) -> Any:
    """Return a document with one value, somewhere in it, replaced."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
        changed = _changed(value[key], draw)
        if isinstance(value, dict):
            return {**value, key: changed}
        return [*value[:key], changed, *value[key + 1 :]]
    return draw(_leaf)


@given(st.data(), st.sampled_from(sorted(BUILT_IN)))
@settings(deadline=None)
def test_whatever_stands_in_a_record_it_is_an_event_or_says_why_not(data: st.DataObject, name: str) -> None:
    ((_, record), *_) = producer.open_source(str(CASES / name)).records()
    text = json.dumps(_changed(json.loads(record.text), data.draw)).encode()
    for item in Applied(catalog.find(BUILT_IN[name])).items(Record(1, text)):
        if item.trouble:
            assert item.trouble.code
            assert item.trouble.error
            continue
        assert stored.original(item.body)
        with contextlib.suppress(Rejected):  # by the pipeline, with its own reason
            parse_event(item.body, {}, new=True)

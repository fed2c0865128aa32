"""Stores that disagree on a real stack: every kind is found, and the rows of a day come back from the raw objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pik.aws import signed
from pik.environments import Environment
from pik.workbench import Workbench, connect
from pik.workbench.consistency.reindex import reindex
from pik.workbench.consistency.snapshot import scan
from tests.inventory import inventory

Deploy = Callable[[str], dict[str, str]]
DAY, NEXT = "2013-07-01", "2013-07-02"
WINDOW = {":start": {"S": f"TS#{DAY}"}, ":end": {"S": f"TS#{NEXT}"}}


def event(number: int, *, delay: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "source": "reconciled",
        "event_type": "flight.departed",
        "entity_id": f"N-{number % 7}",
        "event_time": f"{DAY}T{number % 24:02d}:17:00Z",
        "payload": {"number": number, "delay": delay},
        **more,
    }


@pytest.fixture(scope="module")
def wb(embedded_env: Environment, deployed: Deploy) -> Workbench:
    """A day of 60 events, three of them with a key, one of these in conflict; one sent twice."""
    outputs = deployed("processor")
    day = [event(n) | ({"idempotency_key": f"k{n}"} if n < 3 else {}) for n in range(60)]
    for one in [*day, event(0, delay=9, idempotency_key="k0"), event(5)]:
        answer = signed.request(embedded_env, "POST", outputs["IngestUrl"], json.dumps(one).encode())
        assert answer.status_code in (200, 409), answer.text
    return connect("local")


def rows(wb: Workbench) -> dict[str, dict[str, Any]]:
    found = scan(wb, "EventsTable", "SK BETWEEN :start AND :end", WINDOW)
    return {row["SK"]: row for row in found}


def dedupe(wb: Workbench) -> dict[str, dict[str, Any]]:
    return {row["event_id"]: row for row in scan(wb, "DedupeTable", "sk BETWEEN :start AND :end", WINDOW)}


def delete_rows(wb: Workbench) -> None:
    client = wb.environment.client("dynamodb")
    for row in rows(wb).values():
        if row["status"] != "DUPLICATE":  # which nothing in the bucket tells of
            client.delete_item(TableName=wb.outputs["EventsTable"], Key={k: {"S": row[k]} for k in ("PK", "SK")})
    for event_id in dedupe(wb):
        client.delete_item(TableName=wb.outputs["DedupeTable"], Key={"event_id": {"S": event_id}})


def test_a_days_metadata_comes_back_as_it_was(wb: Workbench, embedded_env: Environment) -> None:
    before, before_dedupe, stores = rows(wb), dedupe(wb), inventory(embedded_env)
    assert wb.reconcile(DAY, NEXT).sentences[0].startswith("All stores agree")
    assert not any(not change.none for change in stores.difference(inventory(embedded_env)).values())

    delete_rows(wb)
    lost = wb.reconcile(DAY, NEXT)
    assert lost.counts == {"orphan_raw": 60}
    assert {item["event_id"] for item in lost.found} == set(before_dedupe)

    preview = reindex(wb, DAY, NEXT)
    assert (len(preview.events), len(preview.dedupe), preview.applied) == (61, 60, False)
    assert len(dedupe(wb)) == 0  # a preview writes nothing

    done = reindex(wb, DAY, NEXT, apply=True)
    assert (done.written, bool(done.record)) == (121, True)
    assert rows(wb) == before
    assert dedupe(wb) == before_dedupe
    assert wb.reconcile(DAY, NEXT).clean
    assert reindex(wb, DAY, NEXT, apply=True).to_dict()["events_rows"] == 0


def test_each_disagreement_is_named_with_the_event_it_is_about(wb: Workbench, embedded_env: Environment) -> None:
    s3, tables = embedded_env.client("s3"), embedded_env.client("dynamodb")
    firsts = [row for row in rows(wb).values() if row["status"] == "ACCEPTED"]
    firsts = [row for row in firsts if not row.get("idempotency_key") and row["entity_id"] != "N-5"]
    gone, altered, no_row, no_dedupe, wrong = firsts[:5]
    bucket = {"Bucket": wb.outputs["RawBucket"]}
    s3.delete_object(**bucket, Key=gone["s3_key"])
    there = s3.get_object(**bucket, Key=altered["s3_key"])
    changed = {"Body": there["Body"].read() + b" ", "Metadata": there["Metadata"], "ContentType": there["ContentType"]}
    s3.put_object(**bucket, Key=altered["s3_key"], **changed)
    tables.delete_item(TableName=wb.outputs["EventsTable"], Key={k: {"S": no_row[k]} for k in ("PK", "SK")})
    tables.delete_item(TableName=wb.outputs["DedupeTable"], Key={"event_id": {"S": no_dedupe["event_id"]}})
    tables.update_item(
        TableName=wb.outputs["EventsTable"],
        Key={k: {"S": wrong[k]} for k in ("PK", "SK")},
        UpdateExpression="SET producer = :p",
        ExpressionAttributeValues={":p": {"S": "somebody else"}},
    )
    (conflict,) = (row for row in rows(wb).values() if row["status"] == "CONFLICT")
    s3.delete_object(**bucket, Key=conflict["s3_key"])

    found = {item["class"]: item["event_id"] for item in wb.reconcile(DAY, NEXT).found}
    assert found == {
        "dangling_metadata": gone["event_id"],
        "hash_mismatch": altered["event_id"],
        "missing_metadata": no_row["event_id"],
        "missing_dedupe": no_dedupe["event_id"],
        "row_mismatch": wrong["event_id"],
        "conflict_unkept": conflict["event_id"],
    }
    assert "producer" in next(
        item["detail"] for item in wb.reconcile(DAY, NEXT).found if item["class"] == "row_mismatch"
    )

    done = reindex(wb, DAY, NEXT, apply=True)
    assert done.written == 2  # what is absent; the wrong row and the altered object are left alone
    assert list(done.skipped) == [altered["s3_key"]]
    assert set(wb.reconcile(DAY, NEXT).counts) == {
        "dangling_metadata",
        "hash_mismatch",
        "row_mismatch",
        "conflict_unkept",
    }


def test_a_replay_that_stopped_halfway_is_named(wb: Workbench, embedded_env: Environment) -> None:
    body = {"entity_id": "N-6", "start_time": f"{DAY}T00:00:00Z", "end_time": f"{NEXT}T00:00:00Z"}
    half = json.dumps({**body, "replay_id": "half", "limit": 1}).encode()
    answer = signed.request(embedded_env, "POST", wb.outputs["ReplayUrl"], half)
    assert answer.json()["complete"] is False
    (found,) = (item for item in wb.reconcile(DAY, NEXT).found if item["class"] == "half_replay")
    assert (found["entity_id"], found["where"]) == ("N-6", "replay half")

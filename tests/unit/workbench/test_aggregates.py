"""Aggregate versions, their differences down to the event, their drift from the raw objects; replays."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pandas as pd
import pytest

from pik import frames
from pik.errors import UsageError
from pik.pipeline import aws
from pik.pipeline.aggregates import Aggregates
from pik.pipeline.processor import contribution
from pik.pipeline.settings import Settings
from pik.workbench import Workbench, aggregates, replays
from pik.workbench.aggregates import aggregate_drift
from tests.unit.moto_workbench import DAY, ingested, replayed, workbench
from tests.unit.world import World

RequestOf = Callable[..., Any]


@pytest.fixture
def wb(deployed: Settings) -> Workbench:
    return workbench(deployed)


@pytest.fixture
def process(deployed: Settings, world: World) -> Callable[..., int]:
    """Count up to ``most`` of the messages in the queue; return how many."""

    def call(most: int = 1000) -> int:
        waiting = [contribution(message["Body"], "m", deployed) for message in world.messages(deployed.queue_url)]
        waiting.sort(key=lambda one: json.loads(one.state)["first"])
        for one in waiting[:most]:
            Aggregates(deployed).add([one])
        return len(waiting[:most])

    return call


@pytest.fixture
def counted(wb: Workbench, deployed: Settings, request_of: RequestOf, process: Callable[..., int]) -> Workbench:
    """Three events counted by rp-1; two of them, sent by a limited replay, by rp-2."""
    ingested(deployed, request_of, 3)
    replayed(deployed, request_of, "rp-1")
    replayed(deployed, request_of, "rp-2", limit=2)
    assert process() == 5
    return wb


def test_versions_say_how_complete_they_are(counted: Workbench, deployed: Settings, request_of: RequestOf) -> None:
    replayed(deployed, request_of, "rp-3")
    found = counted.aggregates("e", DAY).set_index("replay_id")
    assert dict(found["input_count"]) == {"rp-1": 3, "rp-2": 2, "rp-3": 0}
    assert dict(found["expected_count"]) == {"rp-1": 3, "rp-2": 2, "rp-3": 3}
    assert dict(found["completeness"]) == {"rp-1": "COMPLETE", "rp-2": "PARTIAL", "rp-3": "PARTIAL"}
    assert found.loc["rp-1", "state.count"] == 3
    assert found.loc["rp-1", "state.numbers.n.sum"] == pytest.approx(3.3)
    assert json.loads(str(found.loc["rp-1", "state"]))["numbers"]["n"]["sum"] == "3.3"
    assert found["state.count"].isna()["rp-3"]


def test_every_way_to_ask_gives_the_same_rows(counted: Workbench) -> None:
    everything = counted.aggregates()
    for found in (counted.aggregates("e"), counted.aggregates("e", DAY), counted.aggregates(day=DAY)):
        pd.testing.assert_frame_equal(found, everything)
    assert list(counted.aggregates(replay="rp-2")["replay_id"]) == ["rp-2"]
    assert counted.aggregates("nobody").empty
    assert counted.aggregates("nobody").dtypes.equals(frames.frame(frames.AGGREGATES, []).dtypes)


def test_a_version_that_no_replay_explains_is_unknown(counted: Workbench) -> None:
    table = boto3.client("dynamodb")
    for key in ("HEAD", "PAGE#START"):
        table.delete_item(TableName="replays", Key=aws.to_item({"PK": "REPLAY#rp-1", "SK": key}))
    found = counted.aggregates("e", DAY).set_index("replay_id")
    assert found.loc["rp-1", "completeness"] == "UNKNOWN"
    assert found["expected_count"].isna()["rp-1"]


def test_a_diff_names_the_events_and_the_numbers(counted: Workbench, world: World) -> None:
    versions = counted.aggregates("e", DAY)
    found = counted.aggregate_diff(versions.iloc[0], ("e", DAY, "rp-2"))
    last = max((row for row in world.table("events")), key=lambda row: row["event_time"])
    assert list(found.only_in_a["event_id"]) == [last["event_id"]]
    assert found.only_in_b.empty
    assert found.only_in_b.dtypes.equals(found.only_in_a.dtypes)
    numbers = found.numbers.set_index("path")
    assert (numbers.loc["count", "a"], numbers.loc["count", "b"]) == ("3", "2")
    assert numbers.loc["numbers.n.sum", "difference"] == pytest.approx(-2.1)
    assert numbers["difference"].isna()["last"]
    assert "first" not in numbers.index
    assert "2 events in both, 1 only in rp-1" in found.sentence
    assert not found.same


def test_a_version_is_the_same_as_itself(counted: Workbench) -> None:
    first = counted.aggregates("e", DAY).to_dict("records")[0]
    assert counted.aggregate_diff(first, first).same


@pytest.mark.parametrize("wrong", ["rp-1", ("e", DAY), {"entity_id": "e"}, 7, ("e", DAY, "rp-0")])
def test_what_is_no_version_is_said(counted: Workbench, wrong: Any) -> None:
    with pytest.raises(UsageError):
        counted.aggregate_diff(wrong, ("e", DAY, "rp-1"))


def test_an_intact_version_has_not_drifted(counted: Workbench) -> None:
    found = aggregate_drift(counted, "e", DAY, "rp-1")
    assert not found.drifted, found
    assert (found.counted, found.selected) == (3, 3)
    assert "3 raw objects" in found.sentence


def test_drift_names_the_selected_event_that_is_not_counted(counted: Workbench, world: World) -> None:
    last = max((row for row in world.table("events")), key=lambda row: row["event_time"])
    found = aggregate_drift(counted, "e", DAY, "rp-2")
    assert found.missing == (last["event_id"],)
    assert found.numbers.empty


def test_drift_names_an_altered_sum_and_a_missing_or_altered_raw_object(counted: Workbench, world: World) -> None:
    rows = sorted((row for row in world.table("events")), key=lambda row: row["event_time"])
    s3 = boto3.client("s3")
    s3.delete_object(Bucket="raw", Key=rows[0]["s3_key"])
    before = s3.get_object(Bucket="raw", Key=rows[1]["s3_key"])
    s3.put_object(
        Bucket="raw",
        Key=rows[1]["s3_key"],
        Body=before["Body"].read().replace(b"1.1", b"9.9"),
        Metadata=before["Metadata"],
        ContentType=before["ContentType"],
    )
    found = aggregate_drift(counted, "e", DAY, "rp-1")
    assert found.problems == {
        rows[0]["event_id"]: f"there is no raw object {rows[0]['s3_key']}",
        rows[1]["event_id"]: "the raw object is not what was received",
    }
    assert found.drifted


def test_drift_names_a_contribution_nobody_selected_and_a_state_somebody_changed(
    counted: Workbench, deployed: Settings
) -> None:
    table = boto3.client("dynamodb")
    key = aws.to_item({"PK": f"AGG#e#DAY#{DAY}", "SK": "V#rp-1"})
    row = aws.from_item(table.get_item(TableName="aggregates", Key=key)["Item"])
    table.put_item(TableName="aggregates", Item=aws.to_item({**row, "state": row["state"].replace('"3.3"', '"4.3"')}))
    found = aggregate_drift(counted, "e", DAY, "rp-1")
    assert found.numbers.to_dict("records") == [
        {"path": "numbers.n.sum", "a": "4.3", "b": "3.3", "difference": pytest.approx(-1)}
    ]
    for selected in ("HEAD",):
        table.update_item(
            TableName="replays",
            Key=aws.to_item({"PK": "REPLAY#rp-1", "SK": selected}),
            UpdateExpression="SET end_time = :t",
            ExpressionAttributeValues={":t": {"S": f"{DAY}T00:02:00.000000Z"}},
        )
    assert len(aggregate_drift(counted, "e", DAY, "rp-1").extra) == 1


def test_replays_are_followed_from_the_start(wb: Workbench, deployed: Settings, request_of: RequestOf) -> None:
    ingested(deployed, request_of, 5)
    first = json.loads(replayed(deployed, request_of, "rp-1", limit=2)["body"])
    half = wb.replays().to_dict("records")[0]
    assert (half["complete"], half["requests"], half["sent"], half["expected"]) == (False, 1, 2, 2)
    # The same part again (a client that lost the answer), then the rest.
    replayed(deployed, request_of, "rp-1", limit=2)
    replayed(deployed, request_of, "rp-1", cursor=first["cursor"])
    whole = wb.replays(replay_ids=["rp-1", "rp-0"]).to_dict("records")
    assert [(r["complete"], r["requests"], r["sent"], r["expected"]) for r in whole] == [(True, 2, 5, 5)]
    assert json.loads(whole[0]["days"]) == {DAY: 5}
    assert wb.replays(entity="nobody").dtypes.equals(wb.replays().dtypes)


def test_a_replay_that_never_sent_anything_is_listed(wb: Workbench, deployed: Settings, request_of: RequestOf) -> None:
    replayed(deployed, request_of, "rp-1", entity="nobody")
    boto3.client("dynamodb").delete_item(
        TableName="replays", Key=aws.to_item({"PK": "REPLAY#rp-1", "SK": "PAGE#START"})
    )
    found = replays.replays(wb)
    assert list(found["requests"]) == [0]
    assert found["finished"].isna().all()
    assert aggregates.aggregates(wb).empty


def test_the_rollouts_own_probes_are_left_out_unless_they_are_named(
    counted: Workbench, deployed: Settings, request_of: RequestOf
) -> None:
    ingested(deployed, request_of, 1, entity="pik-probe-1")
    replayed(deployed, request_of, "rp-probe", entity="pik-probe-1")
    for look in (counted.replays, counted.aggregates):
        assert set(look()["entity_id"]) == {"e"}
        assert set(look(include_probes=True)["entity_id"]) == {"e", "pik-probe-1"}
        assert set(look(entity="pik-probe-1")["entity_id"]) == {"pik-probe-1"}

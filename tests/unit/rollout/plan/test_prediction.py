"""What the processor will write, predicted from the tables and raw objects alone, against what it then writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from pik.aws.reading import StoreReader
from pik.aws.stack import silent
from pik.pipeline.aggregates import Aggregates
from pik.pipeline.processor import contribution
from pik.pipeline.settings import Settings
from pik.rollout.plan.prediction import Prediction, Version, predict
from pik.workbench import Workbench
from tests.unit.moto_workbench import DAY, ingested, replayed, workbench
from tests.unit.world import World

RequestOf = Callable[..., Any]


@pytest.fixture
def wb(deployed: Settings) -> Workbench:
    return workbench(deployed)


@pytest.fixture
def sent(wb: Workbench, deployed: Settings, request_of: RequestOf) -> Workbench:
    """Two entities ingested, five events each; one is replayed twice, the other once."""
    for entity in ("a", "b"):
        ingested(deployed, request_of, 5, entity)
    for replay_id, entity in (("rp-1", "a"), ("rp-2", "a"), ("rp-3", "b")):
        assert replayed(deployed, request_of, replay_id, entity)["statusCode"] == 200
    return wb


def processed(config: Settings, bodies: list[str]) -> None:
    """Count messages as the processor does; they stay in moto's queue."""
    for body in bodies:
        Aggregates(config).add([contribution(body, "m", config)])


def waiting(config: Settings) -> list[str]:
    """The bodies of the messages in the queue, which are taken out and put back."""
    sqs, url = boto3.client("sqs"), config.queue_url
    bodies = [message["Body"] for message in World(config).messages(url)]
    sqs.purge_queue(QueueUrl=url)
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=body)
    return bodies


def test_what_is_predicted_is_what_is_written(sent: Workbench, deployed: Settings) -> None:
    predicted = predict(sent.stores, silent)
    assert predicted.exact
    assert predicted.sentence == "3 aggregates written from 15 events; 15 messages predicted = 15 waiting"
    assert predicted.versions == tuple(
        Version(entity, DAY, replay, 5, 5) for entity, replay in (("a", "rp-1"), ("a", "rp-2"), ("b", "rp-3"))
    )
    processed(deployed, waiting(deployed))
    written = StoreReader(sent.environment, sent.outputs).versions(
        [(one.entity_id, one.day, one.replay_id) for one in predicted.versions]
    )
    assert [row["input_count"] if row else None for row in written.values()] == [
        one.input_count for one in predicted.versions
    ]


def test_what_is_counted_already_is_not_added_again(sent: Workbench, deployed: Settings) -> None:
    bodies = waiting(deployed)
    done = [body for body in bodies if json.loads(body)["replay_id"] == "rp-1"][:2]
    processed(deployed, done)
    predicted = predict(sent.stores, silent)
    assert predicted.versions[0] == Version("a", DAY, "rp-1", 3, 5)
    assert (predicted.messages, predicted.waiting, predicted.exact) == (13, 15, False)
    assert "again after they were counted" in predicted.sentence


def test_nothing_is_received_and_nothing_written(sent: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = boto3.client

    def client(service: str, *arguments: Any, **more: Any) -> Any:
        made = real(service, *arguments, **more)
        made.meta.events.register("before-call", lambda model, **_: calls.append(model.name))
        return made

    monkeypatch.setattr(boto3, "client", client)
    predict(sent.stores, silent)
    assert set(calls) <= {"GetQueueAttributes", "Query", "Scan", "GetItem", "BatchGetItem", "GetObject"}


def test_a_message_that_can_never_be_processed_is_not_counted(sent: Workbench, world: World) -> None:
    key = next(key for key in world.objects("raw/") if "event_date" in key)
    entity = json.loads(world.objects("raw/")[key])["entity_id"]
    boto3.client("s3").delete_object(Bucket="raw", Key=key)
    predicted = predict(sent.stores, silent)
    lost = 2 if entity == "a" else 1  # "a" was replayed twice
    assert (predicted.set_aside, predicted.messages, predicted.exact) == (lost, 15, True)
    assert {one.inputs for one in predicted.versions if one.entity_id == entity} == {4}
    assert f"{lost} message{'s' * (lost > 1)} moved to the dead-letter queue" in predicted.sentence


def test_a_duplicate_that_was_sent_too_is_a_message_and_no_input(
    wb: Workbench, deployed: Settings, request_of: RequestOf
) -> None:
    for _ in range(2):
        ingested(deployed, request_of, 3, "d")
    assert replayed(deployed, request_of, "rp-d", "d", include_duplicates=True)["statusCode"] == 200
    predicted = predict(wb.stores, silent)
    assert predicted.versions == (Version("d", DAY, "rp-d", 3, 3),)
    assert (predicted.messages, predicted.waiting, predicted.exact) == (6, 6, True)


def test_what_a_limit_leaves_out_is_said(sent: Workbench) -> None:
    said: list[str] = []
    predicted = predict(sent.stores, said.append, most=4)
    assert not predicted.complete
    assert not predicted.exact
    assert "NOT EXACT: 4 messages predicted, 15 waiting: only the 4 sent last were looked at" in predicted.sentence
    assert said[-1] == "reading the raw objects of 4 messages"


def test_without_messages_there_is_nothing_to_predict(wb: Workbench) -> None:
    predicted = predict(wb.stores, silent)
    assert predicted.exact
    assert predicted.sentence == "0 aggregates written from 0 events; 0 messages predicted = 0 waiting"
    assert list(predicted.frame.columns) == ["entity_id", "day", "replay_id", "inputs", "input_count"]
    assert len(predicted.frame) == 0


def test_the_frame_has_a_row_for_each_version(sent: Workbench) -> None:
    frame = predict(sent.stores, silent).frame
    assert frame.to_dict("records")[2] == {
        "entity_id": "b",
        "day": DAY,
        "replay_id": "rp-3",
        "inputs": 5,
        "input_count": 5,
    }
    assert frame.attrs["sentence"].endswith("15 waiting")


@pytest.mark.parametrize(
    ("messages", "found", "dead", "why"),
    [
        (9, 7, 2, "the others are in the dead-letter queue (2)"),
        (9, 7, 1, "some expired after 14 days, were deleted, or are among the 1 dead letters"),
        (7, 9, 0, "some were sent by something else than a replay"),
    ],
)
def test_a_prediction_that_is_not_exact_says_why_that_may_be(messages: int, found: int, dead: int, why: str) -> None:
    predicted = Prediction((), messages, found, dead_letters=dead)
    assert not predicted.exact
    assert f"NOT EXACT: {messages} messages predicted, {found} waiting: {why}" in predicted.sentence

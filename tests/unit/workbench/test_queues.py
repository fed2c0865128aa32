"""Peek and redrive: nothing is touched unless asked, nothing is ever lost, and reasons come first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from pik import frames, project
from pik.aws import queue_peek
from pik.errors import Refused, UsageError
from pik.pipeline.aggregates import Aggregates
from pik.pipeline.processor import contribution
from pik.pipeline.queue import CODE_ATTRIBUTE, MESSAGE_ID_ATTRIBUTE, REASON_ATTRIBUTE
from pik.pipeline.settings import Settings
from pik.workbench import Workbench, messages, queues, redriving
from tests.unit.moto_workbench import ingested, replayed, workbench
from tests.unit.world import World

RequestOf = Callable[..., Any]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where looks and redrives are recorded, of this test only."""
    monkeypatch.setattr(project, "STATE", tmp_path)
    monkeypatch.setattr(queue_peek, "WAIT_SECONDS", 0)
    return tmp_path


@pytest.fixture
def wb(deployed: Settings) -> Workbench:
    """A workbench whose queue moves messages away after 20 receives, as the template's does."""
    sqs = boto3.client("sqs")
    target = sqs.get_queue_attributes(QueueUrl=deployed.dead_letter_queue_url, AttributeNames=["QueueArn"])
    policy = {"deadLetterTargetArn": target["Attributes"]["QueueArn"], "maxReceiveCount": 20}
    sqs.set_queue_attributes(QueueUrl=deployed.queue_url, Attributes={"RedrivePolicy": json.dumps(policy)})
    return workbench(deployed)


@pytest.fixture
def sent(wb: Workbench, deployed: Settings, request_of: RequestOf) -> Workbench:
    """The workbench with five events replayed and their messages in the queue."""
    ingested(deployed, request_of, 5)
    assert replayed(deployed, request_of, "rp-1")["statusCode"] == 200
    return wb


def set_aside(wb: Workbench, body: str, code: str = "raw_missing") -> None:
    """Send a message to the dead-letter queue as the processor does."""
    values = {CODE_ATTRIBUTE: code, REASON_ATTRIBUTE: f"because of {code}", MESSAGE_ID_ATTRIBUTE: "was-m1"}
    boto3.client("sqs").send_message(
        QueueUrl=wb.outputs["DeadLetterQueueUrl"],
        MessageBody=body,
        MessageAttributes={k: {"DataType": "String", "StringValue": v} for k, v in values.items()},
    )


@pytest.fixture
def dead(sent: Workbench, world: World) -> list[str]:
    """The five messages moved to the dead-letter queue: two as raw_missing, three as hash_mismatch."""
    bodies = [message["Body"] for message in world.messages(sent.outputs["QueueUrl"])]
    for n, body in enumerate(bodies):
        set_aside(sent, body, "raw_missing" if n < 2 else "hash_mismatch")
    boto3.client("sqs").purge_queue(QueueUrl=sent.outputs["QueueUrl"])
    return bodies


def calls_to_sqs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record every call to SQS, by name."""
    calls: list[str] = []
    real = boto3.client

    def client(service: str, *arguments: Any, **more: Any) -> Any:
        made = real(service, *arguments, **more)
        if service == "sqs":
            made.meta.events.register("before-call", lambda model, **_: calls.append(model.name))
        return made

    monkeypatch.setattr(boto3, "client", client)
    return calls


def test_a_default_peek_asks_the_queue_for_its_attributes_only(
    sent: Workbench, monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    calls = calls_to_sqs(monkeypatch)
    found = sent.queue.peek()
    sent.dlq.peek()
    assert set(calls) == {"GetQueueAttributes"}
    assert list(found["basis"].unique()) == ["expected"]
    assert len(found) == found.attrs["waiting"] == 5
    assert set(found["replay_id"]) == {"rp-1"}
    assert found["event_time"].is_monotonic_increasing
    assert not list(state.iterdir())


def test_a_default_peek_leaves_out_what_is_counted(sent: Workbench, deployed: Settings, world: World) -> None:
    for message in world.messages(deployed.queue_url)[:2]:
        assert Aggregates(deployed).add([contribution(message["Body"], "m", deployed)])
    found = sent.queue.peek()
    counted = {row["event_id"] for row in world.table("aggregates") if "event_id" in row}
    assert len(counted) == 2
    assert len(found) == 3
    assert counted.isdisjoint(found["event_id"])


def test_a_default_peek_shows_only_what_a_half_finished_replay_sent(
    wb: Workbench, deployed: Settings, request_of: RequestOf
) -> None:
    ingested(deployed, request_of, 5)
    replayed(deployed, request_of, "rp-half", limit=2)
    assert len(wb.queue.peek()) == 2


def test_a_peek_is_bounded_and_says_when_there_is_more(sent: Workbench) -> None:
    found = sent.queue.peek(max_messages=3)
    assert len(found) == 3
    assert "at least 3" in found.attrs["sentence"]
    with pytest.raises(UsageError):
        sent.queue.peek(max_messages=0)


def test_a_live_peek_gives_everything_back_and_says_what_it_did(sent: Workbench, world: World) -> None:
    found = sent.queue.peek(live=True)
    assert len(found) == 5
    assert list(found["receive_count"]) == [1] * 5
    assert "raised their receive count to at most 1 of 20" in found.attrs["sentence"]
    assert len(world.messages(sent.outputs["QueueUrl"])) == 5  # visible again, at once


def test_live_peeks_stop_by_themselves_before_a_message_is_moved_away(sent: Workbench) -> None:
    refused = 0
    for _ in range(40):
        try:
            sent.queue.peek(live=True)
        except Refused:
            refused += 1
    assert refused == 30
    counts = queues._counts(sent, sent.outputs["QueueUrl"])
    assert counts == {"waiting": 5, "in_flight": 0, "delayed": 0}
    assert queues._counts(sent, sent.outputs["DeadLetterQueueUrl"])["waiting"] == 0


def test_every_peek_has_its_schema_also_when_there_is_nothing(wb: Workbench) -> None:
    for live in (False, True):
        assert frames.to_pandas(messages.MESSAGES.empty_table()).dtypes.equals(wb.queue.peek(live=live).dtypes)
        assert frames.to_pandas(messages.DEAD_LETTERS.empty_table()).dtypes.equals(wb.dlq.peek(live=live).dtypes)


def test_dead_letters_say_why_and_whether_it_is_mended(sent: Workbench, dead: list[str], world: World) -> None:
    gone = json.loads(dead[0])
    boto3.client("s3").delete_object(Bucket="raw", Key=gone["s3_key"])
    boto3.client("s3").put_object(Bucket="raw", Key=json.loads(dead[1])["s3_key"], Body=b"{}", Metadata={})
    set_aside(sent, "no json", "not_json")
    found = sent.dlq.peek(live=True).set_index("body")
    assert len(found) == 6
    assert found.loc[dead[0], "code"] == "raw_missing"
    assert found.loc[dead[0], "original_message_id"] == "was-m1"
    assert str(found.loc[dead[0], "fault_now"]).startswith("raw_missing")
    assert str(found.loc[dead[1], "fault_now"]).startswith("raw_unreadable")
    assert str(found.loc["no json", "fault_now"]).startswith("not_json")
    assert list(found["mended"]) == [body in dead[2:] for body in found.index]
    assert len(world.messages(sent.outputs["DeadLetterQueueUrl"])) == 6


def test_a_redrive_shows_the_reasons_and_changes_nothing(
    sent: Workbench, dead: list[str], world: World, state: Path
) -> None:
    plan = sent.dlq.redrive()
    assert plan.preview
    assert "3 hash_mismatch, 2 raw_missing" in plan.sentence
    assert plan.confirm.startswith("5-")
    assert len(world.messages(sent.outputs["DeadLetterQueueUrl"])) == 5
    assert not list(state.iterdir())


def test_a_redrive_without_confirmation_or_with_anothers_is_refused(
    sent: Workbench, dead: list[str], world: World
) -> None:
    plan = sent.dlq.redrive(codes=["raw_missing"])
    for confirm in (None, "yes", plan.confirm):
        with pytest.raises(Refused):
            sent.dlq.redrive(False, codes=["hash_mismatch"], confirm=confirm)
    set_aside(sent, dead[0])
    with pytest.raises(Refused, match="3 dead letters"):
        sent.dlq.redrive(False, codes=["raw_missing"], confirm=plan.confirm)
    assert world.messages(sent.outputs["QueueUrl"]) == []
    assert len(world.messages(sent.outputs["DeadLetterQueueUrl"])) == 6


def test_a_redrive_moves_what_was_chosen_and_records_it(
    sent: Workbench, dead: list[str], world: World, state: Path
) -> None:
    plan = sent.dlq.redrive(codes=["raw_missing"])
    done = sent.dlq.redrive(preview=False, codes=["raw_missing"], confirm=plan.confirm)
    assert set(done.moved) == set(plan.frame["message_id"])
    assert sorted(m["Body"] for m in world.messages(sent.outputs["QueueUrl"])) == sorted(dead[:2])
    assert sorted(m["Body"] for m in world.messages(sent.outputs["DeadLetterQueueUrl"])) == sorted(dead[2:])
    begin, end = (json.loads(line) for line in Path(done.record).read_text().splitlines())
    assert (begin["redrive"], end["redrive"]) == ("begin", "end")
    assert begin["message_ids"] == end["moved"] == list(done.moved)


def test_what_would_come_back_stays_unless_asked(sent: Workbench, dead: list[str]) -> None:
    boto3.client("s3").delete_object(Bucket="raw", Key=json.loads(dead[0])["s3_key"])
    plan = sent.dlq.redrive()
    assert (len(plan.frame), len(plan.left)) == (4, 1)
    assert "of which 1 would come back" in sent.dlq.redrive(include_unmended=True).sentence


def test_choose_by_id_and_a_text_is_no_list(sent: Workbench, dead: list[str]) -> None:
    wanted = json.loads(dead[3])["event_id"]
    assert list(sent.dlq.redrive(event_ids=[wanted]).frame["event_id"]) == [wanted]
    with pytest.raises(UsageError, match="codes"):
        sent.dlq.redrive(codes="raw_missing")


@pytest.mark.parametrize("broken", ["_send", "_delete"])
def test_a_redrive_that_breaks_half_way_loses_no_message(
    sent: Workbench, dead: list[str], world: World, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: Any) -> set[str]:
        raise ClientError({"Error": {"Code": "Throttling"}}, broken)

    plan = sent.dlq.redrive()
    monkeypatch.setattr(redriving, broken, fail)
    with pytest.raises(Exception, match="could not redrive"):
        sent.dlq.redrive(False, confirm=plan.confirm)
    assert len(world.messages(sent.outputs["DeadLetterQueueUrl"])) == 5
    assert len(world.messages(sent.outputs["QueueUrl"])) == (0 if broken == "_send" else 5)


def test_messages_that_are_not_taken_or_not_deleted_stay(
    sent: Workbench, dead: list[str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = sent.dlq.redrive()
    first, second = plan.frame["message_id"][:2]
    send, delete = redriving._send, redriving._delete
    monkeypatch.setattr(
        redriving, "_send", lambda wb, left: {first} | send(wb, {k: v for k, v in left.items() if k != first})
    )
    monkeypatch.setattr(
        redriving, "_delete", lambda wb, left: {second} | delete(wb, {k: v for k, v in left.items() if k != second})
    )
    done = sent.dlq.redrive(False, confirm=plan.confirm)
    assert (done.failed, done.doubled, len(done.moved)) == ((first,), (second,), 3)
    kept = {message["MessageId"] for message in world.messages(sent.outputs["DeadLetterQueueUrl"])}
    assert kept == {first, second}
    assert len(world.messages(sent.outputs["QueueUrl"])) == 4

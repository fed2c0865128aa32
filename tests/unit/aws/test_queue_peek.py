"""A live look at a queue: bounded, everything returned, and never so often that messages are moved away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pik import project
from pik.aws import queue_peek
from pik.aws.reading import StoreReader
from pik.environments import Environment
from pik.errors import Refused
from pik.results import Verdict
from pik.rollout.checks.replay import ReplayChecks, SentBatch
from pik.rollout.checks.replaying import Raws

LOCAL = Environment("local", "us-east-1", endpoint="http://127.0.0.1:1")


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where looks are remembered, of this test only."""
    monkeypatch.setattr(project, "STATE", tmp_path)
    return tmp_path / "peeks" / "url.json"


class FakeQueue:
    """SQS with a few messages, their receive counts, and the visibility they were given back with."""

    def __init__(self, messages: int, receive_count: int = 1) -> None:
        self.waiting = [str(n) for n in range(messages)]
        self.receive_count = receive_count
        self.returned: list[str] = []
        self.fail_after: int | None = None
        self.redrives = True
        self.calls = 0

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        policy = {"RedrivePolicy": json.dumps({"maxReceiveCount": 20})} if self.redrives else {}
        return {"Attributes": policy | {"ApproximateNumberOfMessages": str(len(self.waiting) + len(self.returned))}}

    def receive_message(self, **how: Any) -> dict[str, Any]:
        self.calls += 1
        if self.fail_after is not None and self.calls > self.fail_after:
            raise ClientError({"Error": {"Code": "Throttling"}}, "ReceiveMessage")
        batch, self.waiting = self.waiting[: how["MaxNumberOfMessages"]], self.waiting[how["MaxNumberOfMessages"] :]
        count = {"ApproximateReceiveCount": str(self.receive_count)}
        return {"Messages": [{"MessageId": n, "ReceiptHandle": n, "Body": n, "Attributes": count} for n in batch]}

    def change_message_visibility_batch(self, **how: Any) -> dict[str, Any]:
        assert all(entry["VisibilityTimeout"] == 0 for entry in how["Entries"])
        self.returned += [entry["ReceiptHandle"] for entry in how["Entries"]]
        return {}


def peek_at(queue: FakeQueue, monkeypatch: pytest.MonkeyPatch, limit: int = 30) -> queue_peek.PeekResult:
    monkeypatch.setattr(Environment, "client", lambda *_: queue)
    return queue_peek.look(LOCAL, "url", limit)


def test_a_look_returns_every_message_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue(25)
    seen = peek_at(queue, monkeypatch)
    assert len(seen.bodies) == 25
    assert sorted(queue.returned) == sorted(seen.bodies)


def test_a_look_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue(100)
    assert len(peek_at(queue, monkeypatch, 12).bodies) == 12
    assert len(queue.waiting) == 88


def test_a_look_stops_when_messages_come_near_the_dead_letter_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue(100, receive_count=11)
    seen = peek_at(queue, monkeypatch)
    assert seen.cut_short
    assert len(queue.returned) == 10


def test_a_look_that_fails_half_way_returns_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue(100)
    queue.fail_after = 1
    with pytest.raises(ClientError):
        peek_at(queue, monkeypatch)
    assert len(queue.returned) == 10


def test_a_second_look_is_refused_when_half_the_receives_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue(100, receive_count=10)
    assert peek_at(queue, monkeypatch).cut_short
    calls = queue.calls
    with pytest.raises(Refused, match="10 times of 20"):
        peek_at(queue, monkeypatch)
    assert queue.calls == calls


def test_looks_that_were_killed_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue(100)
    queue.fail_after = 0  # as when the process dies between the receipt and everything after it
    for _ in range(10):
        with pytest.raises(ClientError):
            peek_at(queue, monkeypatch)
    with pytest.raises(Refused):
        peek_at(queue, monkeypatch)
    assert queue.calls == 10


def test_an_empty_queue_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    peek_at(FakeQueue(1, receive_count=10), monkeypatch)
    assert peek_at(FakeQueue(0), monkeypatch).messages == ()
    assert len(peek_at(FakeQueue(1), monkeypatch).messages) == 1


def test_on_aws_one_count_of_zero_is_not_an_empty_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQS's counts are up to a minute old: messages half way to the dead-letter queue may be there all the same."""
    aws, now = Environment("dev", region="eu-west-1"), [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])

    def look(queue: FakeQueue) -> queue_peek.PeekResult:
        monkeypatch.setattr(Environment, "client", lambda *_: queue)
        return queue_peek.look(aws, "url")

    assert look(FakeQueue(1, receive_count=10)).cut_short
    for seconds, messages in ((0, 0), (30, 0), (30, 1), (30, 0), (80, 0)):  # empty without a break for 80 s at the most
        now[0] += seconds
        with pytest.raises(Refused):
            look(FakeQueue(messages))
    now[0] += 20
    assert look(FakeQueue(0)).messages == ()
    assert len(look(FakeQueue(1)).messages) == 1


def test_a_queue_without_redrive_may_be_looked_at_without_end(monkeypatch: pytest.MonkeyPatch, memory: Path) -> None:
    for _ in range(3):
        queue = FakeQueue(1, receive_count=5000)
        queue.redrives = False
        assert not peek_at(queue, monkeypatch).cut_short
    assert not memory.exists()


def test_what_is_marked_gone_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue(3)
    monkeypatch.setattr(Environment, "client", lambda *_: queue)
    with queue_peek.held(LOCAL, "url", 10) as found:
        found.gone.add("1")
    assert sorted(queue.returned) == ["0", "2"]


def test_a_check_that_may_not_look_says_so_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    peek_at(FakeQueue(1, receive_count=10), monkeypatch)
    monkeypatch.setattr(Environment, "client", lambda *_: FakeQueue(1, receive_count=11))
    checks = ReplayChecks(LOCAL)
    checks.stores = StoreReader(LOCAL, {"QueueUrl": "url"})
    found = checks.messages(SentBatch([], Raws({}, {}), 0, {}))
    assert (found.verdict, found.blocking) == (Verdict.INCONCLUSIVE, False)
    assert "received 10 times of 20" in found.sentence

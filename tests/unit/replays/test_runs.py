"""A run sends its manifest and nothing else, and stops when somebody says so: what was sent is known exactly."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from pik.aws.exchange import Exchange
from pik.errors import AwsError, Refused, UsageError
from pik.pipeline import aws, parts, queue
from pik.pipeline import manifest as written
from pik.pipeline.settings import Settings
from pik.replays import manifest, reading, running, sending
from pik.replays.planning import ReplayPlan
from pik.replays.records import Replay
from pik.workbench import Workbench
from pik.workbench.consistency import reconcile
from tests.unit.replays.conftest import DAY, Api, Send, ids, planned, processed, received
from tests.unit.world import World

Asked = Callable[..., Exchange]
MIDNIGHT = "2025-01-03T00:00:00.000000Z"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of eight lines, claims of three."""
    monkeypatch.setattr(manifest, "LINES", 8)
    monkeypatch.setattr(parts, "CHUNK", 3)


@pytest.fixture
def day(send: Send) -> list[str]:
    """Twenty events of three entities: seven of ``e``, one of ``f``, twelve of ``g``."""
    return [
        send(f"10:{minute:02d}:00", entity_id=entity)["event_id"]
        for entity, number in (("e", 7), ("f", 1), ("g", 12))
        for minute in range(number)
    ]


@pytest.fixture
def plan(wb: Workbench, day: list[str]) -> ReplayPlan:
    return planned(wb, entities=["e", "f", "g", "nobody"])


@pytest.fixture
def ask(wb: Workbench, replay_api: Api) -> Asked:
    """Ask the API something of the run ``mine``."""

    def asked(action: str, **about: Any) -> Exchange:
        return replay_api(None, "", json.dumps({"action": action, "replay_id": "mine", **about}).encode())

    return asked


@pytest.fixture
def begun(wb: Workbench, plan: ReplayPlan, ask: Asked, small: None) -> ReplayPlan:
    """The plan's manifest is written, and nothing of it is sent."""
    hashes = manifest.write(wb, plan, "mine", lambda _: None)
    about = {"digest": plan.digest, "parts": hashes, "messages": 20, "windows": 3, "part_lines": 8, "reason": "why"}
    assert ask("begin", **about).status == 200
    return plan


def broken(service: str, operation: str, *, after: bool) -> Any:
    """Have a call of a service get no answer, before or after it had its effect."""
    client = aws.client(service)
    really = getattr(client, operation)

    def call(**asked: Any) -> Any:
        if after:
            really(**asked)
        raise ReadTimeoutError(endpoint_url=service)

    return patch.object(client, operation, call)


@pytest.mark.parametrize("number", [1, 7, 8, 9, 16, 17])
def test_plan_is_manifest_is_sent_is_counted(
    wb: Workbench, send: Send, deployed: Settings, small: None, number: int
) -> None:
    """Also at the borders of parts and claims, and while events of the same windows arrive."""
    inside = sorted(send(f"10:00:{second:02d}.000001")["event_id"] for second in range(number))
    send("10:00:00.000001")  # a duplicate
    plan = planned(wb)
    lines = [line.row["event_id"] for part in manifest.parts(plan, "mine") for line in part.lines]
    done = wb.replay.run(plan, replay_id="mine", progress=lambda _: _one_more(send))
    assert done.as_planned
    assert (done.messages, done.sent, sorted(lines)) == (number, number, inside)
    processed(deployed)
    found = wb.replay.result("mine")
    assert sorted(found.frame["event_id"]) == inside
    assert found.counted == number
    assert bool((found.versions["completeness"] == "COMPLETE").all())


def _one_more(send: Send) -> None:
    send("11:00:00")


def test_a_manifest_holds_each_message_once_in_its_window(plan: ReplayPlan, small: None) -> None:
    found = list(manifest.parts(plan, "mine"))
    assert [len(part.lines) for part in found] == [8, 8, 4]
    ids = [part.windows[line.window].replay_id for part in found for line in part.lines]
    assert Counter(ids) == {"mine.1": 7, "mine.2": 1, "mine.last": 12}
    keys = [(part.windows[line.window].entity_id, line.row["SK"]) for part in found for line in part.lines]
    assert keys == [(row["entity_id"], row["SK"]) for row in plan.rows]
    assert [written.Part.of(part.text()) for part in found] == [
        written.Part(tuple(part.windows), tuple(replace(line, row=_kept(line)) for line in part.lines))
        for part in found
    ]
    assert [sum(part.begins(at) for at in range(len(part.lines))) for part in found] == [2, 1, 0]
    assert [sum(part.ends(at) for at in range(len(part.lines))) for part in found] == [2, 0, 1]
    for before, after in pairwise(found):
        assert after.before(0) in {"", before.lines[-1].row["SK"]}


def _kept(line: written.Line) -> dict[str, Any]:
    return {name: line.row[name] for name in written.FIELDS}


def test_the_records_of_each_window_are_those_of_any_replay(wb: Workbench, plan: ReplayPlan, small: None) -> None:
    wb.replay.run(plan, replay_id="mine", reason="so", progress=None)
    rows = wb.replays().to_dict("records")
    assert [(row["replay_id"], row["expected"], row["complete"]) for row in rows] == [
        ("mine.1", 7, True),
        ("mine.2", 1, True),
        ("mine.last", 12, True),
    ]
    assert [row["replay_id"] for row in wb.replays(entity="f").to_dict("records")] == ["mine.2"]
    assert (wb.replay.status("mine").reason, wb.replay.status("mine").windows) == ("so", 3)


def test_nothing_is_sent_after_a_pause_and_the_rest_after_it(
    wb: Workbench, begun: ReplayPlan, ask: Asked, deployed: Settings
) -> None:
    assert ask("send", part=0, limit=4)["next"] == 4
    paused = wb.replay.pause("mine", reason="the database is busy", progress=None)
    assert (paused.state, paused.sent, paused.unsure) == ("PAUSED", 4, 0)
    assert "PAUSED by" in paused.sentence
    assert "the database is busy" in paused.sentence
    refused = ask("send", part=0)
    assert (refused.status, refused["code"], refused["state"]) == (409, "not_running", "PAUSED")
    first = ids(deployed)
    assert len(first) == 4
    done = wb.replay.resume("mine", progress=None)
    assert done.complete
    assert sorted(first + ids(deployed)) == sorted(begun.event_ids)


def test_a_run_that_is_cancelled_says_what_was_sent_and_goes_on_no_more(
    wb: Workbench, begun: ReplayPlan, ask: Asked, deployed: Settings
) -> None:
    ask("send", part=1, limit=3)
    done = wb.replay.cancel("mine", reason="the wrong week", progress=None)
    assert (done.state, done.sent) == ("CANCELLED", len(ids(deployed))) == ("CANCELLED", 3)
    with pytest.raises(Refused, match="was cancelled: the wrong week"):
        wb.replay.resume("mine", progress=None)
    with pytest.raises(Refused, match="was cancelled: the wrong week"):
        wb.replay.run(begun, replay_id="mine", progress=None)
    with pytest.raises(Refused, match="is CANCELLED"):
        wb.replay.pause("mine", progress=None)
    assert wb.replay.cancel("mine", progress=None).state == "CANCELLED"  # once more does no harm
    assert ids(deployed) == []
    assert "CANCELLED" in wb.replay.result("mine").sentence


@pytest.mark.parametrize("after", [False, True])
def test_lines_that_may_be_sent_or_not_are_sent_before_a_stop_is_acknowledged(
    begun: ReplayPlan, wb: Workbench, ask: Asked, deployed: Settings, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """The queue did not answer: whether it has the messages is not known, until they are sent again."""
    with broken("sqs", "send_message_batch", after=after):
        asked = ask("send", part=0)
    assert (asked.status, asked["code"]) == (503, "queue_unavailable")
    assert wb.replay.status("mine").unsure == 3
    assert ask("cancel").status == 200
    first = ask("settle")
    assert (first["settled"], 0 < first["wait"] <= 60) == (False, True)
    monkeypatch.setattr(parts, "LANDING", 0)
    row = boto3.client("dynamodb").get_item(
        TableName="replays", Key={"PK": {"S": "REPLAY#mine"}, "SK": {"S": "PART#00000"}}
    )["Item"]
    assert int(row["lands"]["N"]) > time.time()  # the request may still arrive
    boto3.client("dynamodb").put_item(TableName="replays", Item={**row, "lands": {"N": "0"}})
    done = wb.replay.cancel("mine", progress=None)
    assert (done.sent, done.unsure) == (3, 0)
    assert len(set(ids(deployed))) == 3


def test_who_is_killed_between_sending_and_writing_down_leaves_nothing_unknown(
    begun: ReplayPlan, wb: Workbench, ask: Asked, deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> Any:
        raise Killed

    with patch.object(parts.Sender, "_write", killed), pytest.raises(Killed):
        ask("send", part=0)
    sent = ids(deployed)
    assert len(sent) == 3
    assert wb.replay.status("mine").unsure == 3
    busy = ask("send", part=0)
    assert (busy.status, busy["code"]) == (409, "busy")
    assert 0 < busy["wait"] <= parts.LEASE
    assert not ask("pause")["settled"]
    stopping = ask("settle")
    assert (stopping["settled"], 0 < stopping["wait"] <= parts.LEASE) == (False, True)
    ask("resume")
    later = time.time() + parts.LEASE + 1
    monkeypatch.setattr("pik.events.epoch", lambda _: int(later))
    assert ask("send", part=0, limit=1)["next"] == 3  # what was left comes first, all of it
    assert sorted(set(sent + ids(deployed))) == sorted(set(sent))


def test_an_answer_that_is_lost_is_no_other_request(begun: ReplayPlan, ask: Asked, deployed: Settings) -> None:
    """A transaction went through and its answer did not come; botocore asks again, and it is refused."""
    client = aws.client("dynamodb")
    really, seen = client.transact_write_items, []

    def twice(**asked: Any) -> Any:
        seen.append(really(**asked))
        return really(**asked)

    with patch.object(client, "transact_write_items", twice):
        asked = ask("send", part=0)
    assert (asked.status, asked["done"], asked["sent"]) == (200, True, 8)
    assert len(seen) == 6  # three claims, each claimed and written down
    assert len(ids(deployed)) == 8


def test_a_request_of_somebody_else_is_waited_for(
    begun: ReplayPlan, wb: Workbench, replay_api: Api, deployed: Settings
) -> None:
    asked: list[int] = []

    def busy(number: int) -> Exchange | None:
        asked.append(number)
        return Exchange(b"", 409, {"code": "busy", "wait": 3}) if number in {3, 4} else None

    replay_api.before = busy
    assert wb.replay.resume("mine", progress=None).complete
    assert len(set(ids(deployed))) == 20


def test_a_part_that_was_changed_is_not_sent(begun: ReplayPlan, ask: Asked, deployed: Settings) -> None:
    name = written.key("mine", begun.digest, 0)
    s3 = boto3.client("s3")
    text = written.unpacked(s3.get_object(Bucket="raw", Key=name)["Body"].read())
    for body in (written.packed(text.replace(b"ACCEPTED", b"accepted")), b"nothing", written.packed(text)[:-9]):
        s3.put_object(Bucket="raw", Key=name, Body=body)
        asked = ask("send", part=0)
        assert (asked.status, asked["code"]) == (409, "manifest_changed")
    s3.delete_object(Bucket="raw", Key=name)
    assert ask("send", part=0)["code"] == "manifest_changed"
    assert received(deployed) == []


def test_events_past_their_retention_are_left_out_and_said(
    begun: ReplayPlan, wb: Workbench, deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = max(row["expires_at"] for row in begun.rows) + 1
    monkeypatch.setattr("pik.events.epoch", lambda _: late)
    wb.replay.resume("mine", progress=None)
    done = wb.replay.status("mine")
    assert (done.complete, done.as_planned, done.sent, done.expired) == (True, False, 0, 20)
    assert "20 left out as their retention is over" in done.sentence
    assert received(deployed) == []


def test_an_id_belongs_to_one_run(begun: ReplayPlan, wb: Workbench, send: Send, ask: Asked) -> None:
    about = {"parts": ["0" * 64], "messages": 1, "windows": 1, "part_lines": 8}
    assert ask("begin", digest="1" * 64, **about)["code"] == "replay_id_taken"
    other = planned(wb)
    with pytest.raises(Refused, match="stands for another replay"):
        wb.replay.run(other, replay_id="mine", progress=None)
    request = {"entity_id": "e", "start_time": DAY[0], "end_time": DAY[1]}
    wb.replay.run(other, replay_id="single", progress=None)
    api = ask.__closure__[0].cell_contents  # type: ignore[index]
    assert api(None, "", json.dumps({**request, "replay_id": "single"}).encode())["code"] == "replay_id_taken"
    assert api(None, "", json.dumps({**request, "replay_id": "asked"}).encode()).status == 200
    with pytest.raises(Refused, match="stands for another replay"):
        wb.replay.run(other, replay_id="asked", progress=None)
    assert api(None, "", json.dumps({**request, "replay_id": "mine.2"}).encode()).status == 200
    assert ask("send", part=0, limit=6).status == 200
    assert ask("send", part=0)["code"] == "replay_id_taken"  # somebody took the id of the second window


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"action": "explode"}, "bad_action"),
        ({"action": ["send"]}, "bad_action"),
        ({"action": "send", "part": -1}, "bad_part"),
        ({"action": "send", "part": True}, "bad_part"),
        ({"action": "send"}, "bad_part"),
        ({"action": "send", "part": 0, "limit": 0}, "bad_limit"),
        ({"action": "send", "part": 9}, "no_such_part"),
        ({"action": "pace", "rate": 0}, "bad_rate"),
        ({"action": "pause", "reason": 3}, "bad_reason"),
        ({"action": "pause", "why": "so"}, "unknown_field"),
        ({"action": "settle", "reason": "so"}, "unknown_field"),
        ({"action": "pause", "replay_id": "a b"}, "bad_replay_id"),
        ({"action": "pause", "replay_id": "other"}, "no_such_run"),
        ({"action": "begin"}, "bad_messages"),
        ({"action": "begin", "messages": 1}, "bad_windows"),
        ({"action": "begin", "messages": 1, "windows": 1}, "bad_part_lines"),
        ({"action": "begin", "messages": 1, "windows": 1, "part_lines": 1, "parts": []}, "bad_parts"),
        ({"action": "begin", "messages": 1, "windows": 1, "part_lines": 1, "parts": ["x"]}, "bad_digest"),
    ],
)
def test_what_cannot_be_asked_is_refused(begun: ReplayPlan, ask: Asked, document: dict[str, Any], code: str) -> None:
    about = dict(document)
    asked = ask(about.pop("action"), **about)
    assert (asked["code"], 400 <= asked.status < 500) == (code, True)


def test_a_dry_run_begins_nothing(wb: Workbench, plan: ReplayPlan, replay_api: Api, world: World) -> None:
    replay_api.config = replace(replay_api.config, dry_run=True)
    with pytest.raises(Refused, match="dry-run mode"):
        wb.replay.run(plan, replay_id="mine", progress=None)
    assert world.table("replays") == []
    with pytest.raises(UsageError, match="no replay 'mine'"):
        wb.replay.status("mine")


class Clock:
    """Time that passes only when somebody sleeps or asks the API."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(sending, "time", found)
    monkeypatch.setattr(running, "time", found)
    return found


@pytest.mark.parametrize("rate", [5, 20, 100, 1_000])
def test_a_rate_is_kept(
    wb: Workbench, begun: ReplayPlan, monkeypatch: pytest.MonkeyPatch, clock: Clock, rate: int
) -> None:
    """Also when each request takes a while, and the time between them is not all there is to wait."""
    sent: list[tuple[float, int]] = []

    def api(*_: Any, **__: Any) -> Exchange:
        most = json.loads(_[2]).get("limit", 0)
        sent.append((clock.now, most))
        clock.sleep(0.1)
        return Exchange(b"", 200, {"sent": most, "done": clock.now > 1031, "rate": rate})

    monkeypatch.setattr(sending, "tried", api)
    wb.replay.pace("mine", rate)
    sent.clear()
    begin = clock.now
    run = wb.replay.status("mine")
    sending.Sending(wb, "", replace(run, left=(0,)), rate, None, 0, lambda _: None).part(0)
    within = sum(number for moment, number in sent if moment < begin + 30)
    assert abs(within / (rate * 30) - 1) <= 0.05


def test_a_rate_that_somebody_changes_holds_from_the_next_answer_on(
    wb: Workbench, begun: ReplayPlan, ask: Asked, clock: Clock
) -> None:
    assert wb.replay.pace("mine", 7).rate == 7
    assert ask("send", part=0, limit=1)["rate"] == 7
    mine = sending.Sending(wb, "https://replay", wb.replay.status("mine"), 100, None, 0, lambda _: None)
    mine.part(0)
    assert mine.rate == 7


def test_dead_letters_pause_a_run_by_themselves(
    wb: Workbench, begun: ReplayPlan, replay_api: Api, deployed: Settings, clock: Clock
) -> None:
    def before(number: int) -> None:
        clock.sleep(10)
        if number == 4:
            boto3.client("sqs").send_message(QueueUrl=deployed.dead_letter_queue_url, MessageBody="dead")

    replay_api.before = before
    replay_api.has_time = lambda: False
    wb.replay.resume("mine", progress=None)
    done = wb.replay.status("mine")
    assert (done.state, done.why) == ("PAUSED", "the dead-letter queue grew from 0 to 1 messages")
    assert len(ids(deployed)) == wb.replay.status("mine").sent < 20
    assert wb.replay.resume("mine", progress=None).complete  # these are known now


def test_nothing_is_sent_while_too_many_messages_wait(
    wb: Workbench, begun: ReplayPlan, replay_api: Api, deployed: Settings, clock: Clock
) -> None:
    found: list[dict[str, Any]] = []
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if "wait in the queue" in line:
            found.extend(received(deployed))

    replay_api.has_time = lambda: False
    replay_api.before = lambda _: clock.sleep(10)
    assert wb.replay.resume("mine", most_waiting=5, progress=tell).complete
    assert [line for line in said if "6 messages wait in the queue: nothing is sent until they are 5" in line], said
    assert len(found) + len(received(deployed)) == 20


def test_an_interrupt_leaves_a_run_that_goes_on(
    wb: Workbench, plan: ReplayPlan, small: None, replay_api: Api, deployed: Settings
) -> None:
    chance = random.Random(1)

    def before(_: int) -> None:
        if chance.random() < 0.4:
            raise KeyboardInterrupt

    replay_api.before = before
    for _ in range(50):
        try:
            done = wb.replay.run(plan, replay_id="mine", progress=None)
        except KeyboardInterrupt:
            continue
        break
    assert done.as_planned
    assert set(ids(deployed)) == plan.event_ids


def test_a_manifest_that_was_written_before_is_used_and_no_other(wb: Workbench, plan: ReplayPlan, small: None) -> None:
    first = manifest.write(wb, plan, "mine", lambda _: None)
    assert manifest.write(wb, plan, "mine", lambda _: None) == first
    name = written.key("mine", plan.digest, 1)
    boto3.client("s3").put_object(Bucket="raw", Key=name, Body=written.packed(b"{}"))
    with pytest.raises(Refused, match="another manifest"):
        manifest.write(wb, plan, "mine", lambda _: None)


def test_a_store_that_fails_is_asked_again(begun: ReplayPlan, wb: Workbench, deployed: Settings) -> None:
    client = aws.client("dynamodb")
    really, failures = client.transact_write_items, iter([True, False, True, True, False])
    reasons = {"CancellationReasons": [{"Code": "TransactionConflict"}]}
    conflict: Any = {"Error": {"Code": "TransactionCanceledException"}, **reasons}

    def transact(**asked: Any) -> Any:
        if next(failures, False):
            raise ClientError(conflict, "TransactWriteItems")
        return really(**asked)

    with patch.object(client, "transact_write_items", transact):
        assert wb.replay.resume("mine", progress=None).complete
    assert set(ids(deployed)) == begun.event_ids


@pytest.fixture
def partly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that does not take the second message of a batch, now and then."""
    really, chance = queue.send, random.Random(3)

    def some(url: str, bodies: Any) -> queue.Sent:
        if chance.random() < 0.5:
            return really(url, bodies)
        taken = [body for number, body in enumerate(bodies) if number != 1]
        return queue.Sent({1} | really(url, taken).refused, late=False) if len(bodies) > 1 else really(url, bodies)

    monkeypatch.setattr("pik.pipeline.queue.send", some)


@pytest.mark.usefixtures("partly")
def test_what_the_queue_does_not_take_is_sent_again(begun: ReplayPlan, wb: Workbench, deployed: Settings) -> None:
    assert wb.replay.resume("mine", progress=None).complete
    assert set(ids(deployed)) == begun.event_ids


def test_an_api_that_refuses_says_why(begun: ReplayPlan, wb: Workbench, replay_api: Api) -> None:
    replay_api.before = lambda _: Exchange(b"", 403, {"message": "no", "code": "forbidden"})
    with pytest.raises(AwsError, match="refused mine") as failed:
        wb.replay.resume("mine", progress=None)
    assert "pik replay resume mine" in failed.value.next_step


def test_a_window_stands_for_its_run_and_a_cancelled_one_is_no_loss(
    begun: ReplayPlan, wb: Workbench, ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("send", part=0, limit=3)
    assert wb.replay.status("mine.1").replay_id == "mine"
    monkeypatch.setattr(reconcile, "REQUEST", timedelta())
    assert [row["where"] for row in reconcile._halves(wb, list(_known(wb)))] == ["replay mine.1"]
    assert wb.replay.pause("mine.1", progress=None).sent == 3
    wb.replay.resume("mine.1", progress=None)
    assert wb.replay.status("mine").complete


def test_a_cancelled_run_is_no_half_replay(
    begun: ReplayPlan, wb: Workbench, ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("send", part=0, limit=3)
    wb.replay.cancel("mine.1", progress=None)
    monkeypatch.setattr(reconcile, "REQUEST", timedelta())
    assert list(reconcile._halves(wb, list(_known(wb)))) == []


def _known(wb: Workbench) -> Iterator[Replay]:
    yield from reading.every(wb.stores).values()


def test_parts_that_are_sent_out_of_order_are_all_in_the_record(
    begun: ReplayPlan, wb: Workbench, ask: Asked, deployed: Settings
) -> None:
    """Workers send the parts of one window side by side."""
    assert ask("send", part=2)["done"]
    assert ask("send", part=1, limit=2).status == 200
    (window,) = [one for one in _known(wb) if one.replay_id == "mine.last"]
    assert (window.complete, window.expected.total()) == (False, 6)
    processed(deployed)
    found = wb.replay.result("mine")
    assert (len(found.frame), found.counted, found.complete) == (6, 6, False)
    assert wb.replay.resume("mine", progress=None).complete
    (window,) = [one for one in _known(wb) if one.replay_id == "mine.last"]
    assert (window.complete, window.expected.total()) == (True, 12)


def test_a_claim_belongs_to_the_row_that_was_read(begun: ReplayPlan, ask: Asked, deployed: Settings) -> None:
    """Between reading a part and claiming its lines, another request sent some and left others unknown."""
    really, first = parts.Sender._read, [True]

    def read(self: parts.Sender) -> None:
        really(self)
        if first.pop() if first else False:
            with broken("sqs", "send_message_batch", after=True):
                assert ask("send", part=0).status == 503

    with patch.object(parts.Sender, "_read", read):
        asked = ask("send", part=0, limit=2)
    assert (asked.status, asked["code"]) == (409, "busy")
    row = boto3.client("dynamodb").get_item(
        TableName="replays", Key={"PK": {"S": "REPLAY#mine"}, "SK": {"S": "PART#00000"}}
    )["Item"]
    assert (row["to"]["N"], int(row["lands"]["N"]) > time.time()) == ("3", True)


def test_a_run_that_somebody_paused_is_not_resumed_by_running_its_plan(
    begun: ReplayPlan, wb: Workbench, ask: Asked, deployed: Settings
) -> None:
    wb.replay.pause("mine", reason="not now", progress=None)
    done = wb.replay.run(begun, replay_id="mine", progress=None)
    assert (done.state, done.why, done.sent) == ("PAUSED", "not now", 0)
    assert received(deployed) == []


def test_a_time_out_of_s3_is_no_changed_manifest(begun: ReplayPlan, ask: Asked, deployed: Settings) -> None:
    """botocore's time-outs are OSErrors, as are those of unpacking."""
    with broken("s3", "get_object", after=False):
        assert (ask("send", part=0).status, ask("send", part=0)["code"]) == (503, "store_unavailable")
    assert ask("send", part=0).status == 200


def test_a_stop_waits_for_who_sends_a_part_that_is_lost_meanwhile(begun: ReplayPlan, ask: Asked) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> Any:
        raise Killed

    with patch.object(parts.Sender, "_write", killed), pytest.raises(Killed):
        ask("send", part=0)
    boto3.client("s3").delete_object(Bucket="raw", Key=written.key("mine", begun.digest, 0))
    ask("cancel")
    assert not ask("settle")["settled"]


def test_a_part_that_never_gets_written_down_is_given_up(begun: ReplayPlan, wb: Workbench, replay_api: Api) -> None:
    """Whoever sends it is killed each time: the answers are a failure, then that it is busy, and so on."""
    replay_api.before = lambda number: (
        Exchange(b"", 409, {"code": "busy", "wait": 1}) if number % 2 else Exchange(b"", 0, {})
    )
    with pytest.raises(AwsError, match="failed 20 times"):
        wb.replay.resume("mine", progress=None)


def test_two_requests_with_one_id_are_two(begun: ReplayPlan, ask: Asked, deployed: Settings) -> None:
    """A caller may choose a request's id; the claim of another is not its own."""
    really, first = parts.Sender._claim, [True]

    def claim(self: parts.Sender, *about: Any) -> None:
        if first.pop() if first else False:
            other = replace(self, token="another")
            really(other, *about)
        really(self, *about)

    with patch.object(parts.Sender, "_claim", claim):
        assert ask("send", part=0)["code"] == "busy"
    assert received(deployed) == []

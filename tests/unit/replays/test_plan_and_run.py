"""A replay is planned, run and looked at: what is sent is what was planned, or one says what is not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import NoCredentialsError

from pik import frames, project
from pik.aws.exchange import Exchange
from pik.errors import AwsError, Refused, UsageError
from pik.pipeline import http, ingest, processor
from pik.pipeline import replay as api
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from pik.replays import planning, reading, running
from pik.replays.planning import ReplayPart, ReplayPlan
from pik.workbench import Workbench, replay_results
from pik.workbench.replay_local import load
from tests.unit.moto_workbench import workbench

Ask = Callable[..., dict[str, Any]]
Send = Callable[..., dict[str, Any]]
DAY = ("2025-01-03T00:00:00Z", "2025-01-04T00:00:00Z")


@pytest.fixture
def send(deployed: Settings, request_of: Ask) -> Send:
    """Ingest an event of entity ``e`` on the third; return the answer."""

    def sent(time: str = "10:00:00", **more: Any) -> dict[str, Any]:
        body = {"source": "s", "event_type": "t", "entity_id": "e", "event_time": f"2025-01-03T{time}Z"}
        answer = ingest.ingest(Request.of(request_of({**body, "payload": {"n": 1}, **more})), deployed)
        return dict(json.loads(answer["body"]))

    return sent


class Api:
    """The replay API; ``before`` is called with the number of each request, and may answer in its place."""

    def __init__(self, config: Settings, request_of: Ask) -> None:
        self.config, self.request_of = config, request_of
        self.requests = 0
        self.before: Callable[[int], Exchange | None] = lambda _: None
        self.has_time: Callable[[], bool] = lambda: True

    def __call__(self, environment: Any, url: str, body: bytes, **_: Any) -> Exchange:
        self.requests += 1
        if answer := self.before(self.requests):
            return answer
        request, logger = Request.of(self.request_of(body)), api.logger
        found = http.guarded(request, lambda: api.replay(request, self.config, self.has_time), logger, api.metrics)
        return Exchange(body, found["statusCode"], json.loads(found["body"]))


@pytest.fixture
def replay_api(deployed: Settings, request_of: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Api:
    found = Api(deployed, request_of)
    monkeypatch.setattr(running, "tried", found)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(project, "STATE", tmp_path / ".pik")
    for module in (planning, reading, replay_results):  # moto mixes the answers of threads up
        monkeypatch.setattr(module, "PARALLEL", 1)
    return found


@pytest.fixture
def wb(deployed: Settings, replay_api: Api) -> Workbench:
    found = workbench(deployed)
    found.outputs.update(ReplayUrl="https://replay", ProcessorFunction="p")
    return found


def received(config: Settings) -> list[dict[str, Any]]:
    """Every message of the queue, taken out of it."""
    sqs, found = boto3.client("sqs"), []
    while batch := sqs.receive_message(QueueUrl=config.queue_url, MaxNumberOfMessages=10).get("Messages"):
        for message in batch:
            sqs.delete_message(QueueUrl=config.queue_url, ReceiptHandle=message["ReceiptHandle"])
        found += batch
    return found


def processed(config: Settings) -> int:
    """Have the processor count every message of the queue."""
    messages = received(config)
    records = [{"messageId": one["MessageId"], "body": one["Body"], "attributes": {}} for one in messages]
    assert processor.process_batch({"Records": records}, config) == {"batchItemFailures": []}
    return len(messages)


def planned(wb: Workbench, **more: Any) -> ReplayPlan:
    return wb.replay.plan(**{"entities": "e", "start": DAY[0], "end": DAY[1], **more})


def ids(config: Settings) -> list[str]:
    return sorted(json.loads(message["Body"])["event_id"] for message in received(config))


def test_a_plan_lists_exactly_what_is_sent_and_says_what_is_left_out(
    wb: Workbench, send: Send, deployed: Settings, tmp_path: Path
) -> None:
    inside = [send(time)["event_id"] for time in ("00:00:00", "10:00:00", "10:00:00.000001", "23:59:59.999999")]
    inside += [send(payload={"n": n})["event_id"] for n in (2, 3)]  # three at the same moment
    send()
    send(idempotency_key="k")
    send(idempotency_key="k", payload={"n": 9})
    inside.append(send(idempotency_key="k")["event_id"])
    send(event_time="2025-01-04T00:00:00Z")
    send(entity_id="other")

    plan = planned(wb)
    assert (plan.messages, plan.event_ids) == (7, set(inside))
    assert plan.left_out == {"DUPLICATE": 2, "CONFLICT": 1}
    assert planned(wb).digest == plan.digest
    assert plan.by("day").to_dict("records")[0]["events"] == 7
    assert planned(wb, include_duplicates=True).messages == 9
    assert received(deployed) == []  # a plan sends nothing

    plan.write(tmp_path / "plan.gz")
    again = planning.read(tmp_path / "plan.gz")
    assert again == plan
    done = wb.replay.run(again, replay_id="rp-1", progress=None)
    assert (done.as_planned, done.sent) == (True, 7)
    assert ids(deployed) == sorted(inside)
    lines = [json.loads(line) for line in Path(done.record).read_text().splitlines()]
    assert [(line["replay"], line["digest"]) for line in lines] == [("begin", plan.digest), ("end", plan.digest)]


def test_what_came_of_it_is_said_and_a_second_replay_changes_nothing(
    wb: Workbench, send: Send, deployed: Settings
) -> None:
    for second in range(3):
        send(f"10:00:0{second}", payload={"n": second})
    wb.replay.run(planned(wb), replay_id="rp-1", progress=None)
    found = wb.replay.result("rp-1")
    assert (found.counted, found.done, found.waiting) == (0, False, 3)
    assert "3 messages wait" in found.sentence

    processed(deployed)
    assert wb.replay.result("rp-1").sentence.endswith("No aggregate had a version before")
    wb.replay.run(planned(wb), replay_id="rp-2", progress=None)
    processed(deployed)
    found = wb.replay.result("rp-2")
    assert found.done
    assert found.sentence.endswith("Of 1 that had a version before, 0 changed")
    assert found.to_dict()["versions"][0]["before"] == "rp-1"

    send("11:00:00")
    wb.replay.run(planned(wb), replay_id="rp-3", progress=None)
    processed(deployed)
    assert wb.replay.result("rp-3").sentence.endswith("Of 1 that had a version before, 1 changed")
    assert wb.replay.result("rp-1").sentence.endswith("No aggregate had a version before")  # those came later


def test_a_set_that_has_changed_is_not_sent(wb: Workbench, send: Send, deployed: Settings, replay_api: Api) -> None:
    send()
    plan = planned(wb)
    send("11:00:00")
    with pytest.raises(Refused, match="not what would be sent now") as refused:
        wb.replay.run(plan, progress=None)
    assert "1 more" in refused.value.reason
    assert (replay_api.requests, received(deployed)) == (0, [])


def test_what_arrives_while_it_is_sent_is_said(wb: Workbench, send: Send, replay_api: Api) -> None:
    send()
    plan, late = planned(wb), []

    def before(_: int) -> None:
        late.append(send("11:00:00")["event_id"])

    replay_api.before = before
    done = wb.replay.run(plan, progress=None)
    assert (done.complete, done.as_planned, done.extra) == (True, False, frozenset(late))
    assert "1 sent that arrived after the plan was made" in done.sentence


def test_answers_that_are_lost_or_come_in_parts_change_nothing(
    wb: Workbench, send: Send, deployed: Settings, replay_api: Api
) -> None:
    inside = {send(f"10:{minute:02d}:00")["event_id"] for minute in range(35)}
    replay_api.has_time = lambda: False  # one batch a request
    replay_api.before = lambda number: Exchange(b"", 0, {}) if number in {1, 3} else None
    done = wb.replay.run(planned(wb), progress=None)
    assert (done.as_planned, replay_api.requests) == (True, 6)
    assert set(ids(deployed)) == inside


def test_who_was_interrupted_goes_on(wb: Workbench, send: Send, deployed: Settings, replay_api: Api) -> None:
    for entity in ("a", "b", "c"):
        for minute in range(12):
            send(f"10:{minute:02d}:00", entity_id=entity)
    plan = planned(wb, entities=["a", "b", "c"])
    replay_api.has_time = lambda: False

    def before(number: int) -> None:
        if number == 4:
            raise KeyboardInterrupt

    replay_api.before = before
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        wb.replay.run(plan, replay_id="mine", progress=said.append)
    assert "pik replay run PLAN --env dev --replay-id mine" in said[-1]
    first = ids(deployed)
    result = wb.replay.result("mine")
    assert (result.complete, len(first)) == (False, 22)
    assert "pik replay run PLAN --env dev --replay-id mine" in result.sentence

    send("11:00:00", entity_id="a")  # of a window that was sent already: nothing to be afraid of
    done = wb.replay.run(plan, replay_id="mine", progress=None)
    assert (done.complete, set(done.extra), set(done.unsure)) == (True, set(), {("a", "2025-01-03")})
    assert "it is not known which were sent" in done.sentence
    assert sorted(first + ids(deployed)) == sorted(row["event_id"] for row in plan.rows)
    assert [row["replay_id"] for row in wb.replays().to_dict("records")] == ["mine.1", "mine.2", "mine.last"]


def test_windows_that_were_not_begun_are_not_done(
    wb: Workbench, send: Send, deployed: Settings, replay_api: Api
) -> None:
    """The records of an interrupted run are all complete, and do not say how many windows there were."""
    for entity in ("a", "b", "c"):
        send(entity_id=entity)

    def before(number: int) -> None:
        if number == 2:
            raise NoCredentialsError

    replay_api.before = before
    plan = planned(wb, entities=["a", "b", "c"])
    with pytest.raises(AwsError, match="mine stopped") as failed:
        wb.replay.run(plan, replay_id="mine", reason="so", progress=None)
    assert failed.value.next_step.startswith("pik replay run PLAN --env dev --replay-id mine --reason so")
    processed(deployed)
    assert not wb.replay.result("mine").done


def test_a_replay_that_stopped_is_sent_to_its_end(
    wb: Workbench, send: Send, deployed: Settings, request_of: Ask
) -> None:
    inside = sorted(send(f"10:0{minute}:00")["event_id"] for minute in range(5))
    request = {"entity_id": "e", "start_time": DAY[0], "end_time": DAY[1], "replay_id": "rp-7", "limit": 2}
    api.replay(Request.of(request_of(request)), deployed, lambda: True)
    assert wb.replay.resume("rp-7", progress=None).complete
    assert ids(deployed) == inside
    assert wb.replay.resume("rp-7", progress=None).complete  # once more does no harm
    assert received(deployed) == []
    with pytest.raises(UsageError, match="no replay 'rp-8'"):
        wb.replay.resume("rp-8")


def test_an_api_that_never_answers_is_given_up_and_says_how_to_go_on(
    wb: Workbench, send: Send, replay_api: Api
) -> None:
    send()
    replay_api.before = lambda _: Exchange(b"", 0, {})
    with pytest.raises(AwsError, match="did not answer") as failed:
        wb.replay.run(planned(wb), replay_id="rp-1", progress=None)
    assert "--replay-id rp-1" in failed.value.next_step


def test_days_are_those_of_utc_whatever_the_frame_says(wb: Workbench, send: Send) -> None:
    send("00:30:00")
    frame = frames.frame(frames.EVENTS, [{"entity_id": "e", "event_time": "2025-01-03T00:30:00Z"}])
    there = frame.assign(event_time=frame["event_time"].dt.tz_convert("America/New_York"))
    assert [part.start_time[:10] for part in wb.replay.plan(there).parts] == ["2025-01-03"]
    with pytest.raises(UsageError, match="without an entity or a time"):
        wb.replay.plan(frame.assign(entity_id=None))
    with pytest.raises(UsageError, match="stand for whole days"):
        wb.replay.plan(frame, start=DAY[0])
    assert wb.replay.plan(entities=frame["entity_id"].unique(), start=DAY[0], end=DAY[1]).messages == 1


@pytest.mark.parametrize("day", ["0001-01-01", "2999-01-01", "9999-12-31"])
def test_days_that_cannot_be_replayed_are_refused(wb: Workbench, day: str) -> None:
    with pytest.raises(UsageError, match="cannot be replayed now"):
        planning.whole_days(wb, [("e", day)])


def test_frames_and_ids_stand_for_whole_days(wb: Workbench, send: Send) -> None:
    known = [send()["event_id"], send("23:00:00")["event_id"], send(event_time="2025-01-04T05:00:00Z")["event_id"]]
    known.append(send(entity_id="other", event_time="2025-01-09T05:00:00Z")["event_id"])
    plan = wb.replay.plan(known[1:])
    assert plan.parts == (
        ReplayPart("e", "2025-01-03T00:00:00.000000Z", "2025-01-05T00:00:00.000000Z"),
        ReplayPart("other", "2025-01-09T00:00:00.000000Z", "2025-01-10T00:00:00.000000Z"),
    )
    assert plan.event_ids == set(known)
    rows = [{"entity_id": "e", "event_time": f"2025-01-0{day}T23:00:00Z"} for day in (3, 4)]
    assert wb.replay.plan(frames.frame(frames.EVENTS, rows)).parts == plan.parts[:1]
    with pytest.raises(UsageError, match="no column event_time"):
        wb.replay.plan(wb.replays())
    with pytest.raises(UsageError, match="nothing is known"):
        wb.replay.plan(["0" * 64])


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({}, "a window needs a start"),
        ({"start": "2025-01-03", "end": "2025-01-03"}, "the window is empty"),
        ({"start": "2025-01-03", "end": "2999-01-01"}, "can be replayed now"),
        ({"start": "2025-01-03", "end": "2025-01-04", "events": ["0"]}, "give either"),
        ({"start": "2025-01-03", "end": "2025-01-04", "entities": []}, "needs an entity"),
    ],
)
def test_a_selection_that_is_none_is_refused(wb: Workbench, what: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        wb.replay.plan(**{"entities": "e", **what})


def test_windows_that_overlap_are_refused(wb: Workbench) -> None:
    parts = [ReplayPart("e", "2025-01-03T00:00:00.000000Z", f"2025-01-0{end}T00:00:00.000000Z") for end in (4, 5)]
    with pytest.raises(UsageError, match="overlap"):
        planning.plan(wb, parts)


def test_a_plan_is_run_where_it_was_made_and_as_it_was_made(
    wb: Workbench, send: Send, deployed: Settings, tmp_path: Path
) -> None:
    send()
    plan = planned(wb)
    with pytest.raises(Refused, match="made for prod"):
        wb.replay.run(replace(plan, environment="prod"))
    with pytest.raises(Refused, match="at most 1 are allowed"):
        wb.replay.run(replace(plan, rows=plan.rows * 2), at_most=1)
    with pytest.raises(UsageError, match="selects nothing"):
        wb.replay.run(planned(wb, entities="nobody"))
    with pytest.raises(UsageError, match="not an id"):
        wb.replay.run(plan, replay_id="a b")
    wb.outputs.pop("ReplayUrl")
    with pytest.raises(Refused, match="no replay API"):
        wb.replay.run(plan)

    file = tmp_path / "plan.gz"
    replace(plan, rows=()).write(file)
    changed = gzip.decompress(file.read_bytes()).replace(b'"rows": []', b'"rows": [[9]]')
    broken = gzip.compress(b"x" * 100)
    for bad in (b"no plan", gzip.compress(b"{}"), gzip.compress(changed), broken[:12] + b"\xff" * 9 + broken[21:]):
        file.write_bytes(bad)
        with pytest.raises(UsageError, match="no plan of a replay"):
            planning.read(file)
    with pytest.raises(UsageError, match="cannot be written"):
        plan.write(tmp_path / "no" / "plan.gz")
    other = json.dumps({**json.loads(changed), "rows": [], "digest": "0"}).encode()
    file.write_bytes(gzip.compress(other))
    with pytest.raises(UsageError, match="was changed"):
        planning.read(file)
    assert received(deployed) == []


def test_an_id_that_stands_for_another_replay_is_refused(wb: Workbench, send: Send, deployed: Settings) -> None:
    send()
    wb.replay.run(planned(wb), replay_id="rp-1", progress=None)
    assert len(received(deployed)) == 1
    with pytest.raises(Refused, match="another replay"):
        wb.replay.run(planned(wb, end="2025-01-05"), replay_id="rp-1", progress=None)
    assert received(deployed) == []


def test_a_guarded_environment_wants_a_reason(wb: Workbench, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    send()
    plan = planned(wb)
    monkeypatch.setitem(wb.environment.__dict__, "config", replace(wb.environment.config, protection="guarded"))
    with pytest.raises(Refused, match="needs a reason"):
        wb.replay.run(plan)
    done = wb.replay.run(plan, reason="the day was late", progress=None)
    begin, _ = (json.loads(line) for line in Path(done.record).read_text().splitlines())
    assert begin["reason"] == "the day was late"
    assert begin["by"].startswith("arn:")


# --- into a function on this machine ----------------------------------------------------------------------------------


def double(event: dict[str, Any]) -> int:
    return int(event["payload"]["n"]) * 2


def triple(event: dict[str, Any]) -> int:
    number = int(event["payload"]["n"])
    if number == 3:
        raise ValueError("three")
    return number * 3


def greedy(event: dict[str, Any]) -> dict[str, Any]:
    """Changes what it was given, and returns it."""
    event["payload"]["n"] += 1
    return dict(event["payload"])


def odd(event: dict[str, Any]) -> dict[Any, int]:
    return {1: 1, "a": 2}  # no JSON with sorted names


class Total:
    """An aggregator of one's own."""

    def lift(self, event: Any) -> dict[str, Any]:
        return {"total": event.payload["n"]}

    def combine(self, left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
        return {"total": left["total"] + right["total"]}


@pytest.mark.parametrize("workers", [1, 4])
def test_own_code_runs_over_the_events_and_two_versions_of_it_are_compared(
    wb: Workbench, send: Send, deployed: Settings, workers: int
) -> None:
    for n in range(4):
        send(f"10:00:0{n}", payload={"n": n})
    plan = planned(wb)
    done = wb.replay.local(plan, double, workers=workers)
    assert list(done.frame["result"]) == ["0", "2", "4", "6"]
    both = wb.replay.local(plan, triple, against=double, workers=workers)
    assert list(both.differences["before"]) == ["2", "4", "6"]
    assert (both.failed, both.frame["error"].tolist()[3]) == (1, "ValueError: three")
    assert 'raise ValueError("three")' in both.first_error
    assert both.sentence == "4 events, 4 results, 1 failed; 3 differ"
    assert received(deployed) == []


def test_handlers_do_not_see_what_another_made_of_an_event(wb: Workbench, send: Send) -> None:
    send(payload={"n": 1})
    plan = planned(wb)
    found = wb.replay.local(plan, greedy, against=double).frame
    assert (found["result"][0], found["before"][0]) == ('{"n": 2}', "2")
    assert wb.replay.local(plan, odd, against=double).frame["error"][0].startswith("TypeError")
    assert wb.replay.local(plan, double, against=odd).failed == 1


def test_an_aggregator_that_is_not_deployed_yet_is_compared_with_the_one_that_is(
    wb: Workbench, send: Send, deployed: Settings
) -> None:
    for n in range(3):
        send(f"10:00:0{n}", payload={"n": n})
    plan = planned(wb)
    wb.replay.run(plan, replay_id="rp-1", progress=None)
    processed(deployed)
    version = wb.stores.version("e", "2025-01-03", "rp-1")
    mine = wb.replay.local(plan, load("daily-summary"))
    assert version is not None
    assert json.loads(mine.frame["result"][0]) == version["state"]  # as the processor computed it
    other = wb.replay.local(plan, Total(), against=load("daily-summary"))
    assert json.loads(other.frame["result"][0]) == {"total": 3}
    assert bool(other.frame["differs"][0])


def test_an_event_that_cannot_be_read_is_an_error_of_its_own(wb: Workbench, send: Send) -> None:
    first, second = send(), send("11:00:00")
    plan = planned(wb)
    boto3.client("s3").delete_object(Bucket="raw", Key=first["s3_key"])
    kept = boto3.client("s3").get_object(Bucket="raw", Key=second["s3_key"])
    boto3.client("s3").put_object(Bucket="raw", Key=second["s3_key"], Body=b"{}", Metadata=kept["Metadata"])
    done = wb.replay.local(plan, double)
    assert [error.partition(" raw/")[0] for error in done.frame["error"]] == [
        "there is no raw object",
        "the raw object is not what was received",
    ]
    assert wb.replay.local(plan, Total()).frame["error"][0].startswith("2 of 2 events failed")


@pytest.mark.parametrize("name", ["double", "no.such.module:x", "json:nothing", ":x"])
def test_what_is_no_function_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        load(name)


def test_what_is_no_handler_is_refused(wb: Workbench, send: Send) -> None:
    send()
    plan = planned(wb)
    for given, against in ((3, None), (double, Total())):
        with pytest.raises(UsageError):
            wb.replay.local(plan, given, against=against)
    with pytest.raises(UsageError, match="workers"):
        wb.replay.local(plan, double, workers=0)

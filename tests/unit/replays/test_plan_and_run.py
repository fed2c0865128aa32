"""A replay is planned, run and looked at: what is sent is what was planned."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from pik import frames
from pik.aws.exchange import Exchange
from pik.errors import AwsError, Refused, UsageError
from pik.pipeline import replay as api
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from pik.replays import planning
from pik.replays.planning import ReplayPart
from pik.workbench import Workbench
from tests.unit.replays.conftest import DAY, Api, Ask, Send, ids, planned, processed, received


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


def test_what_arrives_while_it_is_sent_is_not_sent(
    wb: Workbench, send: Send, deployed: Settings, replay_api: Api
) -> None:
    first = send()["event_id"]
    plan, late = planned(wb), []

    def before(number: int) -> None:
        late.append(send(f"1{number}:00:00")["event_id"])

    replay_api.before = before
    done = wb.replay.run(plan, progress=None)
    assert done.as_planned
    assert "exactly the 1 planned messages were sent" in done.sentence
    assert late
    assert ids(deployed) == [first]


def test_answers_that_are_lost_or_come_in_parts_change_nothing(
    wb: Workbench, send: Send, deployed: Settings, replay_api: Api
) -> None:
    inside = {send(f"10:{minute:02d}:00")["event_id"] for minute in range(35)}
    replay_api.has_time = lambda: False  # one batch a request
    replay_api.before = lambda number: Exchange(b"", 0, {}) if number in {1, 3} else None
    done = wb.replay.run(planned(wb), progress=None)
    assert (done.as_planned, replay_api.requests) == (True, 7)  # to begin, four times ten messages, and the two
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
    assert "pik replay resume mine --env dev" in said[-1]
    first = ids(deployed)
    result = wb.replay.result("mine")
    assert (result.complete, len(first), wb.replay.status("mine").sent) == (False, 20, 20)
    assert "pik replay resume mine --env dev" in result.sentence

    send("11:00:00", entity_id="a")  # of a window that was sent already: it is not in the manifest
    send("11:00:00", entity_id="c")
    done = wb.replay.run(plan, replay_id="mine", progress=None)
    assert done.as_planned
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
    assert failed.value.next_step.startswith("pik replay resume mine --env dev --reason so")
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
    assert "pik replay run PLAN --env dev --replay-id rp-1" in failed.value.next_step  # nothing was begun


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

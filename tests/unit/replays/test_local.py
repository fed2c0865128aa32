"""The events of a plan run through code of one's own, on this machine."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from pik.errors import UsageError
from pik.pipeline.settings import Settings
from pik.workbench import Workbench
from pik.workbench.replay_local import load
from tests.unit.replays.conftest import Send, planned, processed, received


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

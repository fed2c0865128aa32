"""How a canary is judged, from what was seen; and what counts as a failure or as wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pik.results import Verdict
from pik.rollout.checks.replaying import Raws
from pik.rollout.checks.trials import TrialPrediction
from pik.rollout.deploy.canary import (
    _FAILURES,
    CanaryOutcome,
    Limits,
    Sample,
    _failures,
    _set_aside,
    _some,
    _wrong,
    judge,
)

LIMITS = Limits(least=10, settle=5, patience=60, every=1)


def sample(seconds: float = 20, **seen: Any) -> Sample:
    values = {"waiting": 0, "in_flight": 0, "oldest_seconds": None, "dead": 0, "counted": 0, "failed": 0, **seen}
    values.setdefault("invocations", values["failed"])
    return Sample(seconds=seconds, **values)


@pytest.mark.parametrize(
    ("last", "verdict", "says"),
    [
        (sample(counted=100), Verdict.PASSED, "100 of 100 messages counted as predicted"),
        (sample(5, counted=100), None, ""),  # too early: what comes late may be a failure
        (sample(counted=40, waiting=60), None, ""),
        (sample(counted=40), Verdict.PASSED, "40 of 100"),  # the queue is empty: no more will come
        (sample(counted=98, failed=2), Verdict.PASSED, "2 failed"),  # a throttle or two
        (sample(counted=30, failed=10, waiting=60), Verdict.FAILED, "10 of 40 messages failed"),
        (sample(1, counted=6, failed=3, waiting=90), Verdict.FAILED, "3 of 9 messages failed, in 3 invocations"),
        (sample(1, counted=1, failed=1, waiting=98), None, ""),  # one says nothing yet
        (sample(1, counted=43, failed=5, invocations=2, waiting=90), None, ""),  # two at once: one busy moment
        (sample(1, counted=43, failed=5, invocations=3, waiting=90), Verdict.FAILED, "5 of 48 messages failed"),
        (sample(dead=1, counted=99), Verdict.FAILED, "1 message moved to the dead-letter queue"),
        (sample(2, wrong=("N1 · day · r has another state",), counted=99), Verdict.FAILED, "not as predicted: N1"),
        (sample(59, waiting=100), None, ""),
        (sample(60, waiting=100), Verdict.FAILED, "nothing was counted after 60 s, 100 messages in the queue"),
        (sample(60), Verdict.FAILED, "nothing was counted"),  # not even the probe
        (sample(60, counted=40, waiting=60), Verdict.PASSED, "40 of 100 messages counted as predicted after 60 s"),
        (sample(60, counted=40, waiting=60, failed=1), Verdict.FAILED, "1 failed and 40 of 100"),
    ],
)
def test_a_canary_is_judged_by_what_is_seen(last: Sample, verdict: Verdict | None, says: str) -> None:
    before = replace(last, seconds=last.seconds - 6)  # what is seen has lasted
    judged = judge([sample(0, waiting=100), before, last], 100, LIMITS)
    assert (judged[0] if judged else None) is verdict
    assert judged is None or says in judged[1]


def test_one_look_at_an_empty_queue_ends_nothing() -> None:
    """SQS's counts are approximate and up to a minute old: 40 of 100 counted and a 0 may be 60 still to come."""
    one = [sample(0, waiting=100), sample(14, waiting=60, counted=40), sample(20, counted=40)]
    assert judge(one, 100, LIMITS) is None
    back = [*one, sample(24, waiting=60, counted=40), sample(26, counted=40)]
    assert judge(back, 100, LIMITS) is None  # it must be empty without a break
    judged = judge([*back, sample(31, counted=40)], 100, LIMITS)
    assert judged is not None
    assert judged[0] is Verdict.PASSED


def test_a_few_failures_on_a_busy_aws_are_waited_for_while_others_are_counted() -> None:
    """What was throttled comes back later: 3 of 417 failed, and the others went on being counted."""
    slow = [sample(0, waiting=596), sample(45, waiting=300, counted=296, failed=1)]
    late = [*slow, sample(61, waiting=182, counted=414, failed=3)]
    assert judge(late, 596, LIMITS) is None

    drained = judge([*late, sample(80, counted=596, failed=3)], 596, LIMITS)
    assert drained is not None
    assert drained[0] is Verdict.PASSED

    stuck = [*late, sample(71, waiting=3, counted=593, failed=3), sample(90, waiting=3, counted=593, failed=3)]
    judged = judge(stuck, 596, LIMITS)
    assert judged == (Verdict.FAILED, "3 failed and 593 of 596 are counted after 90 s")

    assert judge([*late, sample(180, waiting=1, counted=595, failed=3)], 596, LIMITS) is not None  # not for ever


def test_of_many_messages_some_are_enough() -> None:
    assert judge([sample(counted=1000, waiting=50_000)], 51_000, LIMITS)


def test_a_failure_is_a_message_that_went_back_or_a_crash_once_each() -> None:
    lines = [
        json.dumps({"level": "ERROR", "message": BACK, "message_id": "m1", "function_request_id": "i1"}),
        json.dumps({"level": "ERROR", "message": BACK, "message_id": "m1", "function_request_id": "i2"}),
        json.dumps({"level": "ERROR", "message": BACK, "message_id": "m4", "function_request_id": "i2"}),
        json.dumps({"level": "ERROR", "message": "set aside", "message_id": "m2"}),  # counted by the queue
        json.dumps({"level": "INFO", "message": "counted ERROR-1", "message_id": "m3"}),
        "[ERROR] Runtime.ImportModuleError: Unable to import module",
        "2026-11-24 Task timed out after 30.00 seconds",
    ]
    assert set(_failures(iter(lines))) == {
        ("m1", "i1"),
        ("m1", "i2"),
        ("m4", "i2"),
        (lines[5], lines[5]),
        (lines[6], lines[6]),
    }
    assert set(_set_aside(iter(lines))) == {"m2"}


BACK = "not processed; back to the queue"
ID = "1c1bd6e8-97e8-4ae1-8f8b-3b3f0e9f5a11"


def test_running_out_of_memory_is_a_failure_and_its_lines_speak_of_one_invocation() -> None:
    lines = [
        f"RequestId: {ID} Error: Runtime exited with error: signal: killed\nRuntime.ExitError",
        f"REPORT RequestId: {ID}\tMax Memory Used: 128 MB\tStatus: error\tError Type: Runtime.OutOfMemory",
    ]
    assert all(any(text in line for text in _FAILURES) for line in lines)
    assert set(_failures(iter(lines))) == {(ID, ID)}


GROUP = ("N1", "2013-01-01", "r")


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        (None, []),
        ({"input_count": 1, "state": {"count": 1}}, []),  # not all of it yet
        ({"input_count": 2, "state": {"count": 2}}, []),
        ({"input_count": 2, "state": {"count": 3}}, ["N1 · 2013-01-01 · r has another state"]),
        ({"input_count": 3, "state": {"count": 3}}, ["N1 · 2013-01-01 · r counts 3 of 2"]),
    ],
)
def test_an_aggregate_is_wrong_when_it_says_more_or_something_else(row: Any, wrong: list[str]) -> None:
    predicted = TrialPrediction({}, Raws({}, {}), 0, {GROUP: ({"count": 2}, 2)})
    assert list(_wrong(predicted, {GROUP: row})) == wrong


def test_what_is_recorded_of_many_looks_is_few_of_them_and_the_last() -> None:
    many = tuple(sample(n, counted=n) for n in range(500))
    kept = _some(many)
    assert len(kept) <= 13
    assert (kept[0], kept[-1]) == (many[0], many[-1])
    assert _some(many[:1]) == many[:1]
    told = CanaryOutcome(Verdict.PASSED, "fine", 500, many).as_dict()
    assert json.dumps(told)
    assert len(told["samples"]) == len(kept)

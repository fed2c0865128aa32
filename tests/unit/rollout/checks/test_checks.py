from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pik import events, runbooks
from pik.aws.exchange import Exchange
from pik.aws.reading import RawObject, StoreReader
from pik.environments import Environment
from pik.errors import AwsError
from pik.notebooks.rollout_steps import _all_safe
from pik.pipeline.parsing import parse_event
from pik.results import StepResult, Verdict
from pik.rollout.checks.catalog import BY_NAME, CHECKS, STEPS, of_step
from pik.rollout.checks.ingest import IngestChecks
from pik.rollout.checks.intact import Comparison
from pik.rollout.checks.probe import Probe
from pik.rollout.checks.processor import Drain, ProcessorChecks, _different, _emptying
from pik.rollout.checks.replay import ReplayChecks, SentBatch
from pik.rollout.checks.replaying import EntityWindow, Raws, ReplayAnswer, _compare
from pik.rollout.checks.trials import TrialPrediction, Trials
from pik.rollout.checks.verdicts import LONGEST_EVIDENCE, check, completed, every, run
from pik.rollout.deploy.rollback import Rollback
from pik.rollout.deploy.rollback_checks import RollbackChecks
from tests.inventory import Inventory
from tests.unit.planted_steps import summary

LOCAL = Environment("local", region="us-east-1", endpoint="http://127.0.0.1:1")
NOTHING = Raws({}, {})


@pytest.fixture(autouse=True)
def stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores without AWS: addresses only."""
    names = ("RawBucket", "AggregatesTable", "QueueUrl", "DeadLetterQueueUrl", "ReplayUrl", "IngestUrl")
    monkeypatch.setattr(StoreReader, "outputs", {name: name for name in names})
    monkeypatch.setattr(StoreReader, "waiting", lambda _: 0)
    monkeypatch.setattr(ProcessorChecks, "dry", False)
    monkeypatch.setattr(Trials, "dry", False)


def test_no_data_is_inconclusive_and_closes_the_gate() -> None:
    found = check("name", None, yes="yes", no="no", unknown="nothing there", remedy="do this")
    assert (found.verdict, found.sentence, found.remedy) == (Verdict.INCONCLUSIVE, "nothing there", "do this")
    assert found.stops


def test_a_passed_check_has_no_remedy_and_evidence_is_cut() -> None:
    found = check("name", True, yes="yes", no="no", evidence={"long": b"\xff" + b"x" * 5000}, remedy="do this")
    assert found.remedy == ""
    assert len(found.evidence[0].value) == LONGEST_EVIDENCE


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [([True, True], True), ([True, None], None), ([None, False], False), ([], None)],
)
def test_many_answers_make_one(answers: list[bool | None], verdict: bool | None) -> None:
    assert every({str(n): answer for n, answer in enumerate(answers)}) is verdict


@pytest.mark.parametrize(
    "error", [AwsError("no", next_step="x"), ClientError({"Error": {"Code": "Throttling"}}, "Get")]
)
def test_what_aws_refuses_makes_a_check_inconclusive(error: Exception) -> None:
    def look() -> Any:
        raise error

    found = run("no alarm", look, "dev")
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.stops
    assert found.investigate == "pik run daily-health --env dev"


def test_a_bug_in_a_check_is_not_hidden() -> None:
    def look() -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run("no alarm", look, "dev")


def test_phase_2_proves_nothing_without_events() -> None:
    checks, sent = ReplayChecks(LOCAL), SentBatch([], NOTHING, 0, {})
    found = [checks.counts(sent), checks.pages(sent), checks.queued(sent), checks.raw_objects(sent)]
    assert {c.verdict for c in [*found, checks.prediction(sent)]} == {Verdict.INCONCLUSIVE}


def test_phase_3_proves_nothing_without_a_replay() -> None:
    checks, nothing = ProcessorChecks(LOCAL, patience=0), TrialPrediction({}, NOTHING, 0, {})
    found = [checks.drains(nothing, Drain(0, 0, [])), checks.aggregates(nothing), checks.inputs(nothing)]
    trials = [checks.trials.redelivery(nothing), checks.trials.dry_run(nothing)]
    assert {c.verdict for c in [*found, *trials]} == {Verdict.INCONCLUSIVE}


# --- the catalogue --------------------------------------------------------------------------------------------------


def asked_in(step: str) -> set[str]:
    """The names of what a step really asks."""
    if step == "ingest":
        ingest = object.__new__(IngestChecks)  # making one sends its probes
        ingest.stores, ingest.patience = StoreReader(LOCAL), 0
        return {*ingest.questions(), "every event sent is safe"}
    if step == "replay":
        return set(ReplayChecks(LOCAL).questions(SentBatch([], NOTHING, 0, {})))
    if step == "processor":
        return set(ProcessorChecks(LOCAL).questions(TrialPrediction({}, NOTHING, 0, {}), Drain(0, 0, [])))
    return set(RollbackChecks(LOCAL).questions(a_rollback()))


@pytest.mark.parametrize("step", STEPS)
def test_a_step_asks_exactly_what_the_catalogue_says(step: str) -> None:
    assert asked_in(step) == {spec.name for spec in of_step(step)}


def test_every_check_says_what_it_asks_and_what_to_do() -> None:
    known = {book.name for book in runbooks.catalog() if isinstance(book, runbooks.Runbook)}
    assert len(BY_NAME) == len(CHECKS)
    for spec in CHECKS:
        assert spec.question.endswith("?")
        assert spec.remedy.format(env="dev")
        assert spec.steps
        assert set(spec.steps) <= set(STEPS)
        assert not spec.investigate or spec.investigate.split()[0] in known


def test_a_failed_check_carries_its_remedy_and_its_investigation() -> None:
    found = completed(check("the queue drains", False, yes="", no="7 left"), "staging")
    assert found.blocking
    assert found.remedy == BY_NAME["the queue drains"].remedy
    assert found.investigate == "pik run queue-and-dlq --env staging"
    assert "pik run queue-and-dlq --env staging" in StepResult(title="t", headline="h", checks=(found,)).to_html()
    fine = completed(check("the queue drains", True, yes="empty", no=""), "staging")
    assert (fine.remedy, fine.investigate) == ("", "")


def a_replay(listed: int, planned: int, sent: int, complete: bool = True) -> SentBatch:
    rows = tuple({"event_id": str(n)} for n in range(listed))
    plan = Exchange(b"", 200, {"matched": planned, "sent": 0})
    page = Exchange(b"", 200, {"sent": sent, "complete": complete})
    return SentBatch([ReplayAnswer("r", EntityWindow("e", "a", "b", rows), plan, (page,))], NOTHING, 0, {})


@pytest.mark.parametrize(
    ("sent", "verdict"),
    [
        (a_replay(3, 3, 3), Verdict.PASSED),
        (a_replay(3, 3, 2), Verdict.FAILED),
        (a_replay(3, 2, 2), Verdict.FAILED),
        (a_replay(2, 3, 3), Verdict.FAILED),
        (a_replay(3, 3, 3, complete=False), Verdict.FAILED),
    ],
)
def test_listed_planned_and_sent_must_be_the_same(sent: SentBatch, verdict: Verdict) -> None:
    assert ReplayChecks(LOCAL).counts(sent).verdict is verdict


def test_the_queue_must_hold_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoreReader, "waiting", lambda _: 2)
    assert ReplayChecks(LOCAL, patience=0).queued(a_replay(3, 3, 3)).verdict is Verdict.FAILED


GROUP = ("N1", "2013-01-01", "r")
WANTED = {GROUP: ({"count": 2}, 2)}


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ({"state": {"count": 2}, "input_count": 2}, True),
        ({"state": {"count": 3}, "input_count": 2}, False),
        ({"state": {"count": 2}, "input_count": 1}, False),
        (None, False),
    ],
)
def test_an_aggregate_must_be_written_exactly_as_predicted(row: dict[str, Any] | None, right: bool) -> None:
    assert (not _different(WANTED, {GROUP: row})) is right


def test_how_long_the_queue_took_counts_from_the_first_message_consumed() -> None:
    assert _emptying([(0, 9), (1, 9), (8, 9), (9, 4), (10, 0), (11, 0)]) == 2
    assert _emptying([(0, 0)]) == 0
    assert _emptying([]) == 0


BODY = b'{"source":"s","event_type":"t","entity_id":"e","event_time":"2013-01-01T00:00:00Z","payload":{"n":1}}'


def a_raw(body: bytes = BODY) -> tuple[dict[str, Any], RawObject]:
    import hashlib

    event = parse_event(BODY, {})
    metadata = {"ingest-time": "2013-01-01T00:00:00.000000Z", "request-id": "r", "body-sha256": "x"}
    row = {
        "event_id": event.event_id,
        "payload_sha256": event.payload_sha256,
        "s3_key": "k",
        "body_sha256": hashlib.sha256(BODY).hexdigest(),
    }
    return row, RawObject("k", body, "1", "application/json", metadata)


def test_an_intact_raw_object_is_an_event() -> None:
    row, raw = a_raw()
    assert _compare(row, raw)[0] == parse_event(BODY, {})


@pytest.mark.parametrize("body", [BODY.replace(b'"n":1', b'"n":2'), BODY + b" ", b""])
def test_altered_bytes_are_found_out(body: bytes) -> None:
    row, raw = a_raw(body)
    event, problem = _compare(row, raw)
    assert event is None
    assert "bytes" in problem


def test_a_missing_raw_object_and_another_event_are_found_out() -> None:
    row, raw = a_raw()
    assert "no raw object" in _compare(row, None)[1]
    assert "another event" in _compare({**row, "event_id": "0"}, raw)[1]


def test_a_probe_is_a_valid_event_that_no_library_would_write() -> None:
    probe = Probe()
    event = parse_event(probe.body(1), {})
    assert event.source == events.PROBE_SOURCE
    assert event.entity_id.startswith(events.PROBE_ENTITY_PREFIX)
    assert json.dumps(json.loads(probe.body(1))).encode() != probe.body(1)
    assert event.event_id != parse_event(probe.body(2), {}).event_id
    keyed = [parse_event(probe.body(n, "key"), {}) for n in (2, 3)]
    assert keyed[0].event_id == keyed[1].event_id
    assert keyed[0].payload_sha256 != keyed[1].payload_sha256


def an_inventory(items: dict[str, str], queue: int = 0) -> Inventory:
    return Inventory({"EventsTable": items}, {"Queue": queue})


def test_inventories_tell_added_removed_and_changed_apart() -> None:
    before = an_inventory({"a": "1", "b": "2", "c": "3"}, 5)
    after = an_inventory({"b": "2", "c": "9", "d": "4"}, 4)
    difference = before.difference(after)
    assert vars(difference["EventsTable"]) == {"added": 1, "removed": 1, "changed": 1}
    assert vars(difference["Queue"]) == {"added": 0, "removed": 1, "changed": 0}
    assert before.digests != after.digests


def a_store(name: str = "EventsTable", **found: Any) -> Comparison:
    """The same store, with ten sampled items as they were, unless ``found`` says something else."""
    return Comparison(name, "AWS::DynamoDB::Table", **{"same": True, "sampled": 10, **found})


def a_rollback(*stores: Comparison, queue: tuple[int, int] = (5, 5), mappings: int = 0) -> Rollback:
    return Rollback(
        changed=True,
        environment="local",
        phase="replay",
        previous="processor",
        seconds=2,
        stopped_after=0.4,
        queue_before=queue[0],
        queue_after=queue[1],
        dead_letters=0,
        stack_status="UPDATE_COMPLETE",
        mappings_left=mappings,
        stores=stores,
    )


@pytest.mark.parametrize(
    ("store", "verdict"),
    [
        (a_store(), Verdict.PASSED),
        (a_store(before=5, after=6), Verdict.PASSED),
        (a_store(expired=3, before=5, after=2), Verdict.PASSED),  # their time was over
        (a_store("AggregatesTable", changed=1), Verdict.PASSED),  # a sum grew: somebody was at work
        (a_store(changed=1), Verdict.FAILED),
        (a_store(missing=1), Verdict.FAILED),
        (a_store("AggregatesTable", missing=1), Verdict.FAILED),
        (a_store(same=False), Verdict.FAILED),
        (a_store(same=None), Verdict.INCONCLUSIVE),
        (a_store(problem="throttled"), Verdict.INCONCLUSIVE),
    ],
)
def test_a_rollback_may_add_and_must_not_lose(store: Comparison, verdict: Verdict) -> None:
    assert RollbackChecks(LOCAL).untouched(a_rollback(a_store("Queue"), store)).verdict is verdict


def test_stores_that_could_not_be_compared_are_not_called_untouched() -> None:
    found = RollbackChecks(LOCAL).untouched(a_rollback())
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "not compared" in a_rollback().sentence


@pytest.mark.parametrize(
    ("queue", "mappings", "same", "verdict", "blocking"),
    [
        ((5, 5), 0, True, Verdict.PASSED, True),
        ((5, 4), 0, True, Verdict.INCONCLUSIVE, False),  # approximate, or counted by what was still running
        ((0, 0), 0, True, Verdict.INCONCLUSIVE, False),
        ((5, 5), 1, True, Verdict.FAILED, True),
        ((5, 5), 0, False, Verdict.FAILED, True),
        ((5, 5), 0, None, Verdict.INCONCLUSIVE, False),
    ],
)
def test_messages_must_be_kept(
    queue: tuple[int, int],
    mappings: int,
    same: bool | None,
    verdict: Verdict,
    blocking: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pik.rollout.deploy.rollback_checks.eventually", lambda look, *_, **__: look())
    done = a_rollback(a_store("Queue", same=same), queue=queue, mappings=mappings)
    found = RollbackChecks(LOCAL).kept(done)
    assert (found.verdict, found.blocking) == (verdict, blocking)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"accepted": 2, "failed": 1, "by_status": {"201": 2, "429": 1}}, Verdict.INCONCLUSIVE),
        ({"accepted": 2, "failed": 1, "by_status": {"201": 2, "timeout": 1}}, Verdict.INCONCLUSIVE),
        ({"accepted": 2, "failed": 1, "by_status": {"201": 2, "403": 1}}, Verdict.FAILED),
        ({"accepted": 1, "failed": 1, "conflict": 1, "by_status": {"201": 1, "409": 1, "503": 1}}, Verdict.FAILED),
        ({"accepted": 0, "failed": 3, "by_status": {"503": 3}}, Verdict.FAILED),
        ({"accepted": 2, "rejected": 1, "by_status": {"201": 2, "400": 1}}, Verdict.FAILED),
    ],
)
def test_an_event_without_a_verdict_accuses_nobody_while_others_have_one(
    change: dict[str, Any], verdict: Verdict
) -> None:
    assert _all_safe(summary(**change)).verdict is verdict

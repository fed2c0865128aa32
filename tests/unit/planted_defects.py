"""For each check of a rollout a defect that makes it fail, as data: what is wrong, and how it gets into the world.

``docs/checks.md`` shows them beside the checks; :mod:`tests.unit.rollout.checks.test_checks_can_fail` plants each one
and asks every question of its step.
"""

from __future__ import annotations

from pik import events
from pik.results import Verdict
from pik.rollout.checks.intact import Comparison
from tests.unit.planted_parts import (
    aggregate_cannot_be_read,
    alarm_rings,
    counts_twice,
    dead_letter,
    dedupe_row_points_elsewhere,
    dry_run_consumes,
    dry_run_predicts_less,
    dry_run_writes,
    ingest_answers,
    ingest_fails,
    mapping,
    message_always_fails,
    message_names_nothing,
    messages_are_stolen,
    no_log_lines,
    no_metrics,
    no_reason_is_given,
    object_is_lost,
    one_action_more,
    one_event_is_skipped,
    page_is_lost,
    patient_again,
    policy_by_hand,
    prediction_forgets,
    raw_object_is_altered,
    raw_object_is_gone,
    reformatted,
    repeats_are_new,
    replay_fails,
    rollback_found,
    second_arrival_is_lost,
    sum_is_wrong,
    unsigned_is_let_in,
)
from tests.unit.planted_steps import Defect, a_table, summary

FAILED, INCONCLUSIVE = Verdict.FAILED, Verdict.INCONCLUSIVE


_EVERYWHERE = (
    ("no alarm", "an alarm is in state ALARM", alarm_rings),
    ("permissions are as declared", "a policy allows one action more than declared", one_action_more),
    ("permissions are as declared", "an inline policy that nobody declared", policy_by_hand),
)
DEFECTS = (
    *(
        Defect(s, c, what, plant, common=True)
        for s in ("ingest", "replay", "processor")
        for c, what, plant in _EVERYWHERE
    ),
    # ---------------------------------------------------------------------------------------------------------- ingest
    Defect(
        "ingest",
        "every event sent is safe",
        "one of three events was refused",
        lambda run: setattr(run, "summary", summary(accepted=2, rejected=1)),
    ),
    Defect("ingest", "API answers", "the API lets unsigned requests in", unsigned_is_let_in),
    Defect(
        "ingest",
        "dry run writes nothing",
        "a dry run stores the event",
        ingest_answers(dry_run_writes),
        also=("duplicates are detected",),
    ),
    Defect(
        "ingest",
        "raw bytes stored are the bytes sent",
        "the raw object is the same JSON in other bytes",
        ingest_answers(reformatted),
    ),
    Defect(
        "ingest",
        "metadata, dedupe row and raw object agree",
        "the dedupe row points at another object",
        after=dedupe_row_points_elsewhere,
    ),
    Defect(
        "ingest", "duplicates are detected", "the second arrival has no row of its own", after=second_arrival_is_lost
    ),
    Defect(
        "ingest",
        "a conflict keeps both payloads",
        "the second payload was not kept",
        after=object_is_lost(lambda checks: str(checks.conflict["s3_key"])),
    ),
    Defect(
        "ingest",
        "a rejected body is kept",
        "the rejected body was not kept",
        after=object_is_lost(lambda checks: events.rejected_key(str(checks.rejected["rejected_id"]))),
    ),
    Defect("ingest", "logs exist", "log lines never arrive", no_log_lines("ingest"), verdict=INCONCLUSIVE),
    Defect("ingest", "metrics arrive", "a metric never arrives", no_metrics("ingest"), verdict=INCONCLUSIVE),
    Defect(
        "ingest", "only this phase is on", "an event source mapping reads the queue", mapping("Enabled"), common=True
    ),
    # ---------------------------------------------------------------------------------------------------------- replay
    Defect("replay", "replay API answers", "the API lets unsigned requests in", unsigned_is_let_in),
    Defect(
        "replay",
        "replay plan = replay sent = expected",
        "an event that was planned is not sent",
        one_event_is_skipped,
    ),
    Defect("replay", "limit and cursor lose nothing", "a page of the replay is not recorded", after=page_is_lost),
    Defect("replay", "the queue holds what was sent", "another consumer took messages", after=messages_are_stolen),
    Defect("replay", "messages resolve to raw objects", "a message names no raw object", after=message_names_nothing),
    Defect(
        "replay",
        "every raw object's hash matches",
        "a raw object was altered by one byte",
        raw_object_is_altered,
        also=("aggregates are predicted",),
    ),
    Defect("replay", "aggregates are predicted", "the prediction leaves an event out", prediction_forgets),
    Defect("replay", "ingest still answers", "ingest accepts the same event twice", ingest_answers(repeats_are_new)),
    Defect("replay", "dead-letter queue is empty", "a message is in the dead-letter queue", dead_letter),
    Defect("replay", "logs exist", "log lines never arrive", no_log_lines("replay"), verdict=INCONCLUSIVE),
    Defect("replay", "metrics arrive", "a metric never arrives", no_metrics("replay"), verdict=INCONCLUSIVE),
    Defect(
        "replay", "only this phase is on", "an event source mapping reads the queue", mapping("Enabled"), common=True
    ),
    # ------------------------------------------------------------------------------------------------------- processor
    Defect(
        "processor", "the queue drains", "a message fails again and again", message_always_fails, after=patient_again
    ),
    Defect("processor", "aggregates written = predicted", "a sum is wrong", after=sum_is_wrong),
    Defect(
        "processor",
        "every input is counted",
        "an event's raw object is gone, so that it is never counted",
        raw_object_is_gone,
        also=("dead-letter queue is empty",),
    ),
    Defect("processor", "redelivery changes nothing", "the processor counts a redelivered event again", counts_twice),
    Defect(
        "processor",
        "a poison message reaches the dead-letter queue with its reason",
        "the reason is missing",
        no_reason_is_given,
    ),
    Defect(
        "processor",
        "a processor's dry run predicts the same",
        "the dry run leaves an aggregate out",
        dry_run_predicts_less,
    ),
    Defect(
        "processor",
        "a processor's dry run predicts the same",
        "the dry run would let the messages be deleted",
        dry_run_consumes,
    ),
    Defect("processor", "ingest still answers", "ingest answers 500", after=ingest_fails),
    Defect("processor", "dead-letter queue is empty", "a message is in the dead-letter queue", dead_letter),
    Defect(
        "processor",
        "logs exist",
        "log lines never arrive",
        no_log_lines("processor"),
        verdict=INCONCLUSIVE,
        also=("redelivery changes nothing",),
    ),
    Defect("processor", "metrics arrive", "a metric never arrives", no_metrics("processor"), verdict=INCONCLUSIVE),
    Defect(
        "processor", "only this phase is on", "the event source mapping is disabled", mapping("Disabled"), common=True
    ),
    # -------------------------------------------------------------------------------------------------------- rollback
    Defect(
        "rollback",
        "nothing consumes the queue",
        "an event source mapping is left",
        rollback_found(mappings_left=1),
        also=("the queue's messages are kept",),
    ),
    Defect(
        "rollback",
        "the queue's messages are kept",
        "the queue is a new one",
        rollback_found(stores=(Comparison("Queue", "AWS::SQS::Queue", same=False), a_table())),
        also=("every store is untouched",),
    ),
    Defect(
        "rollback",
        "every store is untouched",
        "an item of a table is gone",
        rollback_found(stores=(Comparison("Queue", "AWS::SQS::Queue", same=True), a_table(missing=1))),
    ),
    Defect(
        "rollback",
        "aggregates are still readable",
        "an aggregate is listed and cannot be read",
        aggregate_cannot_be_read,
    ),
    Defect("rollback", "the replay API is as the phase says", "the replay API answers 500", replay_fails),
    Defect("rollback", "ingest still answers", "ingest answers 500", ingest_fails),
    Defect("rollback", "only this phase is on", "an event source mapping reads the queue", mapping("Enabled")),
)
#: Checks that no defect makes fail, by step and name, with the reason.
WITHOUT: dict[tuple[str, str], str] = {}

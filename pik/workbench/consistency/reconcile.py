"""Whether the stores agree on a window: every disagreement classified, with its remedy. Reads only.

===================  ==================================================================================================
class                meaning
===================  ==================================================================================================
orphan_raw           a raw object without rows: never acknowledged, or its rows are gone
unusable_raw         a raw object that cannot become rows, and has none: never acknowledged
stray                a second raw object of an event, left when one idempotency key came with several event times at
                     once: answered with a conflict and kept as one; harmless
missing_metadata     a raw object and its dedupe row, but no row in the events table
missing_dedupe       a raw object and its events row, but no dedupe row: a repeat would be taken for new
dangling_metadata    an events row whose raw object is gone
dangling_dedupe      a dedupe row whose raw object and events row are gone
orphan_arrival       the row of a later arrival, of whose first one nothing is left
hash_mismatch        an object whose bytes are not what was received
row_mismatch         a row that differs from the one its raw object gives
conflict_unkept      a conflict whose body is gone
half_replay          a replay that stopped before the end of its window
aggregate_partial    an aggregate that counts fewer events than its replay sent
aggregate_excess     an aggregate that counts more, among them events that its replay does not select
===================  ==================================================================================================

A stray is listed, but is no disagreement. Expiry times of rows are not compared, because the retention may have
changed. Both tables are scanned. The stores are read one after the other, while producers send: whatever looks wrong is
read a second time, from all three stores, and reported only if it is still wrong. An aggregate that counts too few is
looked at again when SQS's count of the queue, which is late, knows of a redrive.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa

from pik import clock, events
from pik.aws.queues import messages, settling
from pik.aws.stack import aws_errors
from pik.errors import UsageError
from pik.events import ACCEPTED, CONFLICT
from pik.frames import frame
from pik.pipeline.rows import short_caller
from pik.replays import runs
from pik.replays.records import REQUEST, Replay
from pik.replays.versions import contributions, first_arrivals, selected
from pik.workbench import replays
from pik.workbench.consistency.snapshot import Progress, Row, Snapshot, StoredObject, again, now, take
from pik.workbench.times import moment

if TYPE_CHECKING:
    from pik.aws.connection import Connection

#: One row for each disagreement; ``class`` as above.
DISAGREEMENTS = pa.schema(
    [(name, pa.string()) for name in ("class", "event_id", "entity_id", "where", "detail", "remedy")]
)
_REINDEX = "reindex shows the rows that the raw objects give, and writes them with --apply"
_VERSIONS = "every version is kept; docs/template.md, Restore a raw object, says how one comes back"
REMEDIES = {
    "orphan_raw": _REINDEX,
    "unusable_raw": "none: the object can stay; ask the producer to send the event in a form that is accepted",
    "stray": "none: keep it",
    "missing_metadata": _REINDEX,
    "missing_dedupe": _REINDEX,
    "dangling_metadata": _VERSIONS,
    "dangling_dedupe": _VERSIONS,
    "orphan_arrival": _VERSIONS,
    "hash_mismatch": _VERSIONS,
    "row_mismatch": "compare the row with its object; delete the wrong row, then reindex with --apply",
    "conflict_unkept": _VERSIONS,
    "half_replay": "go on where it stopped: pik replay resume REPLAY_ID",
    "aggregate_partial": "look at the dead-letter queue (wb.dlq.peek()), fix the cause, redrive or replay again",
    "aggregate_excess": "compare the version with another replay of the window (wb.aggregate_diff)",
}
_PARTIAL = "aggregate_partial"
_ENCODED = ("client_request_id", "producer")  # as metadata holds them
HARMLESS = frozenset({"stray"})
SETTLED = timedelta(minutes=2)  # after which SQS's count of a queue, which is approximate, knows of a message


@dataclass(frozen=True)
class Reconciliation:
    """What the stores disagree on.

    Attributes:
        frame: one row a disagreement (:data:`DISAGREEMENTS`), and one a stray.
        start: of the window of event time, in the kit's format.
        end: its end, left out.
        compared: how much was looked at, by store.
        notes: what could not be judged, and why.
    """

    frame: pd.DataFrame
    start: str
    end: str
    compared: dict[str, int]
    notes: tuple[str, ...] = field(default=())

    @property
    def clean(self) -> bool:
        """Whether all stores agree; strays are none of their disagreements."""
        return not self.counts.keys() - HARMLESS

    @property
    def counts(self) -> dict[str, int]:
        """Disagreements by class."""
        return dict(Counter(self.frame["class"].tolist()))

    @property
    def found(self) -> list[dict[str, Any]]:
        """The disagreements, JSON-able."""
        return [
            {str(name): value for name, value in row.items() if not pd.isna(value)}
            for row in self.frame.to_dict("records")
        ]

    @property
    def sentences(self) -> list[str]:
        """What was found, one sentence a class."""
        looked = ", ".join(f"{number:,} {name}" for name, number in self.compared.items())
        rows = [f"{number:,} {name}: {REMEDIES[name]}." for name, number in self.counts.items()]
        if self.clean:
            rows.insert(0, f"All stores agree on {self.start[:19]} to {self.end[:19]} UTC ({looked}).")
        return [*rows, *self.notes]


def reconcile(
    aws: Connection, start: str | datetime, end: str | datetime, *, progress: Progress | None = None
) -> Reconciliation:
    """Compare raw objects, metadata, dedupe rows, replays and aggregates for events of [start, end).

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.reconcile`.
    """
    begin, stop = moment(start, "start"), moment(end, "end")
    if begin >= stop:
        raise UsageError(f"the window is empty: {begin} to {stop}", next_step="give a start before the end")
    seen = take(aws, begin, stop, progress)
    with aws_errors(aws.environment, "compare replays and aggregates"):
        known = [replay for replay in replays.known(aws).values() if _touches(replay, begin, stop)]
        counted, notes = _aggregates(aws, known, begin, stop)
        if any(row["class"] == _PARTIAL for row in counted) and (seconds := settling(aws.environment)):
            # Dead letters that were sent back a moment ago wait in the queue, and its count does not know of them yet.
            (progress or (lambda _: None))(f"looking at the aggregates again in {seconds:.0f} s, as counts are late")
            time.sleep(seconds)
            before = {row["where"] for row in counted}
            counted, notes = _aggregates(aws, known, begin, stop)
            counted = [row for row in counted if row["class"] != _PARTIAL or row["where"] in before]
    rows = [*_confirmed(aws, seen), *_halves(aws, known), *counted]
    return Reconciliation(
        frame=frame(DISAGREEMENTS, sorted(rows, key=lambda row: (row["class"], row["where"], row["event_id"] or ""))),
        start=begin,
        end=stop,
        compared={
            "raw objects": len(seen.raw),
            "rows": len(seen.rows),
            "dedupe rows": len(seen.dedupe),
            "conflict bodies": len(seen.conflicts),
            "replays": len(known),
        },
        notes=notes,
    )


def _confirmed(aws: Connection, seen: Snapshot) -> list[Row]:
    """The disagreements of the stores that a second read of all of them confirms."""
    rows = list(disagreements(seen))
    suspects = {row["event_id"] for row in rows}
    if not suspects:
        return []
    still = {_about(row) for row in disagreements(again(aws, seen, suspects))}
    return [row for row in rows if _about(row) in still]


def _about(row: Row) -> tuple[str, str, str]:
    return row["class"], row["event_id"], row["where"]


def disagreements(seen: Snapshot) -> Iterator[Row]:
    """Yield what raw objects, events table and dedupe table disagree on; pure."""
    firsts = {row["event_id"]: row for row in seen.rows if row["status"] == ACCEPTED}
    dedupe = dict(seen.dedupe)
    altered = {kept.event_id for kept in seen.raw.values() if kept.problem}
    explained = set(altered)
    for kept in seen.raw.values():
        explained.add(kept.event_id)
        yield from _of_object(kept, seen, firsts.get(kept.event_id), dedupe.get(kept.event_id))
    for event_id, row in firsts.items():
        if row["s3_key"] not in seen.raw:
            explained.add(event_id)
            also = " and a dedupe row" if event_id in dedupe else ""
            yield _disagreement("dangling_metadata", row, row["s3_key"], f"a row{also}, but no raw object")
    for event_id in dedupe.keys() - explained:
        row = dedupe[event_id]
        yield _disagreement(
            "dangling_dedupe", row, row["s3_key"], "a dedupe row, but neither raw object nor events row"
        )
        explained.add(event_id)
    yield from _later(seen, explained)


def _of_object(kept: StoredObject, seen: Snapshot, row: Row | None, dedupe: Row | None) -> Iterator[Row]:
    about = {"event_id": kept.event_id, "entity_id": (row or {}).get("entity_id")}
    if kept.problem:
        yield _disagreement("hash_mismatch", about, kept.key, kept.problem)
        return
    expected_dedupe, expected_row = kept.rows(seen.retention_days)
    if why := seen.strays.get(kept.key):
        yield _disagreement("stray", expected_row, kept.key, why)
        return
    if not row and not dedupe:
        if why := kept.unusable:
            yield _disagreement("unusable_raw", expected_row, kept.key, why)
            return
        why = seen.undecided.get(kept.key, "a raw object without rows")
        yield _disagreement("orphan_raw", expected_row, kept.key, why)
    elif not row:
        yield _disagreement(
            "missing_metadata", expected_row, kept.key, "a raw object and a dedupe row, but no events row"
        )
    elif not dedupe:
        yield _disagreement(
            "missing_dedupe", expected_row, kept.key, "a raw object and an events row, but no dedupe row"
        )
    for name, there, expected in (("events", row, expected_row), ("dedupe", dedupe, expected_dedupe)):
        differs = _differs(there, expected) if there else []
        if differs:
            yield _disagreement(
                "row_mismatch", expected_row, f"{name} table", f"{', '.join(differs)} differ from the object's"
            )


def _differs(there: Row, expected: Row) -> list[str]:
    names = sorted((there.keys() | expected.keys()) - {"expires_at"})
    return [
        name
        for name in names
        if _stated(name, there) != _stated(name, expected) and not _was_cut(name, there, expected)
    ]


def _stated(name: str, row: Row) -> Any:
    value = row.get(name)
    # A row of an earlier version of the kit may say the caller's whole ARN.
    return short_caller(value) if name == "producer" and isinstance(value, str) else value


def _was_cut(name: str, there: Row, expected: Row) -> bool:
    """Whether a value differs only because the object's metadata holds no more of it than its beginning and its hash.

    Arrivals are written so that both say the same; older ones are not (:func:`pik.events.encode`).
    """
    value = there.get(name)
    if name not in _ENCODED or not isinstance(value, str):
        return False
    return bool(_stated(name, {name: unquote(events.encode(value))}) == _stated(name, expected))


def _later(seen: Snapshot, explained: set[str]) -> Iterator[Row]:
    """The rows of later arrivals: what they repeat must be there, and the body of each conflict."""
    for row in seen.rows:
        if row["status"] == ACCEPTED:
            continue
        # A conflict is kept from its own arrival on, and so longer than the first arrival.
        if row["status"] != CONFLICT and row["event_id"] not in explained:
            yield _disagreement("orphan_arrival", row, row["s3_key"], f"a {row['status']} arrival without a first one")
        if row["status"] == CONFLICT:
            kept = seen.conflicts.get(row["s3_key"])
            if kept is None:
                yield _disagreement("conflict_unkept", row, row["s3_key"], "the body of this conflict is gone")
            elif kept.problem or kept.body_sha256 != row["body_sha256"]:
                yield _disagreement(
                    "hash_mismatch", row, row["s3_key"], kept.problem or "not the body that was received"
                )


def _touches(replay: Replay, start: str, end: str) -> bool:
    return bool(replay.head["start_time"] < end and replay.head["end_time"] > start)


def _halves(aws: Connection, known: list[Replay]) -> Iterator[Row]:
    """The replays that stopped; one that was asked for lately, or gets further between two looks, is under way.

    A request is recorded when it ends.
    """
    late = REQUEST * clock.lateness(aws.environment)
    recent = events.format_time(events.parse_time(now(aws)) - late)
    suspects = {
        replay.replay_id: replay
        for replay in known
        if not replay.complete and max(str(replay.head["created"]), str(replay.row()["finished"] or "")) <= recent
    }
    later = replays.known(aws, replay_ids=suspects) if suspects else {}
    with_run = {replay.of_run for replay in suspects.values() if replay.of_run}
    with aws_errors(aws.environment, "read the replays table"):
        states = {name: run.state for name in with_run if (run := runs.read(aws.stores, name))}
    for name, replay in suspects.items():
        if states.get(replay.of_run) == runs.CANCELLED:
            continue  # somebody meant it to stop there
        if name in later and not later[name].complete and later[name].after == replay.after:
            sent, reach = replay.total("sent"), replay.after or "its start"
            detail = f"stopped at {reach} after {sent} messages, before {replay.head['end_time']}"
            yield _disagreement("half_replay", replay.head, f"replay {replay.replay_id}", detail)


def _aggregates(aws: Connection, known: list[Replay], start: str, end: str) -> tuple[list[Row], tuple[str, ...]]:
    expected = {
        (replay.head["entity_id"], day, replay.replay_id): number
        for replay in known
        for day, number in replay.expected.items()
        if start[:10] <= day < end  # text order: a day is before its own first moment
    }
    if not expected:
        return [], ()
    waiting = messages(aws.environment, aws.outputs["QueueUrl"])
    why = f"{waiting:,} messages wait in the queue" if waiting else "the processor is off"
    processing = aws.outputs["Phase"] == "processor" and not waiting
    notes = [] if processing else [f"Aggregates with fewer events than sent are not judged: {why}."]
    recent = events.format_time(clock.now(aws.environment) - SETTLED)
    by_id = {replay.replay_id: replay for replay in known}
    young = {replay.replay_id for replay in known if (replay.row()["finished"] or "") > recent}
    versions, rows = aws.stores.versions(expected), list[Row]()
    late = 0
    for (entity, day, replay_id), number in expected.items():
        version = versions[entity, day, replay_id]
        count = version["input_count"] if version else 0
        about, where = {"entity_id": entity}, f"aggregate {entity} {day} {replay_id}"
        if count > number and not _is_selected(aws, by_id[replay_id], day, count):
            rows.append(_disagreement("aggregate_excess", about, where, f"counts {count} events of {number} sent"))
        elif count < number and processing and replay_id in young:
            late += 1
        elif count < number and processing:
            detail = f"counts {count} of {number} events, and nothing waits in the queue"
            rows.append(_disagreement(_PARTIAL, about, where, detail))
    if late:
        minutes = SETTLED // timedelta(minutes=1)
        notes.append(f"{late:,} aggregates are not judged: their messages were sent in the last {minutes} minutes.")
    return rows, tuple(notes)


def _is_selected(aws: Connection, replay: Replay, day: str, count: int) -> bool:
    """Whether a version that counts more events than its replay recorded counts only events that the replay selects.

    When the same request is made twice, the second one also sends what arrived in its window meanwhile, and the record
    is one of the two. Of an event whose row is gone, because its retention is over, nobody can say more.
    """
    entity = str(replay.head["entity_id"])
    counted = [row["event_id"] for row in contributions(aws.stores, entity, day, replay.replay_id)]
    rows = first_arrivals(aws.stores, entity, day)
    others = {row["event_id"] for row in rows} - selected(replay, rows)
    return len(counted) >= count and others.isdisjoint(counted)  # more: they were counted since the version was read


def _disagreement(kind: str, about: Row, where: str, detail: str) -> Row:
    return {
        "class": kind,
        "event_id": about.get("event_id"),
        "entity_id": about.get("entity_id"),
        "where": where,
        "detail": detail,
        "remedy": REMEDIES[kind],
    }

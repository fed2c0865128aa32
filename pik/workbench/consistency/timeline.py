"""Turn what the stores say of one event into its timeline, with what is wrong and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pik import events
from pik.events import ACCEPTED, CONFLICT
from pik.replays.records import Replay
from pik.workbench.consistency.explanation import Explanation, Line
from pik.workbench.times import span

if TYPE_CHECKING:
    from pik.aws.connection import Connection
    from pik.workbench.consistency.explain import _Found

_NEVER = (
    "it is in no table and no log line of the last day (logs_since= looks further back); an event whose retention is "
    "over is gone as well, and a dry run keeps nothing"
)


def describe(aws: Connection, event_id: str, found: _Found) -> Explanation:
    """Return the explanation of the event."""
    if not (found.dedupe or found.rows or found.raw or found.logs):
        return Explanation(event_id, f"event {event_id}: never seen in {aws.environment.name}", False, notes=(_NEVER,))
    lines = [*_arrivals(found), *_replayed(found, event_id), *_logged(found)]
    lines.sort(key=lambda line: line.time)
    problems = tuple(_problems(found, event_id))
    now = Line("", "now", _whereabouts(found, event_id), "queues, all stores", ok=not problems)
    notes = tuple(_notes(aws, found))
    headline = _headline(event_id, found)
    return Explanation(event_id, headline, True, (*lines, now), notes, problems, became=_became(found, event_id))


def _headline(event_id: str, found: _Found) -> str:
    event = found.raw.event if found.raw else None
    about: dict[str, Any] = found.first or (vars(event) if event else {})
    names = [str(about[name]) for name in ("source", "event_type", "entity_id", "event_time") if name in about]
    return f"event {event_id}  {' · '.join(names) or 'of which only traces are left'}"


def _became(found: _Found, event_id: str) -> str:
    """The answer in one sentence.

    Such as: accepted 2013-01-01 06:35:00Z, kept intact, sent again once, replayed twice, counted in 1 of them
    """
    first, kept = found.first, found.raw
    when = f"accepted {first['ingest_time'][:10]} {first['ingest_time'][11:19]}Z" if first else "its row is gone"
    intact = "its raw object is gone" if kept is None else "altered since" if kept.problem else "kept intact"
    statuses = [row["status"] for row in found.rows if row["status"] != ACCEPTED]
    conflicts = statuses.count(CONFLICT)
    parts = [when, intact, _times("sent again", len(statuses) - conflicts, "")]
    parts.append(_times("in conflict with another body", conflicts, ""))
    sent = [replay for replay in _selecting(found) if _sent(found, replay)]
    parts.append(_times("replayed", len(sent), "never replayed"))
    if sent:
        counted = sum(_contribution(found, replay.replay_id, event_id) is not None for replay in sent)
        parts.append("counted" if counted == len(sent) else f"counted in {counted} of {len(sent)} replays")
    return ", ".join(filter(None, parts))


def _times(what: str, count: int, never: str) -> str:
    """
    >>> _times("replayed", 2, "never"), _times("replayed", 0, "never"), _times("replayed", 3, "")
    ('replayed twice', 'never', 'replayed 3 times')
    """
    words = {0: never, 1: f"{what} once", 2: f"{what} twice"}
    return words.get(count, f"{what} {count} times")


def _arrivals(found: _Found) -> Iterator[Line]:
    later = sorted((row for row in found.rows if row["status"] != ACCEPTED), key=lambda row: row["ingest_time"])
    if found.first:
        row, kept = found.first, found.raw
        check = "raw object is gone" if kept is None else kept.problem or "sha256 ✓"
        good = kept is not None and not kept.problem
        made = kept.event.mapping if kept and kept.event else None
        check += f"  made by mapping {made}, its original line kept with it" if made else ""
        detail = f"ACCEPTED  {_lag(row)}  {row['s3_key']}  {row['size_bytes']} B  {check}"
        yield Line(row["ingest_time"], "received", detail + _by(row), "events table, raw bucket", good)
    elif found.raw and found.raw.arrival:
        arrival = found.raw.arrival
        yield Line(arrival.ingest_time, "received", f"kept as {found.raw_key}; its row is gone", "raw bucket", False)
    seen = {_request(found.first)} if found.first else set[str]()
    for number, row in enumerate(later, 1):
        yield _again(found, row, number, len(later), same=bool(_request(row)) and _request(row) in seen)
        seen.add(_request(row))


def _again(found: _Found, row: dict[str, Any], number: int, of: int, *, same: bool) -> Line:
    request = "the same request id as before" if same else "a new request"
    detail = f"{row['status']}  {request}{_by(row)}  ({number} of {of})"
    if row["status"] != CONFLICT:
        return Line(row["ingest_time"], "received again", detail, "events table")
    kept = found.conflicts.get(row["s3_key"])
    check = "its body is gone" if kept is None else kept.problem or "kept, sha256 ✓"
    good = kept is not None and not kept.problem
    return Line(row["ingest_time"], "conflict", f"{detail}  {row['s3_key']}  {check}", "events table, raw bucket", good)


def _replayed(found: _Found, event_id: str) -> Iterator[Line]:
    for replay in _selecting(found):
        head = replay.head
        sent = _sent(found, replay)
        who = f"{replay.replay_id} ({head.get('requested_by') or 'unknown'})"
        missed = "its row was written later" if _passing(found, replay) else "the replay stopped before it"
        time, what = (sent, "message sent") if sent else (head["created"], f"not sent: {missed}")
        yield Line(time, "replay", f"{who}  {what}", "replays table", bool(sent))
        counted = _contribution(found, replay.replay_id, event_id)
        if counted:
            yield Line(counted["counted"], "processed", _counted(found, replay, counted), "aggregates table", True)


def _counted(found: _Found, replay: Replay, counted: dict[str, Any]) -> str:
    version = _version(found, replay)
    message = f"message {counted['message_id']}"
    if version is None:
        return f"counted, but the version {replay.replay_id} is gone  {message}"
    day, count = version["day"], int(version["input_count"])
    expected = replay.expected.get(day, 0)
    state = "COMPLETE" if replay.complete and count == expected else "PARTIAL"
    return f"counted in {version['entity_id']} · {day} · {replay.replay_id}  ({count} of {expected} {state})  {message}"


def _logged(found: _Found) -> Iterator[Line]:
    for line in found.logs:
        parts = [line[name] for name in ("message", "replay_id", "message_id", "code", "reason") if _text(line[name])]
        poison = line["message"] == "set aside"
        what = "set aside" if poison else "log line"
        text = "  ".join(parts) or str(line["line"])[:200]
        source = f"{line['service']} log"
        yield Line(events.format_time(line["time"]), what, text, source, False if poison else None)


def _selecting(found: _Found) -> list[Replay]:
    first = found.first or found.dedupe
    if first is None:
        return []
    at = first["sk"][3:30] if "sk" in first else first["event_time"]
    return [r for r in found.replays.values() if r.head["start_time"] <= at < r.head["end_time"]]


def _sent(found: _Found, replay: Replay) -> str:
    """When the request that sent the event's message was done; empty when none did."""
    first, page = found.first, _passing(found, replay)
    if first is None or page is None:
        return ""
    # What came after the replay had passed its time was not selected. Nor was an event whose row was written later than
    # it came, by the producer's repeat or by reindex: the version counts all that was sent, and not this one.
    if first["ingest_time"] > page["finished"] or _whole_without(found, replay):
        return ""
    return str(page["finished"])


def _passing(found: _Found, replay: Replay) -> Mapping[str, Any] | None:
    """The request that passed the event's place."""
    if found.first is None:
        return None
    sk = found.first["SK"]
    return next((page for page in replay.chain if page["complete"] or page["next"] >= sk), None)


def _whole_without(found: _Found, replay: Replay) -> bool:
    """Whether the version of the event's day counts as many events as the replay sent, and not this one."""
    first, version = found.first, _version(found, replay)
    if first is None or version is None or _contribution(found, replay.replay_id, str(first["event_id"])):
        return False
    return int(version["input_count"]) == replay.expected.get(version["day"], 0)


def _version(found: _Found, replay: Replay) -> dict[str, Any] | None:
    sk = events.version_sk(replay.replay_id)
    return next((row for row in found.aggregates if row["SK"] == sk), None)


def _contribution(found: _Found, replay_id: str, event_id: str) -> dict[str, Any] | None:
    sk = events.contribution_sk(replay_id, event_id)
    return next((row for row in found.aggregates if row["SK"] == sk), None)


def _pending(found: _Found, event_id: str) -> list[str]:
    sent = [replay.replay_id for replay in _selecting(found) if _sent(found, replay)]
    return [replay_id for replay_id in sent if not _contribution(found, replay_id, event_id)]


def _poisoned(found: _Found) -> set[str]:
    return {str(line["replay_id"]) for line in found.logs if line["message"] == "set aside"}


def _whereabouts(found: _Found, event_id: str) -> str:
    pending = _pending(found, event_id)
    poisoned = [replay_id for replay_id in pending if replay_id in _poisoned(found)]
    waiting = [replay_id for replay_id in pending if replay_id not in poisoned]
    places = []
    if poisoned:
        places.append(
            f"moved to the dead-letter queue for {', '.join(poisoned)} (the DLQ holds {found.dead:,} messages)"
        )
    if waiting:
        places.append(f"on its way for {', '.join(waiting)} (the queue holds {found.waiting:,} messages)")
    places = places or ["in no queue and no DLQ, as far as the records show"]
    return "; ".join(places)


def _is_over(found: _Found) -> bool:
    """Whether the event's retention is over, so that AWS deletes what is left of it any day, in any order."""
    kept = [row for row in (found.dedupe, found.first) if row]
    return bool(kept) and min(int(row["expires_at"]) for row in kept) <= events.epoch(events.now())


def _problems(found: _Found, event_id: str) -> Iterator[str]:
    if not _is_over(found):
        yield from _lost(found)
    pending = _pending(found, event_id)
    stuck = [replay_id for replay_id in pending if replay_id in _poisoned(found)]
    if stuck:
        yield f"it is not counted for {', '.join(stuck)}: wb.dlq.peek() says why, wb.dlq.redrive() sends it again"
    elif not found.waiting and any(_is_settled(found, replay_id) for replay_id in pending):
        yield "a replay sent it, nothing waits in the queue, and it is not counted: wb.dlq.peek(live=True) may show it"


def _is_settled(found: _Found, replay_id: str) -> bool:
    """Whether a replay ended so long ago that the queue's count, which is late, knows of its messages."""
    return max(str(page["finished"]) for page in found.replays[replay_id].chain) <= found.settled


def _lost(found: _Found) -> Iterator[str]:
    if found.raw is None:
        yield "its raw object is gone; docs/template.md, Restore a raw object, says how it comes back"
    elif found.raw.problem:
        yield f"its raw object was altered: {found.raw.problem}; see docs/template.md, Restore a raw object"
    if found.first is None:
        yield "its row in the events table is gone: pik reindex restores it from the raw object"
    if found.dedupe is None:
        yield "its dedupe row is gone, so a repeat would be taken for new: pik reindex restores it"
    if any(kept is None or kept.problem for kept in found.conflicts.values()):
        yield "the body of a conflict is gone or altered; see docs/template.md, Restore a raw object"


def _notes(aws: Connection, found: _Found) -> Iterator[str]:
    if found.unread:
        yield f"not all log lines were read: {'; '.join(found.unread)}; logs_since= reads all from a time on"
    elif not found.logs:
        yield "no log line near its times names it: no problem when the logs' retention is over"
    if _is_over(found):
        yield "its retention is over: AWS deletes its object and its rows any day, in any order"
    if found.first is not None and not _selecting(found):
        if found.all_replays:
            yield "no replay selected it: no problem, unless it should be in an aggregate"
        else:
            yield "no replay that was read selected it; of the replays of earlier versions, only some were read"
    if aws.outputs["Phase"] != "processor" and _selecting(found):
        yield "the processor is off, so messages wait: no problem, they are kept for 14 days"
    yield "messages were counted, not received: receiving a message raises its receive count"


def _request(row: dict[str, Any]) -> str:
    return str(row.get("client_request_id") or "")


def _by(row: dict[str, Any]) -> str:
    return f"  by {row['producer']}" if row.get("producer") else ""


def _lag(row: dict[str, Any]) -> str:
    lag = int(row["ingest_lag_ms"])
    return f"{span(lag)} after it happened" if lag >= 0 else f"{span(-lag)} before it happened (a clock is ahead)"


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)

"""What the world must look like: the promises of docs/architecture.md, as plain code over the small AWS's contents.

Behind ``>`` stands the sentence that a check stands for; a test finds it there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pik import events
from pik.events import Event
from pik.pipeline import aws, rows
from pik.pipeline.aggregators import fold
from pik.pipeline.parsing import parse_event
from pik.pipeline.queue import CODE_ATTRIBUTE
from pik.pipeline.rows import Arrival
from pik.replays.records import replays_of
from tests.sim.aws.s3 import Object
from tests.sim.scheduler import Violation
from tests.sim.world import Ack, World
from tests.stores import SETTINGS

if TYPE_CHECKING:
    from tests.sim.actors import Cast
    from tests.sim.operators import Replayed

Row = dict[str, Any]
EXHAUSTED = "retries_exhausted"
SETTLED = {(200, events.ACCEPTED), (200, events.DUPLICATE), (409, events.CONFLICT)}


def violations(world: World, cast: Cast) -> Iterator[str]:
    """Yield what is not as promised, at the end of a history."""
    seen = Seen(world)
    yield from _answers(world)
    yield from _acknowledged(seen, cast)
    yield from _identities(seen)
    yield from _derived(seen)
    yield from _messages(seen, cast)
    yield from _versions(seen)
    yield from _predicted(seen, cast)
    yield from _rejected(seen)


def violations_later(world: World, cast: Cast) -> Iterator[str]:
    """Yield what is not as promised after what came back when its retention was over: it is an event anew."""
    seen = Seen(world)
    yield from _answers(world)
    yield from _anew(world)
    yield from _acknowledged(seen, cast)
    yield from _identities(seen)
    yield from _derived(seen)


def _anew(world: World) -> Iterator[str]:
    """What arrives after the retention of its first arrival, or of its bytes, is no repetition of it.

    > The same event sent after that is a first arrival, even if the lifecycle has not removed the old object yet
    """
    for ack in world.acks:
        status = ack.answer.get("status")
        for came in (ack.answer.get("first_ingest_time"), ack.came):
            if came and rows.expires_at(came, SETTINGS.retention_days) <= events.epoch(ack.answer["ingest_time"]):
                yield f"{status} {ack.answer['event_id'][:8]}: what it repeats was over already"


def never(world: World) -> None:
    """Watch each write, for what may never happen at any step. Raises Violation.

    > the next arrival writes it again and leaves the first row as it is
    """

    def written(table: str, before: Row | None, after: Row) -> None:
        if table != "events" or before is None or before["status"]["S"] != events.ACCEPTED or before == after:
            return
        if int(before["expires_at"]["N"]) > world.time().timestamp() + 1:  # by any function's clock
            raise Violation("a first arrival's row was replaced")

    world.dynamodb.written = written


class Seen:
    """The stores' contents as plain values."""

    def __init__(self, world: World) -> None:
        self.world = world
        tables = world.dynamodb.tables
        self.now = int(world.time().timestamp()) + 2  # by any function's clock
        found = [aws.from_item(item) for item in tables["events"].values()]
        self.rows = [row for row in found if row["expires_at"] > self.now]  # the others are gone, deleted or not
        known = [aws.from_item(item) for item in tables["dedupe"].values()]
        self.dedupe = {row["event_id"]: row for row in known if row["expires_at"] > self.now}
        self.aggregates = [aws.from_item(item) for item in tables["aggregates"].values()]
        self.objects = world.s3.objects

    def event(self, key: str) -> tuple[Event, Arrival, Object]:
        """Return the event that a raw object holds."""
        found = self.objects[key]
        arrival = Arrival.from_object(found.metadata, found.content_type, found.body)
        return parse_event(found.body, arrival.event_headers), arrival, found


def _answers(world: World) -> Iterator[str]:
    """A bug answers 500; nothing that happens to AWS may. Each answer is counted once."""
    if world.counted != world.metrics:
        yield f"answered {dict(world.counted)}, and metrics say {dict(world.metrics)}"
    for ack in world.acks:
        if ack.status == 500:
            yield f"answered 500: {ack.answer}"


def _acknowledged(seen: Seen, cast: Cast) -> Iterator[str]:
    """No acknowledged event is lost: stored byte for byte, findable by id and by entity.

    > No acknowledged event is lost
    > each arrival has a row of its own
    """
    accepted = {row["event_id"] for row in map(rows.expand, seen.rows) if row["status"] == events.ACCEPTED}
    every = {(row["status"], row["request_id"]) for row in seen.rows}
    for ack in seen.world.acks:
        status, answer = ack.answer.get("status"), ack.answer
        if status not in {events.ACCEPTED, events.DUPLICATE, events.CONFLICT} or _over(seen, ack):
            continue
        identity = answer["event_id"]
        what = f"{status} {identity[:8]}"
        yield from (f"{what}: {problem}" for problem in _object(seen, ack))
        if identity in cast.operators.undecided and identity not in seen.dedupe:
            continue  # both of its rows were lost, and reindex named it
        if identity not in seen.dedupe:
            yield f"{what}: no dedupe row"
        if identity not in accepted:
            yield f"{what}: not among its entity's rows"
        lag = _seconds(answer["ingest_time"]) - _seconds(answer["event_time"])
        if answer["ingest_lag_ms"] != int(lag * 1000):
            yield f"{what}: a lag of {answer['ingest_lag_ms']} ms, and not {lag} s"
        yield from (f"{what}: {problem}" for problem in _compared(seen, ack))
        if (status, answer["request_id"]) not in every:
            yield f"{what}: the arrival {answer['request_id']} has no row of its own"
    for sent in cast.sent:
        if (sent.ack.status, sent.ack.answer.get("status")) not in SETTLED:
            yield f"a good body was answered {sent.ack.status}: {sent.ack.answer}"


def _compared(seen: Seen, ack: Ack) -> Iterator[str]:
    """The same key with the same payload and time is a duplicate; with another payload or time it is a conflict.

    > An idempotency key with another payload **or another event time** is a conflict (409).
    """
    dedupe = seen.dedupe.get(ack.answer["event_id"])
    first = seen.objects.get(dedupe["s3_key"]) if dedupe else None
    if first is None:
        return
    mine, theirs = json.loads(ack.body), json.loads(first.body)
    same = mine["payload"] == theirs["payload"] and _seconds(mine["event_time"]) == _seconds(theirs["event_time"])
    if same != (ack.answer["status"] != events.CONFLICT):
        yield f"its first arrival is {'the same' if same else 'another'}"


def _seconds(time: str) -> Decimal:
    """A time of the kit as seconds, read by something else than the kit."""
    found = datetime.fromisoformat(time)
    return int(found.replace(microsecond=0).timestamp()) + Decimal(found.microsecond) / 1_000_000


def _over(seen: Seen, ack: Ack) -> bool:
    """Whether the retention of what was acknowledged is over by now: it counts from the arrival of the bytes."""
    came = {ack.answer.get("first_ingest_time", ack.answer["ingest_time"]), ack.came}
    return min(rows.expires_at(one, SETTINGS.retention_days) for one in came) <= seen.now


def _object(seen: Seen, ack: Ack) -> Iterator[str]:
    """The object that an answer names holds what was sent.

    > S3 put-if-absent of the exact bytes
    """
    key = ack.answer["s3_key"]
    if key not in seen.objects:
        yield f"no object {key}"
    elif ack.answer["status"] != events.DUPLICATE and seen.objects[key].body != ack.body:
        yield "the object is not what was sent"


def _identities(seen: Seen) -> Iterator[str]:
    """Exactly one first arrival for each identity; the dedupe row names it.

    > The dedupe row names the request id of the first arrival.
    """
    firsts: dict[str, list[Row]] = {}
    for row in map(rows.expand, seen.rows):
        if row["status"] == events.ACCEPTED:
            firsts.setdefault(row["event_id"], []).append(row)
    for identity, found in firsts.items():
        if len(found) > 1:
            yield f"{identity[:8]} was accepted {len(found)} times"
        dedupe = seen.dedupe.get(identity)
        if dedupe and (dedupe["s3_key"], dedupe["request_id"]) != (found[0]["s3_key"], found[0]["request_id"]):
            yield f"{identity[:8]}: the dedupe row names another first arrival"
    for identity in seen.dedupe.keys() - firsts.keys():
        yield f"{identity[:8]}: a dedupe row without a first arrival"


def _derived(seen: Seen) -> Iterator[str]:
    """No row outlives its object; a first arrival's rows are a function of its raw object.

    > The rows of a first arrival are computed from the raw object and its metadata alone
    > The row of a duplicate expires with the first arrival's object
    > the row of a conflict expires with the conflict's own body
    """
    for row in seen.rows:
        whole = rows.expand(row)
        if whole["s3_key"] not in seen.objects:
            yield f"{row['status']} {whole['event_id'][:8]}: a row without its object"
            continue
        if row["status"] != events.ACCEPTED:
            continue
        event, arrival, _ = seen.event(whole["s3_key"])
        dedupe, first = rows.first_rows(event, arrival, SETTINGS.retention_days, whole["s3_key"])
        if aws.from_item(aws.to_item(first)) != row:
            yield f"{whole['event_id'][:8]}: the row is not what its object says"
        if aws.from_item(aws.to_item(dedupe)) != seen.dedupe.get(whole["event_id"]):
            yield f"{whole['event_id'][:8]}: the dedupe row is not what the object says"


def _messages(seen: Seen, cast: Cast) -> Iterator[str]:
    """Sent = selected; each message is waiting, counted, or in the dead-letter queue with a reason.

    > It reads them to the end with consistent reads and sends references to the queue
    > A message that the queue did not take is retried, and not counted as sent.
    """
    taken = [json.loads(message.body) for message in seen.world.sqs.taken["queue"]]
    yield from _claimed(cast.operators.replays)
    recorded = replays_of(aws.from_item(item) for item in seen.world.dynamodb.tables["replays"].values())
    for replayed in cast.operators.replays:
        name = replayed.request["replay_id"]
        if replayed.refused:
            continue
        sent = {(one["event_id"], one["s3_key"]) for one in taken if one["replay_id"] == name}
        if replayed.complete and not recorded[name].complete:
            yield f"{name} was answered complete, and its record says that it is not"
        must, may = _selected(seen, replayed)
        if replayed.complete and must - sent:
            yield f"{name} is complete and never sent {', '.join(one[:8] for one, _ in must - sent)}"
        yield from _each_duplicate(replayed, taken)
        may |= {one for one in sent if one[0] in cast.operators.undecided}  # its rows are lost
        if sent - may:
            yield f"{name} sent what it does not select: {', '.join(one[:8] for one, _ in sent - may)}"
    yield from _settled(seen, taken)


def _each_duplicate(replayed: Replayed, taken: list[Row]) -> Iterator[str]:
    """A complete replay that was to include duplicates has sent a message for each.

    > `include_duplicates` adds a message for each duplicate arrival, never for conflicts.
    """
    name = replayed.request["replay_id"]
    messages = Counter(one["event_id"] for one in taken if one["replay_id"] == name)
    for event_id, number in replayed.duplicates.items() if replayed.complete else ():
        if event_id in messages and messages[event_id] < 1 + number:
            yield f"{name} sent {messages[event_id]} messages for {event_id[:8]}, which came {1 + number} times"


def _settled(seen: Seen, taken: list[Row]) -> Iterator[str]:
    """Each message is counted, or waits in the dead-letter queue with a reason.

    > A message that can never succeed goes to the dead-letter queue at once
    """
    counted = {row["SK"] for row in seen.aggregates if row["SK"].startswith("C#")}
    dead = {json.loads(message.body)["event_id"] for message in seen.world.sqs.queues["dlq"]}
    for message in taken:
        if events.contribution_sk(message["replay_id"], message["event_id"]) in counted:
            continue
        if message["event_id"] not in dead:
            yield f"the message of {message['event_id'][:8]} in {message['replay_id']} is nowhere"
    for letter in seen.world.sqs.queues["dlq"]:
        code = letter.attributes.get(CODE_ATTRIBUTE, {}).get("StringValue", EXHAUSTED)
        if code == EXHAUSTED and (letter.attributes or letter.receives >= seen.world.sqs.max_receives):
            continue  # it was received as often as the queue allows
        yield f"a message that could be processed is in the dead-letter queue: {letter.attributes}"


def _claimed(replays: list[Replayed]) -> Iterator[str]:
    """A replay id stands for one selection, always.

    > A replay id always stands for one selection
    """
    selections: dict[str, list[str]] = {}
    for one in replays:
        what = json.dumps({k: v for k, v in one.request.items() if k not in {"limit", "cursor"}}, sort_keys=True)
        selections.setdefault(one.request["replay_id"], []).append("" if one.refused else what)
    for name, found in selections.items():
        if len({*found} - {""}) != 1:
            yield f"{name} stands for {len({*found} - {''})} selections"


def _selected(seen: Seen, replayed: Replayed) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The events that a replay must send (acknowledged before it began), and those that it may send; their objects."""
    request, may = replayed.request, set[tuple[str, str]]()
    for row in map(rows.expand, seen.rows):
        within = events.parse_instant(request["start_time"]).text <= row["event_time"]
        within &= row["event_time"] < events.parse_instant(request["end_time"]).text
        if row["status"] == events.ACCEPTED and row["PK"] == events.entity_pk(request["entity_id"]) and within:
            may.add((row["event_id"], row["s3_key"]))
    return {one for one in may if one[0] in replayed.before}, may


def _versions(seen: Seen) -> Iterator[str]:
    """Each version is the fold of its inputs, each counted once.

    > So the result does not depend on redelivery, order, batches or concurrency.
    """
    inputs: dict[tuple[str, str], list[Event]] = {}
    for row in seen.aggregates:
        if row["SK"].startswith("C#"):
            name = row["SK"].removeprefix("C#").partition("#EID#")[0]
            inputs.setdefault((row["PK"], name), []).append(seen.event(row["s3_key"])[0])
    for row in seen.aggregates:
        if not row["SK"].startswith("V#"):
            continue
        found = inputs.pop((row["PK"], row["SK"].removeprefix("V#")), [])
        ((state, count),) = fold(SETTINGS.aggregator, found).values() if found else [({}, 0)]
        if (json.loads(row["state"]), int(row["input_count"])) != (state, count):
            yield f"{row['PK']} {row['SK']}: counts {row['input_count']} of {len(found)} inputs"
    for pk, name in inputs:
        yield f"{pk} {name}: inputs without a version"


def _predicted(seen: Seen, cast: Cast) -> Iterator[str]:
    """What was predicted before the processor was switched on is what it wrote, and it wrote nothing else.

    > You see what a change does before you make it
    """
    if cast.operators.predicted is None or seen.world.sqs.queues["dlq"]:
        return
    expected = dict(cast.operators.counted)
    for one in cast.operators.predicted.versions:
        key = (events.aggregate_pk(one.entity_id, one.day), events.version_sk(one.replay_id))
        expected[key] = one.input_count
    found = counts(seen.world)
    for key in sorted(expected.keys() | found.keys()):
        if found.get(key) != expected.get(key):
            yield f"{key}: {expected.get(key)} inputs were predicted, {found.get(key)} counted"


def counts(world: World) -> dict[tuple[str, str], int]:
    """How many inputs each version of an aggregate counts, by its key."""
    found = (aws.from_item(item) for item in world.dynamodb.tables["aggregates"].values())
    return {(row["PK"], row["SK"]): int(row["input_count"]) for row in found if row["SK"].startswith("V#")}


def _rejected(seen: Seen) -> Iterator[str]:
    """A body that can't be accepted is kept below rejected/, byte for byte.

    > A rejected body is kept below `rejected/ingest_date=…/` with its reason.
    """
    for ack in seen.world.acks:
        if ack.answer.get("status") != events.REJECTED:
            continue
        kept = seen.objects.get(events.rejected_key(ack.answer["rejected_id"]))
        if kept is None or kept.body != ack.body or "reason" not in kept.metadata:
            yield f"a rejected body is not kept: {ack.answer}"

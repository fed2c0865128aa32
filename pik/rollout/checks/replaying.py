"""Choosing what to replay, replaying it through the operator's API, predicting the aggregates from the raw objects.

Producers send meanwhile. So a window ends in the past (:func:`pik.clock.settled`) and is fixed once; and as late events
arrive in it all the same, what a replay sent is what its record says (:mod:`pik.replays.sent`), not what the window
holds when one looks.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

from pik import clock, events
from pik.aws import stack
from pik.aws.exchange import Exchange, exchange, repeated
from pik.aws.reading import RawObject, Row, StoreReader
from pik.aws.stack import Say, silent
from pik.environments import Environment
from pik.errors import AwsError
from pik.events import Event
from pik.pipeline.aggregators import fold
from pik.replays import reading as replay_table
from pik.replays.records import Replay as Record
from pik.replays.sent import sent as sent_of
from pik.rollout.checks.probe import answering

PREFIX = "rollout-"
PARALLEL = 6
MOST_OF_ONE = 2_000  # events of one entity that a check replays

Group = tuple[str, str, str]  # entity, day, replay


@dataclass(frozen=True)
class EntityWindow:
    """One entity's events in a half-open window.

    ``rows``: those that a replay must send, or has sent; ``unsure``: days of which one cannot say for certain which
    (:class:`pik.replays.sent.SentRows`).
    """

    entity_id: str
    start_time: str
    end_time: str
    rows: tuple[Row, ...] = field(repr=False)
    unsure: frozenset[str] = frozenset()

    @property
    def event_ids(self) -> set[str]:
        """The events."""
        return {str(row["event_id"]) for row in self.rows}

    def request(self, **more: Any) -> bytes:
        """Return the body of a replay request for it."""
        window = {"entity_id": self.entity_id, "start_time": self.start_time, "end_time": self.end_time}
        return json.dumps(window | more).encode()


@dataclass(frozen=True)
class ReplayAnswer:
    """One replay as the operator's API answered it: ``plan`` is the dry run, ``pages`` the requests that sent.

    Attributes:
        selection: what the metadata listed before anything was asked.
        later: what it listed after the last answer; None when nobody looked again.
        carried: what was sent, as the replay's record says; None when there is no record.
    """

    replay_id: str
    selection: EntityWindow
    plan: Exchange
    pages: tuple[Exchange, ...]
    later: EntityWindow | None = None
    carried: EntityWindow | None = None

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Every request and its answer."""
        return (self.plan, *self.pages)

    @property
    def answered(self) -> bool:
        """Whether the API dealt with every request; one that it did not deal with says nothing against the replay."""
        return all(asked.answered for asked in self.exchanges)

    @property
    def sent(self) -> int:
        """Messages the API says it sent."""
        return sum(int(page["sent"] or 0) for page in self.pages)

    @property
    def complete(self) -> bool:
        """Whether the last answer says that the window was read to its end."""
        return bool(self.pages) and self.pages[-1]["complete"] is True

    @property
    def events(self) -> EntityWindow:
        """The events that were sent, as far as is known."""
        return self.carried or self.selection

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """How many events the window held at the least and at the most while it was planned and sent.

        The two differ by what arrived late, and what expired, meanwhile.
        """
        before = self.selection.event_ids
        after = self.later.event_ids if self.later else before
        return len(before - self._expired), len(before | after)

    @cached_property
    def lost(self) -> set[str]:
        """Events that were listed before, are not any more, and have not expired."""
        after = self.later.event_ids if self.later else self.selection.event_ids
        return self.selection.event_ids - after - self._expired

    @cached_property
    def _expired(self) -> set[str]:
        now = time.time()
        return {str(row["event_id"]) for row in self.selection.rows if row.get("expires_at", now + 1) <= now}


@dataclass(frozen=True)
class Raws:
    """The raw objects of some selections, read and compared with their rows; ``problems`` names what does not fit."""

    events: dict[str, Event]
    problems: dict[str, str]


def select(stores: StoreReader, entity_id: str, start_time: str, end_time: str) -> EntityWindow:
    """Return what the metadata table lists for one entity and window: first arrivals that have not expired."""
    return _listed(stores.arrivals(entity_id, start_time, end_time), entity_id, start_time, end_time)


def _listed(rows: Iterable[Row], entity_id: str, start_time: str, end_time: str) -> EntityWindow:
    now = int(time.time())
    kept = [row for row in rows if row["status"] == events.ACCEPTED and row["expires_at"] > now]
    return EntityWindow(entity_id, start_time, end_time, tuple(kept))


def busiest(
    stores: StoreReader, entities: int, days: int = 3, rows: int = 40_000, most: int = MOST_OF_ONE
) -> list[EntityWindow]:
    """Return a selection for each of the entities with the most events among those ingested last; probes left out.

    Each window begins with the day of the entity's oldest event that was ingested lately and ends at the same moment,
    now and in whatever is asked of it later: a moment in the past, so that what producers send meanwhile is behind it.
    An entity with more than ``most`` events there gets a shorter window; one with none in the past is left out.
    """
    seen: dict[str, dict[str, str]] = defaultdict(dict)
    for row in stores.recent(days, rows):
        if row["source"] != events.PROBE_SOURCE:
            seen[str(row["entity_id"])][str(row["event_id"])] = str(row["event_time"])
    chosen = sorted(seen, key=lambda entity: (-len(seen[entity]), entity))[:entities]
    settled = events.format_time(clock.settled(stores.environment)) if chosen else ""
    windows = [(entity, *_window(seen[entity].values(), settled)) for entity in chosen]
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = pool.map(lambda window: _bounded(stores, most, *window), [w for w in windows if w[1] < w[2]])
        return [selection for selection in found if selection.rows]


def _window(times: Iterable[str], settled: str) -> tuple[str, str]:
    """Return the window from the day of the first to the day of the last of some times, never beyond ``settled``."""
    known = sorted(times)
    last = known[-1][:10]
    end = f"{date.fromisoformat(last) + timedelta(days=1)}T00:00:00.000000Z" if last < settled[:10] else settled
    return f"{known[0][:10]}T00:00:00.000000Z", end


def _bounded(stores: StoreReader, most: int, entity_id: str, start_time: str, end_time: str) -> EntityWindow:
    """Return a selection of at most ``most`` rows, by ending its window earlier; more when all have the same time."""
    rows = stores.arrivals(entity_id, start_time, end_time, most + 1)
    if len(rows) > most:
        earlier = str(rows[-1]["event_time"])
        if earlier == str(rows[0]["event_time"]):
            return select(stores, entity_id, start_time, end_time)
        end_time = earlier
        rows = [row for row in rows if str(row["event_time"]) < end_time]
    return _listed(rows, entity_id, start_time, end_time)


def batch_stamp(prefix: str = PREFIX) -> str:
    """Return the common start of the replay ids of one batch; later batches sort later."""
    return f"{prefix}{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"


def replay_all(
    environment: Environment,
    selections: Sequence[EntityWindow],
    *,
    prefix: str = PREFIX,
    parts: int = 3,
    on_progress: Say | None = None,
) -> list[ReplayAnswer]:
    """Plan and replay every selection through the API; the largest in ``parts``, to see that cursors lose nothing."""
    say = on_progress or silent
    url = stack.require(environment).outputs.get("ReplayUrl")
    if not url:
        raise AwsError(
            f"{environment.name}: there is no replay API",
            reason="phase 2 is not deployed",
            next_step=f"pik deploy --env {environment.name} --phase replay",
        )
    if selections:
        answering(environment, url, selections[0].request(dry_run=True))
    stamp = batch_stamp(prefix)
    largest = max(range(len(selections)), key=lambda number: len(selections[number].rows), default=0)
    jobs = [
        (f"{stamp}-{number:02d}", selection, parts if number == largest else 1)
        for number, selection in enumerate(selections)
    ]
    with ThreadPoolExecutor(PARALLEL) as pool:
        done = list(pool.map(lambda job: _replay(environment, url, *job), jobs))
    say(f"{len(done)} replays sent {sum(replay.sent for replay in done)} messages")
    return done


def _replay(environment: Environment, url: str, replay_id: str, selection: EntityWindow, parts: int) -> ReplayAnswer:
    plan = _ask(environment, url, selection.request(dry_run=True))
    limit = {"limit": -(-len(selection.rows) // parts) or 1} if parts > 1 else {}
    pages: list[Exchange] = []
    cursor: dict[str, str] = {}
    while True:
        page = _ask(environment, url, selection.request(replay_id=replay_id, **limit, **cursor))
        pages.append(page)
        if page.status != 200 or page["complete"] or not page["cursor"] or page["cursor"] == cursor.get("cursor"):
            return ReplayAnswer(replay_id, selection, plan, tuple(pages))
        cursor = {"cursor": str(page["cursor"])}


def _ask(environment: Environment, url: str, body: bytes) -> Exchange:
    """Send one replay request; again when it is throttled or fails: it has a replay id, so it is the same replay."""
    return repeated(lambda: exchange(environment, url, body))


def looked_at_again(stores: StoreReader, replays: Iterable[ReplayAnswer]) -> list[ReplayAnswer]:
    """Return replays with what the metadata lists now, and with what their records say that they sent."""

    def again(replay: ReplayAnswer) -> ReplayAnswer:
        chosen, record = replay.selection, replay_table.one(stores, replay.replay_id)
        window = (chosen.entity_id, chosen.start_time, chosen.end_time)
        rows = stores.arrivals(*window)
        carried = _carried(record, rows) if record else None
        return replace(replay, later=_listed(rows, *window), carried=carried)

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(again, replays))


def latest_batch(stores: StoreReader) -> dict[str, EntityWindow]:
    """Return what each replay of the last batch that a rollout sent has sent, by replay id."""
    records = {name: record for name, record in replay_table.every(stores).items() if name.startswith(PREFIX)}
    if not records:
        return {}
    *_, last = records  # by AWS's clock: the stamp is of the clock of whoever sent
    stamp = last.rpartition("-")[0]
    ours = {name: record for name, record in records.items() if name.rpartition("-")[0] == stamp}

    def sent(record: Record) -> EntityWindow:
        head = record.head
        return _carried(record, stores.arrivals(head["entity_id"], head["start_time"], head["end_time"]))

    with ThreadPoolExecutor(PARALLEL) as pool:
        return dict(zip(ours, pool.map(sent, ours.values()), strict=True))


def _carried(record: Record, window: Iterable[Row]) -> EntityWindow:
    found = sent_of(record, window)
    head = record.head
    return EntityWindow(
        str(head["entity_id"]), str(head["start_time"]), str(head["end_time"]), found.rows, found.unsure
    )


def read_raws(stores: StoreReader, rows: Iterable[Row]) -> Raws:
    """Read the raw object of every row and compare bytes, identity and payload hash with what the row says."""
    wanted = list(rows)
    objects = stores.raws(str(row["s3_key"]) for row in wanted)
    found: dict[str, Event] = {}
    problems: dict[str, str] = {}
    for row in wanted:
        identity = str(row["event_id"])
        event, problem = _compare(row, objects[str(row["s3_key"])])
        if event is None:
            problems[identity] = problem
        else:
            found[identity] = event
    return Raws(found, problems)


def _compare(row: Row, raw: RawObject | None) -> tuple[Event | None, str]:
    if raw is None:
        return None, f"no raw object {row['s3_key']}"
    if hashlib.sha256(raw.body).hexdigest() != row["body_sha256"]:
        return None, "the bytes are not those that were received"
    try:
        event = raw.event()
    except (ValueError, KeyError) as error:
        return None, f"the bytes are not an event: {error}"
    if (event.event_id, event.payload_sha256) != (row["event_id"], row["payload_sha256"]):
        return None, "the raw object holds another event than its row names"
    return event, ""


def predict(aggregator: str, raws: Raws, replays: dict[str, EntityWindow]) -> dict[Group, tuple[dict[str, Any], int]]:
    """Return what the processor will write for these replays, computed from the raw objects: (state, inputs)."""
    return {
        (entity, day, replay_id): version
        for replay_id, selection in replays.items()
        for (entity, day), version in fold(
            aggregator, (raws.events[i] for i in sorted(selection.event_ids & raws.events.keys()))
        ).items()
    }

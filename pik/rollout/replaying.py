"""Choosing what to replay, replaying it through the operator's API, predicting the aggregates from the raw objects."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from pik import events
from pik.environments import Environment
from pik.errors import AwsError
from pik.events import Event
from pik.pipeline.aggregators import fold
from pik.rollout import stack
from pik.rollout.probe import Exchange, exchange
from pik.rollout.reading import RawObject, Row, Stores
from pik.rollout.stack import Say, silent

PREFIX = "rollout-"
PARALLEL = 6
THROTTLED_ATTEMPTS = 20

Group = tuple[str, str, str]  # entity, day, replay


@dataclass(frozen=True)
class Selection:
    """One entity's events in a half-open window, as the metadata table lists them: what a replay of it must send."""

    entity_id: str
    start_time: str
    end_time: str
    rows: tuple[Row, ...] = field(repr=False)

    @property
    def event_ids(self) -> set[str]:
        """The events."""
        return {str(row["event_id"]) for row in self.rows}

    def request(self, **more: Any) -> bytes:
        """Return the body of a replay request for it."""
        window = {"entity_id": self.entity_id, "start_time": self.start_time, "end_time": self.end_time}
        return json.dumps(window | more).encode()


@dataclass(frozen=True)
class Replay:
    """One replay as the operator's API answered it: ``plan`` is the dry run, ``pages`` the requests that sent."""

    replay_id: str
    selection: Selection
    plan: Exchange
    pages: tuple[Exchange, ...]

    @property
    def sent(self) -> int:
        """Messages the API says it sent."""
        return sum(int(page["sent"] or 0) for page in self.pages)

    @property
    def complete(self) -> bool:
        """Whether the last answer says that the window was read to its end."""
        return bool(self.pages) and self.pages[-1]["complete"] is True


@dataclass(frozen=True)
class Raws:
    """The raw objects of some selections, read and compared with their rows; ``problems`` names what does not fit."""

    events: dict[str, Event]
    problems: dict[str, str]


def select(stores: Stores, entity_id: str, start_time: str, end_time: str) -> Selection:
    """Return what the metadata table lists for one entity and window: first arrivals that have not expired."""
    now = int(time.time())
    rows = stores.arrivals(entity_id, start_time, end_time)
    kept = [row for row in rows if row["status"] == events.ACCEPTED and row["expires_at"] > now]
    return Selection(entity_id, start_time, end_time, tuple(kept))


def busiest(stores: Stores, entities: int, days: int = 3, rows: int = 40_000) -> list[Selection]:
    """Return a selection for each of the entities with the most events among those ingested last; probes left out."""
    seen: dict[str, dict[str, str]] = defaultdict(dict)
    for row in stores.recent(days, rows):
        if row["source"] != events.PROBE_SOURCE:
            seen[str(row["entity_id"])][str(row["event_id"])] = str(row["event_time"])
    chosen = sorted(seen, key=lambda entity: (-len(seen[entity]), entity))[:entities]
    if not chosen:
        return []
    times = [moment for entity in chosen for moment in seen[entity].values()]
    start, end = min(times)[:10], max(times)[:10]
    window = (_midnight(start, 0), _midnight(end, 1))
    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(lambda entity: select(stores, entity, *window), chosen))


def _midnight(day: str, days_later: int) -> str:
    moment = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=days_later)
    return events.format_time(moment)


def batch_stamp(prefix: str = PREFIX) -> str:
    """Return the common start of the replay ids of one batch; later batches sort later."""
    return f"{prefix}{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"


def replay_all(
    environment: Environment,
    selections: Sequence[Selection],
    *,
    prefix: str = PREFIX,
    parts: int = 3,
    on_progress: Say | None = None,
) -> list[Replay]:
    """Plan and replay every selection through the API; the largest in ``parts``, to see that cursors lose nothing."""
    say = on_progress or silent
    url = stack.require(environment).outputs.get("ReplayUrl")
    if not url:
        raise AwsError(
            f"{environment.name}: there is no replay API",
            reason="phase 2 is not deployed",
            next_step=f"pik deploy --env {environment.name} --phase replay",
        )
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


def _replay(environment: Environment, url: str, replay_id: str, selection: Selection, parts: int) -> Replay:
    plan = _ask(environment, url, selection.request(dry_run=True))
    limit = {"limit": -(-len(selection.rows) // parts) or 1} if parts > 1 else {}
    pages: list[Exchange] = []
    cursor: dict[str, str] = {}
    while True:
        page = _ask(environment, url, selection.request(replay_id=replay_id, **limit, **cursor))
        pages.append(page)
        if page.status != 200 or page["complete"] or not page["cursor"] or page["cursor"] == cursor.get("cursor"):
            return Replay(replay_id, selection, plan, tuple(pages))
        cursor = {"cursor": str(page["cursor"])}


def _ask(environment: Environment, url: str, body: bytes) -> Exchange:
    """Send one replay request; when the API is throttled (429), wait and ask again: nothing was done yet."""
    for attempt in range(THROTTLED_ATTEMPTS):
        asked = exchange(environment, url, body)
        if asked.status != HTTPStatus.TOO_MANY_REQUESTS:
            break
        time.sleep(random.uniform(0.1, 0.5) * (1 + attempt))  # noqa: S311 - jitter, not a secret
    return asked


def latest_batch(stores: Stores) -> dict[str, Selection]:
    """Return the replays of the last batch that a rollout sent (by replay id), and what the metadata lists for each."""
    heads = [row for row in stores.replays() if str(row["replay_id"]).startswith(PREFIX)]
    if not heads:
        return {}
    stamp = max(str(row["replay_id"]).rpartition("-")[0] for row in heads)
    ours = [row for row in heads if str(row["replay_id"]).rpartition("-")[0] == stamp]
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = pool.map(lambda r: select(stores, str(r["entity_id"]), str(r["start_time"]), str(r["end_time"])), ours)
        return {str(row["replay_id"]): selection for row, selection in zip(ours, found, strict=True)}


def read_raws(stores: Stores, rows: Iterable[Row]) -> Raws:
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
        return None, "another event than the row says"
    return event, ""


def predict(aggregator: str, raws: Raws, replays: dict[str, Selection]) -> dict[Group, tuple[dict[str, Any], int]]:
    """Return what the processor will write for these replays, computed from the raw objects: (state, inputs)."""
    return {
        (entity, day, replay_id): version
        for replay_id, selection in replays.items()
        for (entity, day), version in fold(
            aggregator, (raws.events[i] for i in sorted(selection.event_ids & raws.events.keys()))
        ).items()
    }

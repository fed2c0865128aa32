"""What came of a replay: which of its events are counted, and how its versions differ from those before."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pik import frames
from pik.aws.queues import messages
from pik.aws.stack import aws_errors
from pik.replays import reading, runs
from pik.replays.following import unknown
from pik.replays.manifest import names
from pik.replays.records import Replay
from pik.replays.runs import CANCELLED, ReplayRun
from pik.replays.sent import sent
from pik.replays.versions import contributions, stored
from pik.workbench.aggregates import COMPLETE, completeness
from pik.workbench.versions import Row, differences

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection

PARALLEL = 16
_TEXT, _INT = pa.string(), pa.int64()
#: One row for each event that was sent. ``counted``: in the version of its day.
REPLAYED = pa.schema(
    [
        *((name, _TEXT) for name in ("replay_id", "event_id", "entity_id")),
        ("event_time", frames.TIME),
        ("day", _TEXT),
        ("counted", pa.bool_()),
    ]
)
#: One row for each entity and day. ``before``: the newest version from before the replay, null when there is none;
#: ``differs``: how many values of the two states are not the same.
COMPARED = pa.schema(
    [
        *((name, _TEXT) for name in ("entity_id", "day", "replay_id")),
        *((name, _INT) for name in ("input_count", "expected_count")),
        ("completeness", _TEXT),
        ("before", _TEXT),
        ("before_count", _INT),
        ("differs", _INT),
    ]
)


@dataclass(frozen=True)
class ReplayResult:
    """What came of a replay, or of all replays of one plan.

    Attributes:
        replay_id: the id that was asked for.
        frame: one row for each event that was sent (:data:`REPLAYED`).
        versions: one row for each entity and day (:data:`COMPARED`).
        complete: whether each window was sent to its end.
        processor: whether something counts them: the processor is deployed.
        waiting: messages in the queue, of any replay; approximate on AWS.
        dead: messages in the dead-letter queue, of any replay.
        environment: its name.
        run: how far it is, when it is the run of a plan.
    """

    replay_id: str
    frame: pd.DataFrame = field(repr=False)
    versions: pd.DataFrame = field(repr=False)
    complete: bool
    processor: bool
    waiting: int
    dead: int
    environment: str = ""
    run: ReplayRun | None = None

    @property
    def counted(self) -> int:
        """How many of the events that were sent are counted."""
        return int(self.frame["counted"].sum()) if len(self.frame) else 0

    @property
    def done(self) -> bool:
        """Whether everything was sent and is counted."""
        return self.complete and bool((self.versions["completeness"] == COMPLETE).all())

    @property
    def sentence(self) -> str:
        """What it means, in one or two sentences."""
        whole = Counter(self.versions["completeness"])[COMPLETE]
        head = f"{self.replay_id}: {self.counted:,} of {len(self.frame):,} sent events are counted; "
        head += f"{whole:,} of {len(self.versions):,} aggregates are COMPLETE"
        if not self.complete:
            if self.run and self.run.state == CANCELLED:
                return f"{head}. {self.run.sentence}"
            go_on = f"pik replay resume {self.replay_id} --env {self.environment}"
            return f"{head}. It was not sent to its end; to go on: {go_on}"
        if not self.done:
            why = f"{self.waiting:,} messages wait in the queue, {self.dead:,} are dead letters"
            return f"{head}. {'' if self.processor else 'No processor is deployed; '}{why}"
        known = self.versions[self.versions["before"].notna()]
        changed = int((known["differs"] > 0).sum()) if len(known) else 0
        if not len(known):
            return f"{head}. No aggregate had a version before"
        return f"{head}. Of {len(known):,} that had a version before, {changed:,} changed"

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """Return it, JSON-able."""
        return {
            "replay_id": self.replay_id,
            "done": self.done,
            "complete": self.complete,
            "sent": len(self.frame),
            "counted": self.counted,
            "not_counted": list(self.frame.loc[~self.frame["counted"], "event_id"]) if len(self.frame) else [],
            "processor": self.processor,
            "waiting": self.waiting,
            "dead_letters": self.dead,
            "versions": frames.rows(self.versions),
            "sentence": self.sentence,
        }

    def to_text(self) -> str:
        """Return it as a person reads it."""
        lines = [
            f"{row['completeness'] or '':<9} {row['entity_id']} · {row['day']}  {row['input_count']} of "
            f"{row['expected_count']}{_against(row)}"
            for row in frames.rows(self.versions)[:50]
        ]
        more = [f"and {len(self.versions) - 50:,} more"] if len(self.versions) > 50 else []
        return "\n".join([*lines, *more, self.sentence])


def result(aws: Connection, replay_id: str) -> ReplayResult:
    """Look what came of a replay.

    Arguments, errors and an example: :meth:`pik.workbench.replaying.Replaying.result`.
    """
    with aws_errors(aws.environment, "look at a replay"):
        run = runs.read(aws.stores, replay_id)
        found = reading.of(aws.stores, names(replay_id, run.windows) if run else [replay_id])
        if not found and not run:
            raise unknown(aws, replay_id)
        with ThreadPoolExecutor(PARALLEL) as pool:
            parts = list(pool.map(lambda one: _of(aws, one), found.values()))
        outputs = aws.outputs
        waiting, dead = (messages(aws.environment, outputs[name]) for name in ("QueueUrl", "DeadLetterQueueUrl"))
    return ReplayResult(
        replay_id,
        frame=frames.frame(REPLAYED, [row for rows, _ in parts for row in rows]),
        versions=frames.frame(COMPARED, [row for _, rows in parts for row in rows]),
        complete=run.complete if run else all(one.complete for one in found.values()),
        environment=aws.environment.name,
        processor="ProcessorFunction" in outputs,
        waiting=waiting,
        dead=dead,
        run=run,
    )


def _of(aws: Connection, one: Replay) -> tuple[list[Row], list[Row]]:
    """The events that a replay sent, and its versions beside those before."""
    entity = str(one.head["entity_id"])
    window = aws.stores.arrivals(entity, str(one.head["start_time"]), str(one.head["end_time"]))
    carried = {row["event_id"]: row for row in sent(one, window).rows}
    counted = {row["event_id"] for day in one.expected for row in contributions(aws.stores, entity, day, one.replay_id)}
    about = {"replay_id": one.replay_id, "entity_id": entity}
    rows = [
        {**row, **about, "day": row["event_time"][:10], "counted": name in counted} for name, row in carried.items()
    ]
    return rows, [_compared(aws, one, entity, day) for day in sorted(one.expected)]


def _compared(aws: Connection, one: Replay, entity: str, day: str) -> Row:
    versions = {row["replay_id"]: row for row in stored(aws.stores, entity, day)}
    mine = versions.pop(one.replay_id, None)
    began = str(one.head["created"])
    earlier = [row for row in versions.values() if str(row["updated"]) < began]
    before = max(earlier, key=lambda row: str(row["updated"]), default=None)
    count, expected = int(mine["input_count"]) if mine else 0, one.expected[day]
    return {
        "entity_id": entity,
        "day": day,
        "replay_id": one.replay_id,
        "input_count": count,
        "expected_count": expected,
        "completeness": completeness(count, expected, one.complete),
        "before": before["replay_id"] if before else None,
        "before_count": before["input_count"] if before else None,
        "differs": len(differences(before["state"], mine["state"])) if before and mine else None,
    }


def _against(row: Row) -> str:
    if row["before"] is None:
        return ""
    changed = "the same state" if row["differs"] == 0 else f"{row['differs']} values differ"
    return f"  before: {row['before']} counted {row['before_count']}; {changed}"

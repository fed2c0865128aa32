"""What the processor will write once it takes the waiting messages, predicted without receiving one.

Which messages wait follows from the tables: what each replay sent, less what is counted. That is compared with what the
queue says it holds; where the two differ the prediction says that it is not exact, and why that may be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pik.aws import queue_peek
from pik.aws.queues import messages
from pik.aws.reading import PARALLEL, Row, StoreReader
from pik.aws.stack import Say, aws_errors
from pik.pipeline import queue
from pik.replays.outstanding import outstanding

if TYPE_CHECKING:
    import pandas as pd

MOST = 10_000  # messages whose raw objects are read
_Group = tuple[str, str, str]  # entity, day, replay


@dataclass(frozen=True)
class Version:
    """One version of an aggregate as it will be: ``inputs`` are added, ``input_count`` is what it counts then."""

    entity_id: str
    day: str
    replay_id: str
    inputs: int
    input_count: int


@dataclass(frozen=True)
class Prediction:
    """What the processor will write.

    ``messages``: as many are predicted; ``waiting``: as many are in the queue; ``set_aside``: how many of the
    predicted ones go to the dead-letter queue; ``complete``: whether all that were sent have been looked at;
    ``dead_letters``: as many are in the dead-letter queue now.
    """

    versions: tuple[Version, ...]
    messages: int
    waiting: int
    set_aside: int = 0
    complete: bool = True
    dead_letters: int = 0

    @property
    def exact(self) -> bool:
        """Whether as many messages are predicted as wait."""
        return self.complete and self.messages == self.waiting

    @property
    def sentence(self) -> str:
        """What is predicted, and how far that can be relied on."""
        inputs = sum(one.inputs for one in self.versions)
        sentence = f"{_count(len(self.versions), 'aggregate')} written from {_count(inputs, 'event')}"
        if self.set_aside:
            sentence += f"; {_count(self.set_aside, 'message')} moved to the dead-letter queue, "
            sentence += "because the raw object does not match"
        messages = _count(self.messages, "message")
        if self.exact:
            return f"{sentence}; {messages} predicted = {self.waiting:,} waiting"
        return f"{sentence}; NOT EXACT: {messages} predicted, {self.waiting:,} waiting: {self._why}"

    @property
    def _why(self) -> str:
        if not self.complete:
            return f"only the {self.messages:,} sent last were looked at"
        if self.messages - self.waiting == self.dead_letters:
            return f"the others are in the dead-letter queue ({self.dead_letters:,})"
        if self.messages > self.waiting:
            return (
                f"some expired after 14 days, were deleted, or are among the {self.dead_letters:,} dead letters; "
                "on AWS the queue's own count is approximate"
            )
        return (
            "some were sent by something else than a replay, or again after they were counted; "
            "on AWS the queue's own count is approximate"
        )

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each version: entity_id, day, replay_id, inputs (added), input_count (after)."""
        return frame(self.versions, sentence=self.sentence)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def frame(versions: Iterable[Version], **attrs: Any) -> pd.DataFrame:
    """Return predicted versions as a frame; its columns are there also when nothing is predicted."""
    import pyarrow as pa

    from pik import frames

    texts = [(name, pa.string()) for name in ("entity_id", "day", "replay_id")]
    schema = pa.schema([*texts, ("inputs", pa.int64()), ("input_count", pa.int64())])
    return frames.frame(schema, map(vars, versions), **attrs)


def predict(stores: StoreReader, say: Say, *, most: int = MOST) -> Prediction:
    """Return what the processor will write for the messages that wait. Reads tables and raw objects; receives nothing.

    Args:
        stores: the environment's stores.
        say: called with a sentence when something takes a while.
        most: look at so many messages, those sent last; the sentence says when there are more.

    Raises:
        AwsError: AWS refused or did not answer.
    """
    say("reading which messages were sent and not counted yet")
    with aws_errors(stores.environment, "predict what the processor writes"):
        rows, complete = outstanding(stores, most)
        if rows:
            say(f"reading the raw objects of {len(rows):,} messages")
        faulty = _faulty(stores, rows)
        return Prediction(
            versions=_versions(stores, [row for row, wrong in zip(rows, faulty, strict=True) if not wrong]),
            messages=len(rows),
            waiting=messages(stores.environment, stores.outputs["QueueUrl"]),
            set_aside=sum(faulty),
            complete=complete,
            dead_letters=messages(stores.environment, stores.outputs["DeadLetterQueueUrl"]),
        )


def _faulty(stores: StoreReader, rows: Iterable[Row]) -> list[bool]:
    """For each message, whether the processor would move it to the dead-letter queue."""
    bucket = stores.outputs["RawBucket"]

    def look(row: Row) -> bool:
        body = queue.message(row, replay_id=row["replay_id"], entity_id=row["entity_id"], bucket=bucket)
        return bool(queue_peek.fault(stores, queue.dumps(body))[0])

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(look, rows))


def _versions(stores: StoreReader, rows: list[Row]) -> tuple[Version, ...]:
    groups: defaultdict[_Group, set[Any]] = defaultdict(set)
    for row in rows:  # an event counts once, however many of its messages wait
        groups[str(row["entity_id"]), str(row["event_time"])[:10], str(row["replay_id"])].add(row["event_id"])
    counts = {group: row["input_count"] if row else 0 for group, row in stores.versions(groups).items()}
    return tuple(Version(*group, len(events), counts[group] + len(events)) for group, events in sorted(groups.items()))

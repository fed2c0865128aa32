"""What a replay would send: the exact set of messages, read from the events table before anything is sent.

A plan selects entities and half-open windows of event time. It ends in the past, so that each reading of it has the
same window; a late event may still arrive in it, and :func:`changes` says so before a plan is run.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pik import clock, events, project
from pik.aws import batch
from pik.aws.reading import Row
from pik.aws.stack import aws_errors
from pik.errors import Refused, UsageError
from pik.pipeline.aws import from_item
from pik.pipeline.manifest import FIELDS
from pik.pipeline.rows import expand
from pik.text import named

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection

PARALLEL = 16
MOST = 200_000  # messages of one plan: all of them are held in memory, and in the file
FORMAT = 2  # of the file
_KEPT = (*FIELDS, "size_bytes")
_ABOUT = ("environment", "account", "stack", "made", "made_by")
# Dollars, on demand, in us-east-1: https://aws.amazon.com/sqs/pricing/, https://aws.amazon.com/dynamodb/pricing/on-demand/,
# https://aws.amazon.com/s3/pricing/. SQS: ten messages a request, sent, received and deleted. The processor reads an
# object and a version, and writes two rows of up to a kilobyte in a transaction, which doubles their units (events of
# one entity and day that come together share the version's part).
_PER_MILLION = {"SQS": 0.40 * 3 / 10, "S3": 0.40, "DynamoDB": 0.125 + 4 * 0.625}


class ReplayPart(NamedTuple):
    """One entity's half-open window of event time, in the kit's times: a replay of its own."""

    entity_id: str
    start_time: str
    end_time: str


@dataclass(frozen=True)
class ReplayPlan:
    """What a replay would send, and where. :func:`plan` makes it; it changes nothing.

    Attributes:
        environment, account, stack: where it was made, and where alone it can be run.
        parts: what it selects.
        include_duplicates: whether each duplicate arrival is a message too.
        rows: one for each message, in the order in which they are sent.
        left_out: arrivals in the windows that are not sent, by reason.
        made: when, in the kit's format.
        made_by: ARN of the caller.
    """

    environment: str
    account: str
    stack: str
    parts: tuple[ReplayPart, ...]
    include_duplicates: bool
    rows: tuple[Row, ...] = field(repr=False)
    left_out: dict[str, int]
    made: str
    made_by: str

    @cached_property
    def digest(self) -> str:
        """Hash of the exact set: the same digest, the same messages."""
        found = hashlib.sha256(json.dumps([self.parts, self.include_duplicates]).encode())
        for row in self.rows:
            found.update(json.dumps([row["entity_id"], row["SK"], row["s3_key"]]).encode())
        return found.hexdigest()

    @cached_property
    def _by_part(self) -> dict[ReplayPart, list[Row]]:
        found: dict[ReplayPart, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row["part"], []).append(row)
        return found

    def of(self, part: ReplayPart) -> list[Row]:
        """Return the messages of one of its windows."""
        return self._by_part.get(part, [])

    @property
    def messages(self) -> int:
        """How many messages are sent."""
        return len(self.rows)

    @cached_property
    def event_ids(self) -> set[str]:
        """The events that are sent."""
        return {row["event_id"] for row in self.rows}

    @property
    def dollars(self) -> float:
        """What sending and processing them costs, about, at the list prices of us-east-1; without Lambda's time."""
        return self.messages * sum(_PER_MILLION.values()) / 1e6

    def by(self, what: str) -> pd.DataFrame:
        """Return how many there are by ``entity``, ``day`` or ``source``: events, messages, bytes."""
        import pyarrow as pa

        from pik import frames

        of: dict[str, Callable[[Row], str]] = {
            "entity": lambda row: str(row["entity_id"]),
            "day": lambda row: str(row["event_time"][:10]),
            "source": lambda row: str(row["source"]),
        }
        if what not in of:
            raise UsageError(f"not something to count by: {named(what)}", next_step=f"one of {', '.join(of)}")
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(of[what](row), []).append(row)
        schema = pa.schema([(what, pa.string()), *((n, pa.int64()) for n in ("events", "messages", "bytes"))])
        return frames.frame(
            schema,
            [
                {
                    what: name,
                    "events": len({row["event_id"] for row in rows}),
                    "messages": len(rows),
                    "bytes": sum(int(row["size_bytes"]) for row in rows),
                }
                for name, rows in sorted(groups.items())
            ],
        )

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each message: the columns of ``wb.events`` that a plan keeps."""
        import pyarrow as pa

        from pik import frames

        kept = ("event_id", "status", "source", "event_type", "entity_id", "event_time", "size_bytes", "s3_key")
        return frames.frame(pa.schema([frames.EVENTS.field(name) for name in kept]), self.rows)

    @property
    def sentence(self) -> str:
        """What it is, in one line."""
        entities = len({part.entity_id for part in self.parts})
        size = sum(int(row["size_bytes"]) for row in self.rows)
        return (
            f"{_count(len(self.event_ids), 'event')} · {_count(self.messages, 'message')} · "
            f"{_count(entities, 'entity', 'entities')} · {size / 1000:,.1f} kB · {_price(self.dollars)} · "
            f"digest {self.digest[:12]}"
        )

    def __str__(self) -> str:
        return self.sentence

    def to_text(self) -> str:
        """Return it as a person reads it."""
        days = Counter(row["event_time"][:10] for row in self.rows)
        sources = Counter(row["source"] for row in self.rows)
        shown = [f"  {one.entity_id}   {one.start_time[:19]} to {one.end_time[:19]} UTC" for one in self.parts[:5]]
        more = [f"  and {len(self.parts) - 5:,} more"] if len(self.parts) > 5 else []
        lines = [self.sentence, *shown, *more, f"by source  {_tally(sources)}", f"by day     {_tally(days)}"]
        lines += [f"left out   {_tally(Counter(self.left_out))}"] if self.left_out else []
        lines += [f"sample     {row['event_id']}  {row['event_type']}  {row['event_time']}" for row in self.rows[:3]]
        return "\n".join([*lines, "nothing was sent"])

    def to_dict(self) -> dict[str, Any]:
        """Return its figures, JSON-able, without the messages."""
        return {
            **{name: getattr(self, name) for name in _ABOUT},
            "parts": [part._asdict() for part in self.parts],
            "include_duplicates": self.include_duplicates,
            "events": len(self.event_ids),
            "messages": self.messages,
            "left_out": self.left_out,
            "dollars": round(self.dollars, 6),
            "digest": self.digest,
        }

    def write(self, path: Path) -> None:
        """Write it as a file (gzip JSON) that only its owner may read, and that :func:`read` reads.

        Raises:
            UsageError: the file cannot be written.
        """
        places = {part: number for number, part in enumerate(self.parts)}
        kept = [[places[row["part"]], *(row[name] for name in _KEPT)] for row in self.rows]
        text = json.dumps({"pik_replay_plan": FORMAT, **self.to_dict(), "rows": kept})
        try:
            with project.private_file(path, "wb") as file:
                file.write(gzip.compress(text.encode(), mtime=0))
        except OSError as error:
            raise UsageError(f"the plan cannot be written to {path}", reason=str(error)) from error


def read(path: Path) -> ReplayPlan:
    """Return the plan in a file. Raise UsageError when it is none, or was changed."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the plan {path} cannot be read", reason=str(error)) from error
    try:
        found = json.loads(gzip.decompress(packed))
        parts = tuple(ReplayPart(**part) for part in found["parts"])
        rows = [
            {"part": parts[number], "entity_id": parts[number].entity_id, **dict(zip(_KEPT, values, strict=True))}
            for number, *values in found["rows"]
        ]
        plan = ReplayPlan(
            **{name: found[name] for name in _ABOUT},
            parts=parts,
            include_duplicates=found["include_duplicates"],
            rows=tuple(rows),
            left_out=found["left_out"],
        )
        known = found["pik_replay_plan"] == FORMAT and found["digest"] == plan.digest
    except (OSError, zlib.error, ValueError, LookupError, TypeError, EOFError, RecursionError) as error:
        raise UsageError(
            f"{path} is no plan of a replay",
            reason=f"{type(error).__name__}: {error}",
            next_step="pik replay plan --help\na plan with --save is such a file",
        ) from error
    if not known:
        raise UsageError(f"{path} was changed, or comes from another version", next_step="make a new plan")
    return plan


def plan(
    aws: Connection,
    parts: Iterable[ReplayPart],
    *,
    include_duplicates: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ReplayPlan:
    """Count and list what a replay of these windows would send. Reads the events table; changes nothing.

    Args:
        aws: the connection, or a workbench.
        parts: entities and windows; a window that ends in the future is refused.
        include_duplicates: a message for each duplicate arrival, too.
        progress: is called with a sentence now and then.

    Raises:
        UsageError: no window, an empty one, one that ends in the future, or two of one entity that overlap.
        Refused: more than :data:`MOST` messages.
        AwsError: AWS refused or did not answer.
    """
    wanted = tuple(sorted(set(parts)))
    with aws_errors(aws.environment, "plan a replay"):
        settled = events.format_time(clock.settled(aws.environment))
        _check(wanted, settled)
        caller = aws.environment.client("sts").get_caller_identity()["Arn"]
        rows, left_out = _messages(aws, wanted, include_duplicates, progress or (lambda _: None))
    return ReplayPlan(
        environment=aws.environment.name,
        account=aws.account,
        stack=aws.environment.stack,
        parts=wanted,
        include_duplicates=include_duplicates,
        rows=tuple(rows),
        left_out=dict(left_out),
        made=events.now(),
        made_by=str(caller),
    )


def again(aws: Connection, made: ReplayPlan, progress: Callable[[str], None] | None = None) -> ReplayPlan:
    """Return what the same selection would send now."""
    with aws_errors(aws.environment, "look at a plan again"):
        found, left_out = _messages(aws, made.parts, made.include_duplicates, progress or (lambda _: None))
    return replace(made, rows=tuple(found), left_out=dict(left_out))


def changes(before: ReplayPlan, after: ReplayPlan) -> str:
    """Return what an equal selection would send more, or no longer; empty when nothing."""
    old, new = ({(row["entity_id"], row["SK"]): row for row in one.rows} for one in (before, after))
    came, gone = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    parts = [f"{len(came):,} more, such as {new[came[0]]['event_id']}"] if came else []
    parts += [f"{len(gone):,} no longer, such as {old[gone[0]]['event_id']}"] if gone else []
    return "; ".join(parts)


def whole_days(aws: Connection, wanted: Iterable[tuple[str, str]]) -> list[ReplayPart]:
    """Return the windows that hold all of some entities' days, given as (entity, day); neighbouring days are joined.

    An aggregate belongs to an entity and a day, so a replay of a part of a day makes a version that lacks the rest. A
    day that is not over ends where events can be replayed now.

    Raises:
        UsageError: a day has not begun, or is the first or the last one that there is.
    """
    with aws_errors(aws.environment, "ask for the time"):
        settled = events.format_time(clock.settled(aws.environment))
    days: dict[str, set[date]] = {}
    for entity, day in wanted:
        if f"{day}T00:00:00.000000Z" >= settled or not "0001-01-02" <= day <= "9999-12-30":
            raise UsageError(
                f"events of {day} cannot be replayed now",
                reason=f"a window ends in the past, now by {settled[:19]}Z at the latest, and holds whole days",
                next_step="replay them later, or plan a window: --entity, --start and --end",
            )
        days.setdefault(entity, set()).add(date.fromisoformat(day))
    found = []
    for entity, chosen in days.items():
        for first in sorted(day for day in chosen if day - timedelta(days=1) not in chosen):
            last = first
            while last in chosen:
                last += timedelta(days=1)
            end = min(f"{last.isoformat()}T00:00:00.000000Z", settled)
            found.append(ReplayPart(entity, f"{first.isoformat()}T00:00:00.000000Z", end))
    return found


def days_of(aws: Connection, event_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return entity and day of events. Raise UsageError when one of them is not known."""
    client, outputs = aws.stores.client("dynamodb"), aws.outputs
    with aws_errors(aws.environment, "find the events"):
        keys = [{"event_id": {"S": name}} for name in event_ids]
        known = [from_item(item) for item in batch.items(client, outputs["DedupeTable"], keys)]
        places = [{"PK": {"S": row["pk"]}, "SK": {"S": row["sk"]}} for row in known]
        rows = [expand(from_item(item)) for item in batch.items(client, outputs["EventsTable"], places)]
    missing = sorted(set(event_ids) - {row["event_id"] for row in rows})
    if missing:
        raise UsageError(
            f"nothing is known of {named(missing[0])}",
            reason=f"{len(missing):,} of {len(event_ids):,} events are not in {aws.environment.name}",
            next_step=f"pik explain {missing[0]} --env {aws.environment.name}",
        )
    return sorted({(str(row["entity_id"]), str(row["event_time"])[:10]) for row in rows})


def _check(parts: Sequence[ReplayPart], settled: str) -> None:
    if not parts:
        raise UsageError("a replay needs an entity and a window", next_step="pik replay plan --help")
    for one in parts:
        if one.start_time >= one.end_time:
            raise UsageError(
                f"the window is empty: {one.start_time} to {one.end_time}", next_step="end after the start"
            )
        if one.end_time > settled:
            raise UsageError(
                f"the window ends at {one.end_time}, and events up to {settled} can be replayed now",
                reason="a producer's clock may be behind by so much, and a window must hold the same whoever reads it",
                next_step=f"--end {settled[:19]}Z",
            )
    for one, other in pairwise(parts):  # they are sorted
        if one.entity_id == other.entity_id and other.start_time < one.end_time:
            raise UsageError(f"two windows of {named(one.entity_id)} overlap", next_step="give one that holds both")


def _messages(
    aws: Connection, parts: Sequence[ReplayPart], include_duplicates: bool, progress: Callable[[str], None]
) -> tuple[list[Row], Counter[str]]:
    """The rows that are sent, in order, and what is left out, by reason."""
    now, wanted = int(clock.now(aws.environment).timestamp()), {events.ACCEPTED}
    wanted |= {events.DUPLICATE} if include_duplicates else set()
    rows, left_out = list[Row](), Counter[str]()
    with ThreadPoolExecutor(PARALLEL) as pool:
        read = zip(parts, pool.map(lambda part: aws.stores.arrivals(*part), parts), strict=True)
        for number, (part, found) in enumerate(read, 1):
            for row in found:
                if row["expires_at"] <= now:
                    left_out["past its retention"] += 1
                elif row["status"] not in wanted:
                    left_out[str(row["status"])] += 1
                else:
                    rows.append({"part": part, "entity_id": part.entity_id, **{name: row[name] for name in _KEPT}})
            if len(rows) > MOST:
                raise Refused(
                    f"more than {MOST:,} messages, after {number:,} of {len(parts):,} windows",
                    reason="a plan lists each message",
                    next_step="plan and run a part of it at a time: fewer entities, or a shorter window",
                )
            if number % 100 == 0 or number == len(parts):
                progress(f"{number:,} of {len(parts):,} windows read: {len(rows):,} messages")
    for row in rows:
        row |= {name: int(row[name]) for name in ("size_bytes", "expires_at")}
    return rows, left_out


def _tally(counts: Counter[str], most: int = 5) -> str:
    shown = ", ".join(f"{name} {number:,}" for name, number in counts.most_common(most))
    return f"{shown} and {len(counts) - most:,} more" if len(counts) > most else shown


def _price(dollars: float) -> str:
    return f"about ${dollars:,.2f}" if dollars >= 0.01 else "less than $0.01"


def _count(number: int, noun: str, many: str = "") -> str:
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"

"""The replay queue and the dead-letter queue: looking without touching, a live look on request, and redrive.

``peek()`` reads tables, logs and the queue's attributes, and receives nothing. ``peek(live=True)`` receives messages
and returns every one before it answers (:mod:`pik.aws.queue_peek`): each such look raises the receive count, which is
said, and refused once messages are half way to the dead-letter queue. Nothing here deletes a message but ``redrive``,
after it has sent it to the queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pik import clock, frames
from pik.aws import queue_peek as looking
from pik.aws.queues import queue_counts
from pik.aws.stack import aws_errors
from pik.errors import UsageError
from pik.replays.outstanding import outstanding
from pik.workbench import redriving
from pik.workbench.messages import DEAD_LETTERS, MESSAGES, judged, message_row
from pik.workbench.redriving import Redrive
from pik.workbench.telemetry import logs

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection

STEPS = tuple(timedelta(hours=hours) for hours in (1, 6, 24, 3 * 24, 7 * 24, 14 * 24))  # back in the log
REQUESTS = 60  # of one look into the log
_PARALLEL = 16


@dataclass(frozen=True)
class Queue:
    """The replay queue: ``wb.queue``."""

    aws: Connection

    def peek(self, live: bool = False, max_messages: int = 10) -> pd.DataFrame:
        """Return messages as a frame (:data:`MESSAGES`); by default without touching any.

        Default: messages that were sent and are not counted yet, from the replays, events and aggregates tables (so one
        that went to the dead-letter queue is among them), newest replay first. Live: messages received, each returned
        at once; their receive count is raised, and ``df.attrs["sentence"]`` says so.

        ``df.attrs`` holds ``waiting``, ``in_flight``, ``delayed`` (the queue's own, approximate on AWS), ``live`` and
        ``sentence``; live also ``receive_count``, ``max_receive_count`` and ``cut_short``.

        Args:
            live: receive messages.
            max_messages: at most so many rows.

        Raises:
            Refused: a live look at messages that are half way to the dead-letter queue; nothing was received.
            UsageError: ``max_messages`` is not positive.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.queue.peek().attrs["sentence"]                      # doctest: +SKIP
            '9 messages wait; 9 were sent and are not counted yet; nothing was touched'
        """
        _positive(max_messages)
        url = self.aws.outputs["QueueUrl"]
        with aws_errors(self.aws.environment, "look into the queue"):
            if live:
                return _received(self.aws, url, max_messages, MESSAGES)
            counts = _counts(self.aws, url)
            rows, complete = outstanding(self.aws.stores, max_messages)
        more = "" if complete else "at least "
        sentence = f"{_waiting(counts)}; {more}{len(rows)} were sent and are not counted yet; nothing was touched"
        return frames.frame(MESSAGES, rows, **counts, live=False, sentence=sentence)


@dataclass(frozen=True)
class DeadLetters:
    """The dead-letter queue: ``wb.dlq``."""

    aws: Connection

    def peek(self, live: bool = False, max_messages: int = 10) -> pd.DataFrame:
        """Return the messages that went to the dead-letter queue, and why, as a frame (:data:`DEAD_LETTERS`); by
        default without touching any.

        Default: what the processor logged when it set messages aside: code, reason and the id the message had; messages
        redriven since are among them, those that SQS moved by itself are not. The log is read backwards, until it names
        as many as the queue holds, at most 14 days and :data:`REQUESTS` requests;
        ``df.attrs["since"]`` says how far. Live: the messages
        themselves, each returned at once, and whether the processor would take it now. Nothing is ever moved away from
        a dead-letter queue for being received, so this look is never refused.

        ``df.attrs``: as :meth:`Queue.peek`.

        Args:
            live: receive the messages themselves.
            max_messages: at most so many rows.

        Raises:
            UsageError: ``max_messages`` is not positive.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.dlq.peek(live=True)[["code", "reason", "mended"]]   # doctest: +SKIP
        """
        _positive(max_messages)
        url = self.aws.outputs["DeadLetterQueueUrl"]
        with aws_errors(self.aws.environment, "look into the dead-letter queue"):
            if live:
                return _received(self.aws, url, max_messages, DEAD_LETTERS)
            counts = _counts(self.aws, url)
        rows, since, whole = _logged(self.aws, sum(counts.values()))
        named = f"since {since:%Y-%m-%d %H:%M} UTC the log names {len(rows)}"
        named += "" if whole else f" ({REQUESTS} requests did not reach its end)"
        sentence = f"{_waiting(counts)}; {named}; nothing was touched"
        return frames.frame(DEAD_LETTERS, rows[:max_messages], **counts, live=False, since=since, sentence=sentence)

    def redrive(
        self,
        preview: bool = True,
        codes: Iterable[str] | None = None,
        *,
        message_ids: Iterable[str] | None = None,
        event_ids: Iterable[str] | None = None,
        include_unmended: bool = False,
        confirm: str | None = None,
        max_messages: int = 1000,
    ) -> Redrive:
        """Send dead letters back to the queue: first a preview, then exactly what it showed.

        Only messages whose fault is fixed are chosen, unless ``include_unmended`` is true: the others would come back.
        The redrive is written to ``.pik/redrives/<environment>.jsonl`` before and after.

        Args:
            preview: change nothing, and say what would be done.
            codes: only messages with these codes, such as ``raw_missing``.
            message_ids: only these messages.
            event_ids: only the messages of these events.
            include_unmended: also messages whose fault is not mended.
            confirm: the preview's ``confirm``; it stands for exactly the messages that were shown.
            max_messages: look at so many dead letters at most.

        Raises:
            UsageError: a text where a list belongs. Refused: without ``confirm``, or when it stands for other messages
            than are chosen now; nothing was changed. AwsError: AWS refused or did not answer; the record says what was
            planned. No message is lost: each is always in a queue.

        Example:
            >>> plan = wb.dlq.redrive(codes=["raw_missing"])           # doctest: +SKIP
            >>> wb.dlq.redrive(False, codes=["raw_missing"], confirm=plan.confirm)  # doctest: +SKIP
        """
        chosen = redriving.Choice.of(codes, message_ids, event_ids, include_unmended)
        return redriving.redrive(self.aws, chosen, preview=preview, confirm=confirm, max_messages=max_messages)


def _received(aws: Connection, url: str, limit: int, schema: pa.Schema) -> pd.DataFrame:
    look = looking.look(aws.environment, url, limit)
    now = datetime.now(UTC)
    dead = schema is DEAD_LETTERS
    rows = judged(aws, look.messages) if dead else [message_row(message, now) for message in look.messages]
    rows.sort(key=lambda row: (row["sent"], row["message_id"]))
    counts = _counts(aws, url)
    most = look.max_receive_count
    sentence = f"{len(rows)} messages looked at and returned at once; this raised their receive count"
    if most is not None:
        sentence += f" to at most {look.receive_count} of {most}" if rows else ""
        sentence += "; stopped there, no further live look is allowed" if look.cut_short else ""
    return frames.frame(
        schema,
        rows,
        **counts,
        live=True,
        receive_count=look.receive_count,
        max_receive_count=most,
        cut_short=look.cut_short,
        sentence=sentence,
    )


def _logged(aws: Connection, wanted: int) -> tuple[list[dict[str, Any]], datetime, bool]:
    """Return what the log says of messages that went to the dead-letter queue, the newest first; since when, and
    whether all of it.

    CloudWatch reads a window from its beginning and every line of it, so this goes back in steps, until enough was
    found. With nothing wanted, which is what an empty queue asks for, it is the last hour.
    """
    now = datetime.now(UTC)
    rows, until, left, whole = list[dict[str, Any]](), now + clock.AHEAD, REQUESTS, True
    for step in STEPS:
        lines = logs(aws, text="set aside", function="processor", start=now - step, end=until, requests=left)
        rows += _set_aside(lines)
        until, left, whole = now - step, left - lines.attrs["requests"], whole and lines.attrs["complete"]
        if len(rows) >= wanted or left <= 0:
            break
    return rows, until, whole


def _set_aside(lines: pd.DataFrame) -> list[dict[str, Any]]:
    found = lines[(lines["message"] == "set aside").fillna(value=False)]
    return [
        {
            "original_message_id": line["message_id"],
            "code": line["code"],
            "reason": line["reason"],
            "sent": line["time"].to_pydatetime(),
            "age_s": (datetime.now(UTC) - line["time"]).total_seconds(),
            "basis": "logged",
        }
        for line in reversed(found.to_dict("records"))
    ]


def _counts(aws: Connection, url: str) -> dict[str, int]:
    found = queue_counts(aws.environment, url)
    return dict(zip(("waiting", "in_flight", "delayed"), found.values(), strict=True))


def _waiting(counts: Mapping[str, int]) -> str:
    flying = f", {counts['in_flight']} in flight" if counts["in_flight"] else ""
    return f"{counts['waiting']} messages wait{flying}"


def _positive(max_messages: int) -> None:
    if max_messages < 1:
        raise UsageError(f"max_messages={max_messages}", next_step="at least 1")

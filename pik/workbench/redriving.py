"""Redrive: send dead letters back to the queue, the reasons shown first.

A message is sent to the queue first, and then deleted from the dead-letter queue, so it is always in at least one of
them. If the deletion fails, it is in both, and the processor still counts its event once.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pik import events, frames, project
from pik.aws import queue_peek as looking
from pik.aws.stack import aws_errors
from pik.errors import Refused, UsageError
from pik.workbench import messages

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection

HOLD_SECONDS = 300  # a redrive that is killed keeps the rest of the dead letters invisible for this long
_ATTEMPTS = 3


@dataclass(frozen=True)
class Choice:
    """Which dead letters to send back; None means whichever."""

    codes: frozenset[str] | None = None
    message_ids: frozenset[str] | None = None
    event_ids: frozenset[str] | None = None
    include_unmended: bool = False

    @classmethod
    def of(
        cls,
        codes: Iterable[str] | None,
        message_ids: Iterable[str] | None,
        event_ids: Iterable[str] | None,
        include_unmended: bool,
    ) -> Choice:
        """Make a choice of what a person gave; raise UsageError for a text where a list belongs."""
        return cls(
            _set("codes", codes), _set("message_ids", message_ids), _set("event_ids", event_ids), include_unmended
        )

    def takes(self, row: dict[str, Any]) -> bool:
        """Whether a dead letter is to be sent back."""
        return (
            (self.include_unmended or row["mended"])
            and (self.codes is None or row["code"] in self.codes)
            and (self.message_ids is None or row["message_id"] in self.message_ids)
            and (self.event_ids is None or row["event_id"] in self.event_ids)
        )


@dataclass(frozen=True)
class Redrive:
    """What a redrive would do (``preview``), or did.

    Attributes:
        frame: the chosen dead letters (:data:`pik.workbench.messages.DEAD_LETTERS`): code, reason, whether mended.
        left: those that were seen and stay where they are.
        preview: whether nothing was changed.
        confirm: what to pass as ``confirm`` to have exactly this done.
        moved: ids of messages sent to the queue and deleted here.
        doubled: ids sent to the queue and still here, as the deletion failed; harmless, redrive again to remove them.
        failed: ids that the queue did not take; they stay here.
        record: where it is recorded; empty for a preview.
    """

    frame: pd.DataFrame = field(repr=False)
    left: pd.DataFrame = field(repr=False)
    preview: bool
    confirm: str
    moved: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    record: str = ""

    @property
    def sentence(self) -> str:
        """What it means, in one sentence."""
        chosen, kept = len(self.frame), len(self.left)
        if self.preview:
            codes = Counter(str(code) for code in self.frame["code"].fillna("no code"))
            why = f" ({', '.join(f'{count} {code}' for code, count in sorted(codes.items()))})" if codes else ""
            ill = chosen - int(self.frame["mended"].sum()) if chosen else 0
            warning = f", of which {ill} would come back, because their fault is not fixed" if ill else ""
            return f"would send {chosen} dead letters back{why}{warning}; {kept} stay; nothing was changed"
        more = f", {len(self.doubled)} are in both queues" if self.doubled else ""
        more += f", {len(self.failed)} were not taken" if self.failed else ""
        return f"sent {len(self.moved)} of {chosen} dead letters back{more}; {kept} stay"

    def __str__(self) -> str:
        return self.sentence


def redrive(
    aws: Connection,
    choice: Choice,
    *,
    preview: bool = True,
    confirm: str | None = None,
    max_messages: int = 1000,
) -> Redrive:
    """Show which dead letters would go back to the queue, and why they are here; with ``preview=False`` send them.

    Only messages whose fault is fixed are chosen, unless the choice includes the others, which would come back. The
    redrive is written to ``.pik/redrives/<environment>.jsonl`` before and after.

    Args:
        aws: the connection, or a workbench.
        choice: by code, message id, event id.
        preview: change nothing.
        confirm: the preview's ``confirm``; it stands for exactly the messages that were shown.
        max_messages: look at so many dead letters at most.

    Raises:
        Refused: without ``confirm``, or when it stands for other messages than are chosen now; nothing was changed.
        AwsError: AWS refused or did not answer; the record says what was planned. No message is lost: each is always in
        a queue.
    """
    url = aws.outputs["DeadLetterQueueUrl"]
    if not preview and confirm is None:
        raise Refused(
            "a redrive needs the confirmation of its preview",
            reason="a preview must show the reasons before anything is sent",
            next_step="plan = wb.dlq.redrive(…), then wb.dlq.redrive(False, …, confirm=plan.confirm)",
        )
    hold = looking.HOLD_SECONDS if preview else HOLD_SECONDS
    with (
        aws_errors(aws.environment, "redrive"),
        looking.held(aws.environment, url, max_messages, hold) as found,
    ):
        rows = sorted(messages.judged(aws, found.messages.values()), key=lambda row: (row["sent"], row["message_id"]))
        chosen = [row for row in rows if choice.takes(row)]
        token = _token(chosen)
        show = frames.frame(messages.DEAD_LETTERS, chosen)
        left = frames.frame(messages.DEAD_LETTERS, [row for row in rows if not choice.takes(row)])
        if preview:
            return Redrive(show, left, preview=True, confirm=token)
        if confirm != token:
            raise Refused(
                f"{confirm} does not stand for the {len(chosen)} dead letters that are chosen now",
                reason="the selection, the dead-letter queue, or the fixed faults have changed since the preview",
                next_step="look at a new preview: wb.dlq.redrive(…)",
            )
        return _move(aws, found, Redrive(show, left, preview=False, confirm=token))


def _set(name: str, given: Iterable[str] | None) -> frozenset[str] | None:
    if isinstance(given, str):
        raise UsageError(f"{name} is one text, not a list", next_step=f"{name}=[{given!r}]")
    return None if given is None else frozenset(given)


def _token(rows: list[dict[str, Any]]) -> str:
    ids = sorted(row["message_id"] for row in rows)
    return f"{len(ids)}-{hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:12]}"


def _move(aws: Connection, found: looking.HeldMessages, plan: Redrive) -> Redrive:
    ids = list(plan.frame["message_id"])
    path = _record(aws, "begin", plan, message_ids=ids, event_ids=list(plan.frame["event_id"].dropna()))
    moved, doubled, failed = list[str](), list[str](), list[str]()
    for start in range(0, len(ids), looking.BATCH):
        batch = ids[start : start + looking.BATCH]
        refused = _send(aws, {name: found.messages[name]["Body"] for name in batch})
        taken = [name for name in batch if name not in refused]
        kept = _delete(aws, {name: found.messages[name]["ReceiptHandle"] for name in taken})
        found.gone |= set(taken) - kept
        failed += [name for name in batch if name in refused]
        doubled += [name for name in taken if name in kept]
        moved += [name for name in taken if name not in kept]
    _record(aws, "end", plan, moved=moved, doubled=doubled, failed=failed)
    return Redrive(
        plan.frame,
        plan.left,
        preview=False,
        confirm=plan.confirm,
        moved=tuple(moved),
        doubled=tuple(doubled),
        failed=tuple(failed),
        record=path,
    )


def _send(aws: Connection, bodies: dict[str, str]) -> set[str]:
    """Send messages to the queue; return the ids of those that it did not take after several tries."""
    return _batch(
        bodies,
        lambda left: aws.environment.client("sqs").send_message_batch(
            QueueUrl=aws.outputs["QueueUrl"],
            Entries=[{"Id": name, "MessageBody": body} for name, body in left.items()],
        ),
    )


def _delete(aws: Connection, handles: dict[str, str]) -> set[str]:
    return _batch(
        handles,
        lambda left: aws.environment.client("sqs").delete_message_batch(
            QueueUrl=aws.outputs["DeadLetterQueueUrl"],
            Entries=[{"Id": name, "ReceiptHandle": handle} for name, handle in left.items()],
        ),
    )


def _batch(entries: dict[str, str], call: Any) -> set[str]:
    """Call with what is left until all of it succeeded: a batch call succeeds although some entries failed."""
    left = dict(entries)
    for _ in range(_ATTEMPTS):
        if not left:
            break
        done = {entry["Id"] for entry in call(left).get("Successful", [])}
        left = {name: value for name, value in left.items() if name not in done}
    return set(left)


def _record(aws: Connection, what: str, plan: Redrive, **facts: Any) -> str:
    path = project.STATE / "redrives" / f"{aws.environment.name}.jsonl"
    project.private_folder(path.parent)
    who = aws.environment.client("sts").get_caller_identity()["Arn"]
    line = {
        "at": events.now(),
        "by": who,
        "stack": aws.environment.stack,
        "redrive": what,
        "confirm": plan.confirm,
    }
    with project.private_file(path, "a") as file:
        file.write(json.dumps(line | facts) + "\n")
    return str(path)

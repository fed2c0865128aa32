"""A run as the replays table records it: what is to be sent, how far it is, and whether somebody stopped it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pik import events
from pik.aws.reading import StoreReader
from pik.pipeline.manifest import CANCELLED, PAUSED, RUNNING
from pik.replays.records import Row

COMPLETE = "COMPLETE"


@dataclass(frozen=True)
class ReplayRun:
    """A plan that is sent, or was.

    Attributes:
        replay_id: the id that it runs under; of more windows each has ``<id>.<number>``, the last ``<id>.last``.
        digest: the plan's.
        messages: how many were planned.
        windows: how many windows they are in.
        sent: how many the queue has taken; one that was sent again when an answer was lost counts once.
        expired: how many were left out, as the retention of their events was over by then.
        unsure: how many are being sent now, or were when a request died: they may be sent or not.
        state: RUNNING, PAUSED, CANCELLED, or COMPLETE.
        why: the reason for being paused or cancelled; ``changed_by`` and ``changed``: by whom and when.
        reason: what it is for.
        requested_by: ARN of who began it.
        created: when, in the kit's format.
        rate: messages a second, at most; None: as fast as the queue takes them.
        left: parts of the manifest that are not sent to the end, by number.
        record: where it is recorded on the machine that ran it.
    """

    replay_id: str
    digest: str
    messages: int
    windows: int
    sent: int
    expired: int
    unsure: int
    state: str
    why: str
    changed: str
    changed_by: str
    reason: str
    requested_by: str
    created: str
    rate: int | None = None
    left: tuple[int, ...] = field(default=(), repr=False)
    record: str = ""

    @property
    def complete(self) -> bool:
        """Whether everything was sent that is to be sent."""
        return self.state == COMPLETE

    @property
    def as_planned(self) -> bool:
        """Whether exactly the plan's messages were sent."""
        return self.complete and self.sent == self.messages

    @property
    def sentence(self) -> str:
        """What it means, in one sentence."""
        if self.as_planned:
            return f"{self.replay_id}: exactly the {self.messages:,} planned messages were sent"
        done = f"{self.replay_id}: {self.sent:,} of {self.messages:,} planned messages were sent"
        done += f", {self.expired:,} left out as their retention is over" if self.expired else ""
        done += f", {self.unsure:,} more may have been" if self.unsure else ""
        if self.state in {PAUSED, CANCELLED}:
            done += f"; {self.state} by {self.changed_by}: {self.why or 'no reason was given'}"
        return done

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """Return it, JSON-able."""
        found = {name: value for name, value in vars(self).items() if name != "left"}
        return {**found, "complete": self.complete, "as_planned": self.as_planned}


def read(stores: StoreReader, replay_id: str, record: str = "") -> ReplayRun | None:
    """Return a plan's run, or None when none was begun under this id. Reads the run's own rows."""
    found = run_of(stores.under("ReplaysTable", events.replay_pk(replay_id)))
    return replace(found, record=record) if found else None


def run_of(rows: Iterable[Row]) -> ReplayRun | None:
    """Return the run that rows of one replay's record describe."""
    by_key = {str(row["SK"]): row for row in rows}
    if "RUN" not in by_key:
        return None
    run = by_key["RUN"]
    # Both are written at once, and a reader may see one of them first.
    state = by_key.get("STATE") or {"state": RUNNING, "why": "", "changed": run["created"], "by": run["requested_by"]}
    reached = {int(name[5:]): row for name, row in by_key.items() if name.startswith("PART#")}
    lines = [int(run["part_lines"])] * len(run["parts"])
    lines[-1] = int(run["messages"]) - sum(lines[:-1])
    left = tuple(n for n, number in enumerate(lines) if n not in reached or int(reached[n]["next"]) < number)
    open_ones = [row for row in reached.values() if "to" in row]
    return ReplayRun(
        replay_id=run["replay_id"],
        digest=run["digest"],
        messages=int(run["messages"]),
        windows=int(run["windows"]),
        sent=sum(int(row["sent"]) for row in reached.values()),
        expired=sum(int(row["expired"]) for row in reached.values()),
        unsure=sum(int(row["to"]) - int(row["next"]) for row in open_ones),
        state=state["state"] if left else COMPLETE,
        why=state["why"],
        changed=state["changed"],
        changed_by=state["by"],
        reason=run["reason"],
        requested_by=run["requested_by"],
        created=run["created"],
        rate=int(state["rate"]) if "rate" in state else None,
        left=left,
    )


__all__ = ["CANCELLED", "COMPLETE", "PAUSED", "RUNNING", "ReplayRun", "read", "run_of"]

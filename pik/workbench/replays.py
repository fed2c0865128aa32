"""What was replayed, by whom, and how much of it: the replays table, each replay's requests followed from the start."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pik import events
from pik.pipeline.aws import from_item
from pik.rollout.stack import aws_errors
from pik.workbench import frames

if TYPE_CHECKING:
    import pandas as pd

    from pik.workbench.workbench import Workbench

Row = dict[str, Any]

#: :data:`pik.workbench.frames.REPLAYS`, and ``expected``: events that the replay's aggregates must count in all;
#: ``days``: the same by day of the event, as JSON.
REPLAYS = pa.schema([*frames.REPLAYS, ("expected", pa.int64()), ("days", pa.string())])


@dataclass(frozen=True)
class Replay:
    """One replay: ``head``, what it is for; ``pages``, what each of its requests did, by where the request began."""

    replay_id: str
    head: Row
    pages: dict[str, Row] = field(repr=False)

    @cached_property
    def chain(self) -> list[Row]:
        """The requests from the start on, each beginning where the one before ended: every event is in one of them."""
        found, seen, at = list[Row](), set[str](), "START"
        while at in self.pages and at not in seen:
            seen.add(at)
            page = self.pages[at]
            found.append(page)
            at = str(page["next"])
            if page["complete"]:
                break
        return found

    @property
    def complete(self) -> bool:
        """Whether the window was sent to its end."""
        return bool(self.chain) and self.chain[-1]["complete"] is True

    @property
    def after(self) -> str:
        """Sort key of the last row of the events table that was dealt with; empty when none was."""
        return str(self.chain[-1]["next"]) if self.chain else ""

    @cached_property
    def expected(self) -> Counter[str]:
        """How many events its aggregates must count, by day."""
        return sum((Counter({d: int(n) for d, n in page["days"].items()}) for page in self.chain), Counter[str]())

    def total(self, name: str) -> int:
        """Sum of ``scanned``, ``matched`` or ``sent`` over its requests."""
        return sum(int(page[name]) for page in self.chain)

    def row(self) -> Row:
        """The replay as a row of the frame."""
        return {
            **self.head,
            "complete": self.complete,
            "finished": max((str(page["finished"]) for page in self.chain), default=None),
            "requests": len(self.chain),
            **{name: self.total(name) for name in ("scanned", "matched", "sent")},
            "expected": self.expected.total(),
            "days": dict(sorted(self.expected.items())),
        }


def replays(
    wb: Workbench,
    *,
    entity: str | None = None,
    replay_ids: Iterable[str] | None = None,
    include_probes: bool = False,
) -> pd.DataFrame:
    """Return replays as a frame (:data:`REPLAYS`), oldest first.

    ``complete`` is false when a replay stopped before the end of its window: repeat it with the same ``replay_id``.

    Args:
        wb: the workbench.
        entity: only this entity's.
        replay_ids: only these; ids that never existed are left out.
        include_probes: also those of the rollout's own probes, which are left out unless they are named.

    Raises:
        AwsError: AWS said no.

    Example:
        >>> wb.replays(entity="N14228")[["replay_id", "sent", "complete"]]  # doctest: +SKIP
    """
    found = known(wb, entity=entity, replay_ids=replay_ids)
    named = include_probes or entity is not None or replay_ids is not None
    kept = [one for one in found.values() if named or not events.is_probe(str(one.head["entity_id"]))]
    return frames.frame(REPLAYS, [replay.row() for replay in kept])


def known(wb: Workbench, *, entity: str | None = None, replay_ids: Iterable[str] | None = None) -> dict[str, Replay]:
    """Return replays by id, oldest first; with ``replay_ids`` only their rows are read, else the whole table."""
    with aws_errors(wb.environment, "read the replays table"):
        rows = _scan(wb) if replay_ids is None else _of(wb, replay_ids)
    heads, pages = dict[str, Row](), defaultdict[str, dict[str, Row]](dict)
    for row in rows:
        if row["SK"] == "HEAD":
            heads[row["PK"]] = row
        else:
            pages[row["PK"]][row["SK"].removeprefix("PAGE#")] = row
    wanted = [(pk, head) for pk, head in heads.items() if entity is None or head["entity_id"] == entity]
    wanted.sort(key=lambda pair: (str(pair[1]["created"]), pair[0]))
    return {head["replay_id"]: Replay(head["replay_id"], head, dict(pages[pk])) for pk, head in wanted}


def _scan(wb: Workbench) -> list[Row]:
    pages = wb.environment.client("dynamodb").get_paginator("scan")
    found = pages.paginate(TableName=wb.outputs["ReplaysTable"], ConsistentRead=True)
    return [from_item(item) for page in found for item in page["Items"]]


def _of(wb: Workbench, replay_ids: Iterable[str]) -> list[Row]:
    pages = wb.environment.client("dynamodb").get_paginator("query")
    return [
        from_item(item)
        for replay_id in dict.fromkeys(replay_ids)
        for page in pages.paginate(
            TableName=wb.outputs["ReplaysTable"],
            KeyConditionExpression="PK = :pk",
            ExpressionAttributeValues={":pk": {"S": events.replay_pk(replay_id)}},
            ConsistentRead=True,
        )
        for item in page["Items"]
    ]

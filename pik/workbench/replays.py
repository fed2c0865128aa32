"""What was replayed, by whom, and how much of it: the replays table, each replay's requests followed from the start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pyarrow as pa

from pik import events
from pik.aws.stack import aws_errors
from pik.replays import reading
from pik.replays.records import Replay
from pik.workbench import frames

if TYPE_CHECKING:
    import pandas as pd

    from pik.workbench.workbench import Workbench

#: :data:`pik.workbench.frames.REPLAYS`, and ``expected``: events that the replay's aggregates must count in all;
#: ``days``: the same by day of the event, as JSON.
REPLAYS = pa.schema([*frames.REPLAYS, ("expected", pa.int64()), ("days", pa.string())])


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
        found = reading.every(wb.stores) if replay_ids is None else reading.of(wb.stores, replay_ids)
    return {name: one for name, one in found.items() if entity is None or one.head["entity_id"] == entity}

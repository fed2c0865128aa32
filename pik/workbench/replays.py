"""What was replayed, by whom, and how much of it: the replays table, each replay's requests followed from the start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pyarrow as pa

from pik import events, frames
from pik.aws.stack import aws_errors
from pik.replays import reading
from pik.replays.records import Replay

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection

#: :data:`pik.frames.REPLAYS`, and ``expected``: events that the replay's aggregates must count in all;
#: ``days``: the same by day of the event, as JSON.
REPLAYS = pa.schema([*frames.REPLAYS, ("expected", pa.int64()), ("days", pa.string())])


def replays(
    aws: Connection,
    *,
    entity: str | None = None,
    replay_ids: Iterable[str] | None = None,
    include_probes: bool = False,
) -> pd.DataFrame:
    """Return replays as a frame (:data:`REPLAYS`), oldest first.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.replays`.
    """
    found = known(aws, entity=entity, replay_ids=replay_ids)
    named = include_probes or entity is not None or replay_ids is not None
    kept = [one for one in found.values() if named or not events.is_probe(str(one.head["entity_id"]))]
    return frames.frame(REPLAYS, [replay.row() for replay in kept])


def known(aws: Connection, *, entity: str | None = None, replay_ids: Iterable[str] | None = None) -> dict[str, Replay]:
    """Return replays by id, oldest first; with ``replay_ids`` only their rows are read, else the whole table."""
    with aws_errors(aws.environment, "read the replays table"):
        found = reading.every(aws.stores) if replay_ids is None else reading.of(aws.stores, replay_ids)
    return {name: one for name, one in found.items() if entity is None or one.head["entity_id"] == entity}

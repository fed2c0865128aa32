"""An incident's arrivals as the workbench would read them, without any AWS: for measuring detectors over many seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pik import events
from pik.events import format_time
from pik.frames import EVENTS, frame
from pik.incidents.model import Arrived, Incident
from pik.pipeline import rows
from pik.pipeline.rows import Arrival
from pik.producer import encode
from pik.workbench import times

if TYPE_CHECKING:
    import pandas as pd

RETENTION_DAYS = 36_500
PRODUCER = "arn:aws:iam::000000000000:user/simulated"


def events_frame(incident: Incident) -> pd.DataFrame:
    """Return every arrival as a row (:data:`pik.frames.EVENTS`), in the order in which they came.

    The rows are made by the pipeline's own code, which says what is a duplicate and what a conflict; the ingest time is
    the incident's.

    >>> from pik.incidents import make
    >>> events_frame(make("healthy", 1)).status.value_counts().to_dict()
    {'ACCEPTED': 2100, 'DUPLICATE': 14}
    """
    known: dict[str, dict[str, Any]] = {}
    return frame(EVENTS, [_row(arrived, known) for arrived in incident.arrivals])


class MemoryWorkbench:
    """What a detector needs of a :class:`~pik.workbench.workbench.Workbench`: ``events``, over one incident's arrivals.

    Same names, same meaning, same order of rows; nothing is refused as a scan, as nothing is read.

    >>> gaps.gaps(MemoryWorkbench(incident), incident.source, start=…, end=…)          # doctest: +SKIP
    """

    def __init__(self, incident: Incident) -> None:
        self.arrivals = events_frame(incident)

    def events(
        self,
        *,
        entity: str | None = None,
        source: str | None = None,
        event_type: str | None = None,
        day: str | None = None,
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        status: str | Sequence[str] | None = None,
        min_lag: str | float | None = None,
        ingested: tuple[str | datetime, str | datetime] | None = None,
        event_ids: Iterable[str] | None = None,
        **_: Any,
    ) -> pd.DataFrame:
        """Return the arrivals asked for, in the order of event time (:func:`pik.workbench.metadata.events`)."""
        if day is not None:
            start, end = day, times.next_day(day)
        found = self.arrivals
        for name, wanted in {"entity_id": entity, "source": source, "event_type": event_type}.items():
            if wanted is not None:
                found = found[found[name] == wanted]
        found = _between(found, "event_time", start, end)
        if ingested is not None:
            found = _between(found, "ingest_time", *ingested)
        if status is not None:
            found = found[found["status"].isin([status] if isinstance(status, str) else list(status))]
        if min_lag is not None:
            found = found[found["lag_ms"] >= times.milliseconds(min_lag)]
        if event_ids is not None:
            found = found[found["event_id"].isin(list(event_ids))]
        return found.sort_values(["event_time", "sk"], ignore_index=True)


def _between(found: pd.DataFrame, name: str, start: str | datetime | None, end: str | datetime | None) -> pd.DataFrame:
    if start is not None:
        found = found[found[name] >= events.parse_time(times.moment(start))]
    if end is not None:
        found = found[found[name] < events.parse_time(times.moment(end))]
    return found


def _row(arrived: Arrived, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    event = arrived.parsed
    arrival = Arrival.of(
        encode(arrived.event),
        {"x-request-id": arrived.request},
        ingest_time=format_time(arrived.at),
        request_id=events.sha256_json([arrived.request, format_time(arrived.at)])[:32],
        producer=PRODUCER,
    )
    first = known.get(event.event_id)
    if first is None:
        known[event.event_id], kept = rows.first_rows(event, arrival, RETENTION_DAYS)
        row = rows.expand(kept)
    else:
        same = (event.payload_sha256, event.exact_time) == (first["payload_sha256"], first["exact_time"])
        status = events.DUPLICATE if same else events.CONFLICT
        key = first["s3_key"] if same else events.conflict_key(event, arrival.content_sha256)
        until = first["expires_at"] if same else rows.expires_at(arrival.ingest_time, RETENTION_DAYS)
        row = rows.arrival_row(event, arrival, RETENTION_DAYS, status, key, first, until)
    # The table leaves out what is usual, and calls some columns otherwise.
    return {
        "exact_time": event.event_time,
        "content_type": rows.USUAL_CONTENT_TYPE,
        "assumed_utc": False,
        **row,
        "lag_ms": row["ingest_lag_ms"],
        "expires_at": format_time(datetime.fromtimestamp(row["expires_at"], UTC)),
        "pk": row["PK"],
        "sk": row["SK"],
    }

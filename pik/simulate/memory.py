"""An incident's arrivals as the workbench would read them, without any AWS: for measuring detectors over many seeds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pik import events
from pik.events import format_time
from pik.pipeline import rows
from pik.pipeline.rows import Arrival
from pik.producer import encode
from pik.simulate.model import Arrived, Incident
from pik.workbench.frames import EVENTS, frame

if TYPE_CHECKING:
    import pandas as pd

RETENTION_DAYS = 365
PRODUCER = "arn:aws:iam::000000000000:user/simulated"


def events_frame(incident: Incident) -> pd.DataFrame:
    """Return every arrival as a row (:data:`pik.workbench.frames.EVENTS`), in the order in which they came.

    The rows are made by the pipeline's own code, which says what is a duplicate and what a conflict; the ingest time is
    the incident's.

    >>> events_frame(make("healthy", 1)).status.value_counts()         # doctest: +SKIP
    """
    known: dict[str, dict[str, Any]] = {}
    return frame(EVENTS, [_row(arrived, known) for arrived in incident.arrivals])


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
        dedupe, row = rows.first_rows(event, arrival, RETENTION_DAYS)
        known[event.event_id] = dedupe
    else:
        same = (event.payload_sha256, event.exact_time) == (first["payload_sha256"], first["exact_time"])
        status = events.DUPLICATE if same else events.CONFLICT
        key = first["s3_key"] if same else events.conflict_key(event, arrival.body_sha256)
        row = rows.arrival_row(event, arrival, RETENTION_DAYS, status, key, first)
    # The table leaves out what is usual, and calls some columns otherwise.
    return {
        "exact_time": event.event_time,
        "content_type": rows.USUAL_CONTENT_TYPE,
        "assumed_utc": False,
        **row,
        "lag_ms": row["ingest_lag_ms"],
        "expires_at": _instant(row["expires_at"]),
        "pk": row["PK"],
        "sk": row["SK"],
    }


def _instant(epoch: int) -> str:
    return format_time(datetime.fromtimestamp(epoch, UTC))

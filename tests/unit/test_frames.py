"""Frames: the same columns and types, whatever they hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest

from pik import frames

SCHEMAS = {name: value for name, value in vars(frames).items() if isinstance(value, pa.Schema)}


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_empty_frame_has_the_columns_and_types_of_a_full_one(name: str) -> None:
    schema = SCHEMAS[name]
    empty, full = frames.frame(schema, []), frames.frame(schema, [{}])
    assert list(empty.columns) == schema.names
    assert len(full) == 1
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert empty.dtypes.to_dict() == {field.name: pd.ArrowDtype(field.type) for field in schema}


def test_times_are_utc_microseconds_from_text_and_datetimes_alike() -> None:
    text = "2013-01-01T10:17:00.000001Z"
    moment = datetime(2013, 1, 1, 12, 17, 0, 1, tzinfo=timezone(timedelta(hours=2)))
    rows: list[dict[str, object]] = [{"event_time": text}, {"event_time": moment}, {"event_time": None}]
    column = frames.frame(frames.EVENTS, rows)["event_time"]
    assert column.dtype == pd.ArrowDtype(frames.TIME)
    assert column[0] == column[1] == pd.Timestamp(2013, 1, 1, 10, 17, 0, 1, tz=UTC)
    assert column.isna().tolist() == [False, False, True]
    assert frames.frame(frames.EVENTS, rows[:1])["event_time"][0] == column[0]


def test_values_are_brought_to_their_column() -> None:
    rows = [{"state": {"b": [1, 2]}, "input_count": Decimal(7), "unknown": "left out"}]
    (row,) = frames.frame(frames.AGGREGATES, rows).to_dict("records")
    assert row["state"] == '{"b": [1, 2]}'
    assert row["input_count"] == 7
    assert "unknown" not in row


def test_a_value_that_does_not_fit_is_an_error_not_an_object_column() -> None:
    with pytest.raises((ValueError, TypeError)):
        frames.frame(frames.EVENTS, [{"size_bytes": "many"}])
    with pytest.raises((ValueError, TypeError)):
        frames.frame(frames.EVENTS, [{"event_time": "yesterday"}])
    with pytest.raises((ValueError, TypeError)):
        frames.frame(frames.EVENTS, [{"event_id": 7}])


def test_attributes_ride_along_and_columns_may_be_arrow() -> None:
    found = frames.from_columns(frames.METRICS, {"value": pa.array([1, 2]), "name": ["a", "b"]}, query="x")
    assert found.attrs == {"query": "x"}
    assert found["value"].dtype == pd.ArrowDtype(pa.float64())
    assert found["time"].isna().all()

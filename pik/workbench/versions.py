"""Which version of an aggregate is meant, and how two states differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pik import frames
from pik.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection

Row = dict[str, Any]
Key = tuple[str, str, str]  # entity, day, replay

#: One row for each event that a version counts.
CONTRIBUTIONS = pa.schema(
    [(name, pa.string()) for name in ("event_id", "s3_key", "message_id")] + [("counted", frames.TIME)]
)
#: One row for each value of the state (by its path) that is not the same on both sides, as text, exact;
#: ``difference`` is ``b - a`` where both are numbers.
NUMBERS = pa.schema([("path", pa.string()), ("a", pa.string()), ("b", pa.string()), ("difference", pa.float64())])


def version_key(given: Any) -> Key:
    """Return (entity, day, replay) of whatever names a version; raise UsageError."""
    try:
        if isinstance(given, tuple | list):
            entity, day, replay = given
        else:
            entity, day, replay = (given[name] for name in ("entity_id", "day", "replay_id"))
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"not a version of an aggregate: {given!r}", next_step="(entity, day, replay), or a row of wb.aggregates()"
        ) from None
    return str(entity), str(day), str(replay)


def require(aws: Connection, key: Key) -> Row:
    """Return a version, its state as JSON value; raise UsageError when it is not written."""
    found = aws.stores.version(*key)
    if found is None:
        raise UsageError(
            f"no such aggregate: {' · '.join(key)}",
            reason="no event of that entity and day was counted for that replay",
            next_step=f"wb.aggregates({key[0]!r}, {key[1]!r}) lists the versions there are",
        )
    return found


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> pd.DataFrame:
    """Return what differs between two states as a frame (:data:`NUMBERS`)."""
    left, right = dict(leaves(a)), dict(leaves(b))
    paths = [path for path in dict.fromkeys([*left, *right]) if left.get(path) != right.get(path)]
    return frames.frame(
        NUMBERS,
        [
            {
                "path": path,
                "a": left.get(path),
                "b": right.get(path),
                "difference": _difference(left.get(path), right.get(path)),
            }
            for path in paths
        ],
    )


def _difference(a: str | None, b: str | None) -> float | None:
    left, right = number(a), number(b)
    return None if left is None or right is None else float(right - left)


def leaves(state: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a state as (path, text); no two have the same path."""
    for name, value in state.items():
        path = f"{prefix}{frames.segment(name)}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value if isinstance(value, str) else json.dumps(value)


def number(text: str | None) -> Decimal | None:
    """Return the number that a text is, or None."""
    try:
        found = Decimal(text) if text is not None else None
    except InvalidOperation:
        return None
    return found if found is None or found.is_finite() else None

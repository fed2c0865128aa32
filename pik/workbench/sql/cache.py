"""Raw objects kept on this machine for SQL: each is fetched once, into Parquet files below ``.pik/cache/<env>/``.

An entry is an object's key and ETag, so an object that was altered is fetched again, and one that is gone is not read.
The files can be deleted at any time; they hold payloads, so treat them like the bucket.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pik import project
from pik.aws import stored
from pik.aws.objects import Object, Objects
from pik.environments import Environment
from pik.frames import TIME
from pik.workbench.consistency.snapshot import key_id
from pik.workbench.sql.layout import Part

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("etag", pa.string()),
        ("body", pa.string()),
        ("event_id", pa.string()),
        ("entity_id", pa.string()),
        ("event_time", TIME),
        ("payload", pa.string()),
    ]
)
_PACK = 20_000  # objects in one file


class Cache:
    """The local copies of one bucket's raw objects."""

    def __init__(self, environment: Environment, bucket: str) -> None:
        self.folder = project.private_folder(project.STATE / "cache" / environment.name / bucket)

    @property
    def files(self) -> list[Path]:
        """The files of the cache."""
        return sorted(self.folder.glob("*.parquet"))

    def missing(self, wanted: Sequence[Part]) -> list[Part]:
        """Return those of ``wanted`` that are not here yet."""
        here: set[tuple[str, str]] = set()
        for file in self.files:
            table = pq.read_table(file, columns=["key", "etag"])
            here.update(zip(table["key"].to_pylist(), table["etag"].to_pylist(), strict=True))
        return [part for part in wanted if (part.listed.key, part.listed.etag) not in here]

    def fetch(self, objects: Objects, wanted: Sequence[Part], progress: Callable[[str], None]) -> None:
        """Fetch objects into new files."""
        for start in range(0, len(wanted), _PACK):
            keys = [part.listed.key for part in wanted[start : start + _PACK]]
            rows = [row for row in objects.many(keys, _row) if row]
            partial = self.folder / f"{uuid.uuid4().hex}.partial"
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), partial)
            partial.rename(partial.with_suffix(".parquet"))  # a reader never sees half a file
            progress(f"fetched {start + len(keys):,} of {len(wanted):,} objects")


def _row(key: str, found: Object | None) -> dict[str, Any] | None:
    if found is None:
        return None  # deleted since it was listed
    row: dict[str, Any] = {
        "key": key,
        "etag": found.etag,
        "body": found.body.decode("utf-8", "replace"),
        "event_id": key_id(key),
    }
    try:
        event = found.event()
    except ValueError:
        return row
    return row | {
        "entity_id": event.entity_id,
        "event_time": pa.scalar(event.event_time, pa.string()).cast(TIME).as_py(),
        "payload": stored.text(event.payload),
    }

"""``wb.sources()``: which sources and types there are, and from which days, from the names of the raw bucket's folders.

No event is read and nothing is counted through: S3 lists folders, a thousand in a request. With S sources and T streams
(a source and a type) that are at most 1 + S + 2 T requests, and up to 24 more for a stream with events on more than a
thousand days, whose last day is searched for by halving. So the cost follows the number of streams, not the number of
events, and not the age of the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pik import events, frames
from pik.aws.objects import in_parallel
from pik.aws.stack import aws_errors

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection

MOST = 500  # streams of one answer
PAGE = 1000  # folders or objects that S3 lists in one request
_RECENT_DAYS = 900  # fewer than a page has


@dataclass(frozen=True)
class Stream:
    """A source and a type with their days, ``YYYY-MM-DD``, in order: all of them, or the first and the latest ones."""

    source: str
    event_type: str
    days: tuple[str, ...]
    complete: bool  # whether ``days`` are all
    last_day_events: int | None  # objects of the last day; None: more than one page has


class Folders:
    """Lists folders of the raw bucket, and counts its requests."""

    def __init__(self, aws: Connection) -> None:
        self._aws = aws
        self._client = aws.environment.client("s3")
        self.requests = 0

    def list(self, prefix: str, *, after: str = "", most: int = PAGE) -> tuple[list[str], bool]:
        """Return the names of folders below ``prefix``, as in their keys, and whether there are more of them."""
        start = {"StartAfter": f"{prefix}{after}"} if after else {}
        page = self._list(prefix, most, Delimiter="/", **start)
        names = [found["Prefix"].removeprefix(prefix).rstrip("/") for found in page.get("CommonPrefixes", [])]
        return names, bool(page["IsTruncated"])

    def count(self, prefix: str) -> int | None:
        """Return how many objects are below ``prefix``; None when they are more than a page."""
        page = self._list(prefix, PAGE)
        return None if page["IsTruncated"] else int(page["KeyCount"])

    def name(self, encoded: str, column: str, prefix: str) -> str:
        """Return a name as its producer wrote it; of a long one, which a key only has the beginning of, from a row."""
        if "~" not in encoded:
            return unquote(encoded)
        found = self._list(prefix, 1).get("Contents", [])
        event_id = found[0]["Key"].rpartition("event_id=")[2].removesuffix(".json") if found else ""
        dedupe = self._item("DedupeTable", {"event_id": {"S": event_id}}, "pk, sk") if event_id else {}
        row = self._item("EventsTable", {"PK": dedupe["pk"], "SK": dedupe["sk"]}, "#n", column) if dedupe else {}
        return str(row[column]["S"]) if row else unquote(encoded)

    def _item(self, table: str, key: dict[str, Any], projection: str, named: str = "") -> dict[str, Any]:
        found = self._aws.environment.client("dynamodb").get_item(
            TableName=self._aws.outputs[table],
            Key=key,
            ProjectionExpression=projection,
            **({"ExpressionAttributeNames": {"#n": named}} if named else {}),
        )
        item: dict[str, Any] = found.get("Item", {})
        return item

    def _list(self, prefix: str, most: int, **more: Any) -> Any:
        self.requests += 1
        return self._client.list_objects_v2(Bucket=self._aws.outputs["RawBucket"], Prefix=prefix, MaxKeys=most, **more)


def sources(aws: Connection, source: str | None = None, *, most: int = MOST) -> pd.DataFrame:
    """Return the streams that have raw objects (:data:`pik.frames.SOURCES`), by source and type.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.sources`.
    """
    with aws_errors(aws.environment, "list the sources"):
        folders = Folders(aws)
        prefixes, complete = _stream_prefixes(folders, source, most)
        found = list(filter(None, in_parallel(lambda prefix: _stream(folders, prefix), prefixes)))
    rows = [
        {
            "source": one.source,
            "event_type": one.event_type,
            "first_day": one.days[0],
            "last_day": one.days[-1],
            "days": len(one.days) if one.complete else None,
            "last_day_events": one.last_day_events,
        }
        for one in sorted(found, key=lambda one: (one.source, one.event_type))
    ]
    return frames.frame(frames.SOURCES, rows, requests=folders.requests, complete=complete)


def source_names(aws: Connection, most: int = MOST) -> list[str]:
    """Return the sources that have raw objects, at most ``most``: one request, and one for each very long name."""
    with aws_errors(aws.environment, "list the sources"):
        folders = Folders(aws)
        return sorted(
            folders.name(encoded, "source", f"raw/source={encoded}/") for encoded in _sources(folders, None, most)[0]
        )


def streams(aws: Connection, source: str, most: int = MOST) -> list[Stream]:
    """Return one source's streams."""
    with aws_errors(aws.environment, "list the types"):
        folders = Folders(aws)
        prefixes, _ = _stream_prefixes(folders, source, most)
        return list(filter(None, in_parallel(lambda prefix: _stream(folders, prefix), prefixes)))


def _sources(folders: Folders, source: str | None, most: int) -> tuple[list[str], bool]:
    """The encoded names of sources, without the rollout's own, and whether there are more."""
    if source is not None:
        return [events.encode(source)], False
    names, more = list[str](), True
    while more and len(names) <= most:
        # Behind a folder's last key: what follows "/" in the order of characters is "0".
        page, more = folders.list("raw/", after=f"{names[-1]}0" if names else "")
        names += page
    found = [name.removeprefix("source=") for name in names if name != f"source={events.PROBE_SOURCE}"]
    return found[:most], more or len(found) > most


def _stream_prefixes(folders: Folders, source: str | None, most: int) -> tuple[list[str], bool]:
    found, more = _sources(folders, source, most)
    below = [f"raw/source={name}/" for name in found]
    prefixes = list[str]()
    for prefix, (types, left) in zip(below, in_parallel(folders.list, below), strict=True):
        prefixes += [f"{prefix}{name}/" for name in types]
        more = more or left
    return prefixes[:most], not more and len(prefixes) <= most


def _stream(folders: Folders, prefix: str) -> Stream | None:
    """A stream; None when its last object went meanwhile."""
    days, more = folders.list(prefix)
    if not days:
        return None
    if more:
        days += _latest(folders, prefix, days[-1])
    source, event_type = (part.partition("=")[2] for part in prefix.split("/")[1:3])
    return Stream(
        source=folders.name(source, "source", prefix),
        event_type=folders.name(event_type, "event_type", prefix),
        days=tuple(name.removeprefix("event_date=") for name in days),
        complete=not more,
        last_day_events=folders.count(f"{prefix}{days[-1]}/"),
    )


def _latest(folders: Folders, prefix: str, known: str) -> list[str]:
    """The folders of the latest days of a stream that has more days than a page, the last one included."""
    recent = datetime.now(UTC).date() - timedelta(days=_RECENT_DAYS)
    names, more = folders.list(prefix, after=max(known + "0", f"event_date={recent}"))
    return names if names and not more else list(_searched(folders, prefix, names[-1] if names else known))


def _searched(folders: Folders, prefix: str, known: str) -> Iterator[str]:
    """The folder of the last day: halve what is between a day that is there and the last that there can be."""
    low, high = (date.fromisoformat(text).toordinal() for text in (known.removeprefix("event_date="), "9999-12-31"))
    while low < high:
        middle = (low + high + 1) // 2
        names, _ = folders.list(prefix, after=f"event_date={date.fromordinal(middle)}", most=1)
        if names:
            low = date.fromisoformat(names[0].removeprefix("event_date=")).toordinal()
        else:
            high = middle - 1
    yield f"event_date={date.fromordinal(low)}"

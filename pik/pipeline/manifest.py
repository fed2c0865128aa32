"""A manifest: exactly which messages a replay sends, written to S3 before the first of them, in parts.

A part is compressed JSON: its windows, and a line for each message, in the order in which they are sent. It is never
overwritten, and the replays table has the hash of each part, so what is sent is what was planned.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pik import events

FOLDER = "manifests/"
RUNNING, PAUSED, CANCELLED = "RUNNING", "PAUSED", "CANCELLED"  # what a run of it may be
FORMAT = 1
# What a line has of an events row. A reference to a part of an object would have offset and length beside s3_key.
FIELDS = ("SK", "status", "event_id", "source", "event_type", "event_time", "s3_key", "payload_sha256", "expires_at")


@dataclass(frozen=True)
class Window:
    """An entity's window, or the rest of it: a replay of its own in the replays table.

    Attributes:
        replay_id: the id that its messages carry.
        entity_id, start_time, end_time: what was selected.
        include_duplicates: whether a duplicate arrival is a message too.
        after: sort key of its last line in the part before; empty when it begins in this one.
        ends: whether its last line is in this part.
    """

    replay_id: str
    entity_id: str
    start_time: str
    end_time: str
    include_duplicates: bool
    after: str
    ends: bool


@dataclass(frozen=True)
class Line:
    """One message: the window it belongs to (a position among the part's), and the events row it refers to."""

    window: int
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of a manifest."""

    windows: Sequence[Window]
    lines: Sequence[Line]

    def text(self) -> bytes:
        """Return it as JSON, always the same for the same part."""
        lines = [[line.window, *(line.row[name] for name in FIELDS)] for line in self.lines]
        windows = [asdict(window) for window in self.windows]
        whole = {"pik_manifest": FORMAT, "windows": windows, "fields": FIELDS, "lines": lines}
        return json.dumps(whole, separators=(",", ":")).encode()

    @classmethod
    def of(cls, text: bytes) -> Part:
        """Read what :meth:`text` wrote."""
        found = json.loads(text)
        lines = (Line(window, dict(zip(found["fields"], row, strict=True))) for window, *row in found["lines"])
        return cls(tuple(Window(**window) for window in found["windows"]), tuple(lines))

    def begins(self, at: int) -> bool:
        """Whether the window of the line at a position begins with it."""
        line = self.lines[at]
        return not self.windows[line.window].after and (at == 0 or self.lines[at - 1].window != line.window)

    def ends(self, at: int) -> bool:
        """Whether the window of the line at a position ends with it."""
        line = self.lines[at]
        last = at + 1 == len(self.lines) or self.lines[at + 1].window != line.window
        return last and self.windows[line.window].ends

    def before(self, at: int) -> str:
        """Sort key of the line before the one at a position, in the same window; empty when there is none."""
        line = self.lines[at]
        same = at > 0 and self.lines[at - 1].window == line.window
        return str(self.lines[at - 1].row["SK"]) if same else self.windows[line.window].after


def key(replay_id: str, digest: str, number: int) -> str:
    """Return where a part is kept. Whoever was killed before the run was begun is not in the way of another plan.

    >>> key("rp-1", "5c1e0d2f9ab4", 3)
    'manifests/rp-1/5c1e0d2f9ab4/00003.json.gz'
    """
    return f"{FOLDER}{replay_id}/{digest[:16]}/{number:05d}.json.gz"


def packed(text: bytes) -> bytes:
    """Return a part's JSON as it is kept."""
    return gzip.compress(text, mtime=0)


def unpacked(body: bytes) -> bytes:
    """Return the JSON that is kept; raise OSError, EOFError or zlib.error when it is none."""
    return gzip.decompress(body)


def sha256(text: bytes) -> str:
    """Return the hash by which the replays table knows a part: of its JSON, however that is packed."""
    return hashlib.sha256(text).hexdigest()


def selection_sha256(window: Window, digest: str) -> str:
    """Return what the window's replay id stands for: this selection, of the plan with this digest."""
    selected = [window.entity_id, window.start_time, window.end_time, window.include_duplicates]
    return events.sha256_json([*selected, digest])

"""What is read from an input, and what is sent of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_TEXT = 5_000_000  # bytes of one line, row or element that are held; larger than any body that is taken


class Trouble(NamedTuple):
    """Why something in the input is no event, as the ingest API says it: a stable code, a sentence, what to do."""

    code: str
    error: str
    do_this: str


class Record(NamedTuple):
    """One line, row or element of an input, as it stands there.

    ``text``: its bytes. ``row``: the cells by column, of a table. ``place``: where it is, when that is not a line.
    ``cut``: ``text`` is only the beginning of something larger than :data:`MAX_TEXT`. ``trouble``: it cannot be read.
    """

    number: int
    text: bytes
    row: Mapping[str, Any] | None = None
    place: str = ""
    cut: bool = False
    trouble: Trouble | None = None


class Item(NamedTuple):
    """One event to send: its place in the input (a line number where there are lines), and its exact bytes.

    ``cut``: the bytes are only the beginning of a line that is longer than any body; it stays in the input alone.
    ``place``: where it is, when that is more or other than a line's number. ``trouble``: why it is no event: then it is
    not sent. ``line``: the original, where the bytes sent are made from it.
    """

    number: int
    body: bytes
    cut: bool = False
    place: str = ""
    trouble: Trouble | None = None
    line: bytes = b""

    @property
    def where(self) -> str:
        """Where in the input it is, for people."""
        return self.place or f"line {self.number}"

    @property
    def original(self) -> bytes:
        """What stands in the input."""
        return self.line or self.body


def encode(event: Mapping[str, Any]) -> bytes:
    """Return the bytes that ``send`` sends for ``event``: compact JSON in UTF-8. Raises ValueError for NaN."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

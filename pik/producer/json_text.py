"""JSON as people have it in files: an event a line, an array, or values one after another. Read as a stream.

Bytes are handed on as they are. A value that is not JSON costs itself alone: brackets and quotes say where it ends.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO

from pik.items import MAX_TEXT, Record

_CHUNK = 1 << 20
# A string ends at its quote, or at the end of the line: JSON has no line end in strings, so one that is not closed
# costs one line. The group is there when the string is whole.
_STRING = rb'"(?:[^"\\\n]|\\[^\n])*+("|\\?\n)?'
_TOKEN = re.compile(_STRING + rb'|[\[\]{},]|[^\s"\[\]{},]+')
_WITHIN = re.compile(_STRING + rb"|[\[\]{}]")  # of a value nothing else says where it ends
_PAIRS = {b"]": b"[", b"}": b"{"}
_SINGLE = {b"[", b"]", b"{", b"}", b","}


def lines(stream: IO[bytes]) -> Iterator[Record]:
    """Yield the lines of a stream that are not empty, byte for byte, without the file's byte order mark."""
    number = 0
    while line := stream.readline(MAX_TEXT):
        number += 1
        body = line.removesuffix(b"\n").removesuffix(b"\r")
        if len(line) == MAX_TEXT and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_TEXT)) and not rest.endswith(b"\n"):
                pass  # a small archive can hold one line of many gigabytes: never hold a whole one
            yield Record(number, body, cut=True)
            continue
        if number == 1:
            body = body.removeprefix(codecs.BOM_UTF8)  # the file's, not the event's: RFC 8259 lets no JSON begin so
        if body.strip():
            yield Record(number, body)


def has_a_value_a_line(sample: bytes) -> bool:
    """Whether a stream that begins so holds a value on each line, and not an array or values over several lines."""
    text = sample.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"["):
        return False
    first, line_end, _ = text.partition(b"\n")
    try:
        json.loads(first)
    except json.JSONDecodeError as error:
        # An object that goes on in the next line is whole as far as it goes.
        return bool(line_end) and error.pos < len(first.rstrip().decode(errors="replace"))
    except (ValueError, RecursionError):
        pass
    return True


def values(stream: IO[bytes]) -> Iterator[Record]:
    """Yield the values of a stream, one after another, those of arrays at the top one by one.

    Elements of an array are named by their number, other values by the line that they begin in.
    """
    return iter(_Values(stream))


class _Values:
    """Cuts a stream of JSON values at their ends. Holds no more of a value than twice :data:`MAX_TEXT`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._data = stream.read(_CHUNK).removeprefix(codecs.BOM_UTF8)
        self._ended = False
        self._at = 0  # what is before it has been looked at
        self._start: int | None = None  # of the value that is under way
        self._cut = b""  # the beginning of that value, when it is too large
        self._brackets: list[bytes] = []  # open ones, without that of an array at the top
        self._in_array = False
        self._elements = 0
        self._line, self._counted = 1, 0  # the line of the byte at _counted

    def __iter__(self) -> Iterator[Record]:
        while (mark := self._next()) is not None:
            if self._start is None and not self._begins(mark):
                continue
            if self._ends(mark):
                yield self._record()
        if self._start is not None:  # the stream ends within it
            yield self._record()

    def _next(self) -> bytes | None:
        """Return the next token; None at the end."""
        while True:
            found = (_WITHIN if self._brackets else _TOKEN).search(self._data, self._at)
            if found and (self._ended or self._is_whole(found)):
                self._token, self._at = found.span()
                return found[0]
            if self._ended:
                self._at = len(self._data)
                return None
            self._read(found.start() if found else len(self._data))

    def _is_whole(self, found: re.Match[bytes]) -> bool:
        """Whether it cannot go on in what is not read yet."""
        if found[0].startswith(b'"'):
            return found[1] is not None
        return found[0] in _SINGLE or found.end() < len(self._data)

    def _read(self, pending: int) -> None:
        """Read on; forget what is done, and of a value that is too large all but its beginning."""
        self._at = pending
        if self._start is None and pending < len(self._data):
            self._start = pending
        self._forget(pending if self._start is None else self._start)
        if len(self._data) > MAX_TEXT:
            self._cut = self._cut or self._data[:MAX_TEXT]
            self._forget(self._at)
            if len(self._data) > MAX_TEXT:  # one string: it goes on after an escaped character, or after any other
                escaped = (len(self._data) - len(self._data.rstrip(b"\\"))) % 2
                self._data = self._data[:1] + b"\\" * escaped
        chunk = self._stream.read(_CHUNK)
        self._ended = not chunk
        self._data += chunk

    def _forget(self, end: int) -> None:
        self._count(end)
        self._data, self._at, self._counted = self._data[end:], max(0, self._at - end), 0
        self._start = None if self._start is None else 0

    def _count(self, end: int) -> int:
        if end > self._counted:
            self._line, self._counted = self._line + self._data.count(b"\n", self._counted, end), end
        return self._line

    def _begins(self, mark: bytes) -> bool:
        """Whether a value begins here; False for what stands between values."""
        if mark == b"[" and not self._in_array:
            self._in_array = True
            return False
        if mark in {b"]", b"}", b","}:
            self._in_array = self._in_array and mark != b"]"
            return False
        self._start = self._token
        return True

    def _ends(self, mark: bytes) -> bool:
        """Take one token of a value; return whether the value ends with it."""
        if mark in {b"[", b"{"}:
            self._brackets.append(mark)
        elif mark in _PAIRS:
            while self._brackets and self._brackets.pop() != _PAIRS[mark]:
                pass  # a bracket that nobody closed: it ends with the one around it
        elif mark.startswith(b'"') and mark.endswith(b"\n"):
            self._brackets.clear()  # a quote that nobody closed: what it would swallow is not given up for it
        return not self._brackets

    def _record(self) -> Record:
        start = self._start or 0
        text, cut = self._cut or self._data[start : self._at], bool(self._cut)
        line = self._count(start)
        self._start, self._cut = None, b""
        if not self._in_array:
            return Record(line, text, cut=cut)
        self._elements += 1
        return Record(self._elements, text, place=f"element {self._elements:,}", cut=cut)

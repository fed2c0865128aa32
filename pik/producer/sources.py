"""Where events come from: JSON lines, CSV, standard input, the flights. Read lazily, one event at a time.

A line of a JSON-lines file is handed on byte for byte, also when it is not JSON: what a producer sent is for the
pipeline to judge, and to keep aside as rejected. Only what cannot be *read* (no such file, a broken archive) is an
error here.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, NamedTuple

from pik.errors import UsageError
from pik.pipeline.strict_json import shown
from pik.producer.flights import FIRST_DAY, FLIGHT_COLUMNS, LAST_DAY, event_date, flight_event
from pik.project import FLIGHTS

EVENT_COLUMNS = ("source", "event_type", "entity_id", "event_time", "payload")
OPTIONAL_COLUMN = "idempotency_key"
_JSON_LINES = (".jsonl", ".ndjson")
_MAX_CELL = _MAX_LINE = 5_000_000  # bytes; larger than any body that is taken


class Item(NamedTuple):
    """One event to send: its place in the input (a line number where there are lines), and its exact bytes.

    ``cut``: the bytes are only the beginning of a line that is longer than any body; it stays in the input alone.
    """

    number: int
    body: bytes
    cut: bool = False


class Source:
    """One opened input: iterate over it once for its :class:`Item` s.

    >>> source = open_source("flights:2013-01-01")
    >>> next(iter(source)).number
    2
    """

    def __init__(self, name: str, path: Path | None, day: date | None = None) -> None:
        self.name = name
        self._path = path
        self._day = day
        self._raw: IO[bytes] | None = None
        self._fraction = 0.0

    def __iter__(self) -> Iterator[Item]:
        with self._open() as stream:
            if self._path is None or self._plain_suffix in _JSON_LINES:
                yield from _json_lines(stream)
            else:
                yield from _csv_rows(stream, self.name, self._day)
        self._fraction = 1.0

    @property
    def fraction(self) -> float | None:
        """How much of the input has been read, 0 to 1; None when that cannot be known (standard input)."""
        if self._path is None:
            return None
        with suppress(ValueError):  # closed in the meantime: what was known last
            if self._raw is not None:
                self._fraction = self._raw.tell() / max(1, self._path.stat().st_size)
        return self._fraction

    @property
    def _plain_suffix(self) -> str:
        return _plain_suffix(self._path) if self._path else ""

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        if self._path is None:
            yield sys.stdin.buffer
            return
        with self._path.open("rb") as raw:
            self._raw = raw
            try:
                if self._path.suffix == ".gz":
                    with gzip.open(raw) as stream:
                        yield io.BufferedReader(stream)
                else:
                    yield raw
            except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError, csv.Error) as error:
                raise UsageError(
                    f"{self.name} cannot be read to its end",
                    reason=f"{type(error).__name__}: {error}",
                    next_step="mend the file and send it again: what is stored already answers DUPLICATE",
                ) from error


def open_source(what: str) -> Source:
    """Open ``flights``, ``flights:2013-01-01``, a path (``.jsonl``, ``.ndjson``, ``.csv``, each also ``.gz``) or ``-``.

    Raises UsageError when there is no such thing or its format is not known. Nothing is read yet.
    """
    if what == "-":
        return Source("standard input", None)
    name, colon, day = what.partition(":")
    if name == "flights" and not Path(what).exists():
        return Source(what, FLIGHTS, _parse_day(what, day) if colon else None)
    path = Path(what).expanduser()
    if not path.is_file():
        near = get_close_matches(name, ["flights"])
        hint = f"did you mean {near[0]}?" if near else "give a file, 'flights', 'flights:2013-01-01' or '-'"
        raise UsageError(f"no such file or data set: {what}", next_step=hint)
    if _plain_suffix(path) not in (*_JSON_LINES, ".csv"):
        raise UsageError(
            f"{what}: not a format that is read",
            reason="one event a line (.jsonl, .ndjson) or a row (.csv), plain or .gz",
            next_step=f"an array of events? jq -c '.[]' {what} > {path.stem}.jsonl",
        )
    return Source(what, path)


def load(what: str) -> Iterator[dict[str, Any]]:
    """Yield the events of ``what`` (see :func:`open_source`) as dictionaries, lazily.

    Raises UsageError at the first item that is not a JSON object; ``send(open_source(...))`` sends those as they are.

    >>> next(load("flights:2013-01-01"))["event_type"]
    'flight.departed'
    """
    for number, body, _ in open_source(what):
        try:
            event = json.loads(body)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise UsageError(
                f"{what}, line {number}: not a JSON object",
                next_step="`pik ingest` sends such lines as they are; the pipeline keeps them aside as rejected",
            )
        yield event


def encode(event: Mapping[str, Any]) -> bytes:
    """Return the bytes that ``send`` sends for ``event``: compact JSON in UTF-8. Raises ValueError for NaN."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _plain_suffix(path: Path) -> str:
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def _parse_day(what: str, day: str) -> date:
    try:
        parsed = date.fromisoformat(day)
    except ValueError:
        raise UsageError(f"{what}: not a day", next_step="for example flights:2013-01-01") from None
    if not FIRST_DAY <= parsed <= LAST_DAY:
        raise UsageError(f"{what}: no flights", next_step=f"a day from {FIRST_DAY} to {LAST_DAY}")
    return parsed


def _json_lines(stream: IO[bytes]) -> Iterator[Item]:
    number = 0
    while line := stream.readline(_MAX_LINE):
        number += 1
        body = line.removesuffix(b"\n").removesuffix(b"\r")
        if len(line) == _MAX_LINE and not line.endswith(b"\n"):
            while (rest := stream.readline(_MAX_LINE)) and not rest.endswith(b"\n"):
                pass  # a small archive can hold one line of many gigabytes: never hold a whole one
            yield Item(number, body, cut=True)
            continue
        if number == 1:
            body = body.removeprefix(codecs.BOM_UTF8)  # the file's, not the event's: RFC 8259 lets no JSON begin so
        if body.strip():
            yield Item(number, body)


def _csv_rows(stream: IO[bytes], name: str, day: date | None) -> Iterator[Item]:
    csv.field_size_limit(max(_MAX_CELL, csv.field_size_limit()))
    with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text)
        header = next(rows, [])
        flights = set(FLIGHT_COLUMNS) <= set(header)
        if not flights and not set(EVENT_COLUMNS) <= set(header):
            missing = ", ".join(column for column in EVENT_COLUMNS if column not in header)
            raise UsageError(
                f"{name}: columns are missing: {missing}",
                reason=f"the first line has {', '.join(header) or 'nothing'}",
                next_step=f"name the columns {', '.join(EVENT_COLUMNS)} (optional: {OPTIONAL_COLUMN})",
            )
        if not flights:
            _refuse_foreign(header, name)
        for cells in rows:
            if not any(cells):
                continue
            if len(cells) != len(header):
                yield Item(rows.line_num, _as_csv(cells))  # not an event: let the pipeline keep it aside
                continue
            row = dict(zip(header, cells, strict=True))
            if not flights:
                yield Item(rows.line_num, _csv_event(row))
            elif day is None or event_date(row) == day.isoformat():
                yield Item(rows.line_num, encode(flight_event(row)))


def _refuse_foreign(header: list[str], name: str) -> None:
    """Raise UsageError for a column that no event has, or that is there twice: its values would be dropped."""
    known = (*EVENT_COLUMNS, OPTIONAL_COLUMN)
    foreign = [column for column in header if column not in known]
    if foreign:
        near = get_close_matches(foreign[0], known, n=1)
        raise UsageError(
            f"{name}: unknown columns: {', '.join(map(shown, foreign))}",
            reason="their values would not become part of any event",
            next_step=f"did you mean {near[0]}?" if near else "put them into payload, or take them out of the file",
        )
    twice = [column for column in known if header.count(column) > 1]
    if twice:
        raise UsageError(f"{name}: columns named twice: {', '.join(twice)}", next_step="name each column once")


def _csv_event(row: Mapping[str, str]) -> bytes:
    """Return the event of a row. Its payload is the cell's own JSON, character for character: numbers keep every digit.

    A cell that is not JSON stays text, which is not a payload: the pipeline keeps it aside as rejected.
    """
    cell = row["payload"]
    names = {name: row[name] for name in EVENT_COLUMNS[:-1]}
    if row.get(OPTIONAL_COLUMN):
        names[OPTIONAL_COLUMN] = row[OPTIONAL_COLUMN]
    return b'%b,"payload":%b}' % (
        encode(names)[:-1],
        cell.encode() if _is_json(cell) else json.dumps(cell, ensure_ascii=False).encode(),
    )


def _is_json(cell: str) -> bool:
    try:
        json.loads(cell, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _as_csv(cells: list[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue().encode()

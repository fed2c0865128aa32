"""What ``pik ingest`` and the rollout read: files of every usual kind, one event at a time, in bounded memory.

What stands in a file of JSON is handed on byte for byte, also when it is not JSON: what a producer sent is for the
pipeline to judge, and to keep aside as rejected. Only what cannot be *read* (no such file, a broken archive) is an
error here, and it comes after everything that can be read.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pik.environments import Environment
from pik.errors import UsageError
from pik.items import Item, Record, encode
from pik.pipeline.strict_json import shown
from pik.producer import inputs, json_text, tables
from pik.producer.flights import FIRST_DAY, FLIGHT_COLUMNS, LAST_DAY, event_date, flight_event
from pik.producer.inputs import CSV, FORMATS, JSON, JSON_LINES, PARQUET, Input
from pik.project import FLIGHTS
from pik.text import named

if TYPE_CHECKING:
    from pik.mappings.apply import Applied

__all__ = ["EVENT_COLUMNS", "Item", "Reading", "Source", "encode", "load", "open_source"]

EVENT_COLUMNS = ("source", "event_type", "entity_id", "event_time", "payload")
OPTIONAL_COLUMN = "idempotency_key"
_INTO_PAYLOAD = "put them into payload, or use a mapping (docs/mappings.md)"


@dataclass(frozen=True)
class Reading:
    """How to read, where it is given and not found out: a format, and a CSV file's delimiter and encoding."""

    format: str = ""
    delimiter: str = ""
    encoding: str = ""

    def __post_init__(self) -> None:
        if self.format and self.format not in FORMATS:
            raise UsageError(f"no such format: {named(self.format)}", next_step=f"one of {', '.join(FORMATS)}")
        if self.delimiter and len(self.delimiter) != 1:
            raise UsageError(f"the delimiter {self.delimiter!r} is not one character", next_step="such as ';' or tab")
        if self.encoding:
            try:
                "".encode(self.encoding)
            except (LookupError, UnicodeError):
                raise UsageError(f"no such encoding: {self.encoding}", next_step="utf-8, cp1252 or utf-16") from None


class Source:
    """One opened input, of one file or many: iterate over it for its :class:`Item` s.

    ``notes``: what was found out, such as a CSV file's delimiter; ``on_note`` is called with each as it is found.

    >>> source = open_source("flights:2013-01-01")
    >>> next(iter(source)).number
    2
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Input],
        reading: Reading | None = None,
        day: date | None = None,
        mapping: Applied | None = None,
    ) -> None:
        self.name = name
        self.mapping = mapping
        self.files = files
        self.notes: list[str] = []
        self.on_note: Callable[[str], None] | None = None
        self._reading = reading or Reading()
        self._day = day
        self._any_columns = False
        self._done = False

    def __iter__(self) -> Iterator[Item]:
        for file, record in self.records():
            yield from self.items(file, record)

    def items(self, file: Input, record: Record) -> Iterator[Item]:
        """Yield the events of one record, as they are sent."""
        for item in self.mapping.items(record) if self.mapping else self._own(record):
            yield item if len(self.files) == 1 else item._replace(place=f"{file.name} {item.where}")

    def records(self, *, any_columns: bool = False) -> Iterator[tuple[Input, Record]]:
        """Yield the lines, rows and elements as they stand in the files, each with its file.

        ``any_columns``: of tables whose rows are no events, too. Raises UsageError at the end when a file could not be
        read to its own.
        """
        self._any_columns = any_columns or self.mapping is not None
        self._done, broken = False, list[UsageError]()
        for file in self.files:
            try:
                with file.open() as stream:
                    for record in self._read(file, stream):
                        yield file, record
            except UsageError as error:
                broken.append(error)
            except inputs.BROKEN as error:
                broken.append(_torn(file, error))
        self._done = True
        if broken:
            if len(broken) > 1:
                broken[0].reason += f"; and {len(broken) - 1:,} more files"
            raise broken[0]

    @property
    def fraction(self) -> float | None:
        """How much of the input has been read, 0 to 1; None when that cannot be known (standard input)."""
        if any(file.size is None for file in self.files):
            return None
        size = sum(file.size or 0 for file in self.files)
        return 1.0 if self._done else min(1.0, sum(file.position for file in self.files) / max(1, size))

    @property
    def identity(self) -> list[Any]:
        """What changes when the input does, or how it is read."""
        mapping = self.mapping.mapping.digest if self.mapping else ""
        return [[file.identity for file in self.files], vars(self._reading), str(self._day), mapping]

    def note(self, text: str) -> None:
        """Say something that was found out about the input."""
        self.notes.append(text)
        if self.on_note:
            self.on_note(text)

    def _read(self, file: Input, stream: IO[bytes]) -> Iterator[Record]:
        kind = self._reading.format or file.format or _sniffed(file, stream)
        if kind == PARQUET:
            with file.seekable() as raw:
                yield from self._table(file, tables.parquet_columns(raw), tables.parquet_rows(raw))
        elif kind == CSV:
            with self._csv(file, stream) as (header, rows):
                yield from self._table(file, header, rows)
        elif kind == JSON_LINES:
            yield from json_text.lines(inputs.in_utf8(stream))
        else:
            text = inputs.in_utf8(stream)
            lines = json_text.has_a_value_a_line(inputs.peek(text))
            yield from json_text.lines(text) if lines else json_text.values(text)

    def _csv(self, file: Input, stream: IO[bytes]) -> AbstractContextManager[tuple[list[str], Iterator[Record]]]:
        sample = inputs.peek(stream)
        encoding = self._reading.encoding or tables.encoding_of(sample)
        text = sample.decode(encoding, errors="replace")
        delimiter = self._reading.delimiter or tables.delimiter_of(text, EVENT_COLUMNS)
        if (delimiter, encoding) not in {(",", "utf-8"), (",", "utf-8-sig")} and not (
            self._reading.delimiter and self._reading.encoding
        ):
            name = tables.DELIMITERS.get(delimiter, repr(delimiter))
            self.note(f"{file.name}: CSV, delimiter {name}, encoding {encoding} (else: --delimiter, --encoding)")
        return tables.open_csv(stream, encoding, delimiter)

    def _table(self, file: Input, header: list[str], rows: Iterator[Record]) -> Iterator[Record]:
        _refuse_repeats(header, file.name)
        if not self._any_columns and not set(FLIGHT_COLUMNS) <= set(header):
            _refuse_others(header, file.name)
        return rows

    def _own(self, record: Record) -> Iterator[Item]:
        row = record.row
        if row is None:  # JSON, or not a row: let the pipeline judge it, and keep it aside
            yield Item(record.number, record.text, record.cut, record.place)
        elif set(FLIGHT_COLUMNS) <= set(row):
            if self._day is None or event_date(row) == self._day.isoformat():
                yield Item(record.number, encode(flight_event(row)), place=record.place, line=record.text)
        else:
            yield Item(record.number, _row_event(row), place=record.place, line=record.text)


def open_source(
    what: str | Sequence[str],
    reading: Reading | None = None,
    mapping: Applied | None = None,
    environment: Environment | None = None,
) -> Source:
    """Open ``flights``, ``flights:2013-01-01``, a file, a folder, a pattern (``logs/*.json.gz``), ``s3://…`` or ``-``.

    Args:
        what: one of these, or several files, folders and patterns.
        reading: format, delimiter and encoding, where they are not to be found out.
        mapping: makes the events out of records of another shape.
        environment: whose credentials read objects in S3.

    Raises:
        UsageError: there is no such thing. Nothing is read yet.
    """
    names = [what] if isinstance(what, str) else list(what)
    if len(names) == 1 and (source := _flights(names[0])):
        source.mapping = mapping
        return source
    found = [inputs.find(name, environment) for name in names]
    files = [file for several, _ in found for file in several]
    source = Source(names[0] if len(names) == 1 else f"{len(files):,} files", files, reading, mapping=mapping)
    for _, notes in found:
        source.notes += notes
    return source


def _flights(what: str) -> Source | None:
    name, colon, day = what.partition(":")
    if name == "flights" and not Path(what).exists():
        files, _ = inputs.find(str(FLIGHTS))
        return Source(what, files, None, _parse_day(what, day) if colon else None)
    near = get_close_matches(name, ["flights"])
    if near and not Path(what).expanduser().exists():
        raise UsageError(f"no such file or data set: {what}", next_step=f"did you mean {near[0]}?")
    return None


def load(what: str) -> Iterator[dict[str, Any]]:
    """Yield the events of ``what`` (see :func:`open_source`) as dictionaries, lazily.

    Raises UsageError at the first item that is not a JSON object; ``send(open_source(...))`` sends those as they are.

    >>> next(load("flights:2013-01-01"))["event_type"]
    'flight.departed'
    """
    for item in open_source(what):
        try:
            event = json.loads(item.body)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise UsageError(
                f"{what}, {item.where}: not a JSON object",
                next_step="`pik ingest` sends such lines as they are; the pipeline keeps them aside as rejected",
            )
        yield event


def _sniffed(file: Input, stream: IO[bytes]) -> str:
    """Return the format of a file whose name promises none, or raise UsageError."""
    sample = inputs.peek(stream)
    if sample.startswith(b"PAR1"):
        return PARQUET
    if (file.path is None and file.remote is None) or not sample:
        return JSON
    text = sample.decode(tables.encoding_of(sample), errors="replace").lstrip("\ufeff").lstrip()
    if text[:1] in {"{", "["}:
        return JSON
    first = text.partition("\n")[0]
    if text.isprintable() or not any(ord(character) < 9 for character in text):
        if set(EVENT_COLUMNS) <= set(first.replace('"', "").split(tables.delimiter_of(text, EVENT_COLUMNS))):
            return CSV
        hint = "name it: --format " + "|".join(FORMATS)
    else:
        hint = "a spreadsheet? save it as CSV"
    raise UsageError(
        f"{file.name}: not a format that is known by its name or its first bytes",
        reason="read are JSON (an event a line, an array), CSV and Parquet, plain, gzip or zstd",
        next_step=hint,
    )


def _torn(file: Input, error: Exception) -> UsageError:
    return UsageError(
        f"{file.name} cannot be read to its end",
        reason=f"{type(error).__name__}: {error}",
        next_step="fix the file and send it again: events that are stored already are answered DUPLICATE",
    )


def _parse_day(what: str, day: str) -> date:
    try:
        parsed = date.fromisoformat(day)
    except ValueError:
        raise UsageError(f"{what}: not a day", next_step="for example flights:2013-01-01") from None
    if not FIRST_DAY <= parsed <= LAST_DAY:
        raise UsageError(f"{what}: no flights", next_step=f"a day from {FIRST_DAY} to {LAST_DAY}")
    return parsed


def _refuse_repeats(header: list[str], name: str) -> None:
    twice = list(dict.fromkeys(column for column in header if header.count(column) > 1))
    if twice:
        raise UsageError(f"{name}: columns named twice: {', '.join(twice)}", next_step="name each column once")


def _refuse_others(header: list[str], name: str) -> None:
    """Raise UsageError for columns that are missing, and for those that no event has: their values would be dropped."""
    missing = [column for column in EVENT_COLUMNS if column not in header]
    if missing:
        raise UsageError(
            f"{name}: columns are missing: {', '.join(missing)}",
            reason=f"the first line has {', '.join(map(shown, header)) or 'nothing'}",
            next_step=f"have a mapping of these columns proposed:\npik mapping infer {shlex.quote(name)}\nor name them "
            f"{', '.join(EVENT_COLUMNS)} (optional: {OPTIONAL_COLUMN})",
        )
    known = (*EVENT_COLUMNS, OPTIONAL_COLUMN)
    foreign = [column for column in header if column not in known]
    if foreign:
        near = get_close_matches(foreign[0], known, n=1)
        raise UsageError(
            f"{name}: unknown columns: {', '.join(map(shown, foreign))}",
            reason="their values would be lost: no event would have them",
            next_step=f"did you mean {near[0]}?"
            if near
            else "put them into payload, or use a mapping (docs/mappings.md)",
        )


def _row_event(row: Mapping[str, Any]) -> bytes:
    """Return the event of a row. Its payload is the cell's own JSON, character for character: numbers keep every digit.

    A cell that is not JSON stays text, which is not a payload: the pipeline keeps it aside as rejected.
    """
    cell = row["payload"]
    names = {name: row[name] for name in EVENT_COLUMNS[:-1]}
    if row.get(OPTIONAL_COLUMN):
        names[OPTIONAL_COLUMN] = row[OPTIONAL_COLUMN]
    payload = cell if isinstance(cell, str) and _is_json(cell) else json.dumps(cell, ensure_ascii=False)
    return b'%b,"payload":%b}' % (encode(names)[:-1], payload.encode())


def _is_json(cell: str) -> bool:
    try:
        json.loads(cell, parse_constant=_no_constant)
    except RecursionError:
        return True  # it is refused as too deep; as text it would be refused for being no object
    except ValueError:
        return False
    return True


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")

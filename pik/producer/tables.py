"""Tables as people have them: CSV in its dialects and encodings, and Parquet. Read as a stream, a row at a time."""

from __future__ import annotations

import base64
import codecs
import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import IO, Any

from pik.errors import UsageError
from pik.items import MAX_TEXT, Record, Trouble

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_WESTERN = "cp1252"  # what spreadsheets write that do not write UTF-8
_ROWS = 1000  # of a Parquet file, held at once


def encoding_of(sample: bytes) -> str:
    """Return the encoding of text that begins so: its byte order mark's, UTF-8 where it is that, else Windows-1252."""
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # may end within a character
    except UnicodeDecodeError:
        return _WESTERN
    return "utf-8"


def delimiter_of(text: str, wanted: tuple[str, ...] = ()) -> str:
    """Return the delimiter of CSV that begins so: the one by which most of the rows have as many cells as the header.

    ``wanted``: columns that settle it when the header has them all.

    >>> delimiter_of("id;name\\n1;a,b\\n")
    ';'
    """
    csv.field_size_limit(MAX_TEXT)
    best, delimiter = (False, 0.0, 1), ","
    for candidate in DELIMITERS:
        try:
            header, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=candidate))[:50]
        except (csv.Error, ValueError):
            continue
        whole = rows[:-1] or rows  # the last may be cut
        even = sum(len(row) == len(header) for row in whole) / max(1, len(whole))
        score = (bool(wanted) and set(wanted) <= set(header), even if len(header) > 1 else 0.0, len(header))
        if score > best:
            best, delimiter = score, candidate
    return delimiter


@contextmanager
def open_csv(stream: IO[bytes], encoding: str, delimiter: str) -> Iterator[tuple[list[str], Iterator[Record]]]:
    """Give the header of CSV and its rows, those that are not blank.

    A row that is none (too few cells, bytes that are not the encoding's, a quote without end) has its ``trouble``, and
    the next one is read. ``text`` is the row as it stands in the file, in UTF-8.
    """
    csv.field_size_limit(MAX_TEXT)
    text = io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="")
    try:
        lines = _Lines(text)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next(rows, [])
        except csv.Error as error:
            hint = "is it CSV? --format, --delimiter and --encoding say how to read it"
            raise UsageError("the first line names no columns", reason=str(error), next_step=hint) from None
        lines.take()
        yield header, _rows(rows, lines, header, encoding)
    finally:
        text.detach()  # the stream is closed by who opened it


def _rows(rows: Any, lines: _Lines, header: list[str], encoding: str) -> Iterator[Record]:
    while True:
        first, trouble, cells = rows.line_num + 1, None, list[str]()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            trouble = Trouble("bad_row", f"the row cannot be read: {error}", "look for a quote without its end")
        original = lines.take()
        if trouble is None and not any(cells):
            continue
        trouble = trouble or _trouble(cells, header, original, encoding)
        row = None if trouble else dict(zip(header, cells, strict=True))
        place = f"lines {first} to {rows.line_num}" if trouble and rows.line_num > first else ""
        yield Record(first, _utf8(original).rstrip(b"\r\n"), row, place, trouble=trouble)


class _Lines:
    """The lines of a text, with those taken since the last look remembered."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._taken: list[str] = []
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_TEXT)
        if not line:
            raise StopIteration
        if self._size < MAX_TEXT:  # the beginning of a row that never ends is enough
            self._taken.append(line)
            self._size += len(line)
        return line

    def take(self) -> str:
        """Return the text since the last call."""
        text, self._taken, self._size = "".join(self._taken), [], 0
        return text


def _trouble(cells: list[str], header: list[str], original: str, encoding: str) -> Trouble | None:
    if any("\ud800" <= character <= "\udfff" for character in original):
        return Trouble("bad_encoding", f"the row is not {encoding}", "name the file's encoding: --encoding NAME")
    if len(cells) != len(header):
        error = f"{len(cells):,} cells, and the header has {len(header):,}"
        return Trouble("bad_row", error, "put cells that hold the delimiter or a line end into quotes")
    return None


def _utf8(text: str) -> bytes:
    """Return text in UTF-8; what could not be decoded becomes its bytes again."""
    return text.encode("utf-8", "surrogateescape")


def parquet_rows(file: Any) -> Iterator[Record]:
    """Yield the rows of a Parquet file (something that can be read at any place), each as JSON of its cells by column.

    Times become RFC 3339 text, decimals text, bytes base64, NaN null: what JSON has no numbers for is no number.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        table = pq.ParquetFile(file)
        for batch in table.iter_batches(batch_size=_ROWS):
            columns = [_plain_column(column) for column in batch.columns]
            for cells in zip(*columns, strict=True):
                number += 1
                row = {name: _plain(cell) for name, cell in zip(batch.schema.names, cells, strict=True)}
                text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
                yield Record(number, text.encode("utf-8", "replace"), row, f"row {number:,}")
    except (pa.ArrowException, OSError) as error:
        raise UsageError(
            f"the Parquet file cannot be read after row {number:,}",
            reason=str(error).partition("\n")[0],
            next_step="write the file again and send it: events that are stored already are answered DUPLICATE",
        ) from error


def parquet_columns(file: Any) -> list[str]:
    """Return the names of a Parquet file's columns; raise UsageError when it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(file).names)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError("not a Parquet file", reason=reason, next_step="name its format: --format") from error


def _plain_column(column: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):  # Python's datetime ends at microseconds
        zone = "Z" if column.type.tz else ""
        utc = column.cast(pa.timestamp(column.type.unit, "UTC" if zone else None)).cast(pa.timestamp("ns"))
        return [value and value.replace(" ", "T") + zone for value in utc.cast(pa.string()).to_pylist()]
    found: list[Any] = column.to_pylist()
    return found


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_plain(below) for below in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value

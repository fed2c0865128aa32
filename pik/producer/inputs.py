"""Where bytes come from: files, folders, patterns, standard input; packed or not, whatever their names say."""

from __future__ import annotations

import codecs
import glob
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pik.environments import Environment
from pik.errors import UsageError
from pik.producer import s3_files
from pik.producer.s3_files import S3Object
from pik.text import named

SAMPLE = 1 << 16  # bytes that are looked at to tell a format
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_PACKED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")
JSON_LINES, JSON, CSV, PARQUET = "jsonl", "json", "csv", "parquet"
FORMATS = (JSON_LINES, JSON, CSV, PARQUET)
_SUFFIXES = {
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".json": JSON,
    ".csv": CSV,
    ".tsv": CSV,
    ".parquet": PARQUET,
    ".pq": PARQUET,
}


@dataclass
class Input:
    """One file, one object in S3 (``remote``), or standard input (neither); ``raw`` is the open file, when it is."""

    name: str
    path: Path | None
    size: int | None = None
    remote: S3Object | None = None
    raw: IO[bytes] | None = None
    read: int = 0

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open it, and unpack what is packed: the first bytes say so, not the name."""
        if self.path is None and self.remote is None:
            yield _unpacked(sys.stdin.buffer)
            return
        with self.seekable() as self.raw:
            try:
                yield _unpacked(self.raw)
            finally:
                self.read = self.position

    def seekable(self) -> IO[bytes]:
        """Open it as it is, packed or not, to be read at any place; raise UsageError for standard input."""
        if self.remote is not None:
            return self.remote.open()
        if self.path is None:
            reason = "its index is at its end, and standard input cannot be read twice"
            raise UsageError("Parquet is not read from standard input", reason=reason, next_step="save it to a file")
        return self.path.open("rb", buffering=SAMPLE)

    @property
    def format(self) -> str:
        """The format that its name promises."""
        return format_of(Path(self.remote.key) if self.remote else self.path)

    @property
    def position(self) -> int:
        """How many bytes of it have been read."""
        with suppress(ValueError):  # closed in the meantime
            if self.raw is not None:
                self.read = self.raw.tell()
        return self.read

    @property
    def identity(self) -> list[Any]:
        """What changes when the file does."""
        if self.remote is not None:
            return self.remote.identity
        if self.path is None:
            return [self.name]
        about = self.path.stat()
        return [str(self.path.resolve()), about.st_size, about.st_mtime_ns]


def find(what: str, environment: Environment | None = None) -> tuple[list[Input], list[str]]:
    """Return the files that ``what`` names: one, those of a folder, those of a pattern, or ``-``; and what to say.

    ``environment``: whose credentials read ``s3://…``. Raises UsageError when there is none.
    """
    if what == "-":
        return [Input("standard input", None)], []
    if what.startswith(s3_files.PREFIX):
        objects = s3_files.find(what, environment)
        notes = [f"{what}: {len(objects):,} objects"] if len(objects) > 1 else []
        return [Input(one.name, None, one.size, one) for one in objects], notes
    path = Path(what).expanduser()
    if what.strip() and path.is_dir():  # an empty name, as of an unset variable, is not the current folder
        return _folder(what, path)
    if path.exists() and not path.is_dir():
        return [_file(what, path)], []
    if any(character in what for character in "*?["):
        found = [
            _file(name, Path(name)) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()
        ]
        if found:
            return found, [f"{what}: {len(found):,} files"]
    raise UsageError(
        f"no such file or data set: {named(what)}",
        next_step="give a file, a folder, a pattern, 'flights', 'flights:2013-01-01' or '-'",
    )


def _folder(what: str, path: Path) -> tuple[list[Input], list[str]]:
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    taken = [_file(str(file), file) for file in files if format_of(file)]
    others = [file.name for file in files if not format_of(file)]
    if not taken:
        raise UsageError(
            f"{what}: there is no file of events",
            reason=f"a folder's files are known by their names: {', '.join(_SUFFIXES)}, plain or packed",
            next_step=f"name the file itself, such as {path / others[0]}" if others else "give another folder",
        )
    note = f"{what}: {len(taken):,} files"
    if others:
        more = ", …" if len(others) > 3 else ""
        note += f"; left out because of their names: {len(others):,} ({', '.join(others[:3])}{more})"
    return taken, [note]


def _file(name: str, path: Path) -> Input:
    size = path.stat().st_size if path.is_file() else None  # a named pipe has none
    return Input(name, path, size)


def format_of(path: Path | None) -> str:
    """Return the format that a file's name promises, in any case of letters; empty when it promises none."""
    if path is None:
        return ""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED_SUFFIXES:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1], "") if suffixes else ""


def peek(stream: IO[bytes]) -> bytes:
    """Return the first bytes of a stream, which stay in it."""
    return stream.peek(SAMPLE)[:SAMPLE] if isinstance(stream, io.BufferedReader) else b""


def _unpacked(raw: Any) -> IO[bytes]:
    stream = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)
    kind = next((kind for mark, kind in _PACKED.items() if stream.peek(4).startswith(mark)), "")
    if kind == "gzip":
        stream = io.BufferedReader(gzip.GzipFile(fileobj=stream), SAMPLE)
    elif kind == "zstd":
        import pyarrow as pa  # Python has a reader of its own from 3.14 on

        stream = io.BufferedReader(pa.CompressedInputStream(stream, "zstd"), SAMPLE)
    return stream


def in_utf8(stream: IO[bytes]) -> IO[bytes]:
    """Return JSON text in UTF-8: what begins with a byte order mark of UTF-16 is turned into it."""
    if peek(stream)[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return stream
    return io.BufferedReader(_Recoded(stream), SAMPLE)


class _Recoded(io.RawIOBase):
    """UTF-16 as UTF-8."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-16")()
        self._left = b""
        self._ended = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; return how far."""
        while not self._left and not self._ended:
            chunk = self._stream.read(SAMPLE)
            self._ended = not chunk
            self._left = self._decoder.decode(chunk, final=self._ended).encode("utf-8", "replace")
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


# What a reader raises for a file that is torn, or not what it seems.
BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, UnicodeError, OSError)

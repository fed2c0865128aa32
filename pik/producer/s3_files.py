"""Objects in S3 as files: read in pieces, at any place, with the credentials of an environment."""

from __future__ import annotations

import fnmatch
import io
import os
from dataclasses import dataclass
from typing import Any

from pik.environments import Environment
from pik.errors import UsageError

PREFIX = "s3://"
_PIECE = 8_000_000  # bytes of a request


@dataclass(frozen=True)
class S3Object:
    """One object, as a listing told of it."""

    client: Any
    bucket: str
    key: str
    size: int
    etag: str

    @property
    def name(self) -> str:
        """Its address."""
        return f"{PREFIX}{self.bucket}/{self.key}"

    @property
    def identity(self) -> list[Any]:
        """What changes when the object does."""
        return [self.name, self.size, self.etag]

    def open(self) -> io.BufferedReader:
        """Open it for reading, at any place."""
        return io.BufferedReader(_Reader(self), 1 << 16)


class _Reader(io.RawIOBase):
    """Reads an object piece by piece; an object that changes meanwhile is refused by S3 (If-Match)."""

    def __init__(self, found: S3Object) -> None:
        self._found = found
        self._at = 0
        self._piece, self._piece_at = b"", 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; nothing is read."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._found.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; return how far, 0 at the end."""
        if self._at >= self._found.size:
            return 0
        if not self._piece_at <= self._at < self._piece_at + len(self._piece):
            last = min(self._at + _PIECE, self._found.size) - 1
            answer = self._found.client.get_object(
                Bucket=self._found.bucket,
                Key=self._found.key,
                Range=f"bytes={self._at}-{last}",
                IfMatch=self._found.etag,
            )
            self._piece, self._piece_at = answer["Body"].read(), self._at
        start = self._at - self._piece_at
        part = self._piece[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def find(what: str, environment: Environment | None) -> list[S3Object]:
    """Return the objects that ``s3://bucket/key`` names: one, those below a prefix (``…/``), those of a pattern.

    Raises UsageError when there is none.
    """
    if environment is None:
        raise UsageError(
            f"{what}: no environment is named, so there are no credentials", next_step="name the environment: --env"
        )
    bucket, _, key = what.removeprefix(PREFIX).partition("/")
    client = environment.client("s3")
    pattern = any(character in key for character in "*?[")
    prefix = key[: min(key.find(c) for c in "*?[" if c in key)] if pattern else key
    found = []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            one = S3Object(client, bucket, item["Key"], item["Size"], item["ETag"])
            if one.key == key and not key.endswith("/"):
                return [one]
            below = not key or key.endswith("/")
            if not one.key.endswith("/") and (fnmatch.fnmatchcase(one.key, key) if pattern else below):
                found.append(one)
    if not found:
        raise UsageError(f"no such object: {what}", next_step="s3://bucket/key, s3://bucket/folder/ or a pattern")
    return found

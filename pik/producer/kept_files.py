"""What a run of ``send`` leaves on disk: what was not delivered, what is no event, and how far it came."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pik import project
from pik.errors import UsageError
from pik.items import Item
from pik.producer.delivery import Outcome

_SAVE_SECONDS = 1.0


class Lines:
    """A file of lines, made when the first is written, for its owner alone. Safe to use from many threads."""

    def __init__(self, path: Path | None, folder: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%fZ")
        self.path = path or project.STATE / folder / f"{stamp}.jsonl"
        self.written = 0
        self._lock = threading.Lock()
        self._file: Any = None

    @property
    def name(self) -> str | None:
        """The path, when there is such a file."""
        return str(self.path) if self.written else None

    def write(self, line: bytes) -> None:
        """Add a line."""
        with self._lock:
            if self._file is None:
                project.private_folder(self.path.parent)
                self._file = project.private_file(self.path, "wb")
            self._file.write(line + b"\n")
            self._file.flush()
            self.written += 1

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def one_line(body: bytes) -> bytes:
    """Return a body as a line of the file of what was not delivered, which can be sent again.

    In JSON a line end stands between values only, so a space says the same; reading and writing it anew would change
    numbers that a double cannot hold.
    """
    return body.replace(b"\n", b" ").replace(b"\r", b" ")


def reject_line(item: Item, outcome: Outcome) -> bytes:
    """Return what the rejects file says of an item: where it stands, why it is no event, and the original."""
    answer = outcome.answer
    reasons = {name: str(answer.get(name) or "") for name in ("code", "error", "do_this", "rejected_id")}
    try:
        original = {"line": item.original.decode()}
    except UnicodeDecodeError:
        original = {"line_hex": item.original.hex()}  # not UTF-8, and kept as it is
    return json.dumps({"place": item.where, **reasons, **original}, ensure_ascii=False).encode("utf-8", "replace")


class Checkpoint:
    """How far an input has been sent, on disk, so that the rest can be sent without sending anything again.

    Everything up to ``done`` is settled, and so is what is in ``beyond``; ``failed`` is to be sent again.
    """

    def __init__(self, path: Path | None, identity: Any) -> None:
        self._path = path
        self._identity = identity
        self._lock = threading.Lock()
        self._done = 0
        self._beyond: set[int] = set()
        self._failed: set[int] = set()
        self._saved = time.monotonic()

    @classmethod
    def of(cls, name: str, identity: Any, *, resume: bool) -> Checkpoint:
        """Return the state of sending an input, new or (``resume``) where an earlier run stopped; raise UsageError."""
        key = hashlib.sha256(json.dumps([name, os.getcwd()]).encode()).hexdigest()[:16]
        checkpoint = cls(project.STATE / "ingest" / f"{key}.json", json.loads(json.dumps(identity)))
        if resume:
            checkpoint._load(name)
        return checkpoint

    def _load(self, name: str) -> None:
        again = "send it without --resume: events that are stored already are answered DUPLICATE"
        try:
            known = json.loads(self._path.read_bytes()) if self._path else {}
        except FileNotFoundError:
            reason = "the input was sent to its end, or was never begun"
            raise UsageError(f"there is nothing to resume for {name}", reason=reason, next_step=again) from None
        if known.get("identity") != self._identity:
            reason = "the input, how it is read, or the environment's API has changed since"
            raise UsageError(f"{name} cannot be resumed", reason=reason, next_step=again)
        self._done, self._beyond, self._failed = known["done"], set(known["beyond"]), set(known["failed"])

    def is_done(self, ordinal: int) -> bool:
        """Whether an item, counted from 1, was settled by an earlier run."""
        return (ordinal <= self._done or ordinal in self._beyond) and ordinal not in self._failed

    def settle(self, ordinal: int, *, failed: bool) -> None:
        """Note that an item has its answer, or (``failed``) none."""
        with self._lock:
            (self._failed.add if failed else self._failed.discard)(ordinal)
            if ordinal > self._done:
                self._beyond.add(ordinal)
            while self._done + 1 in self._beyond:
                self._done += 1
                self._beyond.discard(self._done)
            if time.monotonic() - self._saved > _SAVE_SECONDS:
                self._save()

    def close(self, *, finished: bool) -> None:
        """Write where to go on; or, when everything is settled, nothing."""
        with self._lock:
            if self._path and finished and not self._failed:
                self._path.unlink(missing_ok=True)
            elif self._done or self._beyond or self._failed:
                self._save()

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self._path is None:
            return
        state = {"identity": self._identity, "done": self._done, "beyond": sorted(self._beyond)}
        fresh = self._path.with_suffix(f".{os.getpid()}.new")  # another run over the same file may save its own
        with suppress(OSError):  # a full disk: going on from an earlier place is safe
            project.private_folder(self._path.parent)
            with project.private_file(fresh) as file:
                json.dump({**state, "failed": sorted(self._failed)}, file)
            fresh.replace(self._path)

"""What is wrong with a ledger: pure, from the records as they lie in the bucket."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from pik.errors import UsageError
from pik.events import parse_time
from pik.ledger.entry import FIRST, RECEIPT_DIGITS, Entry, Link, link_after, parse
from pik.ledger.kinds import Meaningful

#: AWS refuses what is signed by a clock that is further off than this.
CLOCK = timedelta(minutes=15)
_RECEIPT = re.compile(rf"(?:ledger entry )?(\d{{1,8}})(?::| · )([0-9a-f]{{{RECEIPT_DIGITS},64}})…?")


class Flaw(Meaningful):
    """What can be wrong; ``meaning`` says what has happened then."""

    MISSING = "missing", "a record was removed"
    DELETED = "deleted", "somebody deleted the record; an older version still holds it"
    REWRITTEN = "rewritten", "somebody wrote over the record; its oldest version is the original"
    ALTERED = "altered", "the content was changed after the record was written"
    UNCHAINED = "unchained", "this record, or the one before it, was replaced after it was written"
    MISPLACED = "misplaced", "the record was written for another number or another environment, and copied here"
    BACKWARDS = "backwards", "the time in this record, or in the one before it, is not the time when it was written"
    REDATED = "redated", "the record was not written at the time in it: records were rewritten, or a clock was wrong"
    UNREADABLE = "unreadable", "the record was damaged, or it was not written by this kit"
    STRAY = "stray", "an object that is no record lies among the records"
    UNPROTECTED = "unprotected", "records can be replaced without leaving a trace"
    EVIDENCE_MISSING = "evidence missing", "a file of the record's evidence was removed"
    EVIDENCE_ALTERED = "evidence altered", "a file of the record's evidence is not the file that was recorded"
    RECEIPT = "receipt", "the receipt's record was removed, or written again after the receipt was printed"


@dataclass(frozen=True)
class LedgerProblem:
    """One thing that is wrong: with which entry (None: with the ledger as a whole), and what was seen."""

    flaw: Flaw
    number: int | None
    seen: str

    def __str__(self) -> str:
        where = "the ledger" if self.number is None else f"entry {self.number}"
        return f"{where}: {self.seen}: {self.flaw.meaning}"

    def as_dict(self) -> dict[str, str | int | None]:
        """Return it as one JSON-able object."""
        return {"entry": self.number, "problem": str(self.flaw), "seen": self.seen, "means": self.flaw.meaning}


@dataclass(frozen=True)
class StoredRecord:
    """A record as it lies in the bucket: ``number`` is its key's, ``body`` None when its newest version is a deletion.

    ``versions`` counts those with bytes, ``markers`` the deletions; ``stored`` is when S3 took the newest version.
    """

    number: int
    body: bytes | None
    stored: datetime
    versions: int = 1
    markers: int = 0

    @cached_property
    def read(self) -> tuple[Entry | None, str]:
        """The entry and the hash that its content has; without an entry, None and why."""
        try:
            entry = parse(self.body or b"")
            return entry, entry.computed_hash()  # which fails for what JSON can hold and canonical JSON cannot
        except (ValueError, RecursionError) as error:
            return None, str(error)

    @property
    def entry(self) -> Entry | None:
        """The entry that it holds, whatever its hash is worth."""
        return self.read[0]


@dataclass(frozen=True)
class LedgerPlace:
    """Which environment a ledger belongs to."""

    environment: str
    stack: str
    account: str


def entries(records: Iterable[StoredRecord]) -> list[Entry]:
    """Return the entries that can be read, in order."""
    return [record.entry for record in records if record.entry]


def problems(place: LedgerPlace, records: Sequence[StoredRecord]) -> tuple[LedgerProblem, ...]:
    """Return everything that is wrong with the records of a ledger, in their order."""
    found: list[LedgerProblem] = []
    before: StoredRecord | None = None
    for record in sorted(records, key=lambda record: record.number):
        found += _gap(before.number if before else 0, record.number)
        found += _of_versions(record)
        found += _of_content(place, record)
        found += _of_order(before, record)
        before = record
    return tuple(found)


def of_evidence(found: Iterable[Entry], hashes: Mapping[str, str | None]) -> Iterator[LedgerProblem]:
    """Yield what is wrong with the evidence of entries; ``hashes`` are those of the files that are there, by key."""
    for entry in found:
        for link in entry.links:
            actual = hashes.get(link.key)
            if actual is None:
                yield LedgerProblem(Flaw.EVIDENCE_MISSING, entry.number, f"{link.key} is not there")
            elif actual != link.sha256:
                yield LedgerProblem(Flaw.EVIDENCE_ALTERED, entry.number, _differs(link, actual))


def _differs(link: Link, actual: str) -> str:
    return f"{link.key} has SHA-256 {actual[:RECEIPT_DIGITS]}…, recorded {link.sha256[:RECEIPT_DIGITS]}…"


def of_receipt(found: Iterable[Entry], receipt: str) -> tuple[LedgerProblem, ...]:
    """Return what is wrong with a ledger for somebody who has a receipt: it must still have that entry.

    Because each entry holds the hash of the one before, a receipt vouches for everything up to its entry.

    Raises:
        UsageError: it is no receipt, or too short a part of one to prove anything.
    """
    match = _RECEIPT.fullmatch(receipt.strip())
    if match is None:
        raise UsageError(
            f"not a receipt: {receipt}",
            reason=f"a receipt is a number and at least {RECEIPT_DIGITS} digits of a hash; fewer could be forged",
            next_step="as in --receipt 118:9f3c2a41d0b7e55c; this prints it in full:\npik ledger show 118",
        )
    number, digest = int(match[1]), match[2]
    entry = next((entry for entry in found if entry.number == number), None)
    if entry is None:
        return (LedgerProblem(Flaw.RECEIPT, number, "there is no such entry any more"),)
    if not entry.hash.startswith(digest):
        return (
            LedgerProblem(Flaw.RECEIPT, number, f"its hash is {entry.hash[:RECEIPT_DIGITS]}…, the receipt's {digest}"),
        )
    return ()


def _gap(before: int, number: int) -> Iterator[LedgerProblem]:
    for missing in range(before + 1, number)[:10]:
        yield LedgerProblem(Flaw.MISSING, missing, "there is no such record")
    if number - before > 11:
        yield LedgerProblem(
            Flaw.MISSING, None, f"{number - before - 11} more before entry {number} are not there either"
        )


def _of_versions(record: StoredRecord) -> Iterator[LedgerProblem]:
    if record.markers:
        hidden = "a deletion hides it" if record.body is None else "it was deleted and written anew"
        yield LedgerProblem(Flaw.DELETED, record.number, hidden)
    if record.versions > 1:
        yield LedgerProblem(Flaw.REWRITTEN, record.number, f"it has {record.versions} versions, not one")
    if record.body is None and not record.markers:
        yield LedgerProblem(Flaw.MISSING, record.number, "it is listed and cannot be read")


def _of_content(place: LedgerPlace, record: StoredRecord) -> Iterator[LedgerProblem]:
    (entry, computed), number = record.read, record.number
    if entry is None:
        if record.body is not None:
            yield LedgerProblem(Flaw.UNREADABLE, number, f"it cannot be read ({computed})")
        return
    if computed != entry.hash:
        yield LedgerProblem(Flaw.ALTERED, number, "its hash is not that of its content")
    elif entry.to_bytes() != record.body:
        yield LedgerProblem(Flaw.ALTERED, number, "its bytes are not those that the kit writes")
    if entry.number != number:
        yield LedgerProblem(Flaw.MISPLACED, number, f"it says that it is entry {entry.number}")
    for name, wanted in vars(place).items():
        if getattr(entry, name) != wanted:
            yield LedgerProblem(Flaw.MISPLACED, number, f"its {name} is {getattr(entry, name)}, here it is {wanted}")
    apart = record.stored - parse_time(entry.time)
    if abs(apart) > CLOCK:
        yield LedgerProblem(Flaw.REDATED, number, f"S3 took it {_minutes(apart)} than it says")


def _of_order(before: StoredRecord | None, record: StoredRecord) -> Iterator[LedgerProblem]:
    """Compare an entry with the one before, where both are there."""
    entry, number = record.entry, record.number
    if entry is None or number != (before.number if before else 0) + 1:
        return
    if before is None:
        if entry.previous != FIRST:
            yield LedgerProblem(Flaw.UNCHAINED, number, "it is not chained to nothing, as the first entry is")
        return
    if before.body is None:
        return
    if entry.previous != link_after(before.body):
        yield LedgerProblem(Flaw.UNCHAINED, number, f"its previous hash is not that of entry {before.number}")
    if before.entry:
        apart = parse_time(entry.time) - parse_time(before.entry.time)
        if apart < -2 * CLOCK:  # two clocks, each as wrong as AWS allows
            yield LedgerProblem(Flaw.BACKWARDS, number, f"its time is {_minutes(apart)} than entry {before.number}'s")


def _minutes(apart: timedelta) -> str:
    minutes = round(abs(apart).total_seconds() / 60)
    return f"{minutes} minutes {'later' if apart > timedelta() else 'earlier'}"

"""Read the ledger: its entries in order, what is wrong with it, and what was verified since the last change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pik import project
from pik.aws.guard import Place
from pik.aws.stack import aws_errors
from pik.environments import Environment
from pik.errors import CheckFailed, UsageError
from pik.ledger import problems as wrong
from pik.ledger.entry import FOLDER, Entry, key, number_of
from pik.ledger.kinds import CHANGES, Kind
from pik.ledger.problems import Flaw, LedgerPlace, LedgerProblem, StoredRecord
from pik.ledger.store import LedgerStore, locate

if TYPE_CHECKING:
    import pandas as pd

Kinds = Kind | Collection[Kind] | None


@dataclass(frozen=True)
class Ledger:
    """The entries of one environment, oldest first, and everything that is wrong with them.

    Example:
        >>> ledger = read(environment("staging"))                                     # doctest: +SKIP
        >>> ledger.verification("replay")                                             # doctest: +SKIP
        Entry(number=117, …)
    """

    environment: str
    entries: tuple[Entry, ...] = field(repr=False)
    problems: tuple[LedgerProblem, ...]

    def select(self, *, kind: Kinds = None, phase: str | None = None, after: int = 0) -> tuple[Entry, ...]:
        """Return the entries of one kind (or some), of one phase, and with a higher number than ``after``."""
        kinds = {kind} if isinstance(kind, Kind) else set(kind or Kind)
        return tuple(
            entry
            for entry in self.entries
            if entry.kind in kinds and entry.number > after and phase in (None, entry.phase)
        )

    def last(self, *, kind: Kinds = None, phase: str | None = None, after: int = 0) -> Entry | None:
        """Return the newest of what :meth:`select` returns, or None."""
        found = self.select(kind=kind, phase=phase, after=after)
        return found[-1] if found else None

    @cached_property
    def changes(self) -> tuple[Entry, ...]:
        """The entries that changed the environment (deploy, promotion, rollback).

        Left out is an attempt whose end says that it changed nothing, with the entry of its beginning.
        """
        found = self.select(kind=CHANGES)
        idle = {entry.number: entry for entry in found if entry.predicate.get("changed") is False}
        begun = {(entry.kind, entry.predicate.get("begun")) for entry in idle.values()}
        return tuple(
            entry
            for entry in found
            if entry.number not in idle
            and not (entry.predicate.get("state") == "begun" and (entry.kind, entry.number) in begun)
        )

    @property
    def change(self) -> Entry | None:
        """The newest entry that changed the environment, or None."""
        return self.changes[-1] if self.changes else None

    @property
    def unfinished(self) -> Entry | None:
        """The beginning of a change whose end nobody recorded, or None: it goes on, or whoever made it was killed."""
        change = self.change
        return change if change and change.predicate.get("state") == "begun" else None

    def verification(self, phase: str) -> Entry | None:
        """Return the newest verification of a phase since the last change, whatever its verdict, or None."""
        change = self.change
        return self.last(kind=Kind.VERIFICATION, phase=phase, after=change.number if change else 0)

    def entry(self, number: int) -> Entry:
        """Return one entry; raise UsageError when there is none of that number."""
        found = next((entry for entry in self.entries if entry.number == number), None)
        if found is None:
            there = f"1 to {self.entries[-1].number}" if self.entries else "none yet"
            raise UsageError(
                f"there is no entry {number} in the ledger of {self.environment}",
                reason=f"entries: {there}",
                next_step=f"pik ledger list --env {self.environment}",
            )
        return found

    def flaws(self, number: int) -> tuple[LedgerProblem, ...]:
        """Return what is wrong with one entry."""
        return tuple(problem for problem in self.problems if problem.number == number)

    def against(self, receipt: str) -> tuple[LedgerProblem, ...]:
        """Return what is wrong for the holder of a receipt (``118:9f3c…``); raise UsageError when it is none."""
        return wrong.of_receipt(self.entries, receipt)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The entries as :data:`pik.frames.LEDGER`; ``df.attrs["problems"]`` has a sentence for each."""
        from pik import frames

        columns = ("number", "time", "kind", "verdict", "phase", "sentence", "by", "run", "hash")
        rows: list[dict[str, Any]] = [
            {name: getattr(entry, name) or None for name in columns}
            | {"kind": str(entry.kind)}
            | {name: entry.digest(name) or None for name in ("template", "code")}
            for entry in self.entries
        ]
        return frames.frame(frames.LEDGER, rows, problems=[str(problem) for problem in self.problems])


def read(
    environment: Environment,
    *,
    evidence: bool | Callable[[Ledger], Iterable[Entry]] = False,
    place: Place | None = None,
) -> Ledger:
    """Return the environment's ledger, verified.

    Args:
        environment: whose.
        evidence: verify the files that the entries stand on as well: each is read. A function: only the files of the
            entries that it returns.
        place: what the guard found at the beginning of the command; by default the guard is asked.

    Raises:
        AwsError: there is no ledger, or AWS refused or did not answer.
        Refused: what answers is another environment.
    """
    where = locate(environment, place)
    records, stray = _records(where)
    found = tuple(wrong.entries(records))
    problems = [*stray, *_protection(where)]
    problems += wrong.problems(LedgerPlace(environment.name, where.stack, where.account), records)
    book = Ledger(environment.name, found, tuple(problems))
    if not evidence:
        return book
    chosen = tuple(evidence(book)) if callable(evidence) else found
    return replace(book, problems=(*book.problems, *wrong.of_evidence(chosen, _hashes(where, chosen))))


def verify(environment: Environment, *, receipt: str = "") -> tuple[LedgerProblem, ...]:
    """Return everything that is wrong with an environment's ledger and its evidence; nothing when it is as recorded.

    Args:
        environment: whose.
        receipt: what was printed when something was recorded: the ledger must still have that entry.

    Raises:
        UsageError: that is no receipt.
        AwsError, Refused: as :func:`read`.
    """
    ledger = read(environment, evidence=True)
    return ledger.problems + (ledger.against(receipt) if receipt else ())


def fetch(environment: Environment, entry: Entry, folder: Path) -> list[Path]:
    """Write the evidence of an entry to a folder, each file verified first, and return their paths.

    Raises:
        UsageError: the folder cannot be written to.
        CheckFailed: a file is missing or not the one that was recorded; it is not written, the others are.
        AwsError: AWS refused or did not answer.
    """
    where = locate(environment)
    with _writing(folder):
        project.private_folder(folder)  # also for nothing: that it is empty is an answer
    written, bad = [], []
    for link in entry.links:
        body = where.get(link.key)
        if body is None or hashlib.sha256(body).hexdigest() != link.sha256:
            bad.append(f"{link.key} {'is missing' if body is None else 'is not the file that was recorded'}")
            continue
        with _writing(folder / link.name):
            written.append(folder / link.name)
            written[-1].write_bytes(body)
    if bad:
        raise CheckFailed(
            f"entry {entry.number}: {len(bad)} of {len(entry.links)} files are missing or changed",
            reason="; ".join(bad),
            next_step=f"pik ledger verify --env {environment.name}",
        )
    return written


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written", reason=str(error.strerror), next_step="--out FOLDER") from None


def _records(where: LedgerStore) -> tuple[list[StoredRecord], list[LedgerProblem]]:
    """Return the records, and what lies among them that is none."""
    from pik.aws.objects import Objects

    listed: dict[int, list[dict[str, Any]]] = {}
    stray: dict[str, LedgerProblem] = {}
    for version in _versions(where, FOLDER):
        number = number_of(version["Key"])
        if number is None:
            stray[version["Key"]] = LedgerProblem(Flaw.STRAY, None, f"{version['Key']} is there")
        else:
            listed.setdefault(number, []).append(version)
    there = [number for number, found in listed.items() if not _newest(found)["deleted"]]
    bodies = Objects(where.environment, where.bucket).many(map(key, there), lambda _, found: found and found.body)
    content = dict(zip(there, bodies, strict=True))
    records = [
        StoredRecord(
            number=number,
            body=content.get(number),
            stored=_newest(found)["LastModified"],
            versions=sum(not version["deleted"] for version in found),
            markers=sum(version["deleted"] for version in found),
        )
        for number, found in sorted(listed.items())
    ]
    return records, list(stray.values())


def _newest(found: list[dict[str, Any]]) -> dict[str, Any]:
    return next((version for version in found if version["IsLatest"]), found[0])


def _versions(where: LedgerStore, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield every version and every deletion of every object below a prefix."""
    with aws_errors(where.environment, "list the ledger's versions"):
        pages = where.environment.client("s3").get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=where.bucket, Prefix=prefix):
            yield from ({**version, "deleted": False} for version in page.get("Versions", []))
            yield from ({**marker, "deleted": True} for marker in page.get("DeleteMarkers", []))


def _protection(where: LedgerStore) -> Iterator[LedgerProblem]:
    with aws_errors(where.environment, "ask whether the evidence bucket keeps versions"):
        state = where.environment.client("s3").get_bucket_versioning(Bucket=where.bucket).get("Status", "off")
    if state != "Enabled":
        yield LedgerProblem(Flaw.UNPROTECTED, None, f"versioning of its bucket is {state.lower()}")


def _hashes(where: LedgerStore, found: tuple[Entry, ...]) -> dict[str, str | None]:
    from pik.aws.objects import Object, Objects

    def hashed(_: str, file: Object | None) -> str | None:
        return hashlib.sha256(file.body).hexdigest() if file else None

    keys = list(dict.fromkeys(link.key for entry in found for link in entry.links))
    return dict(zip(keys, Objects(where.environment, where.bucket).many(keys, hashed), strict=True))

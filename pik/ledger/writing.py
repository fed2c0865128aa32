"""Append to the ledger: the evidence first, then the record that names it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pik import events, provenance
from pik.aws.guard import Place
from pik.environments import Environment
from pik.errors import AwsError, PikError
from pik.ledger import store
from pik.ledger.entry import LAST_NUMBER, Entry
from pik.ledger.kinds import Kind
from pik.ledger.statement import Subjects, statement
from pik.ledger.store import File, LedgerStore
from pik.pipeline.backoff import backoff

_ATTEMPTS = 40  # each means that another writer got the number first
_JSON = "application/json"


def append(
    environment: Environment,
    kind: Kind,
    *,
    subjects: Subjects,
    predicate: Mapping[str, Any],
    evidence: Iterable[File] = (),
    place: Place | None = None,
) -> Entry:
    """Append an entry to the environment's ledger and return it.

    Args:
        environment: where it happened, and where it is recorded.
        kind: what it was.
        subjects: what it is about (:func:`pik.ledger.subjects`); at least one.
        predicate: what is said about them. ``sentence``, ``verdict``, ``phase`` and ``run`` are read by lists and
            frames; ``evidence`` is added here. What canonical JSON cannot hold becomes text.
        evidence: files (name, bytes or path, media type) that are stored first, below ``evidence/<run>/``.
        place: what the guard found at the beginning of the command; by default the guard is asked.

    Raises:
        AwsError: there is no ledger (nothing deployed, or a template without an evidence bucket), or AWS refused or did
            not answer.
        Refused: what answers is another environment.
        ValueError: no subjects, digests that are none, or a predicate that brings its own ``evidence``.

    Example:
        >>> print(append(env, Kind.DEPLOY, subjects=about, predicate={"phase": "replay"}))            # doctest: +SKIP
        ledger entry 118 · 9f3c2a41d0b7e55c
    """
    if "evidence" in predicate:
        raise ValueError("evidence is given as files: the links to them are made here")
    content = statement(kind, subjects, predicate)  # what is wrong with it is said before anything is stored
    where = store.locate(environment, place)
    links = where.put_evidence(_folder(kind, content), evidence)
    if links:
        content["predicate"]["evidence"] = [link.describe() for link in links]
    return _appended(where, kind, content)


def _folder(kind: Kind, content: Mapping[str, Any]) -> str:
    run = str(content["predicate"].get("run", ""))
    return run or f"{events.now()[:19].replace(':', '-')}Z-{kind}-{secrets.token_hex(3)}"


def _appended(where: LedgerStore, kind: Kind, content: dict[str, Any]) -> Entry:
    last, name, who, machine = 0, where.environment.name, provenance.user(), provenance.host()
    for attempt in range(_ATTEMPTS):
        last, previous = where.tail(last)
        if last >= LAST_NUMBER:
            raise AwsError(
                f"{name}: the ledger has no number left", reason=f"its newest is {last}", next_step="pik ledger verify"
            )
        entry = Entry(
            number=last + 1,
            time=events.now(),
            kind=kind,
            environment=name,
            stack=where.stack,
            account=where.account,
            by=where.caller,
            user=who,
            host=machine,
            previous=previous,
            statement=content,
        )
        entry = replace(entry, hash=entry.computed_hash())
        if where.put_if_absent(entry.key, entry.to_bytes(), _JSON):
            return entry
        backoff(attempt, first=0.02, longest=0.5)
    raise AwsError(
        f"{name}: could not append to the ledger",
        reason=f"{_ATTEMPTS} times another writer appended first",
        next_step="run the same command again",
    )


@dataclass(frozen=True)
class NotRecorded:
    """Why something is not in the ledger; as text, a sentence for a person."""

    reason: str

    def __str__(self) -> str:
        return f"not recorded in the ledger: {self.reason}"

    @classmethod
    def because(cls, error: Exception) -> NotRecorded:
        """Return it with what an error says."""
        if isinstance(error, PikError):
            return cls(f"{error.message}: {error.reason}" if error.reason else error.message)
        return cls(f"{type(error).__name__}: {error}")


def record(
    environment: Environment,
    kind: Kind,
    *,
    subjects: Subjects,
    predicate: Mapping[str, Any],
    evidence: Iterable[File] = (),
    place: Place | None = None,
) -> Entry | NotRecorded:
    """Append as :func:`append` does, but never raise: for changes that must continue even without their record.

    The text of the answer, an entry or a reason, is for a person.

    Example:
        >>> say(str(record(env, Kind.ROLLBACK, subjects=about, predicate={"phase": "replay"})))      # doctest: +SKIP
    """
    try:
        return append(environment, kind, subjects=subjects, predicate=predicate, evidence=evidence, place=place)
    except Exception as error:  # a bug of ours must not stop a rollback either
        return NotRecorded.because(error)

"""The evidence ledger: what was verified, approved, deployed and rolled back, in the environment itself, append-only.

::

    entry = append(env, Kind.DEPLOY, subjects=subjects(template=…, code=…), predicate={"sentence": …, "phase": …})
    read(env).verification("replay")         # the newest since the last change, or None
    verify(env)                              # nothing, or what was done to it

``docs/ledger.md`` says what is detected, and what cannot be.
"""

from __future__ import annotations

from pik.ledger.entry import Entry, Link
from pik.ledger.kinds import CHANGES, Kind
from pik.ledger.problems import Flaw, LedgerProblem
from pik.ledger.reading import Ledger, fetch, read, verify
from pik.ledger.statement import subjects
from pik.ledger.store import locate
from pik.ledger.writing import NotRecorded, append, record

__all__ = [
    "CHANGES",
    "Entry",
    "Flaw",
    "Kind",
    "Ledger",
    "LedgerProblem",
    "Link",
    "NotRecorded",
    "append",
    "fetch",
    "locate",
    "read",
    "record",
    "subjects",
    "verify",
]

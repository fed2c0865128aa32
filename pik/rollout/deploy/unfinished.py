"""A change whose outcome nobody recorded: what its state is, and which commands finish or undo it.

A command may be killed at any moment. The ledger then holds the beginning of its change, and the stack the outcome; the
next command compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pik import ledger, phases
from pik.aws.guard import Place
from pik.aws.stack import Stack
from pik.environments import Environment
from pik.errors import PikError
from pik.ledger import Entry, Kind, Ledger
from pik.rollout.gates.deployed import Deployed
from pik.rollout.gates.recording import moved, record


@dataclass(frozen=True)
class Unfinished:
    """An unfinished change: a sentence, the command that finishes it, and the command that undoes it."""

    sentence: str
    finish: str
    undo: str


def look(environment: Environment, found: Stack, book: Ledger | None) -> Unfinished | None:
    """Return an environment's unfinished change, or None. Pure: decided from the stack and the ledger."""
    entry = book.unfinished if book else None
    name, since = environment.name, _since(entry)
    if found.canary:
        return Unfinished(
            f"a promotion is not finished: the processor runs as a canary{since}, and nobody watches it unless that "
            "command is still running",
            f"pik promote --env {name} --to {phases.PROCESSOR.name}",
            f"pik rollback --env {name}",
        )
    if entry is None:
        return None
    if entry.kind is Kind.PROMOTION:
        back = phases.PHASES[phases.phase(entry.phase).number - 1]
        finish, undo = f"promote --env {name} --to {entry.phase}", f"rollback --env {name} --to {back.name}"
    else:
        finish, undo = f"deploy --env {name} --phase {entry.phase}", f"rollback --env {name} --deploy {entry.number}"
    return Unfinished(
        f"a {entry.kind} has no recorded outcome{since}; unless that command is still running, the next one records it",
        f"pik {finish}",
        f"pik {undo}",
    )


def _since(entry: Entry | None) -> str:
    return f" (ledger entry {entry.number}, {entry.time[:19]}Z by {entry.user} on {entry.host})" if entry else ""


def beginning(book: Ledger | None, phase: str) -> Entry | None:
    """Return the entry with which the promotion began that led to ``phase``, unless something else came after it."""
    if book is None:
        return None
    for entry in reversed(book.changes):
        if entry.kind is not Kind.PROMOTION or entry.phase != phase:
            return None
        if entry.predicate.get("state") == "begun":
            return entry
    return None


def close(
    environment: Environment, place: Place, found: Stack, now: Deployed, say: Callable[[str], None]
) -> Ledger | None:
    """Record the end of a change that nobody recorded; return the ledger as it is then, None where there is none.

    Nothing is recorded while CloudFormation is at work or a canary waits to be watched to its end.
    """
    try:
        book = ledger.read(environment, place=place)
    except PikError:
        return None
    last = book.change
    if last is None or found.in_progress or found.canary:
        return book
    reached = _reached(last, found, now)
    if last is not book.unfinished and not (_fell_short(last) and reached):
        return book
    number = last.predicate.get("begun", last.number)
    changed = reached or moved(environment, last.predicate.get("before") or {})
    end = "was completed" if reached else ("was not completed" if changed else "changed nothing")
    sentence = (
        f"the {last.kind} of ledger entry {number} {end}. The command was interrupted; a later command recorded this"
    )
    state = "done" if reached else "failed"
    say(sentence)
    facts = {"phase": last.phase, "state": state, "begun": number, "changed": changed}
    say(str(record(environment, last.kind, sentence, place=place, **facts)))
    return ledger.read(environment, place=place)


def _fell_short(last: Entry) -> bool:
    """Whether a promotion is recorded as failed; one that was interrupted in its last step is."""
    return last.kind is Kind.PROMOTION and last.predicate.get("state") == "failed"


def _reached(entry: Entry, found: Stack, now: Deployed) -> bool:
    if entry.kind is Kind.PROMOTION:
        return found.phase.name == entry.phase
    wanted = entry.predicate.get("target") or {}
    return found.phase.name == entry.phase and (wanted.get("template"), wanted.get("code")) == (now.template, now.code)

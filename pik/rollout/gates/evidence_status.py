"""The evidence status of an environment: what is deployed, and whether it has fresh, passing evidence. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from pik import ledger
from pik.aws.guard import Place
from pik.environments import Environment, environment
from pik.errors import PikError
from pik.ledger import Entry, Kind, Ledger
from pik.phases import Phase
from pik.rollout.gates import decide
from pik.rollout.gates.approve import vouched
from pik.rollout.gates.decide import Book, Gate, Requirement, Wanted
from pik.rollout.gates.deployed import Deployed, deployed


def book(of: Environment, template: str, code: str, place: Place | None = None) -> Book:
    """Return an environment's ledger, or why it cannot be read.

    What is wrong with the files that speak for this template and code is among its problems.
    """
    try:
        found = ledger.read(of, evidence=lambda book: _relied_on(book, template, code), place=place)
        same = [entry for entry in found.entries if entry.is_about(template, code)]
        approved = vouched(of, same, place) if of.config.approvers else frozenset()
        return Book(of.name, found, vouched=approved)
    except PikError as error:
        return Book(of.name, None, f"{error.message}: {error.reason}" if error.reason else error.message)


def _relied_on(found: Ledger, template: str, code: str) -> Iterable[Entry]:
    """The verifications that a gate may go by: the newest of each phase, for this template and code."""
    same = [entry for entry in found.select(kind=Kind.VERIFICATION) if entry.is_about(template, code)]
    return {entry.phase: entry for entry in same}.values()


def book_called(name: str, template: str, code: str) -> Book | None:
    """Return the ledger of the environment called ``name``, read with its own profile; None for no name."""
    if not name:
        return None
    try:
        return book(environment(name), template, code)
    except PikError as error:
        return Book(name, None, error.message)


def wanted(of: Environment, place: Place, target: Phase, template: str, code: str) -> Wanted:
    """Return the question that a gate is asked: may ``place``'s caller bring this to ``target``, now?"""
    return Wanted(of.name, of.config, target, template, code, place.caller, datetime.now(UTC))


def evidence(
    of: Environment, place: Place, own: Book | None = None, there: Deployed | None = None
) -> tuple[Deployed, Requirement]:
    """Return what is deployed and whether the phase it is in has fresh, passing evidence for exactly that.

    What has been read already is taken as it is: the ledger (``own``) and what is deployed (``there``).

    >>> evidence(env, guard(env))[1].sentence                         # doctest: +SKIP
    'phase 2 replay passed 3 h ago (ledger entry 117)'
    """
    there = there or deployed(of, place.stack)
    question = wanted(of, place, there.phase.next or there.phase, there.template, there.code)
    return there, decide.evidence(question, there, own or book(of, there.template, there.code, place))


def promotion(of: Environment, place: Place, target: Phase) -> Gate:
    """Return what the gate before ``target`` asks of what is deployed, and what it found."""
    there = deployed(of, place.stack)
    question = wanted(of, place, target, there.template, there.code)
    digests = there.template, there.code
    return decide.promotion(question, there, book(of, *digests, place), book_called(of.config.after, *digests))


def deployment(of: Environment, place: Place, target: Phase, template: str, code: str) -> Gate:
    """Return what the gate before deploying this template and code at ``target`` asks, and what it found."""
    own = book(of, template, code, place) if place.stack else Book(of.name, None, "nothing is deployed", absent=True)
    after = book_called(of.config.after, template, code)
    return decide.deployment(wanted(of, place, target, template, code), own, after)

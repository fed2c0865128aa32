"""May this be done? What a gate asks for, what it found, and which command supplies what is missing.

A gate never looks at AWS itself: it is given what is deployed and the ledgers, so that every decision can be tested.
What it asks depends on the environment's protection (:mod:`pik.config`):

========================================  =======  =========  ===========
requirement                               open     guarded    protected
========================================  =======  =========  ===========
the ledger is intact                      warning  required   required
this phase has fresh, passing evidence    warning  required   required
for exactly what is deployed
``after`` has it for the same template                        required
and code, for the phase that comes
an approver approved it                            where ``approvers`` are named,
                                                   but for the first deploy
========================================  =======  =========  ===========

``warning``: the command prints it and goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from pik.config import EnvironmentConfig
from pik.events import parse_time
from pik.ledger import Entry, Kind, Ledger
from pik.phases import OFF, Phase
from pik.rollout.gates.deployed import Deployed
from pik.rollout.gates.people import person, surely_two
from pik.units import duration


@dataclass(frozen=True)
class Requirement:
    """One requirement: whether it is met, what was found, and the command that supplies it.

    ``sides``: what is compared, as (name, value) pairs, shown below one another.
    """

    name: str
    met: bool
    sentence: str
    command: str = ""
    sides: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Gate:
    """The requirements before an environment may go to a phase; ``enforced`` is false where they are only warnings."""

    environment: str
    target: Phase
    requirements: tuple[Requirement, ...]
    enforced: bool = True

    @property
    def unmet(self) -> tuple[Requirement, ...]:
        """What is missing."""
        return tuple(one for one in self.requirements if not one.met)

    @property
    def open(self) -> bool:
        """Whether it lets through."""
        return not self.unmet or not self.enforced

    @property
    def reason(self) -> str:
        """Both sides of every comparison, and what is missing besides what :attr:`message` says, a line each."""
        lines = []
        for number, one in enumerate(self.unmet):
            if number:
                lines.append(one.sentence)
            indent = "  " if number else ""
            width = max((len(name) for name, _ in one.sides), default=0)
            lines += [f"{indent}{name:<{width}}  {value}" for name, value in one.sides]
        return "\n".join(lines)

    @property
    def message(self) -> str:
        """What is missing first; nothing when it is all there."""
        return self.unmet[0].sentence if self.unmet else ""

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that supply what is missing."""
        return tuple(dict.fromkeys(one.command for one in self.unmet if one.command))


@dataclass(frozen=True)
class Book:
    """An environment's ledger, or why it could not be read.

    ``vouched``: numbers of the approvals that only an approver can have written (:mod:`pik.rollout.gates.approve`).
    ``absent``: nothing is deployed, so there is no ledger yet, and nowhere to write an approval.
    """

    environment: str
    ledger: Ledger | None
    problem: str = ""
    vouched: frozenset[int] = frozenset()
    absent: bool = False


@dataclass(frozen=True)
class Wanted:
    """Who wants what: template and code to go to a phase, and when."""

    environment: str
    config: EnvironmentConfig
    target: Phase
    template: str
    code: str
    caller: str
    now: datetime

    @property
    def fresh(self) -> timedelta:
        """How old evidence may be."""
        return timedelta(hours=self.config.evidence_hours)


def promotion(wanted: Wanted, found: Deployed, own: Book, after: Book | None) -> Gate:
    """Decide about raising the phase of what is deployed. Pure."""
    asked = [intact(own)]
    if found.phase is not OFF:
        asked.append(evidence(wanted, found, own))
    return _gate(wanted, [*asked, *_of_others(wanted, own, after)])


def deployment(wanted: Wanted, own: Book, after: Book | None) -> Gate:
    """Decide about deploying a template and code at the phase that an environment is in, or its first. Pure.

    The first deploy needs no approval: the stores are empty, and no producer knows the address. What follows does.
    """
    asked = [] if own.absent else [intact(own)]
    return _gate(wanted, [*asked, *_of_others(wanted, own, after)])


def _gate(wanted: Wanted, asked: list[Requirement]) -> Gate:
    enforced = wanted.config.protection != "open"
    return Gate(wanted.environment, wanted.target, tuple(asked), enforced)


def _of_others(wanted: Wanted, own: Book, after: Book | None) -> Iterator[Requirement]:
    if wanted.config.protection == "protected" and after:
        yield intact(after)
        yield proven_before(wanted, after)
    if wanted.config.approvers and not own.absent:
        yield approval(wanted, own)


def intact(book: Book) -> Requirement:
    """The ledger can be read and is as it was written."""
    name, verify = f"ledger of {book.environment}", f"pik ledger verify --env {book.environment}"
    if book.ledger is None:
        return Requirement(name, False, f"the ledger of {book.environment} cannot be read: {book.problem}", verify)
    flaws = [str(problem) for problem in book.ledger.problems]
    if flaws:
        more = f" (and {len(flaws) - 1} more)" if len(flaws) > 1 else ""
        return Requirement(name, False, f"the ledger of {book.environment} is damaged: {flaws[0]}{more}", verify)
    return Requirement(name, True, f"the ledger of {book.environment} is intact ({len(book.ledger.entries)} entries)")


def evidence(wanted: Wanted, found: Deployed, own: Book) -> Requirement:
    """The phase that the environment is in has fresh, passing evidence for exactly what is deployed."""
    phase, env = found.phase, wanted.environment
    name, command = f"evidence of phase {phase.label}", f"pik run verify-{phase.name} --env {env}"
    deployed = ("deployed", str(found))

    def missing(sentence: str, *sides: tuple[str, str]) -> Requirement:
        return Requirement(name, False, sentence, command, sides)

    entry = own.ledger.verification(phase.name) if own.ledger else None
    if entry is None:
        change = own.ledger.change if own.ledger else None
        since = f" since {change.kind} (ledger entry {change.number})" if change else ""
        return missing(f"phase {phase.label} of {env} has no evidence{since}", deployed)
    verified = ("verified", f"{_digests(entry)}  ({_age(wanted, entry)}; ledger entry {entry.number})")
    if any(entry.digest(what) != getattr(found, what) for what in ("template", "code", "parameters")):
        return missing(
            f"the evidence of phase {phase.label} is not about the template, code and parameters that are deployed",
            deployed,
            verified,
        )
    if entry.verdict != "passed":
        return missing(f"phase {phase.label} of {env} did not pass: {entry.sentence}", verified)
    if _stale(wanted, entry):
        limit = f"{wanted.config.evidence_hours:g} h"
        return missing(f"the evidence of phase {phase.label} is too old (limit {limit})", deployed, verified)
    return Requirement(name, True, f"phase {phase.label} passed {_age(wanted, entry)} (ledger entry {entry.number})")


def proven_before(wanted: Wanted, after: Book) -> Requirement:
    """The environment that comes before has fresh, passing evidence of the target phase for this template and code."""
    phase, env = wanted.target, after.environment
    name, command = f"evidence of {env}", f"pik run verify-{phase.name} --env {env}"
    proven = f"phase {phase.label} in {env}"
    this = ("this", f"template {wanted.template[:8]}…  code {wanted.code[:8]}…")
    found = after.ledger.select(kind=Kind.VERIFICATION, phase=phase.name) if after.ledger else ()
    same = [entry for entry in found if entry.is_about(wanted.template, wanted.code)]
    if not same:
        last = (("verified", f"{_digests(found[-1])}  ({_age(wanted, found[-1])})"),) if found else ()
        sentence = f"{proven} was never verified for this template and code"
        return Requirement(name, False, sentence, command, (this, *last))
    entry = same[-1]
    verified = ("verified", f"{_digests(entry)}  ({_age(wanted, entry)}; ledger entry {entry.number} of {env})")
    if entry.verdict != "passed":
        return Requirement(name, False, f"{proven} did not pass: {entry.sentence}", command, (verified,))
    if _stale(wanted, entry):
        sentence = f"the evidence of {proven} is too old (limit {wanted.config.evidence_hours:g} h)"
        return Requirement(name, False, sentence, command, (verified,))
    return Requirement(name, True, f"{proven} passed {_age(wanted, entry)} (ledger entry {entry.number} of {env})")


def approval(wanted: Wanted, own: Book) -> Requirement:
    """An approver approved this template and code for this phase since the last change, and is another person.

    Another person than the caller (:mod:`pik.rollout.gates.people`): another role of the same person is not enough.
    """
    name, env = "approval", wanted.environment
    command = f"pik approve --env {env} --to {wanted.target.name}   (by {' or '.join(wanted.config.approvers)})"
    this = ("this", f"template {wanted.template[:8]}…  code {wanted.code[:8]}…")
    change = own.ledger.change if own.ledger else None
    approvals = (
        own.ledger.select(kind=Kind.APPROVAL, phase=wanted.target.name, after=change.number if change else 0)
        if own.ledger
        else ()
    )
    for entry in reversed(approvals):
        if not entry.is_about(wanted.template, wanted.code):
            continue
        counts = entry.number in own.vouched and surely_two(entry.by, wanted.caller)
        if counts and may_approve(wanted.config, entry.by) and not _stale(wanted, entry):
            return Requirement(
                name, True, f"approved by {entry.by} {_age(wanted, entry)} (ledger entry {entry.number})"
            )
    nobody = (
        f"nobody but you approved phase {wanted.target.label}"
        if approvals
        else f"nobody approved phase {wanted.target.label} for {env}"
    )
    if unnamed := next((arn for arn in (wanted.caller, *(entry.by for entry in approvals)) if not person(arn)), ""):
        nobody += f"; {unnamed} names no person: assume the role with your name as the session name (role_session_name)"
    return Requirement(name, False, nobody, command, (this,))


def may_approve(config: EnvironmentConfig, arn: str) -> bool:
    """Return whether ``pik.toml`` names this caller as an approver.

    >>> may_approve(EnvironmentConfig(approvers=("arn:aws:sts::*:assumed-role/Approvers/*",)),
    ...             "arn:aws:sts::111122223333:assumed-role/Approvers/ana")
    True
    """
    return any(fnmatchcase(arn, pattern) for pattern in config.approvers)


def _digests(entry: Entry) -> str:
    names = ("template", "code", "parameters")
    return "  ".join(f"{name} {entry.digest(name)[:8]}…" for name in names if entry.digest(name))


def _age(wanted: Wanted, entry: Entry) -> str:
    seconds = (wanted.now - parse_time(entry.time)).total_seconds()
    return f"{duration(max(0.0, seconds))} ago"


def _stale(wanted: Wanted, entry: Entry) -> bool:
    return wanted.now - parse_time(entry.time) > wanted.fresh

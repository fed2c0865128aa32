"""What a gate lets through, and what it says when it does not: every case, from ledgers made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pik import phases
from pik.config import EnvironmentConfig
from pik.events import format_time
from pik.ledger import Entry, Flaw, Kind, Ledger, LedgerProblem
from pik.ledger.statement import statement
from pik.rollout.gates import decide as gates
from pik.rollout.gates.decide import Book, Gate, Wanted
from pik.rollout.gates.deployed import Deployed

A, B, CODE, OTHER, PARAMETERS = ("a" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ANA, BEN = "arn:aws:iam::111122223333:user/ana", "arn:aws:iam::111122223333:user/ben"
GUARDED = EnvironmentConfig(protection="guarded")
PROTECTED = EnvironmentConfig(protection="protected", after="staging")
REPLAYING = Deployed(phases.REPLAY, A, CODE, PARAMETERS)


def entry(number: int, kind: Kind, phase: str = "replay", *, hours: float = 1, by: str = BEN, **change: Any) -> Entry:
    """An entry some hours old; ``change``: other digests, another verdict."""
    digests = {"template": A, "code": CODE, "parameters": PARAMETERS} | {
        name: change.pop(name) for name in ("template", "code", "parameters") if name in change
    }
    subjects = {name: {"sha256": digest} for name, digest in digests.items()}
    predicate = {"phase": phase, "sentence": "2 of 11 checks failed", **change}
    return Entry(
        number=number,
        time=format_time(NOW - timedelta(hours=hours)),
        kind=kind,
        environment="staging",
        stack="pik-staging",
        account="111122223333",
        by=by,
        user="ana",
        host="here",
        previous="0" * 64,
        statement=statement(kind, subjects, predicate),
        hash="1" * 64,
    )


def book(*entries: Entry, problems: tuple[LedgerProblem, ...] = (), name: str = "staging") -> Book:
    return Book(name, Ledger(name, entries, problems), vouched=frozenset(entry.number for entry in entries))


def asked(target: phases.Phase = phases.PROCESSOR, config: EnvironmentConfig = GUARDED, **change: str) -> Wanted:
    return Wanted(
        **{  # type: ignore[arg-type]
            "environment": "staging",
            "config": config,
            "target": target,
            "template": A,
            "code": CODE,
            "caller": ANA,
            "now": NOW,
            **change,
        }
    )


PASSED = entry(3, Kind.VERIFICATION, verdict="passed")


def decide(*entries: Entry, found: Deployed = REPLAYING) -> Gate:
    return gates.promotion(asked(), found, book(entry(2, Kind.DEPLOY, hours=5), *entries), None)


def test_fresh_passing_evidence_of_what_is_deployed_opens_the_gate() -> None:
    gate = decide(PASSED)
    assert gate.open
    assert gate.unmet == ()
    assert "phase 2 replay passed 1 h ago (ledger entry 3)" in [one.sentence for one in gate.requirements]


CLOSED: dict[str, tuple[tuple[Entry, ...], Deployed, str]] = {
    "no evidence": ((), REPLAYING, "phase 2 replay of staging has no evidence since deploy (ledger entry 2)"),
    "evidence of another phase": (
        (entry(3, Kind.VERIFICATION, "ingest", verdict="passed"),),
        REPLAYING,
        "has no evidence",
    ),
    "evidence from before the last change": (
        (PASSED, entry(4, Kind.PROMOTION, state="done")),
        REPLAYING,
        "has no evidence since promotion (ledger entry 4)",
    ),
    "evidence from before a rollback": ((PASSED, entry(4, Kind.ROLLBACK)), REPLAYING, "since rollback"),
    "evidence of another template": (
        (PASSED,),
        Deployed(phases.REPLAY, B, CODE, PARAMETERS),
        "is not about the template, code and parameters that are deployed",
    ),
    "evidence of other code": (
        (PASSED,),
        Deployed(phases.REPLAY, A, OTHER, PARAMETERS),
        "is not about the template, code and parameters that are deployed",
    ),
    "evidence of other parameters": (
        (PASSED,),
        Deployed(phases.REPLAY, A, CODE, OTHER),
        "is not about the template, code and parameters that are deployed",
    ),
    "it failed": ((entry(3, Kind.VERIFICATION, verdict="failed"),), REPLAYING, "did not pass: 2 of 11 checks failed"),
    "it is inconclusive": ((entry(3, Kind.VERIFICATION, verdict="inconclusive"),), REPLAYING, "did not pass"),
    "it passed once and failed since": (
        (PASSED, entry(4, Kind.VERIFICATION, verdict="failed", hours=0.5)),
        REPLAYING,
        "did not pass",
    ),
    "it is stale": (
        (entry(3, Kind.VERIFICATION, verdict="passed", hours=24.1),),
        REPLAYING,
        "is too old (limit 24 h)",
    ),
}


@pytest.mark.parametrize("name", CLOSED)
def test_everything_else_keeps_it_closed_and_names_what_supplies_it(name: str) -> None:
    entries, found, says = CLOSED[name]
    gate = decide(*entries, found=found)
    assert not gate.open
    assert len(gate.unmet) == 1
    assert says in gate.message
    assert gate.commands == ("pik run verify-replay --env staging",)


def test_both_sides_of_a_comparison_are_shown_below_one_another() -> None:
    lines = decide(PASSED, found=Deployed(phases.REPLAY, B, CODE, PARAMETERS)).reason.splitlines()
    assert lines[0] == "deployed  template bbbbbbbb…  code cccccccc…  parameters eeeeeeee…"
    assert lines[1].startswith("verified  template aaaaaaaa…  code cccccccc…  parameters eeeeeeee…  (1 h ago; ledger")


def test_what_else_is_missing_is_told_below_with_its_own_sides() -> None:
    flaw = LedgerProblem(Flaw.ALTERED, 3, "its hash is not that of its content")
    gate = gates.promotion(asked(), REPLAYING, book(problems=(flaw,)), None)
    assert "is damaged" in gate.message
    said = gate.reason.splitlines()
    assert said[0] == "phase 2 replay of staging has no evidence"
    assert said[1].startswith("  deployed  template aaaaaaaa…")


def test_where_it_is_open_the_gate_is_told_and_lets_through() -> None:
    gate = gates.promotion(asked(config=EnvironmentConfig()), REPLAYING, book(), None)
    assert gate.unmet
    assert gate.open


def test_a_damaged_ledger_closes_it_whatever_it_says() -> None:
    flaw = LedgerProblem(Flaw.ALTERED, 3, "its hash is not that of its content")
    gate = gates.promotion(asked(), REPLAYING, book(PASSED, problems=(flaw,)), None)
    assert not gate.open
    assert "the ledger of staging is damaged: entry 3" in gate.message
    assert gate.commands == ("pik ledger verify --env staging",)


def test_a_ledger_that_cannot_be_read_is_no_evidence() -> None:
    gate = gates.promotion(asked(), REPLAYING, Book("staging", None, "no evidence bucket"), None)
    assert [one.met for one in gate.requirements] == [False, False]
    assert "cannot be read: no evidence bucket" in gate.message


# --- protected ------------------------------------------------------------------------------------------------------

IN_STAGING = entry(9, Kind.VERIFICATION, "processor", verdict="passed", hours=2)


def protected(*there: Entry, config: EnvironmentConfig = PROTECTED, own: tuple[Entry, ...] = (PASSED,)) -> Gate:
    return gates.promotion(asked(config=config), REPLAYING, book(*own, name="prod"), book(*there))


def test_prod_follows_staging() -> None:
    gate = protected(IN_STAGING)
    assert gate.open
    assert gate.requirements[-1].sentence == "phase 3 processor in staging passed 2 h ago (ledger entry 9 of staging)"


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ((), "was never verified for this template and code"),
        ((entry(9, Kind.VERIFICATION, "replay", verdict="passed"),), "was never verified for this"),
        ((entry(9, Kind.VERIFICATION, "processor", verdict="passed", template=B),), "was never verified for this"),
        ((entry(9, Kind.VERIFICATION, "processor", verdict="passed", code=OTHER),), "was never verified for this"),
        ((entry(9, Kind.VERIFICATION, "processor", verdict="failed"),), "did not pass"),
        ((entry(9, Kind.VERIFICATION, "processor", verdict="passed", hours=25),), "is too old (limit 24 h)"),
        ((IN_STAGING, entry(10, Kind.VERIFICATION, "processor", verdict="failed")), "did not pass"),
    ],
)
def test_prod_does_not_go_where_staging_has_not_been(there: tuple[Entry, ...], says: str) -> None:
    gate = protected(*there)
    assert not gate.open
    assert says in gate.message
    assert gate.commands == ("pik run verify-processor --env staging",)


def test_other_parameters_in_staging_are_its_own_affair() -> None:
    assert protected(entry(9, Kind.VERIFICATION, "processor", verdict="passed", parameters=OTHER)).open


def test_its_own_evidence_is_asked_for_as_well() -> None:
    gate = protected(IN_STAGING, own=())
    assert gate.commands == ("pik run verify-replay --env staging",)  # the environment asked about here


def test_a_damaged_ledger_of_staging_proves_nothing() -> None:
    flaw = LedgerProblem(Flaw.MISSING, 4, "there is no such record")
    gate = gates.promotion(asked(config=PROTECTED), REPLAYING, book(PASSED), book(IN_STAGING, problems=(flaw,)))
    assert not gate.open
    assert "the ledger of staging is damaged" in gate.message


def test_a_deploy_into_a_protected_environment_asks_the_one_before() -> None:
    wanted = asked(config=PROTECTED, target=phases.PROCESSOR)
    assert gates.deployment(wanted, book(), book(IN_STAGING)).open
    assert not gates.deployment(asked(config=PROTECTED, template=B), book(), book(IN_STAGING)).open
    assert gates.deployment(asked(config=GUARDED, template=B), book(), None).open


# --- approval -------------------------------------------------------------------------------------------------------

APPROVED = EnvironmentConfig(protection="guarded", approvers=("arn:aws:iam::*:user/ben", "arn:aws:iam::*:user/ana"))


@pytest.mark.parametrize(
    ("said", "opens"),
    [
        ((entry(4, Kind.APPROVAL, "processor"),), True),
        ((), False),
        ((entry(4, Kind.APPROVAL, "replay"),), False),
        ((entry(4, Kind.APPROVAL, "processor", by=ANA),), False),  # the caller's own
        ((entry(4, Kind.APPROVAL, "processor", by="arn:aws:iam::1:user/eve"),), False),
        ((entry(4, Kind.APPROVAL, "processor", template=B),), False),
        ((entry(4, Kind.APPROVAL, "processor", hours=25),), False),
        ((entry(4, Kind.APPROVAL, "processor"), entry(5, Kind.APPROVAL, "processor", by=ANA)), True),
    ],
)
def test_an_approval_is_somebody_elses_who_may_for_exactly_this(said: tuple[Entry, ...], opens: bool) -> None:
    gate = gates.promotion(asked(config=APPROVED), REPLAYING, book(PASSED, *said), None)
    assert gate.open is opens
    if not opens:
        (command,) = gate.commands
        assert command.startswith("pik approve --env staging --to processor")


def test_an_approval_that_anybody_could_have_written_is_none() -> None:
    forged = book(PASSED, entry(4, Kind.APPROVAL, "processor"))
    forged = Book(forged.environment, forged.ledger)
    assert not gates.promotion(asked(config=APPROVED), REPLAYING, forged, None).open


def test_an_approval_does_not_outlive_a_change() -> None:
    said = (
        entry(4, Kind.APPROVAL, "processor"),
        entry(5, Kind.ROLLBACK),
        entry(6, Kind.VERIFICATION, verdict="passed"),
    )
    assert not gates.promotion(asked(config=APPROVED), REPLAYING, book(*said), None).open


ROLE = "arn:aws:sts::111122223333:assumed-role"
BY_ROLE = EnvironmentConfig(protection="guarded", approvers=(f"{ROLE}/Approvers/*",))


@pytest.mark.parametrize(
    ("by", "caller", "opens"),
    [
        ("Approvers/ben", "Operators/ana", True),
        ("Approvers/ana", "Operators/ana", False),  # one person with two roles
        ("Approvers/Ana@example.com", "Operators/ana@example.com", False),
        ("Approvers/botocore-session-1764230000", "Operators/ana", False),  # nobody knows who that was
        ("Approvers/ben", "Operators/botocore-session-1764230001", False),
        ("Approvers/1764230000123", "Operators/1764230000456", False),
        ("Approvers/ben", "Deployer/GitHubActions", True),
    ],
)
def test_four_eyes_are_those_of_two_people(by: str, caller: str, opens: bool) -> None:
    said = entry(4, Kind.APPROVAL, "processor", by=f"{ROLE}/{by}")
    wanted = asked(config=BY_ROLE, caller=f"{ROLE}/{caller}")
    gate = gates.promotion(wanted, REPLAYING, book(PASSED, said), None)
    assert gate.open is opens
    assert ("role_session_name" in gate.message) == ("session-" in by + caller or by.endswith("123"))


def test_a_user_and_a_role_of_the_same_name_are_one_person() -> None:
    said = entry(4, Kind.APPROVAL, "processor", by=f"{ROLE}/Approvers/ana")
    assert not gates.promotion(asked(config=BY_ROLE), REPLAYING, book(PASSED, said), None).open


def test_who_may_approve_is_a_pattern_of_arns() -> None:
    config = EnvironmentConfig(approvers=("arn:aws:sts::*:assumed-role/Approvers/*",))
    assert gates.may_approve(config, "arn:aws:sts::111122223333:assumed-role/Approvers/ana")
    assert not gates.may_approve(config, "arn:aws:sts::111122223333:assumed-role/Developers/ana")
    assert not gates.may_approve(EnvironmentConfig(), ANA)


def test_the_first_deploy_needs_no_approval_and_what_follows_does() -> None:
    """Before it there is no bucket to write an approval into: deploy would send to approve, and approve to deploy."""
    config = EnvironmentConfig(protection="protected", after="staging", approvers=("arn:aws:iam::*:user/ben",))
    wanted, absent = asked(phases.INGEST, config), Book("prod", None, "nothing is deployed", absent=True)
    staging = book(entry(1, Kind.VERIFICATION, "ingest", verdict="passed"))
    assert gates.deployment(wanted, absent, staging).open
    assert not gates.deployment(wanted, absent, book()).open  # what staging has proven is asked for all the same
    assert not gates.deployment(wanted, book(), staging).open


def test_a_ledger_that_cannot_be_read_closes_the_gate_of_a_deploy() -> None:
    unread = Book("staging", None, "AccessDenied")
    gate = gates.deployment(asked(config=GUARDED), unread, None)
    assert (gate.open, gate.message) == (False, "the ledger of staging cannot be read: AccessDenied")

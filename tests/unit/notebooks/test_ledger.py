"""What the ledger's notebook says: is the record genuine, and was what is deployed proven?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from moto import mock_aws

from pik import events, ledger, phases
from pik.aws import guard
from pik.config import EnvironmentConfig
from pik.environments import Environment
from pik.headless import HEADLESS
from pik.ledger import Kind, subjects
from pik.notebooks.investigations import base
from pik.notebooks.investigations import ledger as investigation
from pik.notebooks.investigations.ledger import LedgerHistory
from pik.results import StepResult
from pik.rollout.gates import evidence_status
from pik.rollout.gates.deployed import Deployed
from pik.workbench import Workbench
from tests.unit import ledger_world
from tests.unit.ledger_world import ABOUT, BUCKET

DEPLOYED = Deployed(phases.REPLAY, "1" * 64, "2" * 64, "3" * 64)
OTHER = subjects(template="1" * 64)
PARAMETERS = {"kind": "", "phase": "", "receipt": ""}


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """A stack at phase 2 whose template and code are those that the tests' records are about."""
    monkeypatch.setenv(HEADLESS, "1")
    with mock_aws():
        there = ledger_world.environment(monkeypatch)
        wb = Workbench(there, "1", "2 replay", {})
        monkeypatch.setattr(base, "environment", lambda name: there)
        monkeypatch.setattr(base, "connect", lambda name: wb)
        monkeypatch.setattr(investigation, "guard", guard.guard)
        monkeypatch.setattr(evidence_status, "deployed", lambda env, found: DEPLOYED)
        yield there


def add(env: Environment, kind: Kind = Kind.VERIFICATION, about: Any = ABOUT, **predicate: Any) -> ledger.Entry:
    given = {"phase": "replay", "sentence": "so it is", **predicate}
    return ledger.append(env, kind, subjects=about, predicate=given, evidence=[("a.html", b"<p>", "text/html")])


def asked(**parameters: str) -> LedgerHistory:
    return LedgerHistory("dev", **{**PARAMETERS, **parameters})


def said(**parameters: str) -> list[tuple[str, str]]:
    result: StepResult = asked(**parameters).result()
    assert all(check.remedy for check in result.checks if check.stops)
    return [(str(check.verdict), check.sentence) for check in result.checks]


def test_an_empty_ledger_is_inconclusive_and_says_how_to_get_something(env: Environment) -> None:
    nothing = ("inconclusive", "Nothing has been recorded in dev yet.")

    assert said() == [nothing, nothing]
    assert "Nothing has been recorded in dev yet" in asked().table()._repr_html_()
    assert asked().chart().to_dict()["title"]["text"] == "Nothing has been recorded in dev yet"


def test_fresh_evidence_for_what_is_deployed_passes(env: Environment) -> None:
    add(env, Kind.DEPLOY)
    entry = add(env, verdict="passed")

    (genuine, fresh) = said(receipt=entry.receipt)

    assert genuine == ("passed", "2 records and 2 files are as they were recorded.")
    assert fresh[0] == "passed"
    assert fresh[1].startswith("phase 2 replay passed 0 s ago (ledger entry 2)")


@pytest.mark.parametrize(
    ("kind", "predicate", "about", "verdict", "words"),
    [
        (Kind.DEPLOY, {}, ABOUT, "inconclusive", "has no evidence since deploy (ledger entry 2)."),
        (Kind.ROLLBACK, {}, ABOUT, "inconclusive", "has no evidence since rollback (ledger entry 2)."),
        (Kind.VERIFICATION, {"verdict": "failed"}, ABOUT, "failed", "did not pass: so it is."),
        (Kind.VERIFICATION, {"verdict": "inconclusive"}, ABOUT, "failed", "did not pass: so it is."),
        (
            Kind.VERIFICATION,
            {"verdict": "passed"},
            OTHER,
            "failed",
            "is not about the template, code and parameters that are deployed.",
        ),
    ],
)
def test_what_came_after_a_verification_takes_it_back(
    kind: Kind, predicate: Any, about: Any, verdict: str, words: str, env: Environment
) -> None:
    add(env, verdict="passed")
    add(env, kind, about, **predicate)

    assert said()[1][0] == verdict
    assert words in said()[1][1]


def test_evidence_grows_old(env: Environment) -> None:
    add(env, verdict="passed")
    object.__setattr__(env, "config", EnvironmentConfig(evidence_hours=1e-9))

    assert said()[1][0] == "failed"
    assert "is too old (limit 1e-09 h)" in said()[1][1]


def test_a_tampered_record_is_the_first_thing_said(env: Environment) -> None:
    entry = add(env, verdict="passed")
    forged = replace(entry, by="arn:aws:iam::1:user/eve").to_bytes()
    env.client("s3").put_object(Bucket=BUCKET, Key=entry.key, Body=forged)

    result = asked().result()

    assert result.headline.startswith("The ledger is not what was recorded: entry 1: it has 2 versions")
    assert [found["problem"] for found in result.facts["found"]] == ["rewritten", "altered"]
    (lost, _) = said(receipt=f"9:{'0' * 64}")
    assert lost[0] == "failed"


def test_tables_and_chart_show_what_is_asked_for_the_newest_first(env: Environment) -> None:
    add(env, Kind.DEPLOY)
    add(env, verdict="passed", run="r-1")
    add(env, Kind.ROLLBACK, phase="ingest")

    assert list(asked().table().frame["number"]) == [3, 2, 1]
    assert list(asked(kind="deploy").table().frame["number"]) == [1]
    assert list(asked(phase="replay").evidence().frame["entry"]) == [2, 1]
    assert list(asked().table().frame["by"]) == ["ana"] * 3
    (_, replay, processor) = asked().verified().frame.to_dict("records")
    assert (replay["verdict"], replay["same template"], replay["entry"]) == ("passed", True, 2)
    assert processor["verdict"] == "never"
    chart = asked().chart().to_dict()
    assert chart["title"]["text"] == "3 records, 2 changes among them"
    assert chart["encoding"]["color"]["scale"]["domain"] == ["passed", "none"]
    assert asked().facts() == {"entries": 3, "changes": 2, "problems": 0}


def test_the_workbench_has_the_same_frame(env: Environment) -> None:
    add(env, Kind.DEPLOY)

    frame = asked().wb.ledger()

    assert frame["time"][0].to_pydatetime() - events.parse_time(events.now()) < timedelta(minutes=1)
    assert frame.equals(ledger.read(env).frame)

"""Every transition between the phases, allowed and refused, on the embedded AWS; and that refusals change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.sources import edited, replaced
from pik import config, ledger, phases, producer
from pik.aws import stack
from pik.environments import Environment
from pik.errors import AwsError, NotDeployed, Refused, UsageError
from pik.ledger import Kind
from pik.rollout.deploy import revert_deploy
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.promote import promote
from pik.rollout.deploy.revert_deploy import revert
from pik.rollout.deploy.rollback import rollback
from pik.rollout.gates.approve import approve
from pik.rollout.gates.deployed import deployed
from pik.rollout.gates.recording import about
from pik.rollout.plan import sam
from pik.rollout.plan.plan import plan
from tests.stack.rehearsal import ROOT_OF_PROD, State, named, overwrite, toml, verified

pytestmark = pytest.mark.slow


def other(folder: Path) -> None:
    """Make it another template."""
    replaced(folder, "template.yaml", "Messages could not be processed.", "Messages could not be processed!")


@pytest.fixture(scope="module")
def settings(embedded_env: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The pik.toml of this file's tests."""
    file = toml(tmp_path_factory.mktemp("config") / "pik.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(config.CONFIG_VARIABLE, str(file))
        yield file


@pytest.fixture(scope="module")
def staging(settings: Path) -> Environment:
    return named("staging")


def refused(env: Environment, action: str, target: str) -> str:
    """Ask for something that must be refused; return why, and prove that nothing but the ledger is different."""
    before, entries = State.of(env), ledger.read(env).entries
    ask: Any = {"promote": promote, "deploy": deploy}[action]
    with pytest.raises(Refused) as refusal:
        ask(env, target)
    assert State.of(env) == before
    (entry,) = ledger.read(env).entries[len(entries) :]
    assert (entry.kind, entry.phase) == (Kind.REFUSAL, target)
    assert refusal.value.message in entry.sentence
    assert f"ledger entry {entry.number}" in refusal.value.reason
    assert refusal.value.next_step
    return f"{refusal.value.message} {refusal.value.reason} {refusal.value.next_step}"


def stays(env: Environment, action: str, target: str) -> None:
    """Ask for what is there already: nothing happens, and it is no refusal."""
    before, entries = State.of(env), ledger.read(env).entries
    ask: Any = {"promote": promote, "deploy": deploy, "rollback": rollback}[action]
    assert not ask(env, target).changed
    assert State.of(env) == before
    assert ledger.read(env).entries == entries


def test_every_transition(staging: Environment) -> None:
    env = staging
    # off
    for target in ("ingest", "replay", "processor"):
        with pytest.raises(Refused, match="nothing is deployed"):
            promote(env, target)
    for target in ("replay", "ingest"):
        with pytest.raises(NotDeployed):
            rollback(env, target)
    for target in ("replay", "processor"):
        with pytest.raises(Refused, match="would skip"):
            deploy(env, target)
    assert stack.read(env) is None
    assert deploy(env, "ingest").changed

    # 1 ingest
    assert producer.send(list(producer.load("flights:2013-01-01"))[:40], env).safe
    stays(env, "promote", "ingest")
    stays(env, "deploy", "ingest")
    stays(env, "rollback", "ingest")
    stays(env, "rollback", "replay")
    assert "pik run verify-ingest --env staging" in refused(env, "promote", "replay")
    assert "would skip 2 replay" in refused(env, "promote", "processor")
    assert "pik promote --env staging --to replay" in refused(env, "deploy", "replay")
    verified(env, "failed")
    assert "did not pass: as failed as can be" in refused(env, "promote", "replay")
    verified(env, "inconclusive")
    assert "did not pass" in refused(env, "promote", "replay")
    verified(env)
    assert promote(env, "replay").phase == "replay"

    # 2 replay
    stays(env, "promote", "replay")
    stays(env, "rollback", "replay")
    assert "is a step back" in refused(env, "promote", "ingest")
    assert "is a step back" in refused(env, "deploy", "ingest")
    assert "has no evidence since promotion" in refused(env, "promote", "processor")
    assert "pik promote --env staging --to processor" in refused(env, "deploy", "processor")
    verified(env)
    promoted = promote(env, "processor")
    assert promoted.canary is not None
    assert promoted.canary.passed

    # 3 processor
    stays(env, "promote", "processor")
    stays(env, "deploy", "processor")
    for action, target in (("promote", "replay"), ("promote", "ingest"), ("deploy", "replay"), ("deploy", "ingest")):
        assert "pik rollback --env staging" in refused(env, action, target)

    # back, from 3 to 2, up again, from 3 to 1
    assert rollback(env, "replay").changed
    assert "has no evidence since rollback" in refused(env, "promote", "processor")
    verified(env)
    assert promote(env, "processor").changed
    assert rollback(env, "ingest").phase == "ingest"
    assert ledger.read(env).problems == ()
    kinds = [entry.kind for entry in ledger.read(env).entries]
    assert kinds[0] is Kind.DEPLOY
    assert kinds.count(Kind.PROMOTION) == 2 * 3  # begun and done
    assert kinds.count(Kind.CANARY) == 2


def test_evidence_of_one_template_does_not_admit_another(staging: Environment, tmp_path: Path) -> None:
    deploy(staging, "ingest")
    verified(staging)
    # Somebody deploys another template past pik: the ledger knows nothing of it, the digests do.
    with edited(tmp_path / "other", other):
        built = sam.build(staging, tmp_path / "log", lambda _: None)
        wanted = {"Environment": "staging", "Platform": "embedded"}
        assert sam.run(staging, sam.deploy_arguments(staging, built, wanted), tmp_path / "log") == 0
        why = refused(staging, "promote", "replay")
        assert "is not about the template, code and parameters that are deployed" in why

    deploy(staging, "ingest")
    assert "has no evidence since deploy" in refused(staging, "promote", "replay")
    verified(staging)
    assert promote(staging, "replay").changed
    rollback(staging, "ingest")


def stuck(*_: Any, **__: Any) -> None:
    """What CloudFormation says that does not get there."""
    raise AwsError("the stack does not move")


def test_a_deploy_is_taken_back_with_one_call(
    staging: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(staging, "ingest", parameters={"LogLevel": "INFO"})
    before, stores = deployed(staging), State.of(staging).stores
    with edited(tmp_path / "other", other):
        done = deploy(staging, "ingest", parameters={"LogLevel": "DEBUG"})
    assert done.changed
    now = deployed(staging)
    assert (now.template, now.parameters) != (before.template, before.parameters)

    with monkeypatch.context() as patch:
        patch.setattr(revert_deploy, "converge", stuck)
        with pytest.raises(AwsError, match="does not move"):
            revert(staging)
    failed = ledger.read(staging).entries[-1]
    assert (failed.kind, failed.predicate["state"]) == (Kind.ROLLBACK, "failed")

    back = revert(staging)
    assert deployed(staging) == before
    assert "LogLevel" in stack.require(staging).parameters
    assert stack.require(staging).parameters["LogLevel"] == "INFO"
    assert State.of(staging).stores == stores
    entry = ledger.read(staging).entries[-1]
    assert (entry.kind, entry.predicate["deploy"]) == (Kind.ROLLBACK, back.entry)
    assert producer.send(list(producer.load("flights:2013-01-01"))[:3], staging).safe
    assert "has no evidence since rollback" in refused(staging, "promote", "replay")


def test_the_first_deploy_has_nothing_before_it(staging: Environment) -> None:
    first = next(entry for entry in ledger.read(staging).entries if entry.kind is Kind.DEPLOY)
    with pytest.raises(UsageError, match="is the first deploy"):
        revert(staging, first.number)
    with pytest.raises(UsageError, match="is no deploy"):
        revert(staging, ledger.read(staging).entries[-1].number)


def test_stale_evidence_is_refused(staging: Environment, settings: Path) -> None:
    deploy(staging, "ingest")
    verified(staging)
    toml(settings, hours=1e-6)  # 4 ms: less than it takes to ask
    try:
        assert "is too old (limit 1e-06 h)" in refused(named("staging"), "promote", "replay")
    finally:
        toml(settings)


def test_altered_evidence_proves_nothing(staging: Environment) -> None:
    """The record is intact; the notebook that it stands on is not what was recorded."""
    now = deployed(staging)
    said = {"phase": now.phase.name, "verdict": "passed", "sentence": "all is well", "run": "altered"}
    files = [("executed.ipynb", b"what was really seen", "application/json")]
    entry = ledger.append(staging, Kind.VERIFICATION, subjects=about(now), predicate=said, evidence=files)
    overwrite(staging, entry.links[0].key, b"what was wished for")
    assert "a file of the record's evidence is not the file that was recorded" in refused(staging, "promote", "replay")
    verified(staging)  # evidence anew: what is relied on is the newest
    assert [problem.number for problem in ledger.verify(staging)] == [entry.number]


def test_an_altered_ledger_proves_nothing(staging: Environment) -> None:
    """Edited directly in the store, by somebody who takes the bucket's policy away first."""
    before = ledger.verify(staging)
    verified(staging, "failed")
    entry = ledger.read(staging).entries[-1]
    body = ledger.locate(staging).get(entry.key)
    assert body is not None
    overwrite(staging, entry.key, body.replace(b'"failed"', b'"passed"'))
    found = [problem for problem in ledger.verify(staging) if problem not in before]
    assert {problem.number for problem in found} == {entry.number}
    assert "the ledger of staging is damaged" in refused(staging, "promote", "replay")
    assert rollback(staging, "ingest").phase == "ingest"  # never gated


def test_an_override_is_recorded_before_anything_is_done_and_does_not_reach_the_stores(staging: Environment) -> None:
    """The ledger of staging is damaged for good by now; a person may still go on, loudly."""
    said: list[str] = []
    done = promote(staging, "replay", override="the damage was a test of ours, see above", on_progress=said.append)
    assert done.phase == "replay"
    entries = ledger.read(staging).entries
    override = next(entry for entry in entries if entry.kind is Kind.OVERRIDE)
    begun = next(entry for entry in entries if entry.number > override.number)
    assert (begun.kind, begun.predicate["state"]) == (Kind.PROMOTION, "begun")
    assert "the ledger of staging is damaged" in override.predicate["missing"][0]
    assert [line for line in said if line.startswith("!! OVERRIDE by you: the damage was a test of ours")]
    with pytest.raises(Refused, match="is a step back"):
        promote(staging, "ingest", override="not even so")


def test_prod_goes_where_staging_has_been_and_only_there(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger of its own for staging: the one above is damaged."""
    file = toml(tmp_path / "pik.toml")
    file.write_text(file.read_text().replace(f'"{named("staging").config.account}"', '"777788889999"'))
    monkeypatch.setenv(config.CONFIG_VARIABLE, str(file))
    staging, prod = named("staging"), named("prod")
    with pytest.raises(Refused) as refusal:
        deploy(prod, "ingest")
    assert "pik run verify-ingest --env staging" in refusal.value.next_step
    assert stack.read(prod) is None

    deploy(staging, "ingest")
    verified(staging)
    assert deploy(prod, "ingest").changed
    verified(prod)
    assert "phase 2 replay in staging was never verified" in refused(prod, "promote", "replay")
    promote(staging, "replay")
    verified(staging)
    assert promote(prod, "replay").changed

    # Other parameters are prod's own affair; another template is not.
    with edited(tmp_path / "other", other):
        assert "was never verified for this template and code" in refused(prod, "deploy", "replay")
        assert deploy(staging, "replay").changed
        verified(staging)
        assert deploy(prod, "replay").changed


def test_who_approves_is_not_who_promotes(settings: Path, staging: Environment) -> None:
    prod = named("prod")
    with pytest.raises(Refused, match="is not listed in `approvers` of prod"):
        approve(prod, "processor")
    toml(settings, approvers=(ROOT_OF_PROD,))
    try:
        prod = named("prod")
        entry = approve(prod, "processor", comment="looked at the prediction")
        assert entry.digest("template") == stack.digests(prod).template
        assert "nobody but you approved phase 3 processor" in refused(prod, "promote", "processor")
    finally:
        toml(settings)


def test_a_plan_of_a_promotion_is_what_is_deployed_with_the_toggles_changed(staging: Environment) -> None:
    found = plan(staging, "processor", deployed=True, predict=False)
    assert found.base is not None
    assert found.base.template == found.target.template
    assert found.base.code == found.target.code
    assert found.refusals == ()
    assert phases.PROCESSOR.parameters.items() <= found.target.parameters.items()

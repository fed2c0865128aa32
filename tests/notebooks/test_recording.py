"""What a run records in the ledger: each step that proved something, with its evidence, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from moto import mock_aws

from pik import ledger, runbooks
from pik.environments import Environment
from pik.errors import AwsError
from pik.ledger import Entry, Kind
from pik.runbooks import proof
from tests.notebooks.lab import NBFORMAT, RESULT, Lab
from tests.notebooks.offline import active_parts
from tests.unit import ledger_world

SECRET = "sec' + 'ret"


def proven(verdict: str = "passed", sentence: str = "so it is", **more: object) -> str:
    """Source of a cell that ends with a result that proves phase 2."""
    return f"""
from pik.results import Check, Evidence, Proof, StepResult
StepResult(title="2 replay", headline="as found",
    checks=[Check(name="second", verdict={verdict!r}, sentence={sentence!r}, blocking={more.get("blocking", True)},
        evidence=[Evidence(label="body", value='{SECRET}-1', payload=True), Evidence(label="n", value="41")])],
    proof=Proof(phase="replay", template="1" * 64, code="2" * 64, parameters="3" * 64))
"""


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """An environment with a ledger, in moto; the notebooks themselves ask no AWS."""
    with mock_aws():
        there = ledger_world.environment(monkeypatch)
        monkeypatch.setattr(proof, "environment", lambda name: there)
        yield there


def content(env: Environment, entry: Entry) -> dict[str, bytes]:
    """The evidence of an entry, by the end of its name."""
    client = env.client("s3")
    found = {link.name: client.get_object(Bucket="evidence", Key=link.key)["Body"].read() for link in entry.links}
    assert all(hashlib.sha256(found[link.name]).hexdigest() == link.sha256 for link in entry.links)
    return found


def test_a_step_that_proved_something_is_recorded_with_its_evidence(lab: Lab, env: Environment) -> None:
    lab.notebook("one", RESULT)
    lab.notebook("two", proven())
    lab.runbook("one", "two")

    run = lab.run()

    (entry,) = ledger.read(env, evidence=True).entries
    assert (entry.kind, entry.phase, entry.verdict, entry.run) == (Kind.VERIFICATION, "replay", "passed", run.id)
    assert [entry.digest(name)[0] for name in ("template", "code", "parameters")] == ["1", "2", "3"]
    assert entry.digest("notebook:two.ipynb") == run.steps[1].source_sha256
    assert entry.digest("git") == (run.git.commit if run.git else "")
    assert entry.predicate["git_dirty"] == (run.git.dirty if run.git else None)
    assert entry.predicate["checks"] == [
        {"name": "second", "verdict": "passed", "blocking": True, "sentence": "so it is"}
    ]
    assert entry.predicate["runbook"] == {"name": "trial", "sha256": run.runbook.sha256}
    files = content(env, entry)
    assert list(files) == ["02-two.ipynb", "02-two.html", "02-two-result.json", "02-two-report.html"]
    assert files["02-two.ipynb"] == (run.path / str(run.steps[1].executed)).read_bytes()
    record = json.loads((run.path / "run.json").read_text())
    assert record["steps"][1]["ledger"] == {"number": 1, "hash": entry.hash}
    assert record["steps"][0]["ledger"] is None
    assert f'recorded as ledger entry 1 · <code title="{entry.hash}">' in run.report.read_text()
    page = lab.root / "stored.html"
    page.write_bytes(files["02-two-report.html"])
    assert active_parts(page) == []
    assert "Passed" in page.read_text().split("<h1>")[1][:100]


@pytest.mark.parametrize(("verdict", "blocking"), [("failed", True), ("inconclusive", True), ("passed", False)])
def test_what_did_not_pass_is_recorded_as_well_and_again_when_it_is_repaired(
    verdict: str, blocking: bool, lab: Lab, env: Environment
) -> None:
    lab.notebook("one", proven(verdict, blocking=blocking))
    lab.runbook("one")
    run = lab.run()
    lab.notebook("one", proven())

    again = runbooks.resume(run.path)

    first, second = ledger.read(env).entries
    assert (first.verdict, second.verdict) == ("inconclusive" if verdict == "passed" else verdict, "passed")
    assert first.predicate["checks"][0]["verdict"] == verdict
    assert again.steps[0].ledger is not None
    assert again.steps[0].ledger.number == second.number == 2
    assert second.links[0].name == "01-one-attempt-2.ipynb"
    assert ledger.verify(env, receipt=f"2:{again.steps[0].ledger.hash}") == ()


def test_payloads_go_where_the_run_keeps_them_and_nowhere_else(lab: Lab, env: Environment) -> None:
    path = lab.notebook("one", f"print('{SECRET}-2')", proven())
    notebook = NBFORMAT.read(path, as_version=4)
    notebook.cells[2].metadata["tags"] = ["payload"]
    NBFORMAT.write(notebook, path)
    lab.runbook("one")

    lab.run()
    lab.run(payloads=False)

    kept, bare = ledger.read(env).entries
    for entry in (kept, bare):
        assert b"secret-" not in entry.to_bytes()
        assert b"secret-" not in content(env, entry)["01-one-result.json"]
        assert b'"41"' in content(env, entry)["01-one-result.json"]
    assert b"secret-2" in content(env, kept)["01-one.ipynb"]
    assert not any(b"secret-" in body for body in content(env, bare).values())
    assert (kept.predicate["payloads"], bare.predicate["payloads"]) == (True, False)


def test_what_cannot_be_recorded_keeps_its_verdict_and_says_why(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(name: str) -> Environment:
        raise AwsError(f"{name} does not run", reason="nobody started it")

    monkeypatch.setattr(proof, "environment", refusing)
    lab.notebook("one", proven())
    lab.notebook("two", proven(blocking=False))
    lab.runbook("one", "two")

    run = lab.run()

    assert [step.state for step in run.steps] == ["passed", "inconclusive"]
    why = "not recorded in the ledger: local does not run: nobody started it"
    assert run.steps[0].note == why
    assert run.steps[1].note == f"the result has no blocking check: nothing was proven; {why}"
    assert run.steps[0].ledger is None
    assert why in run.report.read_text()


def test_a_step_that_proved_nothing_asks_no_aws(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(proof, "environment", asked.append)
    lab.notebook("one", RESULT)
    lab.notebook("two", "1 / 0")
    lab.runbook("one", "two")

    run = lab.run()

    assert [step.state for step in run.steps] == ["passed", "failed"]
    assert [step.note for step in run.steps] == ["", ""]
    assert asked == []

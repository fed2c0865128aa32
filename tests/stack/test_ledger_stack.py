"""The ledger of a deployed stack: runs write it, everybody finds it the same, and whoever edits it is found out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

import pik
from pik import emulator, ledger, project, runbooks
from pik.aws import stack
from pik.config import CONFIG_VARIABLE
from pik.environments import Environment, environment
from pik.ledger import Entry, Flaw, Kind
from pik.ledger.entry import key
from pik.rollout.deploy.deploy import deploy
from tests.conftest import Deploy

REHEARSAL = "111122223333"
PROVES = """
from pik.environments import environment
from pik.results import Check, Proof, StepResult
from pik.aws import stack
now = stack.digests(environment(env))
StepResult(
    title="1 ingest",
    headline="it answers",
    checks=[Check(name="the API answers", verdict="passed", sentence="it does")],
    proof=Proof(phase="ingest", template=now.template, code=now.code, parameters="3" * 64),
)
"""
V4: Any = nbformat.v4


@pytest.fixture(scope="module")
def env(embedded_env: Environment, deployed: Deploy) -> Environment:
    deployed("ingest")
    return embedded_env


@pytest.fixture(scope="module")
def rehearsal(env: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The environment dev, rehearsed on the same embedded AWS in an account of its own."""
    config = tmp_path_factory.mktemp("config") / "pik.toml"
    config.write_text(f'[environments.dev]\naccount = "{REHEARSAL}"\nplatform = "embedded"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CONFIG_VARIABLE, str(config))
        dev = environment("dev")
        deploy(dev, "ingest")
        yield dev


def add(env: Environment, kind: Kind = Kind.DEPLOY, **predicate: Any) -> Entry:
    digests = stack.digests(env)
    about = ledger.subjects(template=digests.template, code=digests.code)
    note = ("note.txt", f"{predicate}".encode(), "text/plain")
    return ledger.append(env, kind, subjects=about, predicate={"phase": "ingest", **predicate}, evidence=[note])


def bucket(env: Environment) -> str:
    return env.outputs()["EvidenceBucket"]


def flaws(env: Environment, receipt: str = "") -> list[tuple[Flaw, int | None]]:
    return [(problem.flaw, problem.number) for problem in ledger.verify(env, receipt=receipt)]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    pik_ = [sys.executable, "-c", "from pik.cli import main; main()"]
    return subprocess.run([*pik_, "ledger", *arguments], capture_output=True, text=True, check=False)


def test_a_run_is_recorded_with_what_it_proved(
    env: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("notebooks", "runbooks", "runs"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(project, name.upper(), tmp_path / name)
    parameters = V4.new_code_cell('env = "local"', metadata={"tags": ["parameters"]})
    notebook = V4.new_notebook(cells=[V4.new_markdown_cell("# t"), parameters, V4.new_code_cell(PROVES)])
    (tmp_path / "notebooks" / "one.ipynb").write_text(nbformat.writes(notebook))
    (tmp_path / "runbooks" / "trial.yaml").write_text(
        "name: trial\ntitle: t\nparameters:\n  env: {type: environment}\n"
        "steps:\n  - {id: one, title: One, notebook: one.ipynb}\n"
    )

    run = runbooks.run("trial", "local")

    book = ledger.read(env, evidence=True)
    entry = book.verification("ingest")
    assert entry is not None
    assert book.problems == ()
    assert (entry.run, entry.verdict, entry.account) == (run.id, "passed", "000000000000")
    assert entry.digest("code") == stack.digests(env).code
    assert len(ledger.fetch(env, entry, tmp_path / "evidence")) == 4
    assert run.steps[0].ledger is not None
    assert str(run.steps[0].ledger) == str(entry)
    frame = pik.connect("local").ledger()
    assert frame["hash"].iloc[-1] == entry.hash


def test_writers_who_meet_never_share_a_number(env: Environment) -> None:
    before = len(ledger.read(env).entries)

    with ThreadPoolExecutor(6) as pool:
        added = list(pool.map(lambda n: add(env, n=n), range(18)))

    assert sorted(entry.number for entry in added) == list(range(before + 1, before + 19))
    assert flaws(env, added[0].receipt) == []


def test_the_ledger_is_the_same_after_a_restart(env: Environment) -> None:
    receipt = add(env).receipt

    emulator.down()
    emulator.up()

    assert flaws(environment("local"), receipt) == []


def test_two_environments_have_two_ledgers(env: Environment, rehearsal: Environment) -> None:
    here, there = add(environment("local")), add(rehearsal)

    assert (there.number, there.environment, there.account) == (2, "dev", REHEARSAL)  # the deploy was the first
    assert there.by == f"arn:aws:iam::{REHEARSAL}:root"
    assert [entry.kind for entry in ledger.read(rehearsal).entries] == [Kind.DEPLOY, there.kind]
    assert there.hash not in [entry.hash for entry in ledger.read(environment("local")).entries]
    copied = replace(here, number=3, previous=there.hash)
    copied = replace(copied, hash=copied.computed_hash())  # as well as it can be forged
    rehearsal.client("s3").put_object(Bucket=bucket(rehearsal), Key=key(3), Body=copied.to_bytes(), IfNoneMatch="*")
    assert flaws(rehearsal) == [*[(Flaw.MISPLACED, 3)] * 3, (Flaw.EVIDENCE_MISSING, 3)]


def test_a_record_edited_in_the_store_is_detected(env: Environment) -> None:
    env = environment("local")  # started anew by an earlier test
    first, edited, last = add(env), add(env, Kind.VERIFICATION, verdict="failed"), add(env)
    s3, name = env.client("s3"), bucket(env)
    assert command("verify", "--receipt", last.receipt).returncode == 0
    s3.delete_bucket_policy(Bucket=name)  # as somebody would who means it

    content = json.loads(edited.to_bytes())
    content["statement"]["predicate"]["verdict"] = "passed"
    s3.put_object(Bucket=name, Key=edited.key, Body=json.dumps(content).encode())

    assert flaws(env) == [(Flaw.REWRITTEN, edited.number), (Flaw.ALTERED, edited.number)]
    said = command("verify")
    assert said.returncode == 4
    assert f"✗ entry {edited.number}: its hash is not that of its content" in said.stdout
    assert "! 2 problems" in command("list").stdout

    forged = replace(edited, statement=content["statement"], hash="")
    forged = replace(forged, hash=forged.computed_hash())
    versions = s3.list_object_versions(Bucket=name, Prefix=edited.key)["Versions"]
    s3.put_object(Bucket=name, Key=edited.key, Body=forged.to_bytes())
    for version in versions:
        s3.delete_object(Bucket=name, Key=edited.key, VersionId=version["VersionId"])
    assert flaws(env) == [(Flaw.UNCHAINED, last.number)]  # no version is left, the next record still tells

    s3.put_object(Bucket=name, Key=first.links[0].key, Body=b"another note")
    assert (Flaw.EVIDENCE_ALTERED, first.number) in flaws(env)

    for number in (last.number, edited.number):
        for version in s3.list_object_versions(Bucket=name, Prefix=key(number))["Versions"]:
            s3.delete_object(Bucket=name, Key=key(number), VersionId=version["VersionId"])
    assert {flaw for flaw, _ in flaws(env)} == {Flaw.EVIDENCE_ALTERED}  # nothing tells that two are gone
    assert (Flaw.RECEIPT, last.number) in flaws(env, last.receipt)  # but a receipt

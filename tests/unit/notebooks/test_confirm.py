"""A notebook that changes an environment says so, and asks before it does; a run and a script are not asked."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from pik.errors import Refused
from pik.headless import HEADLESS
from pik.notebooks import rollout_step as steps
from pik.notebooks.banner import CHANGES, Banner
from pik.notebooks.rollout_steps import IngestStep, ProcessorStep, ReplayStep, RollbackStep
from pik.rollout import confirm as confirming
from pik.rollout.confirm import confirm
from tests.unit.test_results import contrast

BANNER = Banner("dev", "1", "eu-west-1", "pik-dev", "1 ingest", datetime.now(UTC), headless=False)


class Person(list[str]):
    """Somebody who is asked, and types the same each time."""

    types = ""

    def __call__(self, question: str) -> str:
        self.append(question)
        return self.types


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Person:
    """A person at a notebook, who types nothing; and what was asked."""
    person = Person()
    monkeypatch.delenv(HEADLESS, raising=False)
    monkeypatch.setattr(confirming, "_in_a_notebook", lambda: True)
    monkeypatch.setattr("builtins.input", person)
    return person


def test_only_the_environments_name_lets_it_go_on(asked: Person) -> None:
    with pytest.raises(Refused, match="nothing was changed"):
        confirm("prod", "deploys phase 1")
    assert "deploys phase 1" in asked[0]
    assert "Type prod" in asked[0]

    for asked.types in ("y", "yes", "prod2"):
        with pytest.raises(Refused):
            confirm("prod", "deploys phase 1")
    asked.types = " prod "
    confirm("prod", "deploys phase 1")


@pytest.mark.usefixtures("asked")
def test_without_somebody_to_ask_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython.core.error import StdinNotImplementedError

    def nobody(_: str) -> str:
        raise StdinNotImplementedError("no stdin")

    monkeypatch.setattr("builtins.input", nobody)
    with pytest.raises(Refused):
        confirm("dev", "deploys phase 1")


@pytest.mark.parametrize("where", ["a run", "a script"])
def test_a_run_and_a_script_are_not_asked(where: str, asked: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "a run":
        monkeypatch.setenv(HEADLESS, "1")
    else:
        monkeypatch.setattr(confirming, "_in_a_notebook", lambda: False)
    confirm("dev", "deploys phase 1")
    assert asked == []


def test_jupyters_kernel_is_known_by_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not confirming._in_a_notebook()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert confirming._in_a_notebook()


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: IngestStep("dev"), "deploy"),
        (lambda: IngestStep("dev"), "ingest"),
        (lambda: IngestStep("dev"), "probe"),
        (lambda: IngestStep("dev"), "result"),
        (lambda: IngestStep("dev", deploy=False), "deploy"),
        (lambda: ReplayStep("dev"), "replay"),
        (lambda: ReplayStep("dev"), "result"),
        (lambda: ProcessorStep("dev"), "deploy"),
        (lambda: ProcessorStep("dev"), "result"),
        (lambda: RollbackStep("dev"), "roll_back"),
        (lambda: RollbackStep("dev"), "result"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_no_cell_of_a_rollout_changes_anything_unasked(make: Any, change: str) -> None:
    with pytest.raises(Refused, match="nothing was changed"):
        getattr(make(), change)()


def test_it_asks_once(asked: Person) -> None:
    step = IngestStep("dev")
    asked.types = "dev"

    step.agree()
    step.agree()

    assert len(asked) == 1


def test_a_notebook_that_changes_something_looks_different(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "guard", lambda _: None)
    monkeypatch.setattr(steps, "banner", lambda _: BANNER)

    reads, changes = BANNER._repr_html_(), IngestStep("dev").banner._repr_html_()

    assert "reads only" in reads
    assert CHANGES not in reads
    assert "CHANGES AWS: deploys phase 1 ingest" in changes
    assert f"border:2px solid {CHANGES}" in changes
    assert contrast(CHANGES, "#ffffff") >= 4.5
    assert "CHANGES AWS" in repr(replace(BANNER, changes="x"))

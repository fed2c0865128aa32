"""Every investigation, headless, on real flights in the embedded AWS: it answers, the same twice, and opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pik import producer, project, runbooks
from pik.environments import Environment
from pik.results import StepResult
from pik.runbooks import Run
from tests.conftest import Deploy
from tests.inventory import inventory
from tests.notebooks.offline import active_parts

pytestmark = [pytest.mark.stack, pytest.mark.slow]
NOTEBOOKS = ["start.ipynb", *(f"investigate/{path.name}" for path in sorted(project.NOTEBOOKS.glob("investigate/*")))]
SMALL = 600_000  # bytes of a report; a table's library would be more than that
DAY = "2013-01-01"


@pytest.fixture(scope="module")
def flights(embedded_env: Environment, deployed: Deploy) -> Environment:
    """A day of flights, and a few of them again."""
    deployed("processor")
    sent = list(producer.load(f"flights:{DAY}"))
    assert producer.send(sent, embedded_env).safe
    assert producer.send(sent[:3], embedded_env).duplicate >= 3
    return embedded_env


def run(notebook: str, folder: Path, **parameters: Any) -> Run:
    """Run one notebook, as a runbook of its own."""
    given = "".join(f"      {name}: {value!r}\n" for name, value in parameters.items())
    text = "name: trial\ntitle: A trial\nparameters:\n  env: {type: environment}\nsteps:\n  - id: it\n    title: it\n"
    book = folder / "trial.yaml"
    book.write_text(f"{text}    notebook: {notebook}\n" + (f"    parameters:\n{given}" if given else ""))
    return runbooks.run(str(book), "local", runs_dir=folder / "runs")


def result(done: Run) -> StepResult:
    """What the only step found."""
    (step,) = done.steps
    assert step.error is None, step.error
    assert step.result is not None
    return step.result


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_it_answers_headless_and_its_pages_open_offline(notebook: str, flights: Environment, tmp_path: Path) -> None:
    before = inventory(flights)

    done = run(notebook, tmp_path)

    found = result(done)
    assert found.headline
    assert all(check.sentence and (not check.stops or check.remedy) for check in found.checks)
    assert inventory(flights) == before  # it only reads
    for page in (done.report, done.path / str(done.steps[0].html)):
        assert active_parts(page) == []
        assert page.stat().st_size < SMALL


def test_a_missing_window_is_named_the_same_twice_and_with_what_to_do_next(
    flights: Environment, tmp_path: Path
) -> None:
    found = []
    for number in ("one", "two"):
        folder = tmp_path / number
        folder.mkdir()
        done = run("investigate/missing_window.ipynb", folder, source="UA", day=DAY, expected=4.0)
        assert done.exit_code == 4
        found.append(result(done))

    assert found[0] == found[1]
    (window,) = found[0].facts["found"]
    assert (window["start"], window["end"]) == ("2013-01-01T00:00:00.000000Z", "2013-01-01T10:17:00.000000Z")
    assert "pik run stores-reconciliation --env local" in found[0].checks[0].remedy


def test_an_empty_day_says_that_there_is_nothing_and_how_to_get_something(flights: Environment, tmp_path: Path) -> None:
    done = run("investigate/late_data.ipynb", tmp_path, source="UA", day="1999-01-01")

    (check,) = result(done).checks
    assert done.verdict == "inconclusive"
    assert check.sentence.startswith("There is nothing yet")
    assert "pik ingest" in check.remedy

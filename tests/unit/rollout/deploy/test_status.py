from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pik import phases, project
from pik.cli.output import labelled
from pik.cli.rollout import parse_parameters
from pik.environments import Environment
from pik.errors import UsageError
from pik.notebooks.banner import Banner
from pik.rollout.deploy.status import QueueStatus, Status
from pik.rollout.plan import planview
from pik.units import duration, size
from tests.unit.plan_world import a_plan


def test_status_of_nothing_says_how_to_begin() -> None:
    found = Status("dev", "eu-west-1", "pik-dev", "off", account="1", next=("pik deploy --env dev --phase ingest",))
    assert "off" in found.to_text()
    assert found.to_text().splitlines()[-1].endswith("pik deploy --env dev --phase ingest")


def test_status_tells_phase_since_digests_and_queue() -> None:
    found = Status(
        environment="staging",
        region="eu-west-1",
        stack="pik-staging",
        phase="replay",
        account="111122223333",
        account_alias="acme",
        stack_status="UPDATE_COMPLETE",
        since=datetime(2026, 11, 20, 8, tzinfo=UTC),
        by="ana",
        template_digest="9f3c" + "0" * 60,
        code_digest="77ab" + "0" * 60,
        events=1_204_331,
        raw_objects=7,
        raw_bytes=1_900_000_000,
        aggregates=0,
        queue=QueueStatus(1243, 0, 2 * 86_400 + 4 * 3600, 14 * 86_400),
        dead_letters=QueueStatus(0, 0, None, None),
    )
    text = found.to_text()
    for words in ("111122223333 (acme)", "2 replay", "by ana", "9f3c", "1,204,331", "1.9 GB", "oldest 2 d 4 h of 14 d"):
        assert words in text
    assert json.loads(json.dumps(found.as_dict()))["phase_number"] == 2


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_000, "1 d 1 h")])
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (2.5e12, "2.5 TB")])
def test_sizes_are_for_people(number: float, text: str) -> None:
    assert size(number) == text


def test_parameters_are_name_value_pairs() -> None:
    assert parse_parameters(["A=1", "Topic=arn:a=b"]) == {"A": "1", "Topic": "arn:a=b"}
    for wrong in ("A", "=1", "a b=1"):
        with pytest.raises(UsageError):
            parse_parameters([wrong])


def test_the_banner_of_prod_is_red_and_escapes() -> None:
    banner = Banner("prod", "1<2", "eu-west-1", "pik-prod", "1 ingest", datetime.now(UTC), headless=True)
    assert "#c62828" in banner._repr_html_()
    assert "1&lt;2" in banner._repr_html_()
    assert "headless run" in repr(banner)


@pytest.mark.parametrize(
    ("protection", "colour"), [("open", "#2e7d5b"), ("guarded", "#9a6700"), ("protected", "#c62828"), ("", "#c62828")]
)
def test_the_banner_of_ones_own_environment_has_the_colour_of_what_is_as_well_guarded(
    protection: str, colour: str
) -> None:
    when = datetime.now(UTC)
    banner = Banner("qa", "1", "eu-west-1", "pik-qa", "1 ingest", when, headless=True, protection=protection)
    assert colour in banner._repr_html_()


ROLLOUT_NOTEBOOKS = sorted((project.NOTEBOOKS / "rollout").glob("*.ipynb"))


@pytest.mark.parametrize("path", ROLLOUT_NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_clean_and_ends_with_its_result(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) <= 12
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert "".join(cells[-1]["source"]).strip() == "step.result()"
    assert "parameters" in cells[0]["metadata"]["tags"]


@pytest.mark.parametrize("name", ["rollout", "rollback"])
def test_the_runbooks_fit_their_notebooks(name: str) -> None:
    from pik.runbooks import load
    from pik.runbooks.notebook import check_step

    book = load(name)
    assert book.steps
    for step in book.steps:
        check_step(step, project.NOTEBOOKS)


def test_the_documentation_shows_every_phase() -> None:
    text = (project.ROOT / "docs" / "rollout.md").read_text()
    for phase in phases.PHASES[1:]:
        assert phase.label in text
        for proof in phase.proof:
            assert proof in text, f"{phase.label}: {proof}"


@pytest.mark.parametrize(("name", "rehearsed"), [("prod", True), ("local", False)])
def test_a_rehearsal_is_never_taken_for_the_real_environment(name: str, rehearsed: bool) -> None:
    env = Environment(name, region="eu-west-1", endpoint="http://127.0.0.1:1")
    assert env.rehearsal is rehearsed
    assert not Environment(name, region="eu-west-1").rehearsal
    assert labelled(env, "prod is at phase 1 ingest").startswith("REHEARSAL") is rehearsed
    status = Status(name, "eu-west-1", "pik-prod", "ingest", rehearsal=env.rehearsal)
    assert ("REHEARSAL on the embedded AWS" in status.to_text()) is rehearsed


def test_a_plan_of_a_rehearsal_says_so() -> None:
    assert "REHEARSAL on the embedded AWS" in planview.text(a_plan(Platform="embedded"))
    assert "REHEARSAL" in planview.html(a_plan(Platform="embedded"))
    assert "REHEARSAL" not in planview.text(a_plan())

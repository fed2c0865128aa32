"""Notebooks in the project are kept as people should find them: clean, short, and ready to be parameterised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pik import project
from pik.notebooks.parameters_cell import assignments
from pik.runbooks.notebook import read

NOTEBOOKS = sorted(path for path in project.NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
LONGEST_CELL = 30


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: str(path.relative_to(project.NOTEBOOKS)))
def notebook(request: pytest.FixtureRequest) -> Any:
    path: Path = request.param
    return read(path)


def test_it_holds_no_outputs_and_no_counts(notebook: Any) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert [cell.source for cell in code if cell.outputs or cell.execution_count is not None] == []


def test_it_starts_with_a_title_and_a_sentence(notebook: Any) -> None:
    first = notebook.cells[0]

    assert first.cell_type == "markdown"
    title, _, rest = first.source.partition("\n")
    assert title.startswith("# ")
    assert rest.strip()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(project.NOTEBOOKS)))
def test_it_takes_an_environment(path: Path) -> None:
    assert "env" in assignments(path)


def test_its_cells_are_short_and_have_ids_of_their_own(notebook: Any) -> None:
    ids = [cell.get("id") for cell in notebook.cells]

    assert None not in ids
    assert len(set(ids)) == len(ids)
    assert [c.source for c in notebook.cells if c.cell_type == "code" and c.source.count("\n") >= LONGEST_CELL] == []


def test_its_code_compiles(notebook: Any) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            compile(cell.source, "cell", "exec", dont_inherit=True)


def test_its_answer_is_read_before_its_evidence_and_its_code(notebook: Any, request: pytest.FixtureRequest) -> None:
    """Nobody scrolls past code to learn what was found; the step of a rollout answers after what it does."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    investigates = not request.node.callspec.id.startswith("rollout/")
    shown = [cell.source for cell in code if not cell.metadata.get("jupyter", {}).get("source_hidden")]

    assert shown == ([] if investigates else [code[0].source])
    if investigates:
        assert [cell.source for cell in code[1:3]] == [code[1].source, "ask.result()"]
        assert code[1].source.endswith("\nask")
        assert [cell.cell_type for cell in notebook.cells[:4]] == ["markdown", "code", "code", "code"]

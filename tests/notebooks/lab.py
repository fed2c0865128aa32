"""A project in a temporary folder whose notebooks are made in code: one for every way in which a notebook can fail."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from pik import project, provenance, runbooks
from pik.provenance import Where

NBFORMAT: Any = nbformat  # untyped
RESULT = """
from pik.results import Check, Evidence, StepResult
StepResult(title="Step", headline="all is well", checks=[Check(name="c", verdict="passed", sentence="fine")])
"""


def result(verdict: str, *, blocking: bool = True, remedy: str = "") -> str:
    """Source of a cell that ends with a result of one passed check and one of the given verdict."""
    return f"""
from pik.results import Check, StepResult
StepResult(title="Step", headline="as found", checks=[
    Check(name="first", verdict="passed", sentence="fine"),
    Check(name="second", verdict={verdict!r}, sentence="so it is", blocking={blocking}, remedy={remedy!r}),
])
"""


@dataclass
class Lab:
    """Make notebooks and runbooks, and run them."""

    root: Path

    def notebook(self, name: str, *cells: str, tags: Sequence[str] = ("parameters",)) -> Path:
        """Write a notebook with a parameters cell (env, word) and the given code cells."""
        make = NBFORMAT.v4
        parameters = make.new_code_cell('env = "local"\nword = "default"', metadata={"tags": list(tags)})
        notebook = make.new_notebook(
            cells=[make.new_markdown_cell(f"# {name}"), parameters, *(make.new_code_cell(cell) for cell in cells)]
        )
        path = self.root / "notebooks" / f"{name}.ipynb"
        NBFORMAT.write(notebook, path)
        return path

    def runbook(self, *steps: str, extra: str = "") -> None:
        """Write the runbook ``trial``: one step per notebook."""
        lines = "".join(f"  - {{id: {s}, title: {s}, notebook: {s}.ipynb{extra}}}\n" for s in steps)
        parameters = "parameters:\n  word: {type: string, default: given}\n  more: {type: boolean, default: false}\n"
        text = f"name: trial\ntitle: A trial\n{parameters}steps:\n{lines}"
        (self.root / "runbooks" / "trial.yaml").write_text(text)

    def command(self) -> list[str]:
        """Return a command that runs the runbook ``trial`` in a process of its own."""
        script = f"""
import sys
from pathlib import Path
from typing import Any
import pytest
from pik.runbooks import Interrupted
from tests.notebooks.lab import make
try:
    lab = make(Path({str(self.root)!r}), pytest.MonkeyPatch())
    lab.run(on_progress=lambda news: print("ending", flush=True) if news.ending else None)
except Interrupted as stopped:
    sys.exit(stopped.run.exit_code)
"""
        return [sys.executable, "-c", script]

    def run(self, **options: object) -> runbooks.Run:
        """Run the runbook ``trial``."""
        return runbooks.run("trial", "local", **options)  # type: ignore[arg-type]


def make(root: Path, patch: pytest.MonkeyPatch) -> Lab:
    """Return a lab in ``root``, whose folders exist; no AWS is asked."""
    for name in ("notebooks", "runbooks", "runs"):
        patch.setattr(project, name.upper(), root / name)
    place = Where(environment="local", stack="pik-local", region="us-east-1", account="000000000000")
    patch.setattr(project, "TEMPLATE", root / "template.yaml")
    patch.setattr(provenance, "locate", lambda env: place)
    return Lab(root)

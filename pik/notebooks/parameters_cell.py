"""The cell of a notebook that declares its parameters: tagged ``parameters``, a name, a default and a comment a line.

Read without a notebook library and without running it: runbooks are listed, and inputs explained, from it.
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pik.errors import UsageError
from pik.text import named

TAG = "parameters"


@dataclass(frozen=True)
class Assignment:
    """A name's last assignment in the cell: its value (None: only annotated), its comment, and its line (from 1)."""

    value: ast.expr | None
    comment: str
    line: int


def assignments(path: Path) -> dict[str, Assignment]:
    """Return what a notebook's parameters cell assigns, by name in its order.

    Raises:
        UsageError: the notebook is missing or is none (nbformat 4), has no such cell, or the cell is not Python.
    """
    try:
        source = _tagged(json.loads(path.read_bytes())["cells"])
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise broken(path, f"it is not in the form of nbformat 4: {error}") from None
    if source is None:
        raise UsageError(
            f"notebook {path.name} has no cell tagged {TAG}",
            reason="without one, values given to the step would be overwritten or ignored",
            next_step="tag the cell that holds the defaults (in JupyterLab: property inspector, cell tags)",
        )
    try:
        return _assigned(source)
    except (SyntaxError, ValueError, RecursionError) as error:  # ValueError: a null character
        raise broken(path, f"its parameters cell is not Python: {getattr(error, 'msg', error)}") from None


def _tagged(cells: Iterable[Any]) -> str | None:
    """Return the source of the first code cell with the tag."""
    for cell in cells:
        if cell["cell_type"] == "code" and TAG in cell["metadata"].get("tags", []):
            return "".join(cell["source"])  # on disk it is a list of lines
    return None


def _assigned(source: str) -> dict[str, Assignment]:
    tree, found = ast.parse(source), {}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {one.start[0]: one.string.lstrip("#").strip() for one in tokens if one.type == tokenize.COMMENT}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    comment = comments.get(node.end_lineno or node.lineno, "")
                    found[target.id] = Assignment(node.value, comment, node.lineno)
    return found


def missing(path: Path) -> UsageError:
    """Return the error for a notebook that is not there."""
    return UsageError(f"no such notebook: {named(path)}", next_step="pik run --list")


def broken(path: Path, reason: str) -> UsageError:
    """Return the error for a notebook that cannot be read."""
    return UsageError(f"cannot read notebook {path}", reason=reason, next_step="restore it from version control")

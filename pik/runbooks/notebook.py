"""Source notebooks: read them, and find out what is wrong with them before anything runs."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pik.errors import UsageError
from pik.runbooks.suggest import did_you_mean
from pik.text import named

if TYPE_CHECKING:
    from pik.runbooks.runbook import StepSpec

PARAMETERS_TAG = "parameters"


def sha256(path: Path) -> str:
    """Return a file's digest."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def as_text(notebook: Any) -> str:
    """Return a notebook as it is written to disk."""
    import nbformat

    return str(nbformat.writes(notebook))


def read(path: Path) -> Any:
    """Return a notebook (nbformat 4) from disk; raise UsageError when it is missing or is none."""
    import nbformat

    try:
        notebook: Any = nbformat.reads(path.read_bytes().decode("utf-8"), as_version=4)
        nbformat.validate(notebook)
    except FileNotFoundError:
        raise UsageError(f"no such notebook: {named(path)}", next_step="pik run --list") from None
    except UnicodeDecodeError as error:
        raise _broken(path, f"not UTF-8 at byte {error.start}") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, AttributeError) as error:
        raise _broken(path, str(error).splitlines()[0][:200]) from None
    return notebook


def parameter_names(notebook: Any) -> set[str] | None:
    """Return the names assigned in the cell tagged ``parameters``; None when there is no such cell."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and PARAMETERS_TAG in cell.metadata.get("tags", []):
            return set(_assigned(ast.parse(cell.source)))
    return None


def check_step(step: StepSpec, folder: Path) -> None:
    """Raise UsageError unless the step's notebook exists, can be read, and knows each parameter the step passes."""
    path = folder / step.notebook
    notebook = read(path)
    try:
        names = parameter_names(notebook)
    except SyntaxError as error:
        raise _broken(path, f"its parameters cell is not Python: {error.msg}") from None
    if names is None:
        raise UsageError(
            f"notebook {step.notebook} has no cell tagged {PARAMETERS_TAG}",
            reason="without one, values given to the step would be overwritten or ignored",
            next_step="tag the cell that holds the defaults (in JupyterLab: property inspector, cell tags)",
        )
    for name in ("env", *step.parameters):
        if name not in names:
            raise UsageError(
                f"step {step.id}: {step.notebook} takes no parameter {name}{did_you_mean(name, names)}",
                reason=f"its parameters cell has {', '.join(sorted(names)) or 'nothing'}",
                next_step=f"correct the step, or add {name} to the notebook's parameters cell",
            )


def _assigned(tree: ast.Module) -> Iterable[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _broken(path: Path, reason: str) -> UsageError:
    return UsageError(f"cannot read notebook {path}", reason=reason, next_step="restore it from version control")

"""Source notebooks: read them, and find out what is wrong with them before anything runs."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Collection, Iterable
from dataclasses import dataclass
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
        raise _missing(path) from None
    except UnicodeDecodeError as error:
        raise _broken(path, f"not UTF-8 at byte {error.start}") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, AttributeError) as error:
        raise _broken(path, str(error).splitlines()[0][:200]) from None
    return notebook


@dataclass(frozen=True)
class Assignment:
    """A name's last assignment in a cell: its value (None: only annotated), its comment, and its line (from 1)."""

    value: ast.expr | None
    comment: str
    line: int


def parameter_names(notebook: Any) -> set[str] | None:
    """Return the names assigned in the cell tagged ``parameters``; None when there is no such cell."""
    source = _tagged(notebook.cells)
    return None if source is None else set(_assigned(source))


def parameters_source(path: Path) -> str:
    """Return the source of a notebook's cell tagged ``parameters``, without a notebook library; raise UsageError."""
    try:
        source = _tagged(json.loads(path.read_bytes())["cells"])
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _broken(path, f"it is not in the form of nbformat 4: {error}") from None
    if source is None:
        raise _untagged(path.name)
    return source


def assignments(source: str, path: Path) -> dict[str, Assignment]:
    """Return what a parameters cell assigns, by name; raise UsageError when it is not Python."""
    try:
        return _assigned(source)
    except (SyntaxError, ValueError, RecursionError) as error:  # ValueError: a null character
        raise _broken(path, f"its parameters cell is not Python: {getattr(error, 'msg', error)}") from None


def check_step(step: StepSpec, folder: Path) -> None:
    """Raise UsageError unless the step's notebook exists, can be read, and knows each parameter the step passes."""
    path = folder / step.notebook
    source = _tagged(read(path).cells)
    if source is None:
        raise _untagged(step.notebook)
    check_names(step, ("env", *step.parameters), assignments(source, path))


def check_names(step: StepSpec, names: Iterable[str], known: Collection[str]) -> None:
    """Raise UsageError at the first name that is none of the notebook's parameters."""
    for name in names:
        if name not in known:
            raise UsageError(
                f"step {step.id}: {step.notebook} takes no parameter {name}{did_you_mean(name, known)}",
                reason=f"its parameters cell has {', '.join(sorted(known)) or 'nothing'}",
                next_step=f"correct the step, or add {name} to the notebook's parameters cell",
            )


def _tagged(cells: Iterable[Any]) -> str | None:
    """Return the source of the first code cell tagged ``parameters``."""
    for cell in cells:
        if cell["cell_type"] == "code" and PARAMETERS_TAG in cell["metadata"].get("tags", []):
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


def _missing(path: Path) -> UsageError:
    return UsageError(f"no such notebook: {named(path)}", next_step="pik run --list")


def _untagged(notebook: str) -> UsageError:
    return UsageError(
        f"notebook {notebook} has no cell tagged {PARAMETERS_TAG}",
        reason="without one, values given to the step would be overwritten or ignored",
        next_step="tag the cell that holds the defaults (in JupyterLab: property inspector, cell tags)",
    )


def _broken(path: Path, reason: str) -> UsageError:
    return UsageError(f"cannot read notebook {path}", reason=reason, next_step="restore it from version control")

"""Source notebooks: read them, and find out what is wrong with them before anything runs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pik.errors import UsageError
from pik.notebooks.parameters_cell import assignments, broken, missing
from pik.runbooks.suggest import did_you_mean

if TYPE_CHECKING:
    from pik.runbooks.runbook import StepSpec


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
        raise missing(path) from None
    except UnicodeDecodeError as error:
        raise broken(path, f"not UTF-8 at byte {error.start}") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, AttributeError) as error:
        raise broken(path, str(error).splitlines()[0][:200]) from None
    return notebook


def check_step(step: StepSpec, folder: Path) -> None:
    """Raise UsageError unless the step's notebook exists, can be read, and knows each parameter the step passes."""
    path = folder / step.notebook
    read(path)
    check_names(step, ("env", *step.parameters), assignments(path))


def check_names(step: StepSpec, names: Iterable[str], known: Collection[str]) -> None:
    """Raise UsageError at the first name that is none of the notebook's parameters."""
    for name in names:
        if name not in known:
            raise UsageError(
                f"step {step.id}: {step.notebook} takes no parameter {name}{did_you_mean(name, known)}",
                reason=f"its parameters cell has {', '.join(sorted(known)) or 'nothing'}",
                next_step=f"correct the step, or add {name} to the notebook's parameters cell",
            )

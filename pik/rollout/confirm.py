"""A notebook that changes an environment asks first: "Run All" is one click away from a deploy."""

from __future__ import annotations

import sys

from pik.errors import Refused
from pik.headless import headless


def confirm(environment: str, what: str) -> None:
    """Ask the person at the notebook to type the environment's name; return when they did.

    Nobody is asked in a run (its command was the answer) and outside of Jupyter (a script says what it does).

    Args:
        environment: its name, to be typed.
        what: what will be changed, in words.

    Raises:
        Refused: something else was typed, or there is nobody who could.
    """
    if headless() or not _in_a_notebook():
        return
    try:
        typed = input(f"This {what}. Type {environment} and press Enter to go on; anything else changes nothing: ")
    except (EOFError, RuntimeError):  # IPython's StdinNotImplementedError is a RuntimeError
        typed = ""
    if typed.strip() != environment:
        raise Refused(
            "nothing was changed",
            reason=f"this {what}, and {environment} was not typed",
            next_step=f"run this cell again and type {environment}, or let a runbook do it:\npik run --list",
        )


def _in_a_notebook() -> bool:
    """Whether this is Jupyter's kernel: it has loaded ipykernel and made its shell."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")

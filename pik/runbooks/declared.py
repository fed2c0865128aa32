"""The parameters that a notebook declares: its ``parameters`` cell says name, default, type and help of each.

The type is that of the default. What a default cannot say stands at the beginning of its comment::

    most = 100       # how many to show                  an integer; 0.5 is a number, True a boolean, "" text
    day = ""         # date: UTC day; empty: today       also datetime, environment and events
    to = "replay"    # one of: replay|ingest; where to   a choice

Empty text and None are no value: such a parameter is optional, and without one the notebook decides.
"""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pik.errors import UsageError
from pik.notebooks.parameters_cell import Assignment, assignments
from pik.runbooks.parameters import Kind, Parameter, Value
from pik.runbooks.suggest import did_you_mean

_KINDS: dict[type, Kind] = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "string"}
_WORDS: dict[str, Kind] = {
    "one of": "choice",
    "date": "date",
    "datetime": "datetime",
    "environment": "environment",
    "events": "events",
}
_WORD = re.compile(r"(one of\b|one \w+(?=:)|\w+(?=:))(:?)\s*")


def declared(path: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook's cell by name, in its order; raise UsageError, which names file and line.

    Needs no notebook library: runbooks are listed and described without one.
    """
    found = {}
    for name, assigned in assignments(path).items():
        try:
            found[name] = _parameter(assigned)
        except (ValueError, UsageError) as error:
            raise UsageError(
                f"cannot use notebook {path.name}",
                reason=f"parameters cell, line {assigned.line}: {name}: {_reason(error)}",
                next_step=f"correct the cell tagged parameters of {path}; docs/runbooks.md shows its form",
            ) from None
    return found


def _parameter(assigned: Assignment) -> Parameter:
    default: Any = ...
    if assigned.value:
        with suppress(ValueError, TypeError):  # not a literal
            default = ast.literal_eval(assigned.value)
    kind = _KINDS.get(type(default))
    if kind is None:
        raise ValueError("its default is neither text nor a number, True, False or None")
    value: Value | None = None if default == "" else default
    begins = _WORD.match(assigned.comment)
    if begins is None:
        return Parameter(type=kind, default=value, description=assigned.comment)
    word, colon = begins.groups()
    if word not in _WORDS or not colon:
        hint = "" if colon else "; after 'one of' stands a colon"
        raise ValueError(f"its comment begins with {word!r}, which names no type{hint}{did_you_mean(word, _WORDS)}")
    if kind != "string":
        raise ValueError(f"'{word}:' is for text, and its default is of type {kind}")
    rest = assigned.comment[begins.end() :]
    if word != "one of":
        return Parameter(type=_WORDS[word], default=value, description=rest)
    listed, _, description = rest.partition(";")
    choices = tuple(choice.strip() for choice in listed.split("|"))
    if len(set(choices)) < 2 or not all(re.fullmatch(r"\S+", choice) for choice in choices):
        raise ValueError("its comment names no choices; write '# one of: a|b; what it is'")
    return Parameter(type="choice", choices=choices, default=value, description=description.strip())


def _reason(error: ValueError | UsageError) -> str:
    return error.message.removeprefix("parameter default: ") if isinstance(error, UsageError) else str(error)

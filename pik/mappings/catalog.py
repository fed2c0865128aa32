"""The mappings there are: those of the kit, of ``pik.toml``, of a file; and which of them a record asks for."""

from __future__ import annotations

import json
import tomllib
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from pik import config
from pik.errors import UsageError
from pik.mappings.model import Mapping
from pik.project import BUILT_IN_MAPPINGS
from pik.text import named

_LONGEST = 1_000_000  # bytes of a record that is looked at


@cache
def built_in() -> dict[str, Mapping]:
    """Return the mappings that come with the kit."""
    return _of_file(BUILT_IN_MAPPINGS)


def known() -> dict[str, Mapping]:
    """Return every mapping by its name; those of ``pik.toml`` come before the kit's. Raise UsageError."""
    file = config.path()
    return built_in() | _tables(config.mappings(), f"{file.name}: mappings")


def find(name: str) -> Mapping:
    """Return a mapping: by its name, or the one of a file (``shop.toml``). Raise UsageError."""
    if name.endswith(".toml") or "/" in name:
        return _only(Path(name).expanduser())
    mappings = known()
    if name in mappings:
        return mappings[name]
    near = get_close_matches(name, mappings, n=1)
    hint = f"did you mean {near[0]}?" if near else "see which there are:\npik mapping list"
    raise UsageError(f"no such mapping: {named(name)}", next_step=hint)


def recognise(text: bytes) -> Mapping | None:
    """Return the mapping of the kit whose records look like this one; None when there is none."""
    try:
        record = json.loads(text) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict | list):
        return None
    return next((mapping for mapping in built_in().values() if _meets(mapping.recognise, record)), None)


@cache
def _compiled(condition: str) -> Any:
    return jmespath.compile(condition)


def _meets(condition: str, record: Any) -> bool:
    try:
        return bool(condition and _compiled(condition).search(record))
    except JMESPathError:
        return False


def _of_file(path: Path) -> dict[str, Mapping]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = "a mapping's file is TOML; one as an example:\npik mapping show stripe"
        raise UsageError(f"{path} cannot be read", reason=str(error), next_step=hint) from None
    found = document["mappings"] if set(document) == {"mappings"} else {path.stem: document}
    return _tables(found, path.name)


def _tables(tables: Any, where: str) -> dict[str, Mapping]:
    if not isinstance(tables, dict):
        raise UsageError(f"{where}: not a table")
    return {
        name: Mapping.of(name, table, f"{where}.{name}").checked(f"{where}.{name}") for name, table in tables.items()
    }


def _only(path: Path) -> Mapping:
    found = _of_file(path)
    if len(found) != 1:
        raise UsageError(f"{path} has {len(found)} mappings", next_step="put them into pik.toml, and name one")
    return next(iter(found.values()))

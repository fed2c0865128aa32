"""A mapping as it is written down: checked, and with a digest that says which one it was."""

from __future__ import annotations

import hashlib
import json
from collections import abc
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from pik.errors import UsageError
from pik.mappings.times import AMBIGUOUS, UNITS
from pik.pipeline.strict_json import shown
from pik.text import printable

REST, LINE = "rest", "@"
NEEDED = ("source", "event_type", "entity_id", "event_time")
Texts = tuple[str, ...]
Comments = abc.Mapping[str, abc.Sequence[str]]


@dataclass(frozen=True)
class Mapping:
    """Where each part of an event comes from. Several texts: the first whose paths lead somewhere.

    Attributes:
        name: what it is called.
        source: a text; ``{path}`` in it is what is there in the record.
        event_type: a text, in the same way.
        entity_id: a path, or a text with ``{path}`` in it.
        event_time: a path, or a text with ``{path}`` in it.
        idempotency_key: a path, or a text with ``{path}`` in it; none: the event's content is its identity.
        payload: ``rest`` (the record without the members that became names), ``@`` (all of it), or a path.
        time_format: ``auto``, ``iso``, ``s``, ``ms``, ``us``, ``ns`` since 1970, or a pattern of strptime.
        time_zone: what times without an offset are in, such as ``Europe/Berlin``; none: UTC is assumed, and marked.
        ambiguous: ``refuse``, ``earlier`` or ``later``: the hour that clocks show twice.
        explode: the lists in a record whose elements are events: in all paths an element stands for its list.
        numbers: members of the payload that are text and become numbers, such as a CSV file's amounts.
        inexact: numbers that a double cannot hold: ``refuse`` the record, or make them ``text``.
        recognise: a condition (JMESPath) that only such records meet.
        about: what it is for, in a few words.
    """

    name: str
    source: Texts = ()
    event_type: Texts = ()
    entity_id: Texts = ()
    event_time: Texts = ()
    idempotency_key: Texts = ()
    payload: Texts = (REST,)
    time_format: str = "auto"
    time_zone: str = ""
    ambiguous: str = "refuse"
    explode: Texts = ()
    numbers: Texts = ()
    inexact: str = "refuse"
    recognise: str = ""
    about: str = ""

    @classmethod
    def of(cls, name: str, table: Any, where: str) -> Mapping:
        """Return the mapping that a table of TOML is; ``where`` says where it stands. Raise UsageError."""
        if not isinstance(table, dict):
            raise UsageError(f"{where}: not a table")
        known = {field.name: field for field in fields(cls) if field.name != "name"}
        for key in table:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
                raise UsageError(f"{where}: there is no {shown(key)}", next_step=hint)
        return cls(name, **{key: _value(known[key].type, value, f"{where}.{key}") for key, value in table.items()})

    def changed(self, **changes: Any) -> Mapping:
        """Return it with what was given on the command line, and named so."""
        given = {key: value for key, value in changes.items() if value}
        return replace(self, name=f"{self.name}+options" if self.name else "options", **given) if given else self

    def checked(self, where: str) -> Mapping:
        """Return it; raise UsageError when a part is missing or cannot be."""
        if not self.name.isprintable():  # each event keeps it
            raise UsageError(f"{where}: the name holds what cannot be printed")
        for part in NEEDED:
            if not getattr(self, part):
                hint = "on the command line: --source, --type, --entity, --time"
                raise UsageError(f"{where}: {part} is missing", next_step=hint)
        for part, allowed in {"ambiguous": AMBIGUOUS, "inexact": ("refuse", "text")}.items():
            if getattr(self, part) not in allowed:
                raise UsageError(f"{where}: {part} is one of {', '.join(allowed)}")
        if self.time_format not in {"auto", "iso", *UNITS} and "%" not in self.time_format:
            hint = "auto, iso, s, ms, us, ns, or a pattern such as %d/%m/%Y %H:%M"
            raise UsageError(f"{where}: no such time format: {self.time_format}", next_step=hint)
        if self.explode and REST in self.payload:
            hint = 'such as payload = "Records"'
            raise UsageError(f"{where}: with explode, payload is a path to the element", next_step=hint)
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults, as TOML has it: one text as text, several as a list."""
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "name" and value != field.default:
                found[field.name] = value[0] if isinstance(value, tuple) and len(value) == 1 else value
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of what it does; what it is called and how it is described is no part of it."""
        does = {key: value for key, value in self.as_dict().items() if key not in {"about", "recognise"}}
        return hashlib.sha256(json.dumps(does, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @property
    def reference(self) -> str:
        """What an event keeps of it: its name and the beginning of its digest."""
        return f"{self.name[:200]}@{self.digest[:16]}"

    def to_toml(self, comments: Comments = MappingProxyType({})) -> str:
        """Return it as a table of pik.toml, with comments by setting, at the end those of settings that it lacks."""
        lines, settings = [f"[mappings.{self.name}]"], self.as_dict()
        for key in [*settings, *(key for key in comments if key not in settings)]:
            lines += [f"# {printable(comment)}" for comment in comments.get(key, ())]
            lines += [f"{key} = {_toml(settings[key])}"] if key in settings else []
        return "\n".join(lines)


def _value(kind: Any, value: Any, where: str) -> Any:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{where}: a text, or a list of texts")
    if kind == "Texts":
        return tuple(texts)
    if len(texts) > 1:
        raise UsageError(f"{where}: one text")
    return texts[0]


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    literal = '"' in value and "'" not in value and value.isprintable()  # a line end would end the text
    return f"'{value}'" if literal else json.dumps(value, ensure_ascii=False)

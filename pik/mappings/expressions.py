"""Where a value comes from: a path into the record (JMESPath), a text with paths in it, or the first of several.

JMESPath because it has a specification with compliance tests, is what people know from the AWS CLI, and came with boto3
anyway: no new dependency. https://jmespath.org/specification.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jmespath
from jmespath import functions
from jmespath.exceptions import JMESPathError

from pik.errors import UsageError
from pik.pipeline import cloudevents
from pik.pipeline.strict_json import Rejected, shown

_PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
_SIMPLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Missing(ValueError):
    """The record has nothing there; ``empty``: it has the place, such as a table's cell, and no value in it."""

    def __init__(self, reason: str, *, empty: bool = False) -> None:
        super().__init__(reason)
        self.empty = empty


class Unusable(ValueError):
    """The record has something there that cannot be used."""


class _Functions(functions.Functions):  # type: ignore[misc] # jmespath has no types
    """What JMESPath has, and one function more."""

    @functions.signature({"types": ["object"]})  # type: ignore[untyped-decorator]
    def _func_cloudevent_data(self, event: Mapping[str, Any]) -> Any:
        """The data of a CloudEvent, read as the ingest API reads them: sent either way, it is the same event."""
        return cloudevents.structured(event, new=True)["payload"]


_OPTIONS = jmespath.Options(custom_functions=_Functions())


class Path:
    """A path into a record. The name of a member, as it stands, leads to that member: ``Order ID``, ``a.b``."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._compiled = jmespath.compile(text)
        except JMESPathError:
            if any(character in text for character in "[]|&`'\"@"):
                raise UsageError(
                    f"not a path: {text}",
                    reason="it is neither JMESPath nor a name",
                    next_step='such as customer.id, items[0].sku or "http.method" (jmespath.org)',
                ) from None
            self._compiled = None  # a name such as "Order ID"

    def find(self, record: Any) -> Any:
        """Return what is there; None when nothing is. Raise Unusable when the path cannot be followed."""
        if isinstance(record, Mapping) and self.text in record:
            return record[self.text]
        if self._compiled is None:
            return None
        try:
            return self._compiled.search(record, options=_OPTIONS)
        except (JMESPathError, Rejected) as error:
            raise Unusable(f"{self.text}: {error}") from None

    def member(self, record: Any) -> str:
        """Return the name of the member of the record that it is the whole of; empty when it is none."""
        return self.text if isinstance(record, Mapping) and self.text in record else ""


class Text:
    """A text that has values of the record in it, ``{repo.name}``, or one path; ``{{`` is a brace."""

    def __init__(self, text: str, *, is_path: bool) -> None:
        self.text = text
        self._parts: list[str | Path] = []
        if is_path and not _PART.search(text):
            self._parts = [Path(text)]
            return
        at = 0
        for part in _PART.finditer(text):
            self._parts += [text[at : part.start()], Path(part[1]) if part[1] else part[0][0]]
            at = part.end()
        self._parts.append(text[at:])

    def paths(self) -> list[Path]:
        """Return the paths in it."""
        return [part for part in self._parts if isinstance(part, Path)]

    def value(self, record: Any) -> Any:
        """Return the value of its one path, or the text. Raise Missing or Unusable."""
        if len(self._parts) == 1 and isinstance(self._parts[0], Path):
            found = self._parts[0].find(record)
            if found is None or found == "":
                raise without([self._parts[0]], record)
            return found
        return "".join(part if isinstance(part, str) else name(part, record) for part in self._parts)


def name(path: Path, record: Any) -> str:
    """Return what a path leads to as text. Raise Missing or Unusable."""
    found = path.find(record)
    if found is None or found == "":
        raise without([path], record)
    return as_text(found, path.text)


def without(paths: Iterable[Path], record: Any) -> Missing:
    """Return what to raise when none of the paths leads to a value: which are empty, and which are not there."""
    found = {path.text: (path.member(record), path.find(record)) for path in paths}
    empty = [
        f"{shown(text)} is {'empty' if value == '' else 'null'}"
        for text, (member, value) in found.items()
        if value == "" or (member and value is None)
    ]
    gone = [shown(text) for text, (member, value) in found.items() if not member and value is None]
    nowhere = [f"there is no {' or '.join(gone)}"] if gone else []
    return Missing(" and ".join([*empty, *nowhere]), empty=bool(empty))


def as_text(value: Any, where: str = "it") -> str:
    """Return a text or a number as text; raise Unusable for anything else."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = {bool: "true or false", list: "a list", dict: "an object"}.get(type(value), type(value).__name__)
        raise Unusable(f"{where} is {kind}, and not text or a number")
    return json.dumps(value)


class First:
    """The first of several texts whose paths lead somewhere."""

    def __init__(self, texts: tuple[str, ...], *, is_path: bool) -> None:
        self.texts = [Text(text, is_path=is_path) for text in texts]

    def value(self, record: Any, used: set[str] | None = None) -> Any:
        """Return the value; add the members that it is made of, as a whole, to ``used``. Raise Missing or Unusable."""
        for text in self.texts:
            try:
                found = text.value(record)
            except Missing:
                continue
            if used is not None:
                used |= {member for path in text.paths() if (member := path.member(record))}
            return found
        raise without([path for text in self.texts for path in text.paths()], record)

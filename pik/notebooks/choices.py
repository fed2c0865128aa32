"""What exists and may be chosen in a notebook: sources, types and days that have events, entities and events of late.

For input fields in the lab. Each answer takes a few requests (:mod:`pik.workbench.sources`,
:mod:`pik.workbench.latest`), is looked up once, and is empty where AWS can't be asked: then one types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pik.errors import PikError
from pik.workbench.latest import latest_rows
from pik.workbench.sources import Stream, source_names, streams

if TYPE_CHECKING:
    from pik.workbench.workbench import Workbench

T = TypeVar("T")
MOST = 100  # to choose from, of one field
_OF_LATE = {"entity": "entity_id", "event_id": "event_id"}


class Choices:
    """Looks up what the fields of a notebook may hold.

    Args:
        connect: makes the workbench of an environment.
        source: the source that is meant where none is given, for an environment.
    """

    def __init__(self, connect: Callable[[str], Workbench], source: Callable[[str], str] = lambda _: "") -> None:
        self._connect, self._source = connect, source
        self._kept: dict[tuple[str, ...], Any] = {}

    def of(self, name: str, values: Mapping[str, Any]) -> list[str]:
        """Return what a field may hold beside the other ``values``: at most :data:`MOST`, the newest days."""
        env = str(values["env"])
        try:
            if name == "source":
                return self._once(("sources", env), lambda: source_names(self._wb(env), MOST))
            if name in _OF_LATE:
                rows = self._once(("latest", env), lambda: latest_rows(self._wb(env), each=MOST // 8))
                return list(dict.fromkeys(str(row[_OF_LATE[name]]) for row in rows))
            found = self._streams(env, str(values.get("source") or self._source(env)))
        except PikError:
            return []
        if name == "event_type":
            return sorted(stream.event_type for stream in found)[:MOST]
        return sorted({day for stream in found for day in stream.days}, reverse=True)[:MOST]

    def _streams(self, env: str, source: str) -> list[Stream]:
        if not source:
            return []
        return self._once(("streams", env, source), lambda: streams(self._wb(env), source, MOST))

    def _wb(self, env: str) -> Workbench:
        return self._once(("workbench", env), lambda: self._connect(env))

    def _once(self, key: tuple[str, ...], look: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = look()
        found: T = self._kept[key]
        return found

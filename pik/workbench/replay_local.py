"""A replay into a Python function on this machine: real events, code that is not deployed yet.

The set is a plan's, so it is frozen: run today's code and tomorrow's over the same events, and see what differs.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pik import frames
from pik.aws.objects import Object
from pik.errors import UsageError
from pik.events import Event
from pik.pipeline.aggregators import AGGREGATORS
from pik.text import named

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection
    from pik.replays.planning import ReplayPlan

CHUNK = 500  # events that are read before they are handled
_TEXT = pa.string()
_ABOUT = [("event_id", _TEXT), ("entity_id", _TEXT), ("event_time", frames.TIME)]
_OUTCOME = [("result", _TEXT), ("error", _TEXT)]
_OTHER = [("before", _TEXT), ("before_error", _TEXT), ("differs", pa.bool_())]
#: One row for each event. ``result``: what the handler returned, as JSON; ``error``: what it raised, or why the event
#: could not be read; ``ms``: how long it took.
HANDLED = pa.schema([*_ABOUT, *_OUTCOME, ("ms", pa.float64())])
#: The same with a second handler: ``before`` and ``before_error`` are the other one's; ``differs``: whether they
#: differ.
BOTH = pa.schema([*HANDLED, *_OTHER])
#: One row for each entity and day, of an aggregator: what it makes of the day's events.
AGGREGATED = pa.schema([("entity_id", _TEXT), ("day", _TEXT), ("input_count", pa.int64()), *_OUTCOME])
_AGGREGATED_BOTH = pa.schema([*AGGREGATED, *_OTHER])


@dataclass(frozen=True)
class LocalReplay:
    """What handlers made of a plan's events.

    Attributes:
        frame: one row for each event (:data:`HANDLED`, or :data:`BOTH`); of an aggregator one for each entity and day
            (:data:`AGGREGATED`).
        first_error: the traceback of the first event that failed; empty when none did.
        events: how many events there were.
    """

    frame: pd.DataFrame = field(repr=False)
    first_error: str
    events: int

    @property
    def failed(self) -> int:
        """How many rows have an error, of either handler."""
        columns = [name for name in ("error", "before_error") if name in self.frame.columns]
        return int(self.frame[columns].notna().any(axis=1).sum()) if len(self.frame) else 0

    @property
    def differences(self) -> pd.DataFrame:
        """The rows where the two handlers differ; all of them when there was one handler."""
        return self.frame[self.frame["differs"]] if "differs" in self.frame.columns else self.frame

    @property
    def sentence(self) -> str:
        """What it means, in one sentence."""
        what = "aggregates" if "input_count" in self.frame.columns else "results"
        text = f"{self.events:,} events, {len(self.frame):,} {what}, {self.failed:,} failed"
        return f"{text}; {len(self.differences):,} differ" if "differs" in self.frame.columns else text

    def __str__(self) -> str:
        return self.sentence


def local(
    aws: Connection,
    plan: ReplayPlan,
    handler: Any,
    *,
    against: Any = None,
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
) -> LocalReplay:
    """Run a handler over a plan's events.

    Arguments, errors and an example: :meth:`pik.workbench.replaying.Replaying.local`.
    """
    handlers = [_Handler(one) for one in (handler, against) if one is not None]
    if len({one.aggregates for one in handlers}) > 1:
        raise UsageError("one is a function and the other an aggregator", next_step="compare two of the same kind")
    if workers < 1:
        raise UsageError("workers is not positive", next_step="workers=1")
    rows = {row["event_id"]: row for row in plan.rows}.values()  # each event once, as it counts once
    read = _events(aws, rows, progress or (lambda _: None), plan)
    found = [outcomes for chunk in read for outcomes in _handled(handlers, chunk, workers)]
    first = next((outcome.trace for _, outcomes in found for outcome in outcomes if outcome.trace), "")
    made = _aggregated(handlers, found) if handlers[0].aggregates else _each(found)
    return LocalReplay(made, first, len(found))


def load(name: str) -> Any:
    """Return what ``module:name`` is, from the current folder too, or one of the kit's aggregators by its name.

    Raises:
        UsageError: there is no such thing.

    >>> load("daily-summary")                                          # doctest: +ELLIPSIS
    <pik.pipeline.aggregators.DailySummary object at ...>
    """
    if name in AGGREGATORS:
        return AGGREGATORS[name]
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise UsageError(f"not a function: {named(name)}", next_step="module:function, as in handlers:on_order")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found() if isinstance(found, type) else found
    except Exception as error:  # the module's own code runs
        raise UsageError(
            f"{named(name)} cannot be loaded",
            reason=f"{type(error).__name__}: {error}",
            next_step=f'python -c "import {module}" in this folder says more' if module.isidentifier() else "",
        ) from error


@dataclass(frozen=True)
class _Outcome:
    result: Any = None
    text: str | None = None  # the result as JSON, as it was when the handler returned it
    error: str | None = None
    trace: str = ""
    ms: float = 0.0

    @classmethod
    def of(cls, work: Callable[[], Any]) -> _Outcome:
        """Do it, and keep what it returns or raises."""
        began = time.perf_counter()
        try:
            made = work()
            text = json.dumps(made, sort_keys=True)
        except Exception as error:
            return cls(error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
        return cls(made, text, ms=(time.perf_counter() - began) * 1000)


class _Handler:
    """A function of an event, or an aggregator (:class:`pik.pipeline.aggregators.Aggregator`)."""

    def __init__(self, given: Any) -> None:
        self.aggregates = all(callable(getattr(given, name, None)) for name in ("lift", "combine"))
        if not self.aggregates and not callable(given):
            raise UsageError(
                f"not a handler: {named(type(given).__name__)}",
                next_step="a function of one event, or an object with lift and combine",
            )
        self.given = given

    def __call__(self, row: dict[str, Any], event: Event | str) -> _Outcome:
        """Handle one event; text instead of an event says why there is none."""
        if isinstance(event, str):
            return _Outcome(error=event)
        own = copy.deepcopy(event)  # two handlers get the same event, and neither what the other made of it
        if self.aggregates:
            return _Outcome.of(lambda: self.given.lift(own))
        return _Outcome.of(lambda: self.given(_as_dict(row, own)))


def _as_dict(row: dict[str, Any], event: Event) -> dict[str, Any]:
    """An event as a handler gets it."""
    names = ("event_id", "source", "event_type", "entity_id", "event_time", "payload", "idempotency_key")
    return {**{name: getattr(event, name) for name in names}, "s3_key": row["s3_key"]}


def _events(
    aws: Connection, rows: Iterable[dict[str, Any]], progress: Callable[[str], None], plan: ReplayPlan
) -> Iterator[list[tuple[dict[str, Any], Event | str]]]:
    """Read the events, in the order of their times, some at a time."""
    ordered = sorted(rows, key=lambda row: (row["event_time"], row["event_id"]))
    for start in range(0, len(ordered), CHUNK):
        some = ordered[start : start + CHUNK]
        found = aws.objects.many([row["s3_key"] for row in some], lambda _, found: found)
        yield [(row, _event(row, one)) for row, one in zip(some, found, strict=True)]
        progress(f"{min(start + CHUNK, len(ordered)):,} of {len(ordered):,} events of {plan.digest[:12]}")


def _event(row: dict[str, Any], found: Object | None) -> Event | str:
    if found is None:
        return f"there is no raw object {row['s3_key']}"
    if found.metadata.get("body-sha256") != hashlib.sha256(found.body).hexdigest():
        return "the raw object is not what was received"
    try:
        event = found.event()
    except ValueError as error:
        return f"the raw object is not an event: {error}"
    return event if event.event_id == row["event_id"] else "the raw object is another event"


_Handled = tuple[tuple[dict[str, Any], Event | str], list[_Outcome]]


def _handled(
    handlers: list[_Handler], chunk: list[tuple[dict[str, Any], Event | str]], workers: int
) -> Iterator[_Handled]:
    if workers == 1:  # in this thread, in the order of the events: code with a memory of its own is not surprised
        yield from ((one, [handler(*one) for handler in handlers]) for one in chunk)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from zip(chunk, pool.map(lambda one: [handler(*one) for handler in handlers], chunk), strict=True)


def _each(found: list[_Handled]) -> pd.DataFrame:
    rows = []
    both = bool(found) and len(found[0][1]) > 1
    for (row, _), outcomes in found:
        mine, *others = outcomes
        about = {name: row[name] for name in ("event_id", "entity_id", "event_time")}
        rows.append({**about, "result": mine.text, "error": mine.error, "ms": mine.ms, **_beside(mine, others)})
    return frames.frame(BOTH if both else HANDLED, rows)


def _beside(mine: _Outcome, others: list[_Outcome]) -> dict[str, Any]:
    if not others:
        return {}
    (other,) = others
    differs = (mine.text, mine.error) != (other.text, other.error)
    return {"before": other.text, "before_error": other.error, "differs": differs}


def _aggregated(handlers: list[_Handler], found: list[_Handled]) -> pd.DataFrame:
    """Combine the states of each entity and day; an event that failed makes its day one that failed."""
    groups: dict[tuple[str, str], list[list[_Outcome]]] = {}
    for (row, _), outcomes in found:
        groups.setdefault((row["entity_id"], row["event_time"][:10]), []).append(outcomes)
    rows: list[dict[str, Any]] = []
    for (entity, day), group in sorted(groups.items()):
        columns = zip(handlers, zip(*group, strict=True), strict=True)
        mine, *others = [_combined(handler, list(column)) for handler, column in columns]
        about = {"entity_id": entity, "day": day, "input_count": len(group)}
        rows.append({**about, "result": mine.text, "error": mine.error, **_beside(mine, others)})
    return frames.frame(_AGGREGATED_BOTH if len(handlers) > 1 else AGGREGATED, rows)


def _combined(handler: _Handler, outcomes: list[_Outcome]) -> _Outcome:
    if failed := [one for one in outcomes if one.error]:
        return _Outcome(error=f"{len(failed):,} of {len(outcomes):,} events failed; the first: {failed[0].error}")
    return _Outcome.of(lambda: functools.reduce(handler.given.combine, (one.result for one in outcomes)))

"""The summary of a send: counts, latencies, problems, and whether all events are safe."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any

from pik import events
from pik.producer.delivery import ACCEPTED, CONFLICT, DUPLICATE, FAILED, HOPELESS, REJECTED, TOO_LARGE, Outcome

MOST_SOURCES = 20
_SHOWN_PROBLEMS = 20
# Statuses of what failed that say why for certain: sending again would get the same answer.
_DECIDED = {TOO_LARGE, *map(str, HOPELESS)}


@dataclass(frozen=True)
class Problem:
    """One event that is not safely stored as the producer meant it; ``place`` says where in the input, for people.

    ``mapping``: the name of the one that takes such records.
    """

    number: int
    place: str
    result: str
    status: str
    code: str
    error: str
    do_this: str
    id: str
    attempts: int
    mapping: str = ""


@dataclass(frozen=True)
class Summary:
    """The result of one ``send``.

    ``total = accepted + duplicate + conflict + rejected + failed``: every event that was read from the input is in
    exactly one of them. ``latency_ms``: from an event's first attempt to its answer, retries and waits included; null
    without answers. ``dry_run``: the answers said that nothing was written. ``retried``: events that took more than one
    attempt. ``skipped``: settled by an earlier run, and not among the others. ``too_many_rejected``: that is why it
    ``stopped``. ``sources``: of what is stored, at most :data:`MOST_SOURCES` of them, empty for a very long name.
    ``first_event``, ``last_event``: the earliest and the latest time of what is stored, in the kit's format.
    """

    total: int
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    failed: int
    latency_ms: dict[str, float | None]
    seconds: float
    events_per_second: float
    by_status: dict[str, int]
    by_code: dict[str, int]
    retried: int
    dry_run: bool
    dry_run_asked: bool
    interrupted: bool
    stopped: str
    failed_file: str | None
    rejects_file: str | None = None
    skipped: int = 0
    too_many_rejected: bool = False
    sources: tuple[str, ...] = ()
    first_event: str = ""
    last_event: str = ""
    problems: tuple[Problem, ...] = field(default=())

    @property
    def safe(self) -> bool:
        """Whether every event read is stored (or, in a dry run that was asked for, would be), exactly once."""
        stored = self.dry_run_asked or not self.dry_run
        return stored and not (self.conflict or self.rejected or self.failed or self.interrupted or self.stopped)

    @property
    def undecided(self) -> bool:
        """Whether the API answered some events, and every failed event got only 429, 5xx, or no answer.

        Such an event may be stored or not. Sending it again is safe, and the answer says whether it was stored.
        """
        return 0 < self.failed < self.total and not _DECIDED & self.by_status.keys()

    @property
    def exit_code(self) -> int:
        """0 all safe; 4 some need a person (conflict, rejected, nothing written); 5 some failed; 130 interrupted."""
        if self.interrupted:
            return 130
        if self.failed or (self.stopped and not self.too_many_rejected):
            return 5
        return 0 if self.safe else 4

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as one JSON-able object, as ``--json`` prints it."""
        return {**asdict(self), "safe": self.safe}


class OutcomeCounts:
    """Counts outcomes as they come in, from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.results: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._latencies: Counter[float] = Counter()  # milliseconds to three digits: few, however many events
        self._problems: list[Problem] = []
        self._retried = 0
        self._dry_run = False
        self._sources: set[str] = set()
        self._first, self._last = "", ""

    @property
    def done(self) -> int:
        """How many events have their outcome."""
        return self.results.total()

    def add(self, number: int, outcome: Outcome, place: str = "") -> None:
        """Count one event; ``place``: where in the input it is, when that is not line ``number``."""
        with self._lock:
            self.results[outcome.result] += 1
            self._statuses[outcome.status] += 1
            self._retried += outcome.attempts > 1
            self._dry_run = self._dry_run or outcome.answer.get("dry_run") is True
            if outcome.result != FAILED and outcome.attempts:
                self._latencies[float(f"{outcome.seconds * 1000:.3g}")] += 1
            if outcome.result in (ACCEPTED, DUPLICATE):
                self._note(str(outcome.answer.get("s3_key") or ""), str(outcome.answer.get("event_time") or ""))
            else:
                problem = _problem(number, place or f"line {number}", outcome)
                self._codes[problem.code or problem.status] += 1
                if len(self._problems) < _SHOWN_PROBLEMS:
                    self._problems.append(problem)

    def _note(self, key: str, time: str) -> None:
        """Note which source and which time a stored event has, from its answer."""
        if key and len(self._sources) < MOST_SOURCES:
            self._sources.add(events.source_of(key))
        if time:
            self._first, self._last = min(self._first or time, time), max(self._last, time)

    def summary(
        self, *, seconds: float, dry_run: bool, interrupted: bool, stopped: str, failed_file: str | None, **more: Any
    ) -> Summary:
        """Return what is known now; ``more``: other fields of the summary."""
        with self._lock:
            total = self.results.total()
            return Summary(
                total=total,
                accepted=self.results[ACCEPTED],
                duplicate=self.results[DUPLICATE],
                conflict=self.results[CONFLICT],
                rejected=self.results[REJECTED],
                failed=self.results[FAILED],
                latency_ms=quantiles(self._latencies),
                seconds=round(seconds, 3),
                events_per_second=round(total / seconds, 1) if seconds else 0.0,
                by_status=dict(sorted(self._statuses.items())),
                by_code=dict(sorted(self._codes.items())),
                retried=self._retried,
                dry_run=self._dry_run,
                dry_run_asked=dry_run,
                interrupted=interrupted,
                stopped=stopped,
                failed_file=failed_file,
                sources=tuple(sorted(self._sources)),
                first_event=self._first,
                last_event=self._last,
                **more,
                problems=tuple(sorted(self._problems, key=lambda problem: problem.number)),
            )


def quantiles(values: Iterable[float] | Counter[float]) -> dict[str, float | None]:
    """Return p50, p90, p99 (nearest rank: values that were measured) and max; null without values.

    >>> quantiles([4.0, 1.0, 3.0, 2.0])
    {'p50': 2.0, 'p90': 4.0, 'p99': 4.0, 'max': 4.0}
    """
    counts = Counter(values) if not isinstance(values, Counter) else values
    ranks = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    if not counts:
        return dict.fromkeys(ranks)
    ordered = sorted(counts)
    places = list(accumulate(counts[value] for value in ordered))
    return {name: round(ordered[bisect_left(places, -(-places[-1] * rank // 100))], 2) for name, rank in ranks.items()}


def _problem(number: int, place: str, outcome: Outcome) -> Problem:
    answer = outcome.answer
    text = {name: str(answer.get(name) or "") for name in ("code", "error", "do_this")}
    text["error"] = text["error"] or str(answer.get("message") or answer.get("Message") or "")
    identifier = str(answer.get("rejected_id") or answer.get("event_id") or "")
    return Problem(
        number=number,
        place=place,
        result=outcome.result,
        status=outcome.status,
        id=identifier,
        attempts=outcome.attempts,
        mapping=str(answer.get("mapping") or ""),
        **text,
    )

"""The workbench: what one asks of an environment. Reads only, unless a method's name says otherwise.

Every method is a function of a module beside this one, which says what its answer holds; they are imported when they
are first used, so that connecting is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pik.environments import Environment, environment

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from pik.aws.reading import Stores
    from pik.workbench.aggregates import AggregateDiff
    from pik.workbench.duplicates import Duplicates
    from pik.workbench.explain import Explanation
    from pik.workbench.gap_search import GapSearch
    from pik.workbench.gaps import Gaps
    from pik.workbench.lateness import Lateness
    from pik.workbench.objects import Objects
    from pik.workbench.queues import DeadLetters, Queue
    from pik.workbench.reconcile import Reconciliation


@dataclass(frozen=True)
class Workbench:
    """One environment, connected; :func:`connect` makes it.

    >>> wb = connect("local")                                          # doctest: +SKIP
    >>> wb                                                             # doctest: +SKIP
    local · embedded AWS · us-east-1 · stack pik-local · phase 2 replay
    """

    environment: Environment
    account: str
    phase: str
    outputs: dict[str, str] = field(repr=False)

    def __repr__(self) -> str:
        where = "embedded AWS" if self.environment.name == "local" else f"account {self.account}"
        name, region = self.environment.name, self.environment.region
        return f"{name} · {where} · {region} · stack {self.environment.stack} · phase {self.phase}"

    def events(
        self,
        *,
        entity: str | None = None,
        source: str | None = None,
        event_type: str | None = None,
        day: str | None = None,
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        status: str | Sequence[str] | None = None,
        min_lag: str | float | None = None,
        ingested: tuple[str, str] | None = None,
        event_ids: Iterable[str] | None = None,
        include_probes: bool = False,
        allow_scan: bool = False,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> pd.DataFrame:
        """Return arrivals as a frame (:mod:`pik.workbench.metadata`)."""
        from pik.workbench import metadata

        return metadata.events(
            self,
            columns=columns,
            limit=metadata.LIMIT if limit is None else limit,
            entity=entity,
            source=source,
            event_type=event_type,
            day=day,
            start=start,
            end=end,
            status=status,
            min_lag=min_lag,
            ingested=ingested,
            event_ids=event_ids,
            include_probes=include_probes,
            allow_scan=allow_scan,
            progress=progress,
        )

    def sources(self, source: str | None = None, *, most: int = 500) -> pd.DataFrame:
        """Return which sources and types there are, and from which days (:mod:`pik.workbench.sources`).

        Lists folders and reads no event: a few requests for each stream, whatever the environment's age.
        """
        from pik.workbench import sources

        return sources.sources(self, source, most=most)

    @cached_property
    def stores(self) -> Stores:
        """The stores row by row, as the checks read them (:mod:`pik.aws.reading`)."""
        from pik.aws.reading import Stores

        return Stores(self.environment, self.outputs)

    @cached_property
    def objects(self) -> Objects:
        """The raw bucket's objects, many at a time (:mod:`pik.workbench.objects`)."""
        from pik.workbench.objects import Objects

        return Objects(self.environment, self.outputs["RawBucket"])

    def raw(
        self,
        what: pd.DataFrame | Iterable[str],
        *,
        sample: int | None = None,
        flatten: bool = True,
        verify: bool = True,
        progress: Callable[[str], None] | None = None,
    ) -> pd.DataFrame:
        """Return the payloads behind events, their hashes verified (:mod:`pik.workbench.raw`)."""
        from pik.workbench import raw

        return raw.raw(self, what, sample=sample, flatten=flatten, verify=verify, progress=progress)

    def sql(
        self,
        query: str,
        *,
        engine: str = "duckdb",
        max_bytes: int | None = None,
        progress: Callable[[str], None] | None = print,
    ) -> pd.DataFrame:
        """Run SQL over the raw objects, table ``raw`` (:mod:`pik.workbench.sql`)."""
        from pik.workbench import sql

        return sql.sql(self, query, engine=engine, max_bytes=max_bytes, progress=progress)

    @property
    def queue(self) -> Queue:
        """The replay queue: ``wb.queue.peek()`` (:mod:`pik.workbench.queues`)."""
        from pik.workbench.queues import Queue

        return Queue(self)

    @property
    def dlq(self) -> DeadLetters:
        """The dead-letter queue: ``wb.dlq.peek()``, ``wb.dlq.redrive()`` (:mod:`pik.workbench.queues`)."""
        from pik.workbench.queues import DeadLetters

        return DeadLetters(self)

    def replays(
        self,
        *,
        entity: str | None = None,
        replay_ids: Iterable[str] | None = None,
        include_probes: bool = False,
    ) -> pd.DataFrame:
        """Return what was replayed, by whom, and how much of it (:mod:`pik.workbench.replays`)."""
        from pik.workbench import replays

        return replays.replays(self, entity=entity, replay_ids=replay_ids, include_probes=include_probes)

    def aggregates(
        self,
        entity: str | None = None,
        day: str | None = None,
        *,
        replay: str | None = None,
        include_probes: bool = False,
    ) -> pd.DataFrame:
        """Return aggregate versions (:mod:`pik.workbench.aggregates`)."""
        from pik.workbench import aggregates

        return aggregates.aggregates(self, entity, day, replay=replay, include_probes=include_probes)

    def aggregate_diff(self, a: Any, b: Any) -> AggregateDiff:
        """Compare two versions down to the events that differ (:mod:`pik.workbench.aggregates`)."""
        from pik.workbench import aggregates

        return aggregates.aggregate_diff(self, a, b)

    def explain(self, event_id: str, *, logs_since: str | datetime | None = None) -> Explanation:
        """Tell what became of one event, over all stores (:mod:`pik.workbench.explain`).

        Logs are read around the times that the stores give; all of them from ``logs_since`` on, when it is given.
        """
        from pik.workbench import explain

        return explain.explain(self, event_id, logs_since=logs_since)

    def gaps(
        self,
        source: str,
        event_type: str | None = None,
        *,
        start: str | datetime,
        end: str | datetime,
        expected: Any = None,
        arrivals: pd.DataFrame | None = None,
    ) -> Gaps:
        """Find windows in which a stream fell silent against its own rhythm (:mod:`pik.workbench.gaps`)."""
        from pik.workbench import gaps

        return gaps.gaps(self, source, event_type, start=start, end=end, expected=expected, arrivals=arrivals)

    def search_gaps(
        self, source: str | None = None, event_type: str | None = None, *, start: str | datetime, end: str | datetime
    ) -> GapSearch:
        """Find such windows of every source, or of one, the highest score first (:mod:`pik.workbench.gap_search`)."""
        from pik.workbench import gap_search, times

        begin, stop = times.moment(start, "start"), times.moment(end, "end")
        return gap_search.search(self, source, event_type, start=begin, end=stop)

    def lateness(
        self,
        source: str,
        event_type: str | None = None,
        *,
        start: str | datetime,
        end: str | datetime,
        arrivals: pd.DataFrame | None = None,
    ) -> Lateness:
        """Find what came late, or from a clock that is ahead (:mod:`pik.workbench.lateness`)."""
        from pik.workbench import lateness

        return lateness.lateness(self, source, event_type, start=start, end=end, arrivals=arrivals)

    def duplicates(self, *, start: str | datetime, end: str | datetime, **selection: Any) -> Duplicates:
        """Find duplicate storms: who, when, how many (:mod:`pik.workbench.duplicates`); times are ingest times."""
        from pik.workbench import duplicates

        return duplicates.duplicates(self, start=start, end=end, **selection)

    def reconcile(self, start: str | datetime, end: str | datetime) -> Reconciliation:
        """Compare all stores for events of a window; classify every disagreement (:mod:`pik.workbench.reconcile`)."""
        from pik.workbench import reconcile

        return reconcile.reconcile(self, start, end)

    def ledger(self) -> pd.DataFrame:
        """Return what was verified, approved, deployed and taken back, verified (:mod:`pik.ledger`)."""
        from pik import ledger

        return ledger.read(self.environment).frame

    def metrics(self, name: str, **selection: Any) -> pd.DataFrame:
        """Return a CloudWatch metric (:mod:`pik.workbench.telemetry`)."""
        from pik.workbench import telemetry

        return telemetry.metrics(self, name, **selection)

    def logs(self, **selection: Any) -> pd.DataFrame:
        """Return log lines (:mod:`pik.workbench.telemetry`)."""
        from pik.workbench import telemetry

        return telemetry.logs(self, **selection)


def connect(env: str = "local") -> Workbench:
    """Connect to an environment: resolve everything from its stack's outputs, now.

    Raises:
        UsageError: no such environment.
        Refused: what answers is not that environment (:mod:`pik.aws.guard`).
        NotDeployed: it has no stack.
        AwsError: no credentials, or AWS said no.

    Example:
        >>> wb = connect("local")                                      # doctest: +SKIP
    """
    from pik.aws import stack
    from pik.aws.guard import guard

    found = environment(env)
    place = guard(found)
    there = place.stack or stack.require(found)
    return Workbench(found, place.account, there.phase.label, there.outputs)

"""The workbench: what one asks of an environment. Reads only, unless a method's name says otherwise.

Every method says what its arguments mean, and calls the function of a module beside this one that answers; modules are
imported when they are first used, so that connecting is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pik.environments import environment
from pik.workbench.questions import Questions

if TYPE_CHECKING:
    from datetime import date, datetime, timedelta

    import pandas as pd

    from pik.workbench.aggregates import AggregateDiff
    from pik.workbench.queues import DeadLetters, Queue
    from pik.workbench.replaying import Replaying


@dataclass(frozen=True, repr=False)
class Workbench(Questions):
    """One environment, connected; :func:`connect` makes it.

    Attributes:
        environment: its name, region, stack and clients.
        account: the AWS account's number.
        phase: the phase it was in when it was connected, such as ``2 replay``.
        outputs: the stack's outputs, by name.

    >>> wb = connect("local")                                          # doctest: +SKIP
    >>> wb                                                             # doctest: +SKIP
    local · embedded AWS · us-east-1 · stack pik-local · phase 2 replay
    """

    def events(
        self,
        *,
        entity: str | None = None,
        source: str | None = None,
        event_type: str | None = None,
        day: str | date | None = None,
        start: str | date | datetime | None = None,
        end: str | date | datetime | None = None,
        status: str | Sequence[str] | None = None,
        min_lag: str | float | timedelta | None = None,
        ingested: tuple[str | datetime, str | datetime] | None = None,
        event_ids: Iterable[str] | None = None,
        include_probes: bool = False,
        allow_scan: bool = False,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> pd.DataFrame:
        """Return arrivals as a frame in the order of event time, one row each; every condition given must hold.

        Args:
            entity: the exact name of an entity.
            source: the exact name of a source.
            event_type: the exact name of a type.
            day: the UTC day of the events; or ``start`` and ``end``.
            start: event time, included: RFC 3339, a day, or an aware datetime.
            end: event time, not included.
            status: ``ACCEPTED``, ``DUPLICATE``, ``CONFLICT``, or several of them; all by default.
            min_lag: only what came at least this late: ``"90s"``, ``"1h"``, a timedelta or seconds.
            ingested: a window of ingest time, (included, not included).
            event_ids: these events, with all their arrivals; ``df.attrs["not_found"]`` lists the unknown ids.
            include_probes: also the events that the rollout's own checks send.
            allow_scan: read the whole table when no key or index fits the conditions.
            columns: only these; all by default. DynamoDB bills the same, and fewer bytes come over the network.
            limit: refuse to read more rows than this, two million by default; what is left out (probes) counts too.
            progress: is called with a sentence after each page, such as ``print``.

        ``df.attrs``: ``consumed_capacity`` (read capacity units), ``requests``, ``rows_read``, ``query`` (what was
        read). Columns: ``pik.frames.EVENTS``.

        Raises:
            UsageError: a time, a duration or a status that is none.
            Refused: only a scan would answer; or more than ``limit`` rows would.
            AwsError: DynamoDB refused or did not answer.

        Example:
            >>> wb.events(source="UA", day="2013-01-01", min_lag="1h")  # doctest: +SKIP
        """
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
        """Return the streams (source and type) that have raw objects, and the days of their events, as a frame.

        Lists folders and reads no event: a few requests for each stream, whatever the environment's age.

        Args:
            source: only this one's; its exact name.
            most: streams to look at, in the order of their names.

        ``df.attrs``: ``requests`` (of S3), ``complete`` (False: there are more than ``most`` streams). The
        rollout's own probes are left out. ``days`` is null beyond a thousand, ``last_day_events``
        beyond a thousand of that day.

        Raises:
            AwsError: S3 refused or did not answer.

        Example:
            >>> wb.sources()[["source", "event_type", "last_day"]]     # doctest: +SKIP
        """
        from pik.workbench import sources

        return sources.sources(self, source, most=most)

    def raw(
        self,
        what: pd.DataFrame | Iterable[str],
        *,
        sample: int | None = None,
        flatten: bool = True,
        verify: bool = True,
        progress: Callable[[str], None] | None = None,
    ) -> pd.DataFrame:
        """Return one row for each raw object behind ``what``: where it is, whether it is intact, then the payload.

        Args:
            what: a frame of :meth:`events`, or event ids. Arrivals that share an object (duplicates) make one row.
            sample: only so many of them, always the same ones.
            flatten: the payload as columns ``payload.<name>``, inner objects as ``payload.<name>.<name>``, of type
                bool, int64, double or string, as all its values allow; arrays, objects more than 20 levels down, and
                values that share no type, as JSON text. A name with a dot in it is quoted, ``payload."a.b"``. A payload
                that is an array is in ``payload``. False: every payload as JSON text in ``payload``.
            verify: compare the bytes with the hash written beside them and, for a first arrival or a conflict, in its
                row, and the event they hold with the row's event id and payload hash. ``hash_ok``: all agree.
            progress: is called with a sentence now and then, such as ``print``.

        ``problem`` is null, or ``missing`` (no object under that key), ``altered`` (a hash differs) or ``unreadable``
        (no event any more). ``df.attrs["not_found"]`` lists ids of which nothing is known.

        Raises:
            UsageError: a frame without the columns that are needed.
            AwsError: S3 or DynamoDB refused or did not answer.

        Example:
            >>> wb.raw(wb.events(source="UA", day="2013-01-01"), sample=10)  # doctest: +SKIP
        """
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
        """Run one SELECT (or WITH … SELECT) over the raw objects, table ``raw``, and return its rows.

        Args:
            query: the SQL. Columns of ``raw``: docs/workbench.md.
            engine: ``duckdb`` fetches the objects that the query can be about, once, and runs here (a few gigabytes);
                ``athena`` runs in AWS and is billed by what it reads.
            max_bytes: refuse to fetch (DuckDB) or read (Athena) more than this; 1 GiB and 10 GiB by default. The
                workgroup has a limit of its own on Athena (``QueryScanLimit``).
            progress: is called with what will be read, and its price, before it is read.

        ``df.attrs``: ``engine``, ``objects``, ``bytes`` (that the query could be about), ``fetched_bytes`` or
        ``query_id``.

        Raises:
            UsageError: not one SELECT; SQL that the engine does not accept; names that Athena needs are not given.
            Refused: more than ``max_bytes``.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.sql("SELECT count(*) n FROM raw WHERE event_date = '2013-01-01' GROUP BY source")  # doctest: +SKIP
        """
        from pik.workbench.sql import query as sql

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

    @property
    def replay(self) -> Replaying:
        """Replays: ``wb.replay.plan()``, ``run()``, ``result()``, ``local()`` (:mod:`pik.workbench.replaying`)."""
        from pik.workbench.replaying import Replaying

        return Replaying(self)

    def replays(
        self,
        *,
        entity: str | None = None,
        replay_ids: Iterable[str] | None = None,
        include_probes: bool = False,
    ) -> pd.DataFrame:
        """Return replays as a frame, oldest first: what was asked for, by whom, and how much of it was sent.

        ``complete`` is false when a replay stopped before the end of its window: ``wb.replay.resume(replay_id)``.

        Args:
            entity: only this entity's; its exact name.
            replay_ids: only these; ids that never existed are left out.
            include_probes: also those of the rollout's own probes, which are left out unless they are named.

        Raises:
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.replays(entity="N14228")[["replay_id", "sent", "complete"]]  # doctest: +SKIP
        """
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
        """Return the versions of aggregates as a frame, and their numbers as ``state.…`` columns.

        Args:
            entity: only this entity's; its exact name.
            day: only this UTC day's, such as ``2013-01-01``.
            replay: only the version of this replay, its id.
            include_probes: also those of the rollout's own probes, which are left out unless they are named.

        ``completeness`` is COMPLETE when the replay was sent to its end and every event of the day is counted, PARTIAL
        when not yet, UNKNOWN when the replays table does not say what to expect. ``expected_count`` is what it says. A
        version that is expected and not written has ``input_count`` 0 and no state. With entity and day also those are
        there that the replays table does not explain.

        Raises:
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.aggregates("N14228", "2013-01-01")[["replay_id", "input_count"]]  # doctest: +SKIP
        """
        from pik.workbench import aggregates

        return aggregates.aggregates(self, entity, day, replay=replay, include_probes=include_probes)

    def aggregate_diff(self, a: Any, b: Any) -> AggregateDiff:
        """Compare two versions of an aggregate down to the events that only one of them counts.

        Args:
            a: a version: (entity, day, replay), or a mapping or row of :meth:`aggregates` with those columns.
            b: another one.

        Raises:
            UsageError: not a version; or it is not written.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.aggregate_diff(("N1", "2013-01-01", "rp-1"), ("N1", "2013-01-01", "rp-2")).sentence  # doctest: +SKIP
        """
        from pik.workbench import aggregates

        return aggregates.aggregate_diff(self, a, b)

    def ledger(self) -> pd.DataFrame:
        """Return the environment's ledger as a frame: what was deployed, verified, approved and rolled back, by whom.

        The records are verified while they are read; ``df.attrs["problems"]`` has a sentence for each that is wrong.

        Raises:
            AwsError: AWS refused or did not answer.
        """
        from pik import ledger

        return ledger.read(self.environment).frame


def connect(env: str = "local") -> Workbench:
    """Connect to an environment: resolve everything from its stack's outputs, now.

    Args:
        env: its name: ``local`` (the embedded AWS), or one of pik.toml such as ``dev``.

    Raises:
        UsageError: no such environment.
        Refused: what answers is not that environment (:mod:`pik.aws.guard`).
        NotDeployed: it has no stack.
        AwsError: no credentials, or AWS refused or did not answer.

    Example:
        >>> wb = connect("local")                                      # doctest: +SKIP
    """
    from pik.aws import stack
    from pik.aws.guard import guard

    found = environment(env)
    place = guard(found)
    there = place.stack or stack.require(found)
    return Workbench(found, place.account, there.phase.label, there.outputs)

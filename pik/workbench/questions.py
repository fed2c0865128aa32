"""Questions over several stores, and of CloudWatch: a part of the facade :class:`pik.workbench.Workbench`.

It is a file of its own because one would be too long. As there, each method says what its arguments mean and calls the
function that answers, whose module is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from pik.aws.connection import Connection
from pik.pipeline.settings import METRICS_NAMESPACE

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from pik.workbench.consistency.explanation import Explanation
    from pik.workbench.consistency.reconcile import Reconciliation
    from pik.workbench.detect.duplicates import Duplicates
    from pik.workbench.detect.gap_search import GapSearch
    from pik.workbench.detect.gaps import Gaps
    from pik.workbench.detect.lateness import Lateness
    from pik.workbench.workbench import Workbench


class Questions(Connection):
    """The methods of :class:`pik.workbench.Workbench` that find something out; a base of that class alone."""

    @property
    def _wb(self) -> Workbench:
        """The whole facade, for those that ask it for arrivals; the others need no more than the connection."""
        return cast("Workbench", self)

    def explain(self, event_id: str, *, logs_since: str | datetime | None = None) -> Explanation:
        """Explain one event: what happened to it, from all stores. A timeline, what is wrong, and one sentence
        (``became``).

        Args:
            event_id: an event's id (64 hexadecimal digits), or a rejected body's (``2026-11-23.0f3a…``).
            logs_since: read all log lines from this time on (RFC 3339 or an aware datetime); without it, only those
                around the times that the stores give.

        Raises:
            UsageError: it is no such id, or no time; the stores cannot be searched for a part of an id.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.explain("90fdc0d0…").became                         # doctest: +SKIP
        """
        from pik.workbench.consistency import explain

        return explain.explain(self, event_id, logs_since=logs_since)

    def gaps(
        self,
        source: str,
        event_type: str | None = None,
        *,
        start: str | datetime,
        end: str | datetime,
        expected: float | Sequence[float] | None = None,
        arrivals: pd.DataFrame | None = None,
    ) -> Gaps:
        """Find the windows of [start, end) in which a stream was silent although its baseline expects events.

        Args:
            source: the stream's source, its exact name.
            event_type: its type; all of the source's types together when it is left out.
            start: event time, included; RFC 3339, a day, or an aware datetime.
            end: event time, not included; what lies in the future is not judged.
            expected: events an hour (one number, or 24 for the UTC hours of a day) instead of the learned baseline.
            arrivals: the stream's first arrivals, with days before and after the window, where they are read already.

        Raises:
            UsageError: the window is empty, or ``expected`` is neither a number nor 24 of them.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.gaps("UA", start="2013-01-01", end="2013-01-15").frame  # doctest: +SKIP
        """
        from pik.workbench.detect import gaps

        return gaps.gaps(self._wb, source, event_type, start=start, end=end, expected=expected, arrivals=arrivals)

    def search_gaps(
        self, source: str | None = None, event_type: str | None = None, *, start: str | datetime, end: str | datetime
    ) -> GapSearch:
        """Find such windows of every source, or of one, the highest score first.

        Args:
            source: only this one's; every source when it is left out.
            event_type: its type, or that of every source; all types together when it is left out.
            start: event time, included; RFC 3339, a day, or an aware datetime.
            end: event time, not included.

        The answer's ``unsearched`` names sources that were too large to be read as well, and why.

        Raises:
            UsageError: no time.
            Refused: the only source is too large.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.search_gaps(start="2013-01-01", end="2013-01-15").frame  # doctest: +SKIP
        """
        from pik.workbench import times
        from pik.workbench.detect import gap_search

        begin, stop = times.moment(start, "start"), times.moment(end, "end")
        return gap_search.search(self._wb, source, event_type, start=begin, end=stop)

    def lateness(
        self,
        source: str,
        event_type: str | None = None,
        *,
        start: str | datetime,
        end: str | datetime,
        arrivals: pd.DataFrame | None = None,
    ) -> Lateness:
        """Find which of a stream's events of [start, end) came late, or from a clock that is ahead.

        Args:
            source: the stream's source, its exact name.
            event_type: its type; all of the source's types together when it is left out.
            start: event time, included; RFC 3339, a day, or an aware datetime.
            end: event time, not included.
            arrivals: the stream's arrivals of the window, where they are read already.

        Raises:
            UsageError: the window is empty.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.lateness("UA", start="2013-01-01", end="2013-01-02").sentences  # doctest: +SKIP
        """
        from pik.workbench.detect import lateness

        return lateness.lateness(self._wb, source, event_type, start=start, end=end, arrivals=arrivals)

    def duplicates(
        self,
        *,
        start: str | datetime,
        end: str | datetime,
        source: str | None = None,
        entity: str | None = None,
        arrivals: pd.DataFrame | None = None,
    ) -> Duplicates:
        """Find duplicate storms among what arrived in [start, end): who sent the same again, when, how often.

        Args:
            start: ingest time, included; RFC 3339, a day, or an aware datetime.
            end: ingest time, not included.
            source: only this source's; its exact name.
            entity: only this entity's; its exact name.
            arrivals: what arrived in the window, where it is read already.

        Raises:
            UsageError: the window is empty.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.duplicates(start="2026-11-23", end="2026-11-24").sentences  # doctest: +SKIP
        """
        from pik.workbench.detect import duplicates

        return duplicates.duplicates(self._wb, start=start, end=end, source=source, entity=entity, arrivals=arrivals)

    def reconcile(
        self, start: str | datetime, end: str | datetime, *, progress: Callable[[str], None] | None = None
    ) -> Reconciliation:
        """Compare raw objects, metadata, dedupe rows, replays and aggregates for the events of [start, end).

        Every disagreement is classified; :mod:`pik.workbench.consistency.reconcile` says what each kind means.

        Args:
            start: event time, included; RFC 3339, a day, or an aware datetime.
            end: event time, not included.
            progress: is called with a sentence now and then, such as ``print``.

        Raises:
            UsageError: the window is empty.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.reconcile("2013-01-01", "2013-01-02").clean         # doctest: +SKIP
            True
        """
        from pik.workbench.consistency import reconcile

        return reconcile.reconcile(self, start, end, progress=progress)

    def metrics(
        self,
        name: str,
        *,
        namespace: str = METRICS_NAMESPACE,
        dimensions: Mapping[str, str] | None = None,
        service: str | None = None,
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        period: int = 60,
        stat: str = "Sum",
    ) -> pd.DataFrame:
        """Return a CloudWatch metric's points as a frame, in the order of time.

        Args:
            name: such as ``Accepted``, ``Duplicate``, ``IngestLag`` (ms), ``ReplaySent``, ``Counted``.
            namespace: another one than the pipeline's own, such as ``AWS/SQS``.
            dimensions: exactly these; without them, every series of this environment that has the name.
            service: only the series of ``ingest``, ``replay`` or ``processor``.
            start: RFC 3339 or an aware datetime; 24 hours before ``end`` if not given.
            end: not included; now if not given.
            period: seconds that one point covers, a multiple of 60.
            stat: Sum, Average, Minimum, Maximum or SampleCount.

        Raises:
            UsageError: no such statistic; not a period; no time.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.metrics("Accepted").set_index("time")["value"].sum()  # doctest: +SKIP
            697.0
        """
        from pik.workbench import telemetry

        window: dict[str, Any] = {"start": start, "end": end, "period": period, "stat": stat}
        return telemetry.metrics(self, name, namespace=namespace, dimensions=dimensions, service=service, **window)

    def logs(
        self,
        *,
        event_id: str | None = None,
        request_id: str | None = None,
        text: str | None = None,
        function: str | None = None,
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        limit: int = 10_000,
        requests: int | None = None,
    ) -> pd.DataFrame:
        """Return log lines as a frame, in the order of time.

        CloudWatch reads every line of the window to find some, and answers a part of it at a time: ask for short
        windows.

        Args:
            event_id: lines that name this event.
            request_id: lines that name this request: API Gateway's id, or Lambda's.
            text: lines that hold this text (letter by letter).
            function: ``ingest``, ``replay``, ``processor`` or ``access``; all of them if not given.
            start: RFC 3339 or an aware datetime; 24 hours before ``end`` if not given.
            end: not included; now if not given.
            limit: at most so many lines from each function.
            requests: at most so many requests for each function; without a limit if not given.

        Lines that are no JSON (Lambda's own) have only ``message`` and ``line``. ``df.attrs["complete"]`` is false when
        there were more than ``limit`` lines, or when ``requests`` did not reach the end of the window.

        Raises:
            UsageError: no such function; no time.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.logs(event_id="90fdc0d0…")[["time", "service", "message"]]  # doctest: +SKIP
        """
        from pik.workbench import telemetry

        wanted: dict[str, Any] = {"event_id": event_id, "request_id": request_id, "text": text, "function": function}
        return telemetry.logs(self, **wanted, start=start, end=end, limit=limit, requests=requests)

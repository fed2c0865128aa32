"""Replays from Python: plan, run, go on, look what came of it, and run the same events through code of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pik.errors import UsageError
from pik.replays import planning, running
from pik.replays.planning import ReplayPart, ReplayPlan
from pik.replays.records import Replay
from pik.replays.runs import ReplayRun
from pik.workbench.times import moment

if TYPE_CHECKING:
    from datetime import date, datetime

    import pandas as pd

    from pik.aws.connection import Connection
    from pik.workbench.replay_local import LocalReplay
    from pik.workbench.replay_results import ReplayResult


@dataclass(frozen=True)
class Replaying:
    """Replays of one environment: ``wb.replay``."""

    aws: Connection

    def plan(
        self,
        events: pd.DataFrame | Iterable[str] | None = None,
        *,
        entities: str | Iterable[str] | None = None,
        start: str | date | datetime | None = None,
        end: str | date | datetime | None = None,
        include_duplicates: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> ReplayPlan:
        """Plan a replay: the exact messages, what is left out, what it costs. Changes nothing.

        Give ``entities`` with ``start`` and ``end``; or ``events``, which stands for the whole days of their entities,
        because an aggregate belongs to an entity and a day.

        Args:
            events: a frame with ``entity_id`` and ``event_time``, such as one of ``wb.events``; or event ids.
            entities: the exact name of an entity, or several.
            start: event time, included: RFC 3339, a day, or an aware datetime.
            end: event time, not included, and in the past.
            include_duplicates: a message for each duplicate arrival, too.
            progress: is called with a sentence now and then, such as ``print``.

        Raises:
            UsageError: nothing, or both, is given; a window that is empty or ends in the future; an unknown event.
            Refused: more than 200,000 messages.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.replay.plan(wb.events(source="UA", day="2013-01-01", min_lag="1h"))  # doctest: +SKIP
            41 events · 41 messages · 9 entities · 12.4 kB · less than $0.01 · digest 5c1e0d2f9ab4
        """
        if (events is None) == (entities is None):
            raise UsageError("give either events, or entities with start and end", next_step="help(wb.replay.plan)")
        if events is not None:
            if start is not None or end is not None:
                raise UsageError("events stand for whole days", next_step="leave start and end out, or give entities")
            parts = self._days(events)
        elif start is None or end is None:
            raise UsageError("a window needs a start and an end", next_step='start="2013-01-01", end="2013-01-02"')
        else:
            names = [entities] if isinstance(entities, str) else [] if entities is None else list(entities)
            parts = [ReplayPart(name, moment(start, "start"), moment(end, "end")) for name in names]
        return planning.plan(self.aws, parts, include_duplicates=include_duplicates, progress=progress)

    def _days(self, events: pd.DataFrame | Iterable[str]) -> list[ReplayPart]:
        if isinstance(events, str):
            events = [events]
        columns = getattr(events, "columns", None)
        if columns is None:
            ids = [str(name) for name in events]
            return planning.whole_days(self.aws, planning.days_of(self.aws, ids))
        if lacking := [name for name in ("entity_id", "event_time") if name not in columns]:
            raise UsageError(f"the frame has no column {lacking[0]}", next_step="pass a frame of wb.events(…)")
        import pandas as pd  # it is there: the frame is one

        rows: Any = events
        if rows[["entity_id", "event_time"]].isna().any(axis=None):
            raise UsageError("the frame has rows without an entity or a time", next_step="leave them out: dropna()")
        days = pd.to_datetime(rows["event_time"], utc=True).dt.strftime("%Y-%m-%d")
        return planning.whole_days(self.aws, set(zip(rows["entity_id"], days, strict=True)))

    def run(
        self,
        plan: ReplayPlan,
        *,
        replay_id: str = "",
        reason: str = "",
        at_most: int | None = None,
        rate: int | None = None,
        most_waiting: int | None = None,
        progress: Callable[[str], None] | None = print,
    ) -> ReplayRun:
        """Send exactly what a plan lists, if its windows still hold that. **Changes**: messages go to the queue.

        The plan is written to S3 as a manifest first, and sent from there: what arrives meanwhile is not sent. A run
        pauses by itself when the dead-letter queue grows.

        Args:
            plan: of :meth:`plan`.
            replay_id: an id of one's own; or that of a run of this plan that was interrupted, to go on with it.
            reason: why; needed where the environment is guarded or protected.
            at_most: refuse a plan of more messages than this.
            rate: messages a second, at most; :meth:`pace` changes it while the run goes on.
            most_waiting: send nothing while more messages than this wait in the queue.
            progress: is called with a sentence now and then.

        Raises:
            UsageError: the plan selects nothing, or ``replay_id`` is none.
            Refused: the set has changed since, it is another environment, a reason is needed, or the run was cancelled.
                Nothing was sent.
            AwsError: AWS refused or did not answer; what was sent is recorded, and :meth:`resume` goes on.

        Example:
            >>> wb.replay.run(plan, reason="the day was late").as_planned  # doctest: +SKIP
            True
        """
        return running.run(
            self.aws,
            plan,
            replay_id=replay_id,
            reason=reason,
            at_most=at_most,
            rate=rate,
            most_waiting=most_waiting,
            progress=progress,
        )

    def status(self, replay_id: str) -> ReplayRun:
        """Return how far a run is. Reads only.

        Args:
            replay_id: the id that the plan was run under.

        Raises:
            UsageError: there is no such run.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.replay.status("rp-7").sent                          # doctest: +SKIP
            12000
        """
        return running.status(self.aws, replay_id)

    def pause(self, replay_id: str, *, reason: str = "", progress: Callable[[str], None] | None = print) -> ReplayRun:
        """Stop a run until somebody resumes it. **Changes** its state.

        When this returns, nothing of it is sent any more, whoever was sending; the run says exactly what was.

        Args:
            replay_id: the id that the plan was run under.
            reason: why; whoever asks is told.
            progress: is called with a sentence now and then.

        Raises:
            UsageError: there is no such run.
            Refused: the run was cancelled.
            AwsError: AWS refused or did not answer; the same call goes on.

        Example:
            >>> wb.replay.pause("rp-7", reason="the database is busy")   # doctest: +SKIP
        """
        return running.pause(self.aws, replay_id, reason=reason, progress=progress)

    def cancel(self, replay_id: str, *, reason: str = "", progress: Callable[[str], None] | None = print) -> ReplayRun:
        """Stop a run for good. **Changes** its state; messages that were sent stay in the queue.

        When this returns, nothing of it is sent any more, whoever was sending; the run says exactly what was.

        Args:
            replay_id: the id that the plan was run under.
            reason: why; whoever asks is told.
            progress: is called with a sentence now and then.

        Raises:
            UsageError: there is no such run.
            AwsError: AWS refused or did not answer; the same call goes on.

        Example:
            >>> wb.replay.cancel("rp-7", reason="the wrong week")        # doctest: +SKIP
        """
        return running.cancel(self.aws, replay_id, reason=reason, progress=progress)

    def pace(self, replay_id: str, rate: int) -> ReplayRun:
        """Change how many messages a run sends in a second, also while it is sent elsewhere. **Changes** its state.

        Args:
            replay_id: the id that the plan was run under.
            rate: messages a second, at most.

        Raises:
            UsageError: there is no such run.
            Refused: the run was cancelled.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.replay.pace("rp-7", 50)                               # doctest: +SKIP
        """
        return running.pace(self.aws, replay_id, rate)

    def resume(
        self,
        replay_id: str,
        *,
        reason: str = "",
        rate: int | None = None,
        most_waiting: int | None = None,
        progress: Callable[[str], None] | None = print,
    ) -> ReplayRun | Replay:
        """Go on with a run that was paused or interrupted, whoever began it. **Changes**: messages go to the queue.

        A replay that somebody asked the API for, without a plan, is sent to its end too.

        Args:
            replay_id: its id.
            reason: why; needed where the environment is guarded or protected.
            rate: messages a second, at most; without it, what it was.
            most_waiting: send nothing while more messages than this wait in the queue.
            progress: is called with a sentence now and then.

        Raises:
            UsageError: there is no such replay.
            Refused: a reason is needed, or the run was cancelled.
            AwsError: AWS refused or did not answer; the same call goes on.

        Example:
            >>> wb.replay.resume("rp-7").complete                      # doctest: +SKIP
            True
        """
        return running.resume(
            self.aws, replay_id, reason=reason, rate=rate, most_waiting=most_waiting, progress=progress
        )

    def result(self, replay_id: str) -> ReplayResult:
        """Look what came of a replay: which events are counted, and how the aggregates changed. Reads only.

        Args:
            replay_id: its id; that of a run stands for the replays of all of its windows.

        Raises:
            UsageError: there is no such replay.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.replay.result("rp-7").sentence                      # doctest: +SKIP
            'rp-7: 41 of 41 sent events are counted; 9 of 9 aggregates are COMPLETE. No aggregate had a version before'
        """
        from pik.workbench import replay_results

        return replay_results.result(self.aws, replay_id)

    def local(
        self,
        plan: ReplayPlan,
        handler: Any,
        *,
        against: Any = None,
        workers: int = 1,
        progress: Callable[[str], None] | None = None,
    ) -> LocalReplay:
        """Run a function of your own over a plan's events, on this machine. Reads raw objects; changes nothing.

        Args:
            plan: of :meth:`plan`.
            handler: a function of one event (a dict with event_id, source, event_type, entity_id, event_time, payload,
                idempotency_key, s3_key) that returns something JSON-able; or an aggregator, an object with ``lift`` and
                ``combine`` (docs/architecture.md, Processor), whose results are those of each entity and day.
            against: another one: the frame says where the two differ.
            workers: call it from so many threads; with 1, events come one after the other in the order of their times.
            progress: is called with a sentence now and then, such as ``print``.

        Raises:
            UsageError: ``handler`` is neither, or the two are not of one kind.
            AwsError: AWS refused or did not answer.

        Example:
            >>> wb.replay.local(plan, new_rule, against=old_rule).differences  # doctest: +SKIP
        """
        from pik.workbench import replay_local

        running.require_place(self.aws, plan)
        return replay_local.local(self.aws, plan, handler, against=against, workers=workers, progress=progress)

"""AWS's habits for the embedded AWS: late, approximate, busy and now and then wrong. Off unless asked for.

An ASGI middleware around the emulator sees every call before and after it is served (``middleware.py``), and some
habits change what the emulator does by itself (``world.py``). What happens by chance is decided by a seed
(``dice.py``), and each time is counted. Runs inside the emulator's process, so it imports nothing of ``pik``; each
habit's docstring says where AWS documents it. ``settings.HABITS`` lists them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .arriving import Late
from .dice import Dice, Tally
from .failing import FailedCalls, LostAnswers
from .lifecycle import Lifecycle
from .limits import CONCURRENCY, FreshApis, LambdaLimits
from .mappings import MappingStates, SlowInvocations
from .middleware import ConnectionCut, Habit, Middleware, Scope
from .partition import PartitionHabit
from .reading_late import IndexLag, QueueCounts
from .refusing import CloudFormationThrottling, PartialBatches, S3Busy, Throttling, TransactionConflicts
from .settings import HABITS, REGION, SKEW_VARIABLE, VARIABLE, RealismSettings, only
from .world import World

__all__ = [
    "CONCURRENCY",
    "HABITS",
    "REGION",
    "SKEW_VARIABLE",
    "VARIABLE",
    "ConnectionCut",
    "Realism",
    "RealismSettings",
    "only",
]


class Realism:
    """The habits that are on, for one emulator.

    Call :meth:`tick` several times a second, and :meth:`flush` at the end. ``middleware`` wraps the application.
    """

    def __init__(self, settings: RealismSettings, world: World, now: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.tally = Tally()
        dice, on = Dice(settings.seed), settings.has
        self._late = {habit: Late(habit, settings, dice, self.tally, now) for habit in ("late-metrics", "late-logs")}
        self.counts = QueueCounts(settings, dice, self.tally, world.queue_counts, now)
        self.mappings = MappingStates(settings, dice, self.tally, world.mappings, now)
        self.slow = SlowInvocations(settings, dice, self.tally, self.mappings.disabling)
        self.fresh = FreshApis(settings, dice, self.tally, world.apis, now)
        self.lifecycle = Lifecycle(settings, self.tally, world.s3_clients)
        self.partition = PartitionHabit(self.tally, settings.region)
        # A refusal comes before anything else is asked; a lost answer loses what all the others made of it.
        habits: dict[str, Habit] = {
            "partition": self.partition,
            "lambda-limits": LambdaLimits(self.tally),
            "fresh-apis": self.fresh,
            "throttling": Throttling(dice, self.tally, now),
            "cloudformation-throttling": CloudFormationThrottling(dice, self.tally, now),
            "s3-busy": S3Busy(dice, self.tally, now),
            "transaction-conflicts": TransactionConflicts(dice, self.tally),
            "failed-calls": FailedCalls(dice, self.tally),
            "partial-batches": PartialBatches(dice, self.tally),
            "mapping-states": self.mappings,
            "queue-counts": self.counts,
            "index-lag": IndexLag(settings, dice, self.tally, world.table_keys, now),
            "lost-answers": LostAnswers(dice, self.tally),
        }
        self._habits = [habit for name, habit in habits.items() if on(name)]

    def middleware(self, app: Any, cut: Callable[[Scope], None]) -> Middleware:
        """Return ``app`` with the habits around it; ``cut`` ends the connection of a request."""
        return Middleware(app, self._habits, cut)

    def late(self, habit: str) -> Late | None:
        """Return what makes data points or log lines late, unless that is left out."""
        return self._late[habit] if self.settings.has(habit) else None

    def tick(self) -> None:
        """Look at the emulator, and do what is due."""
        for name, habit in (
            ("queue-counts", self.counts),
            ("mapping-states", self.mappings),
            ("fresh-apis", self.fresh),
        ):
            if self.settings.has(name):
                habit.tick()
        for late in self._late.values():
            late.tick()

    def sweep(self) -> int:
        """Let S3's lifecycle rules act."""
        return self.lifecycle.sweep(datetime.now(UTC)) if self.settings.has("lifecycle") else 0

    def flush(self) -> None:
        """Do everything that waits, before the emulator saves for the last time."""
        for late in self._late.values():
            late.flush()

    def report(self) -> dict[str, Any]:
        """Return the settings and how often each habit struck."""
        return {"settings": self.settings.text, "skew_seconds": self.settings.skew, "struck": self.tally.counts()}

"""Data points and log lines that arrive late."""

from __future__ import annotations

import contextvars
import heapq
import itertools
import threading
from collections.abc import Callable
from typing import Any

from .dice import Dice, Tally
from .settings import RealismSettings

SECONDS = {"late-metrics": (60.0, 180.0), "late-logs": (5.0, 20.0)}


class Late:
    """Does later what was asked for now: each subject (a metric, a log stream) has a delay of its own, for good.

    So what belongs together stays in order. Documented: CloudWatch metrics
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html ("… it can take up to two
    minutes before you can retrieve statistics"), log events
    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/logs/CloudWatchLogsConcepts.html; for neither does AWS
    promise a time.
    """

    def __init__(
        self, habit: str, settings: RealismSettings, dice: Dice, tally: Tally, now: Callable[[], float]
    ) -> None:
        self.habit = habit
        self._settings, self._dice, self._tally, self._now = settings, dice, tally, now
        self._waiting: list[tuple[float, int, contextvars.Context, Callable[[], Any]]] = []
        self._number = itertools.count()
        self._lock = threading.Lock()

    def delay(self, subject: str) -> float:
        """Return how many seconds later what concerns a subject arrives."""
        low, high = SECONDS[self.habit]
        return self._settings.seconds(low + (high - low) * self._dice.fixed(self.habit, subject))

    def put(self, subject: str, work: Callable[[], Any]) -> None:
        """Do ``work`` later, in the context (the account and region) of now."""
        self._tally.struck(self.habit)
        due = self._now() + self.delay(subject)
        with self._lock:
            heapq.heappush(self._waiting, (due, next(self._number), contextvars.copy_context(), work))

    def tick(self) -> None:
        """Do what is due."""
        self._run(self._now())

    def flush(self) -> None:
        """Do everything: the process ends, and what waits would be lost."""
        self._run(float("inf"))

    def _run(self, until: float) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._waiting[0][0] > until:
                    return
                _, _, context, work = heapq.heappop(self._waiting)
            context.run(work)

"""Who goes on next: tasks as greenlets, virtual time, and one random number generator that decides everything.

Every AWS call is a point where another task may go on, and where the call may fail, lose its answer, or be the last
thing that the task does. Nothing sleeps for real, so a history depends on its seed alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from greenlet import getcurrent, greenlet

MOST_STEPS = 20_000  # of one history: more is a task that never ends


class Killed(BaseException):
    """The task ends here: its Lambda worker was killed. Nothing of it runs afterwards."""


class Endless(Exception):
    """A history did not come to its end."""


class Entry(NamedTuple):
    """One step of a history, as a story tells it."""

    time: float
    actor: str
    call: str
    fault: str
    effect: str


@dataclass(eq=False)
class Task:
    """One actor, or one invocation of a function."""

    name: str
    run: greenlet
    ready_at: float = 0.0
    until: Callable[[], bool] | None = None  # ready as well once this holds
    done: bool = False
    result: Any = None
    killed: bool = False


@dataclass
class Scheduler:
    """Runs tasks until all have ended; ``chance`` decides who is next and what goes wrong."""

    chance: random.Random
    now: float = 0.0
    tasks: list[Task] = field(default_factory=list)
    history: list[Entry] = field(default_factory=list)
    current: Task | None = None
    steps: int = 0
    hub: greenlet = field(default_factory=getcurrent)  # where the scheduler itself runs

    def spawn(self, name: str, work: Callable[[], Any]) -> Task:
        """Add a task; it begins when it is chosen."""

        def body() -> None:
            try:
                task.result = work()
            except Killed:
                task.killed = True
            task.done = True

        task = Task(name, greenlet(body, parent=self.hub), ready_at=self.now)
        self.tasks.append(task)
        return task

    def run(self) -> None:
        """Let the tasks take turns until none is left."""
        while self.tasks:
            ready = [task for task in self.tasks if task.ready_at <= self.now or (task.until and task.until())]
            if not ready:
                self.now = min(task.ready_at for task in self.tasks)
                continue
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Endless(f"after {self.steps} steps there are still {', '.join(t.name for t in self.tasks)}")
            self.current = ready[int(self.chance.random() * len(ready))]
            self.current.until = None
            self.current.run.switch()
            self.tasks = [task for task in self.tasks if not task.done]

    def pause(self, seconds: float = 0.0, until: Callable[[], bool] | None = None) -> None:
        """Let the others go on, for so long or until something holds. Called by the task that runs."""
        task = self.current
        assert task is not None
        task.ready_at, task.until = self.now + seconds, until
        self.hub.switch()

    def call(self, name: str, work: Callable[[], Any], patience: float) -> Task:
        """Have a task of its own do ``work``, and wait for its end, but not longer than ``patience`` seconds."""
        task = self.spawn(name, work)
        self.pause(patience, lambda: task.done)
        return task

    def note(self, call: str, fault: str = "", effect: str = "") -> None:
        """Add a step to the history."""
        actor = self.current.name if self.current else "-"
        self.history.append(Entry(round(self.now, 3), actor, call, fault, effect))

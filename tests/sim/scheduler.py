"""Who goes on next: tasks as greenlets, virtual time, and one random number generator that decides everything.

Every AWS call is a point where another task may go on, and where the call may fail, lose its answer, or be the last
thing that the task does. Nothing sleeps for real, so a history depends on its seed alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")
MOST_STEPS = 20_000  # of one history: more is a task that never ends


class Killed(BaseException):
    """The task ends here: its Lambda worker was killed. Nothing of it runs afterwards."""


class Violation(BaseException):
    """A promise was broken at this step; nothing under test may catch it."""


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
    """One actor, one invocation of a function, or one thread of either."""

    name: str
    run: greenlet
    ready_at: float = 0.0
    until: Callable[[], bool] | None = None  # ready as well once this holds
    ends_at: float = math.inf  # Lambda lets it run no longer
    skew: float = 0.0  # by how much its clock is ahead, in seconds
    done: bool = False
    result: Any = None
    error: Exception | None = None
    only_reads: bool = False  # it must write nothing
    killed: bool = False  # nothing of it has an effect any more
    threads: list[Task] = field(default_factory=list)
    owner: Task | None = None  # of a thread: the task that started it
    waiter: Task | None = None  # who waits for its end
    awaits: set[Task] = field(default_factory=set)  # whose ends it waits for

    def __str__(self) -> str:
        return self.name

    def kill(self) -> None:
        """End it and its threads, wherever they are."""
        self.killed = True
        for thread in self.threads:
            thread.kill()


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

    def spawn(self, name: str, work: Callable[[], Any], *, owned: bool = False) -> Task:
        """Add a task; it begins when it is chosen. ``owned``: whoever added it looks at how it ended."""

        def body() -> None:
            try:
                self._still_alive(task)
                task.result = work()
            except Killed:
                task.kill()
            except Exception as error:
                if not owned:
                    raise
                task.error = error
            task.done = True

        task = Task(name, greenlet(body, parent=self.hub), ready_at=self.now)
        task.skew = self.current.skew if self.current else 0.0
        self.tasks.append(task)
        return task

    def run(self) -> None:
        """Let the tasks take turns until none is left."""
        while self.tasks:
            ready = [task for task in self.tasks if task.ready_at <= self.now or (task.until and task.until())]
            if not ready:
                self.now = min(task.ready_at for task in self.tasks)
                if self.now == math.inf:
                    raise Endless(f"they wait for each other: {', '.join(t.name for t in self.tasks)}")
                continue
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Endless(f"after {self.steps} steps there are still {', '.join(t.name for t in self.tasks)}")
            self.current = ready[int(self.chance.random() * len(ready))]
            self.current.until = None
            self.current.run.switch()
            if self.current.done:
                self._ended(self.current)
        self.current = None

    def _ended(self, task: Task) -> None:
        self.tasks.remove(task)
        if (waiter := task.waiter) and task in waiter.awaits:
            waiter.awaits.remove(task)
            if not waiter.awaits:
                waiter.ready_at = self.now

    def _wait(self, tasks: Sequence[Task], patience: float) -> None:
        """Let the others go on until all of ``tasks`` have ended, but not longer than ``patience`` seconds."""
        me = self.current
        assert me is not None
        for task in tasks:
            task.waiter = me
        me.awaits = set(tasks)
        self.pause(patience if tasks else 0.0)
        me.awaits.clear()

    def pause(self, seconds: float = 0.0, until: Callable[[], bool] | None = None) -> None:
        """Let the others go on, for so long or until something holds. Called by the task that runs."""
        task = self.current
        assert task is not None
        self._still_alive(task)
        task.ready_at, task.until = self.now + seconds, until
        self.hub.switch()
        self._still_alive(task)

    def die(self) -> NoReturn:
        """End the process of the task that runs: all its threads, at once."""
        task = self.current
        while task and task.owner:
            task = task.owner
        if task:
            task.kill()
        raise Killed

    def _still_alive(self, task: Task) -> None:
        """End a task that was killed: also where its code would still tidy up."""
        if self.now > task.ends_at:
            task.kill()
        if task.killed:
            raise Killed

    def call(
        self,
        name: str,
        work: Callable[[], Any],
        patience: float,
        limit: float = math.inf,
        *,
        only_reads: bool = False,
        skew: float | None = None,
    ) -> Task:
        """Have a task of its own do ``work``, and wait for its end, but not longer than ``patience`` seconds.

        After ``limit`` seconds it is killed, as Lambda kills an invocation.
        """
        task = self.spawn(name, work, owned=True)
        task.ends_at, task.only_reads = self.now + limit, only_reads
        if skew is not None:
            task.skew = skew
        self._wait([task], min(patience, limit))
        if task.error:
            raise task.error
        return task

    def together(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """Have threads of the current task do all works at once; return their results in order."""
        owner = self.current
        assert owner is not None
        threads = [self.spawn(f"{owner.name}.{n}", work, owned=True) for n, work in enumerate(works, start=1)]
        owner.threads += threads
        for thread in threads:
            thread.owner, thread.only_reads = owner, owner.only_reads
        self._wait(threads, math.inf)
        owner.threads = [thread for thread in owner.threads if not thread.done]
        for thread in threads:
            if thread.error:
                raise thread.error
        return [thread.result for thread in threads]

    def note(self, call: str, fault: str = "", effect: str = "") -> None:
        """Add a step to the history."""
        actor = self.current.name if self.current else "-"
        self.history.append(Entry(round(self.now, 3), actor, call, fault, effect))

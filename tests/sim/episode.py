"""One history: a seed decides who acts, who goes on when, and what goes wrong; then the promises are checked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.sim.actors import Cast
from tests.sim.model import never, violations, violations_later
from tests.sim.scheduler import Entry, Violation
from tests.sim.world import World


@dataclass(frozen=True)
class Outcome:
    """What became of a history."""

    seed: int
    violations: tuple[str, ...]
    calls: int
    steps: int
    hits: Counter[tuple[str, str]]
    history: list[Entry]
    asked: list[str]  # what could have been left out

    @property
    def digest(self) -> str:
        """Hash of the history: the same seed gives the same one."""
        return hashlib.sha256("\n".join(map(str, self.history)).encode()).hexdigest()

    def story(self) -> Iterator[str]:
        """Yield the history line by line, as a person reads it."""
        for entry in self.history:
            fault = f"  [{entry.fault}]" if entry.fault else ""
            effect = f"  -> {entry.effect}" if entry.effect else ""
            yield f"{entry.time:9.3f} s  {entry.actor:<28} {entry.call}{fault}{effect}"
        for one in self.violations:
            yield f"VIOLATED  {one}"


def play(seed: int, rate: float = 0.1, without: frozenset[str] = frozenset()) -> Outcome:
    """Play the history of a seed; ``rate``: the share of calls that go wrong; ``without``: what is left out."""
    world = World(seed, rate, without)
    cast = Cast(world)
    never(world)
    found: tuple[str, ...] = ()
    with world.in_place():
        cast.enter()
        try:
            world.scheduler.run()
            found = tuple(violations(world, cast))
            if not found and (stage := _stage(world, cast)):
                world.trouble_again()
                stage()
                world.scheduler.run()
                later = stage == cast.come_back_after_retention
                found = tuple(violations_later(world, cast) if later else violations(world, cast))
        except (Violation, Exception) as broken:  # what did not come to its end, or to what the model can read
            found = (f"{type(broken).__name__}: {broken}",)
    return Outcome(
        seed=seed,
        violations=found,
        calls=world.faults.made,
        steps=world.scheduler.steps,
        hits=world.faults.hits,
        history=world.scheduler.history,
        asked=world.faults.asked,
    )


def _stage(world: World, cast: Cast) -> Callable[[], None] | None:
    """Choose what comes when all is quiet; None: nothing."""
    if world.sqs.queues["dlq"]:
        return cast.redrive
    stages: list[Callable[[], None] | None] = [None, cast.come_back_after_retention, cast.lose_rows]
    stages += [cast.lose_objects, cast.enable_late, cast.compare]
    return stages[int(world.chance.random() * len(stages))]

"""One environment, connected: where it is, what is deployed there, and its stores. What reads AWS takes this."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pik.environments import Environment

if TYPE_CHECKING:
    from pik.aws.objects import Objects
    from pik.aws.reading import StoreReader


@dataclass(frozen=True)
class Connection:
    """A connected environment: its stack was found, and what answers is the environment that was meant.

    ``outputs`` are the stack's: the names of its tables, queues and functions. ``phase`` is the deployed one.
    """

    environment: Environment
    account: str
    phase: str
    outputs: dict[str, str] = field(repr=False)

    def __repr__(self) -> str:
        where = "embedded AWS" if self.environment.name == "local" else f"account {self.account}"
        name, region = self.environment.name, self.environment.region
        return f"{name} · {where} · {region} · stack {self.environment.stack} · phase {self.phase}"

    @cached_property
    def stores(self) -> StoreReader:
        """The stores row by row, as the checks read them (:mod:`pik.aws.reading`)."""
        from pik.aws.reading import StoreReader

        return StoreReader(self.environment, self.outputs)

    @cached_property
    def objects(self) -> Objects:
        """The raw bucket's objects, many at a time (:mod:`pik.aws.objects`)."""
        from pik.aws.objects import Objects

        return Objects(self.environment, self.outputs["RawBucket"])

"""Exactly what is deployed, as digests: what evidence is about, and what a gate compares."""

from __future__ import annotations

from dataclasses import dataclass

from pik import phases
from pik.aws import stack
from pik.aws.stack import Stack
from pik.environments import Environment
from pik.events import sha256_json

# What the phase sets; everything else that a stack was given counts as what is deployed.
TOGGLES = frozenset({"EnableReplay", "EnableProcessor", "Canary"})


@dataclass(frozen=True)
class Deployed:
    """Template, code and parameters by digest, and the phase they are in."""

    phase: phases.Phase
    template: str
    code: str
    parameters: str

    def __str__(self) -> str:
        return f"template {self.template[:8]}…  code {self.code[:8]}…  parameters {self.parameters[:8]}…"


def deployed(environment: Environment, found: Stack | None = None) -> Deployed:
    """Return what is deployed; raise NotDeployed when nothing is.

    >>> deployed(environment("local")).phase.name                     # doctest: +SKIP
    'replay'
    """
    there = found or stack.require(environment)
    digests = stack.digests(environment)
    kept = {name: value for name, value in there.parameters.items() if name not in TOGGLES}
    return Deployed(there.phase, digests.template, digests.code, sha256_json(kept))

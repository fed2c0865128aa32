"""The rollout's phases, defined once: what is on in each, and what must be proven before the next.

::

    off ──> ingest (1) ──> replay (2) ──> processor (3)

Deploy, status, checks, the command line and the documentation all read :data:`PHASES`; nothing else says what a phase
is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pik.errors import UsageError
from pik.text import named


@dataclass(frozen=True)
class Phase:
    """One phase.

    ``number``: 0 to 3, the order; ``name``: what commands and the stack call it; ``replay`` and ``processor``: the two
    toggles; ``adds``: what it switches on, in words; ``proof``: what must be proven before the next phase.
    """

    number: int
    name: str
    replay: bool
    processor: bool
    adds: str
    proof: tuple[str, ...]

    @property
    def parameters(self) -> dict[str, str]:
        """The stack parameters that make this phase."""
        return {"EnableReplay": _text(self.replay), "EnableProcessor": _text(self.processor)}

    @property
    def label(self) -> str:
        """Number and name, for people: ``2 replay``."""
        return f"{self.number} {self.name}" if self.number else self.name

    @property
    def next(self) -> Phase | None:
        """The phase after this one, or None after the last."""
        return PHASES[self.number + 1] if self.number + 1 < len(PHASES) else None


def _text(value: bool) -> str:
    return "true" if value else "false"


PHASES = (
    Phase(0, "off", False, False, "nothing is deployed", ()),
    Phase(
        1,
        "ingest",
        False,
        False,
        "the ingest API, the metadata tables and the raw bucket; replay and processor are off",
        (
            "the API answers",
            "duplicates are detected",
            "the raw bytes stored are the bytes sent",
            "logs and metrics exist",
            "a dry run writes nothing",
        ),
    ),
    Phase(
        2,
        "replay",
        True,
        False,
        "the replay API, which sends to the queue; the processor is off",
        (
            "replay plan = replay sent = expected events",
            "every message resolves to a raw object whose hash matches",
            "the dead-letter queue is empty",
            "the aggregates are predicted from the raw objects",
        ),
    ),
    Phase(
        3,
        "processor",
        True,
        True,
        "the processor and its event source mapping",
        (
            "the queue drains",
            "aggregates written = aggregates predicted",
            "the dead-letter queue is empty",
            "no alarm",
        ),
    ),
)

OFF, INGEST, REPLAY, PROCESSOR = PHASES


def phase(name: str) -> Phase:
    """Return the phase called ``name`` (``ingest``, ``replay`` or ``processor``; the number works too).

    >>> phase("replay").parameters
    {'EnableReplay': 'true', 'EnableProcessor': 'false'}
    """
    for candidate in PHASES[1:]:
        if name.strip().lower() in {candidate.name, str(candidate.number), candidate.label}:
            return candidate
    raise UsageError(f"no such phase: {named(name)}", next_step="one of ingest, replay, processor")


def deployed_phase(parameters: Mapping[str, str] | None) -> Phase:
    """Return the phase a stack with these parameters is in; ``None`` (no stack) is ``off``."""
    if parameters is None:
        return OFF
    if parameters.get("EnableReplay") != "true":
        return INGEST
    return PROCESSOR if parameters.get("EnableProcessor") == "true" else REPLAY

"""What can stand in the ledger: one kind for each thing that is done to an environment, or decided about it."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

_TYPES = "urn:pipeline-investigation-kit:ledger"  # a name, not an address; it never changes for what it names


class Meaningful(StrEnum):
    """Names that say what they mean: ``NAME = "name", "what it means"``."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """Make a member that is its own name and knows what it means."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Kind(Meaningful):
    """Of an entry. ``meaning`` says what it stands for; :attr:`predicate_type` names the shape of its predicate."""

    VERIFICATION = "verification", "a phase was checked; the verdict is the result"
    APPROVAL = "approval", "an approver approved a promotion of what is deployed, or the deploy of a plan"
    DEPLOY = "deploy", "template, code or parameters were deployed"
    PROMOTION = "promotion", "the phase was raised, on evidence"
    REFUSAL = "refusal", "a request was refused; nothing was changed"
    OVERRIDE = "override", "a person overrode a refusal, with a reason"
    ROLLBACK = "rollback", "a phase was rolled back, or a deploy was reverted"
    CANARY = "canary", "the processor, limited to two at once, was watched, and passed or failed"

    @property
    def predicate_type(self) -> str:
        """URI of the statement's predicate.

        >>> Kind.DEPLOY.predicate_type
        'urn:pipeline-investigation-kit:ledger:deploy:v1'
        """
        return f"{_TYPES}:{self}:v1"


#: What changes an environment: evidence from before the last of them is of something else.
CHANGES = frozenset({Kind.DEPLOY, Kind.PROMOTION, Kind.ROLLBACK})

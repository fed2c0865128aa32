"""Say yes, on the record, to what is deployed (or planned) going to a phase."""

from __future__ import annotations

from pik import ledger
from pik.environments import Environment
from pik.errors import Refused
from pik.ledger import Entry, Kind
from pik.rollout import phases, stack
from pik.rollout.deployed import Deployed, deployed
from pik.rollout.gates import may_approve
from pik.rollout.guard import guard
from pik.rollout.plan import Plan
from pik.rollout.recording import about


def approve(environment: Environment, to: str, *, comment: str = "", plan: Plan | None = None) -> Entry:
    """Record that the caller approves phase ``to`` for what is deployed, or for what ``plan`` would deploy.

    An approval counts until the environment changes or it is too old, for exactly this template and code, and not for
    a promotion by the one who approved.

    Raises:
        Refused: ``pik.toml`` does not name the caller as an approver of this environment.
        NotDeployed: there is nothing to approve.

    >>> print(approve(environment("prod"), "processor"))              # doctest: +SKIP
    ledger entry 118 · 9f3c2a41d0b7e55c
    """
    target, place = phases.phase(to), guard(environment)
    if not may_approve(environment.config, place.caller):
        patterns = ", ".join(environment.config.approvers) or "nobody"
        raise Refused(
            f"you are no approver of {environment.name}",
            reason=f"you are {place.caller}; pik.toml names {patterns}",
            next_step="ask one of them, or have pik.toml changed in a review",
        )
    there = deployed(environment, place.stack or stack.require(environment))
    if plan:
        there = Deployed(there.phase, plan.target.template, plan.target.code, there.parameters)
    sentence = f"approved: phase {target.label}" + (f" ({comment})" if comment else "")
    predicate = {"sentence": sentence, "phase": target.name, "comment": comment, "plan": plan.digest if plan else ""}
    return ledger.append(environment, Kind.APPROVAL, subjects=about(there), predicate=predicate)

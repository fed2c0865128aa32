"""A plan as the result of a runbook's step: can it be applied, and is what it predicts exact?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pik.rollout.plan.planview import counted

if TYPE_CHECKING:
    from pik.results import StepResult
    from pik.rollout.plan.planned import Plan


def result(plan: Plan) -> StepResult:
    """Return the checklist of a plan; a plan that is refused closes the gate."""
    from pik.results import StepResult  # pydantic's: a plan is read, and status asked, without it
    from pik.rollout.checks.verdicts import check

    predicted = plan.prediction
    checks = [
        check(
            "it may be applied",
            plan.applicable,
            yes="no data store loses its data, and nothing else is refused",
            no="; ".join(plan.refusals),
            evidence={"digest": plan.digest, "changes": counted(plan), "means": list(plan.effects)},
            remedy=plan.command or "put it back in the template; docs/plan.md says how data is moved on purpose",
        )
    ]
    if predicted:
        checks.append(
            check(
                "what the processor writes is predicted exactly",
                predicted.exact,
                yes=predicted.sentence,
                no=predicted.sentence,
                evidence={
                    "predicted": predicted.messages,
                    "waiting": predicted.waiting,
                    "set aside": predicted.set_aside,
                },
                remedy=f"pik run queue-and-dlq --env {plan.environment}",
                blocking=False,
            )
        )
    return StepResult(
        title=f"plan for {plan.environment}",
        headline="nothing changes" if plan.empty else counted(plan),
        checks=tuple(checks),
        facts={"phase": f"{plan.previous} -> {plan.phase}", "digest": plan.digest, "next": plan.command},
    )

"""Roll out an environment phase by phase: plan, deploy, status, checks with evidence, rollback."""

from __future__ import annotations

from pik.aws.inventory import Inventory, inventory
from pik.rollout.deploy import Deployment, apply, deploy
from pik.rollout.plan import Plan, plan
from pik.rollout.promote import Promotion, promote
from pik.rollout.rollback import Rollback, rollback
from pik.rollout.status import Status, status

__all__ = [
    "Deployment",
    "Inventory",
    "Plan",
    "Promotion",
    "Rollback",
    "Status",
    "apply",
    "deploy",
    "inventory",
    "plan",
    "promote",
    "rollback",
    "status",
]

"""Roll out an environment phase by phase: deploy, status, checks with evidence, rollback."""

from __future__ import annotations

from pik.rollout.deploy import Deployment, deploy
from pik.rollout.inventory import Inventory, inventory
from pik.rollout.rollback import Rollback, rollback
from pik.rollout.status import Status, status

__all__ = ["Deployment", "Inventory", "Rollback", "Status", "deploy", "inventory", "rollback", "status"]

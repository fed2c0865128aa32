"""Plans for tests, made from template.yaml without AWS: from one phase to another, with an edit of the template."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pik import phases, project
from pik.aws.evaluation import Evaluator
from pik.aws.guard import Place
from pik.aws.stack import Stack
from pik.aws.template import parse
from pik.environments import Environment
from pik.rollout.plan.effects import Situation
from pik.rollout.plan.planned import Plan
from pik.rollout.plan.planning import Template, compare
from pik.rollout.plan.prediction import Prediction, Version

DOCUMENT = parse(project.TEMPLATE.read_text(encoding="utf-8"))
DEV = Environment("dev", region="eu-west-1")
WAITING = Situation(waiting=3)
Edit = Callable[[dict[str, Any]], Any]


def a_stack(phase: phases.Phase, **parameters: str) -> Stack:
    given = {"Environment": "dev", **phase.parameters, **parameters}
    return Stack("pik-dev", "UPDATE_COMPLETE", "", datetime.now(UTC), given, id="arn:aws:cloudformation:x:1:stack/a/b")


def a_plan(
    before: phases.Phase | None = phases.INGEST,
    after: phases.Phase = phases.REPLAY,
    edit: Edit = lambda d: d,
    *,
    environment: Environment = DEV,
    situation: Situation = WAITING,
    **parameters: str,
) -> Plan:
    """The plan from one phase of the template to another phase of an edited one."""
    found = a_stack(before) if before else None
    place = Place("111122223333", "arn:aws:iam::111122223333:user/ana", found)
    old = Template(Evaluator(DOCUMENT, found.parameters)) if found else None
    document = copy.deepcopy(DOCUMENT)
    edit(document)
    new = Template(Evaluator(document, {"Environment": "dev", **after.parameters, **parameters}))
    return compare(environment, place, after, old, new, situation)


def resource(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["Resources"][name]
    return found


PREDICTED = Prediction((Version("e<1>", "2025-01-01", "rp", 3, 5),), 3, 3)


def rename(document: dict[str, Any]) -> None:
    """Give a table a name of its own, which replaces it."""
    resource(document, "EventsTable")["Properties"].update(TableName="mine")

"""See what a deploy would do before it is done: our own property-level plan. Reads only, apart from the build.

What is deployed and what is intended are both read as templates with their parameters and conditions evaluated, and
compared (:mod:`pik.rollout.plan.diff`). CloudFormation is not asked: the plan is the same everywhere and needs no right
to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pik import phases, project
from pik.aws import event_source_mapping, stack
from pik.aws.evaluation import Evaluator, pseudo
from pik.aws.guard import Place, guard
from pik.aws.queues import messages
from pik.aws.reading import StoreReader
from pik.aws.stack import Say, Stack, aws_errors, silent
from pik.aws.template import parse
from pik.environments import Environment
from pik.errors import NotDeployed
from pik.pipeline.aggregators import AGGREGATORS
from pik.rollout.plan import records, sam
from pik.rollout.plan.effects import Situation, consumes, starts
from pik.rollout.plan.parameters import refuse_wrong
from pik.rollout.plan.planned import Plan
from pik.rollout.plan.planning import Template, compare
from pik.rollout.plan.preconditions import wanted
from pik.rollout.plan.prediction import Prediction, predict

__all__ = ["Plan", "make", "plan"]


def plan(
    environment: Environment,
    phase: str | None = None,
    *,
    deployed: bool = False,
    dry_run: bool | None = None,
    parameters: Mapping[str, str] | None = None,
    predict: bool = True,
    on_progress: Say | None = None,
) -> Plan:
    """Return what bringing ``environment`` to ``phase`` would do. Nothing is changed.

    Args:
        environment: where.
        phase: the phase to bring it to; None: the one it is in, or the first.
        deployed: keep the template and code that are deployed and change parameters only, as a promotion does;
            otherwise those at hand are built and compared.
        dry_run: the deployment setting; None keeps what is set.
        parameters: other stack parameters; those not named keep their value.
        predict: when the processor starts to consume, predict what it writes (reads what was replayed).
        on_progress: called with a sentence when something takes a while.

    Raises:
        Refused: what answers is not that environment (:mod:`pik.aws.guard`).
        UsageError: no such phase or parameter, or the template uses what is not known.
        NotDeployed: ``deployed``, and there is no stack.
        AwsError: AWS refused or did not answer, or ``sam build`` failed.

    >>> plan(environment("local"), "processor").effects               # doctest: +SKIP
    ('the processor starts consuming 1,243 waiting messages',)
    """
    return make(
        environment,
        guard(environment),
        phase,
        deployed=deployed,
        dry_run=dry_run,
        parameters=parameters,
        predict=predict,
        on_progress=on_progress,
    )


def make(
    environment: Environment,
    place: Place,
    phase: str | None = None,
    *,
    deployed: bool = False,
    dry_run: bool | None = None,
    parameters: Mapping[str, str] | None = None,
    predict: bool = True,
    on_progress: Say | None = None,
) -> Plan:
    """Return the plan of an environment that was looked at already; see :func:`plan`."""
    say, found = on_progress or silent, place.stack
    target = phases.phase(phase) if phase else (found.phase if found else phases.INGEST)
    asked = dict(parameters or {}) | ({} if dry_run is None else {"DryRun": "true" if dry_run else "false"})
    settings = wanted(environment, target, found, None, asked)
    known = pseudo(environment.region, place.account, environment.stack, found.id if found else "")
    before = None
    if found:
        document = stack.deployed(environment)
        before = Template(Evaluator(document, _declared(document, found.parameters), known))
    values = {**(found.parameters if found else {}), **settings}
    if deployed and before:
        intended, folder = before.given.document, None
        refuse_wrong(intended, settings, asked=asked)
    elif deployed:
        raise _nothing_deployed(environment)
    else:
        at_hand = parse(project.TEMPLATE.read_text(encoding="utf-8"))
        refuse_wrong(at_hand, values, asked=asked, aggregators=AGGREGATORS)
        intended, folder = _built(environment, say)
    after = Template(Evaluator(intended, {**_declared(intended, values), **asked}, known), folder)
    situation = _situation(environment, found)
    made = compare(environment, place, target, before, after, situation)
    starting = starts(before.evaluated if before else None, after.evaluated, situation)
    prediction = _predicted(environment, place, say) if predict and starting else None
    return replace(made, asked=asked, prediction=prediction)


def _declared(document: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """The parameters that the template has; a stack of an earlier version may have others."""
    return {name: value for name, value in given.items() if name in document.get("Parameters", {})}


def _built(environment: Environment, say: Say) -> tuple[Mapping[str, Any], Path]:
    built = sam.build(environment, records.new(environment, "plan"), say)
    return built.document(), built.folder


def _nothing_deployed(environment: Environment) -> NotDeployed:
    return NotDeployed(
        f"{environment.name}: no stack {environment.stack} in {environment.region}",
        reason="--deployed plans with the deployed template and code, and nothing is deployed",
        next_step=f"pik plan --env {environment.name} --phase ingest",
    )


def _situation(environment: Environment, found: Stack | None) -> Situation:
    if found is None:
        return Situation(waiting=0)
    if "QueueUrl" not in found.outputs:  # its creation failed
        return Situation()
    with aws_errors(environment, "look at the queue"):
        waiting = messages(environment, found.outputs["QueueUrl"])
    mappings = event_source_mapping.find(environment, found.outputs) if consumes(found.parameters) else []
    return Situation(waiting, any(one.state == "Disabled" for one in mappings))


def _predicted(environment: Environment, place: Place, say: Say) -> Prediction | None:
    found = place.stack
    if found is None or "QueueUrl" not in found.outputs:
        return None
    return predict(StoreReader(environment, found.outputs), say)

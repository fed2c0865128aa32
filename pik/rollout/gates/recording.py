"""What the rollout writes into the ledger: subjects, the state before a change, and what was refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pik import ledger, provenance
from pik.aws import event_source_mapping, stack
from pik.aws.guard import Place
from pik.aws.queues import messages
from pik.aws.stack import Say, Stack, aws_errors
from pik.environments import Environment
from pik.errors import Refused
from pik.ledger import Entry, Kind, NotRecorded
from pik.ledger.store import File
from pik.rollout.gates.decide import Gate
from pik.rollout.gates.deployed import Deployed, deployed

BEFORE = "template-before"  # the file of evidence that holds the template from before a deploy
FUNCTIONS = ("IngestFunction", "ReplayFunction", "ProcessorFunction")


def about(now: Deployed) -> dict[str, dict[str, str]]:
    """Return what is deployed, and from which checkout that is said, as the subjects of a statement."""
    checkout = provenance.git()
    return ledger.subjects(
        template=now.template,
        code=now.code,
        parameters=now.parameters,
        commit=checkout.commit if checkout else "",
    )


def capture(environment: Environment, found: Stack, now: Deployed) -> dict[str, Any]:
    """Return the state before a change: the state to roll back to.

    Parameters, digests, the code that each function really runs (as Lambda has it), what reads the queue, and what
    waits in it.
    """
    with aws_errors(environment, "capture the state before the change"):
        client = environment.client("lambda")
        functions = {
            output: client.get_function_configuration(FunctionName=found.outputs[output])["CodeSha256"]
            for output in FUNCTIONS
            if found.outputs.get(output)
        }
        return {
            "phase": now.phase.name,
            "stack_status": found.status,
            "updated": found.updated.isoformat(),
            "parameters": found.parameters,
            "template": now.template,
            "code": now.code,
            "functions": functions,
            "mappings": [
                {"uuid": one.uuid, "state": one.state} for one in event_source_mapping.find(environment, found.outputs)
            ],
            "queue": messages(environment, found.outputs["QueueUrl"]),
            "dead_letters": messages(environment, found.outputs["DeadLetterQueueUrl"]),
        }


def moved(environment: Environment, before: Mapping[str, Any]) -> bool:
    """Return whether CloudFormation touched the stack since :func:`capture`; true when that is not known."""
    try:
        now = stack.require(environment)
    except Exception:  # what is recorded of a failure must not fail itself
        return True
    return (now.updated.isoformat(), now.parameters) != (before.get("updated"), before.get("parameters"))


def record(
    environment: Environment,
    kind: Kind,
    sentence: str,
    *,
    evidence: Iterable[File] = (),
    place: Place | None = None,
    **predicate: Any,
) -> Entry | NotRecorded:
    """Record something about what is deployed now; never raises. The text of the answer is for a person."""
    try:
        subjects: Mapping[str, Mapping[str, str]] = about(deployed(environment))
    except Exception as error:  # what happened must go on, and be told, whatever becomes of its record
        return NotRecorded(f"{type(error).__name__}: {error}")
    statement = {"sentence": sentence, **predicate}
    return ledger.record(environment, kind, subjects=subjects, predicate=statement, evidence=evidence, place=place)


def enter(environment: Environment, place: Place, gate: Gate, override: str, say: Say) -> None:
    """Pass a gate, refuse, or override the gate for a person's reason, which is recorded first."""
    if not gate.unmet:
        for one in gate.requirements:
            say(f"✓ {one.sentence}")
        return
    if not gate.enforced:
        say(f"{environment.name} is open; a guarded or protected environment would refuse this: {gate.message}")
        return
    if not override:
        raise Refused(gate.message, reason=gate.reason, next_step=";  ".join(gate.commands))
    missing = [one.sentence for one in gate.unmet]
    sentence = f"OVERRIDE: {override}"
    facts: dict[str, Any] = {"phase": gate.target.name, "reason": override, "missing": missing}
    entry = record(environment, Kind.OVERRIDE, sentence, place=place, **facts)
    say(f"!! OVERRIDE by you: {override}  (missing: {'; '.join(missing)})")
    say(f"!! {entry}")


@contextmanager
def refusals(environment: Environment, place: Place, asked: str, phase: str) -> Iterator[None]:
    """Record what is refused, and say that nothing was changed.

    Only for guarded and protected environments; an open environment records no refusals.
    """
    try:
        yield
    except Refused as refused:
        if environment.config.protection == "open":
            raise
        outcome = "nothing was changed"
        if place.stack:
            entry = record(
                environment,
                Kind.REFUSAL,
                f"refused: {refused.message}",
                place=place,
                phase=phase,
                asked=asked,
                reason=refused.reason,
            )
            outcome += f"; the refusal is {entry}" if isinstance(entry, Entry) else f"; {entry}"
        reason = f"{refused.reason}\n{outcome}" if refused.reason else outcome
        raise type(refused)(refused.message, reason=reason, next_step=refused.next_step) from refused

"""Checks that more than one phase asks."""

from __future__ import annotations

from collections import Counter

from pik.results import Check
from pik.rollout import mapping, stack
from pik.rollout.probe import Probe, exchange
from pik.rollout.reading import Stores
from pik.rollout.verdicts import check, every, missing

KINDS = {
    "AWS::Lambda::Function": "functions",
    "AWS::ApiGateway::RestApi": "APIs",
    "AWS::Lambda::EventSourceMapping": "mappings",
}


def no_alarm(stores: Stores) -> Check:
    """None of the stack's alarms is in ALARM. One without data is shown, and is no alarm."""
    states = stores.alarms()
    ringing = sorted(name for name, state in states.items() if state == "ALARM")
    return check(
        "no alarm",
        not ringing if states else None,
        yes=f"none of {len(states)} alarms is in ALARM",
        no=f"in ALARM: {', '.join(ringing)}",
        unknown="the stack has no alarms",
        evidence={"states": ", ".join(f"{name} {state}" for name, state in sorted(states.items()))},
        remedy=f"pik status --env {stores.environment.name}, then the alarm's own description",
    )


def dead_letters_empty(stores: Stores) -> Check:
    """The dead-letter queue is empty."""
    count = stores.dead_letters()
    return check(
        "dead-letter queue is empty",
        count == 0,
        yes="no message in the dead-letter queue",
        no=f"{count} messages in the dead-letter queue",
        evidence={"queue": stores.outputs["DeadLetterQueueUrl"], "messages": count},
        remedy="read the attributes pik_code and pik_reason of those messages before going on",
    )


def components(stores: Stores) -> Check:
    """What runs is exactly what the phase says: functions, APIs and mappings, counted in the stack and at Lambda."""
    environment = stores.environment
    phase = stack.require(environment).phase
    expected = {
        "functions": 1 + phase.replay + phase.processor,
        "APIs": 1 + phase.replay,
        "mappings": int(phase.processor),
    }
    pages = environment.client("cloudformation").get_paginator("list_stack_resources")
    found: Counter[str] = Counter()
    names = {}
    for page in pages.paginate(StackName=environment.stack):
        for item in page["StackResourceSummaries"]:
            if item["ResourceType"] in KINDS and item["ResourceStatus"] != "DELETE_COMPLETE":
                found[KINDS[item["ResourceType"]]] += 1
                names[item["LogicalResourceId"]] = item["PhysicalResourceId"]
    reading = mapping.find(environment, stores.outputs)
    seen = {kind: found[kind] == count for kind, count in expected.items()}
    seen["mappings that read the queue"] = len(reading) == expected["mappings"]
    return check(
        "only this phase is on",
        every(seen),
        yes=f"phase {phase.label} and no more: "
        + ", ".join(f"{count} {kind if count != 1 else kind[:-1]}" for kind, count in expected.items()),
        no=f"not what phase {phase.label} means: {missing(seen)}",
        evidence={
            "resources": ", ".join(f"{logical} = {physical}" for logical, physical in sorted(names.items())),
            "mappings of the queue": ", ".join(f"{m.function} {m.state}" for m in reading) or "none",
        },
        remedy=f"pik rollback --env {environment.name} if something runs that must not",
    )


def ingest_answers(stores: Stores, name: str = "ingest still answers") -> Check:
    """The ingest API, at the address producers have, still takes events (asked by a dry run)."""
    asked = exchange(stores.environment, stores.outputs["IngestUrl"], Probe().body(1), dry_run=True)
    return check(
        name,
        asked.status == 200,
        yes="the ingest API answers at the same address",
        no=f"the ingest API answered {asked.said}",
        evidence={"POST": f"{stores.outputs['IngestUrl']}?dry_run=true", "answer": asked.said},
        remedy=f"pik status --env {stores.environment.name}; then the ingest log group",
    )

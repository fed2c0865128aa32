"""Checks that more than one phase asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from pik.pipeline.settings import METRICS_NAMESPACE
from pik.results import Check
from pik.rollout import mapping, stack
from pik.rollout.checks import BY_NAME
from pik.rollout.permissions import permissions
from pik.rollout.probe import Probe, exchange
from pik.rollout.reading import Stores, eventually
from pik.rollout.verdicts import check, every, missing

KINDS = {
    "AWS::Lambda::Function": "functions",
    "AWS::ApiGateway::RestApi": "APIs",
    "AWS::Lambda::EventSourceMapping": "mappings",
}


def questions(stores: Stores) -> dict[str, Callable[[], Check]]:
    """Return what every phase is asked, by its name."""
    return {
        "no alarm": lambda: no_alarm(stores),
        "permissions are as declared": lambda: permissions(stores.environment),
        "only this phase is on": lambda: components(stores),
    }


def logs(stores: Stores, group: str, text: str, since: datetime, patience: float) -> Check:
    """Check that ``text`` is in the log group that the output ``group`` names; wait for it as the spec says."""
    name = "logs exist"
    wait = min(BY_NAME[name].patience, patience) if text else 0
    lines = eventually(lambda: stores.log_lines(group, text, since) if text else [], bool, wait)
    return check(
        name,
        bool(lines) or None,
        yes=f"{text} is in {len(lines)} log line{'' if len(lines) == 1 else 's'}",
        no="",
        unknown=f"no log line with {text} within {wait:.0f} s" if text else "nothing was done that could be logged",
        evidence={"log group": stores.outputs[group], "looked for": text, "line": (lines or [""])[-1]},
    )


def metrics(stores: Stores, metric: str, service: str, since: datetime, patience: float) -> Check:
    """Check that one of the pipeline's metrics has data points since a moment; wait for them as the spec says."""
    name = "metrics arrive"
    wait = min(BY_NAME[name].patience, patience)
    total = eventually(lambda: stores.metric_sum(metric, service, since), lambda value: value > 0, wait)
    return check(
        name,
        True if total > 0 else None,
        yes=f"{metric} of service {service} counts {total:g}",
        no="",
        unknown=f"no data point of {metric} within {wait:.0f} s",
        evidence={
            "metric": f"{METRICS_NAMESPACE} {metric} service={service} environment={stores.environment.name}",
            "since": f"{since:%Y-%m-%d %H:%M:%SZ}",
            "sum": total,
        },
    )


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
    )

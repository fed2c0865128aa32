"""Checks that more than one phase asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from pik import clock
from pik.aws import event_source_mapping, stack
from pik.aws.reading import Steady, StoreReader, eventually
from pik.pipeline.settings import METRICS_NAMESPACE
from pik.results import Check
from pik.rollout.checks.permissions import permissions
from pik.rollout.checks.probe import Probe, answering
from pik.rollout.checks.trials import POISON_PREFIX
from pik.rollout.checks.verdicts import check, every, later, missing, patience

POISON_REMEMBERED = timedelta(minutes=15)  # an alarm looks at minutes and needs some more to fall silent
ANSWERS_SECONDS = 10.0  # an API that is not new: longer than a few failed requests would be an outage
KINDS = {
    "AWS::Lambda::Function": "functions",
    "AWS::ApiGateway::RestApi": "APIs",
    "AWS::Lambda::EventSourceMapping": "mappings",
}


def questions(stores: StoreReader, asked: float) -> dict[str, Callable[[], Check]]:
    """Return what every phase is asked, by its name."""
    return {
        "no alarm": lambda: no_alarm(stores, asked),
        "permissions are as declared": lambda: permissions(stores.environment),
        "only this phase is on": lambda: components(stores, asked),
    }


def logs(stores: StoreReader, group: str, text: str, since: datetime, asked: float) -> Check:
    """Check that ``text`` is in the log group that the output ``group`` names; wait for it as the spec says."""
    name = "logs exist"
    wait = patience(name, stores.environment, asked) if text else 0
    lines = eventually(lambda: stores.log_lines(group, text, since) if text else [], bool, wait)
    return check(
        name,
        bool(lines) or None,
        yes=f"{text} is in {len(lines)} log line{'' if len(lines) == 1 else 's'}",
        no="",
        unknown=f"no log line with {text} within {wait:.0f} s" if text else "nothing was done that could be logged",
        remedy=f"CloudWatch may be late: {later(stores.environment, _phase(stores), wait)}" if text else "",
        evidence={"log group": stores.outputs[group], "looked for": text, "line": (lines or [""])[-1]},
    )


def metrics(stores: StoreReader, metric: str, service: str, asked: float) -> Check:
    """Check that one of the pipeline's metrics has data points since the last deploy; wait for them as the spec says.

    CloudWatch may take minutes; points that came too late for an earlier run count in this one.
    """
    name, since = "metrics arrive", stack.require(stores.environment).updated
    wait = patience(name, stores.environment, asked)
    total = eventually(lambda: stores.metric_sum(metric, service, since), lambda value: value > 0, wait)
    return check(
        name,
        True if total > 0 else None,
        yes=f"{metric} of service {service} counts {total:g}",
        no="",
        unknown=f"no data point of {metric} within {wait:.0f} s",
        remedy=f"CloudWatch may be late: {later(stores.environment, _phase(stores), wait)}",
        evidence={
            "metric": f"{METRICS_NAMESPACE} {metric} service={service} environment={stores.environment.name}",
            "since": f"{since:%Y-%m-%d %H:%M:%SZ}",
            "sum": total,
        },
    )


def _phase(stores: StoreReader) -> str:
    return stack.require(stores.environment).phase.name


def no_alarm(stores: StoreReader, asked: float = 0.0) -> Check:
    """None of the stack's alarms is in ALARM. One without data is shown, and is no alarm.

    An alarm that rang for the poison which an earlier verification sent, and removed, is waited for: it must fall
    silent.
    """
    states = stores.alarms()
    if _ringing(states) == ["DeadLetterQueueAlarm"] and _our_poison_only(stores):
        wait = patience("no alarm", stores.environment, asked)
        states = eventually(stores.alarms, lambda seen: not _ringing(seen), wait, every=5.0)
    ringing = _ringing(states)
    return check(
        "no alarm",
        not ringing if states else None,
        yes=f"none of {len(states)} alarms is in ALARM",
        no=f"in ALARM: {', '.join(ringing)}",
        unknown="the stack has no alarms",
        evidence={"states": ", ".join(f"{name} {state}" for name, state in sorted(states.items()))},
    )


def _ringing(states: dict[str, str]) -> list[str]:
    return sorted(name for name, state in states.items() if state == "ALARM")


def _our_poison_only(stores: StoreReader) -> bool:
    """Whether every message that went to the dead-letter queue lately is a verification's own poison message."""
    since = clock.now(stores.environment) - POISON_REMEMBERED
    lines = stores.log_lines("ProcessorLogGroup", "set aside", since)
    return bool(lines) and all(POISON_PREFIX in line for line in lines)


def dead_letters_empty(stores: StoreReader, watched: Steady | None = None) -> Check:
    """The dead-letter queue is empty, by a count that lasts: a single one may be a minute old.

    ``watched``: its count, watched since the step began, so that nothing is waited for here.
    """
    count, lasted = (watched or Steady(stores.environment, stores.dead_letters)).count()
    return check(
        "dead-letter queue is empty",
        count == 0 if lasted else None,
        yes="no message in the dead-letter queue",
        no=f"{count} messages in the dead-letter queue",
        unknown=f"{count} messages in the dead-letter queue, and its count is still moving",
        remedy="" if lasted else "wait until no more messages go to the dead-letter queue, then run the step again",
        evidence={"queue": stores.outputs["DeadLetterQueueUrl"], "messages": count},
    )


def components(stores: StoreReader, asked: float = 0.0) -> Check:
    """What runs is exactly what the phase says: functions, APIs and mappings, counted in the stack and at Lambda."""
    environment, name = stores.environment, "only this phase is on"
    there = stack.require(environment)
    phase, wanted = there.phase, _wanted_mappings(there)
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
    reading = eventually(
        lambda: event_source_mapping.find(environment, stores.outputs),
        lambda seen: [one.state for one in seen] == wanted,
        patience(name, environment, asked),
    )
    # One that is being deleted is asked again, for a while; it is gone soon, and reads no more.
    states = [one.state for one in reading if one.state != "Deleting"]
    seen = {kind: found[kind] == count for kind, count in expected.items()}
    seen["mappings that read the queue"] = states == wanted
    return check(
        name,
        every(seen),
        yes=f"phase {phase.label} and no more: "
        + ", ".join(f"{count} {kind if count != 1 else kind[:-1]}" for kind, count in expected.items()),
        no=f"not what phase {phase.label} means: {missing(seen)}",
        evidence={
            "resources": ", ".join(f"{logical} = {physical}" for logical, physical in sorted(names.items())),
            "mappings of the queue": ", ".join(f"{m.function} {m.state}" for m in reading) or "none",
        },
    )


def _wanted_mappings(there: stack.Stack) -> list[str]:
    """The states of the queue's mappings: one that reads in phase 3 (a dry run keeps it disabled), none before."""
    if not there.phase.processor:
        return []
    return ["Disabled" if there.parameters.get("DryRun") == "true" else "Enabled"]


def ingest_answers(stores: StoreReader, name: str = "ingest still answers") -> Check:
    """The ingest API, at the address producers have, still takes events (asked by a dry run)."""
    asked = answering(stores.environment, stores.outputs["IngestUrl"], Probe().body(1), ANSWERS_SECONDS)
    return check(
        name,
        None if asked.busy else asked.status == 200,
        yes="the ingest API answers at the same address",
        no=f"the ingest API answered {asked.summary}",
        unknown=f"the ingest API is too busy to answer: {asked.summary}",
        evidence={"POST": f"{stores.outputs['IngestUrl']}?dry_run=true", "answer": asked.summary},
    )

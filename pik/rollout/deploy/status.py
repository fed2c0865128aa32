"""Where am I, what is on: one look at an environment. Reads only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pik import phases
from pik.aws import event_source_mapping as mapping
from pik.aws import stack
from pik.aws.guard import look
from pik.aws.queues import queue_counts
from pik.aws.stack import Stack, aws_errors
from pik.environments import Environment
from pik.rollout.deploy import unfinished
from pik.rollout.deploy.unfinished import Unfinished
from pik.rollout.gates import evidence_status
from pik.rollout.gates.deployed import deployed
from pik.rollout.plan.preconditions import way_out
from pik.units import DAY, duration, size


@dataclass(frozen=True)
class QueueStatus:
    """What a queue holds now. ``oldest_seconds`` and ``retention_seconds`` are None when AWS does not say."""

    waiting: int
    in_flight: int
    oldest_seconds: float | None
    retention_seconds: int | None

    def __str__(self) -> str:
        text = f"{self.waiting:,} waiting"
        if self.in_flight:
            text += f", {self.in_flight:,} in flight"
        if self.oldest_seconds and self.retention_seconds:
            text += f" (oldest {duration(self.oldest_seconds)} of {duration(self.retention_seconds)})"
        return text


@dataclass(frozen=True)
class Status:
    """One environment at a glance; what is not known is None."""

    environment: str
    region: str
    stack: str
    phase: str
    rehearsal: bool = False
    account: str | None = None
    account_alias: str | None = None
    stack_status: str | None = None
    dry_run: bool = False
    since: datetime | None = None
    by: str | None = None
    template_digest: str | None = None
    code_digest: str | None = None
    events: int | None = None
    aggregates: int | None = None
    raw_objects: int | None = None
    raw_bytes: int | None = None
    queue: QueueStatus | None = None
    dead_letters: QueueStatus | None = None
    mapping: str | None = None
    evidence: str | None = None
    verified: bool | None = None
    unfinished: str | None = None
    differences: tuple[str, ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    next: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as one JSON-able object."""
        data = asdict(self)
        data["since"] = self.since.isoformat() if self.since else None
        data["phase_number"] = phases.PHASES.index(self._phase)
        return data

    @property
    def _phase(self) -> phases.Phase:
        return phases.OFF if self.phase == phases.OFF.name else phases.phase(self.phase)

    def to_text(self) -> str:
        """Return it as a few aligned lines."""
        alias = f" ({self.account_alias})" if self.account_alias else ""
        lines = [f"{self.environment}  account {self.account or 'unknown'}{alias}  {self.region}  stack {self.stack}"]
        if self.rehearsal:
            lines.append("REHEARSAL on the embedded AWS: nothing of this is in your account")
        lines += [f"NOT HERE {difference}" for difference in self.differences]
        lines.append(self._phase_line())
        if self._phase is not phases.OFF:
            if self.stack_status and not self.stack_status.endswith("_COMPLETE"):
                lines.append(f"stack    {self.stack_status}")
            if self.unfinished:
                lines.append(f"HALF DONE {self.unfinished}")
            lines.append(self._stores_line())
            if self.evidence:
                lines.append(f"evidence {self.evidence}")
        for number, step in enumerate(self.next):
            command, *words = step.split("\n")
            lines.append(f"{'next' if number == 0 else '':<8} {command}")
            lines += [f"{'':<11}{line}" for line in words]
        return "\n".join(lines)

    def _phase_line(self) -> str:
        if self._phase is phases.OFF:
            return "phase    off: nothing is deployed"
        parts = [f"phase    {self._phase.label}"]
        if self.since:
            parts.append(f"since {self.since.astimezone(UTC):%Y-%m-%d %H:%M:%SZ} by {self.by}")
        if self.template_digest and self.code_digest:
            parts.append(f"template {self.template_digest[:8]}…  code {self.code_digest[:8]}…")
        if self.dry_run:
            parts.append("DRY_RUN")
        if self.mapping:
            parts.append(f"mapping {self.mapping}")
        return "  ".join(parts)

    def _stores_line(self) -> str:
        raw = "" if self.raw_bytes is None else f" {size(self.raw_bytes)}"
        dead = str(self.dead_letters).removesuffix(" waiting")
        return (
            f"stores   event rows {_count(self.events)}   raw {_count(self.raw_objects)}{raw}   "
            f"aggregate rows {_count(self.aggregates)}   queue {self.queue}   DLQ {dead}"
        )


def status(environment: Environment) -> Status:
    """Return where the environment is. Works when nothing is deployed; raises AwsError when AWS cannot be reached.

    >>> print(status(environment("local")).to_text())              # doctest: +SKIP
    local  account 000000000000  us-east-1  stack pik-local
    phase    2 replay  since 2026-11-20 08:20:11Z by ana  template 9f3c…  code 77ab…
    """
    place, differences = look(environment)
    found = place.stack
    account, alias = place.account, _alias(environment)
    base: dict[str, Any] = {
        "environment": environment.name,
        "rehearsal": environment.rehearsal,
        "region": environment.region,
        "stack": environment.stack,
        "account": account,
        "account_alias": alias,
        "differences": tuple(map(str, differences)),
    }
    if found is None or "EventsTable" not in found.outputs:
        state = found.status if found else None
        return Status(**base, phase=phases.OFF.name, stack_status=state, next=_begin(environment, found))
    with aws_errors(environment, "read the state of the stores"):
        there = deployed(environment, found)
        own = evidence_status.book(environment, there.template, there.code)
        _, proven = evidence_status.evidence(environment, place, own, there)
        left = unfinished.look(environment, found, own.ledger)
        base |= {"template_digest": there.template, "code_digest": there.code}
        base |= {"evidence": proven.sentence, "verified": proven.met, "unfinished": left.sentence if left else None}
        return Status(**base, **_deployed(environment, found, left))


def _begin(environment: Environment, found: Stack | None) -> tuple[str, ...]:
    """What leads to a first deploy: a stack that was never completely made is in the way."""
    first = _deploy(environment, phases.INGEST)
    if found is None or found.healthy:
        return (first,)
    if found.in_progress:
        return (f"pik status --env {environment.name}    CloudFormation is at work: {found.status}",)
    return (way_out(environment, found), first)


def _deployed(environment: Environment, found: Stack, left: Unfinished | None) -> dict[str, Any]:
    since = stack.phase_since(environment, found)
    raw_objects, raw_bytes = _raw(environment, found.outputs["RawBucket"])
    mappings = mapping.find(environment, found.outputs)
    waiting = queue(environment, found.outputs["QueueUrl"])
    dead = queue(environment, found.outputs["DeadLetterQueueUrl"])
    return {
        "phase": found.phase.name,
        "stack_status": found.status,
        "dry_run": found.parameters.get("DryRun") == "true",
        "since": since.time if since else None,
        "by": since.who if since else None,
        "events": _items(environment, found.outputs["EventsTable"]),
        "aggregates": _items(environment, found.outputs["AggregatesTable"]),
        "raw_objects": raw_objects,
        "raw_bytes": raw_bytes,
        "queue": waiting,
        "dead_letters": dead,
        "mapping": mappings[0].state if mappings else None,
        "outputs": found.outputs,
        "next": tuple(_next(environment, found, dead.waiting, mappings, left)),
    }


def _next(
    environment: Environment,
    found: Stack,
    dead: int,
    mappings: list[mapping.EventSourceMapping],
    left: Unfinished | None,
) -> list[str]:
    env = environment.name
    if found.in_progress:
        return [f"pik status --env {env}\nCloudFormation is at work: {found.status}"]
    if not found.healthy:
        return [f"{way_out(environment, found)}\nthe stack is {found.status}"]
    steps = [f"{left.finish}\nfinish what is half done", f"{left.undo}\nor undo it"] if left else []
    if dead and found.phase.processor:
        steps.append(f"pik rollback --env {env}\nif the DLQ's {dead} messages are this deployment's fault")
    elif dead:
        steps.append(f"pik run queue-and-dlq --env {env}\nwhy the DLQ holds {dead} messages")
    closed = found.phase.processor and any(m.state == "Disabled" for m in mappings)
    if closed and found.parameters.get("DryRun") != "true":
        steps.append(f"pik rollback --env {env} --to replay\nthe event source mapping is disabled: finish the rollback")
    steps.append(f"pik run verify-{found.phase.name} --env {env}\nevidence for phase {found.phase.label}")
    if found.phase.next:
        ahead = found.phase.next.name
        steps.append(
            f"pik plan --env {env} --phase {ahead} --deployed\nthen promote:\npik promote --env {env} --to {ahead}"
        )
    return steps


def _deploy(environment: Environment, target: phases.Phase) -> str:
    return f"pik deploy --env {environment.name} --phase {target.name}"


def _alias(environment: Environment) -> str | None:
    try:
        aliases = environment.client("iam").list_account_aliases()["AccountAliases"]
    except (ClientError, BotoCoreError):
        return None
    return str(aliases[0]) if aliases else None


def _items(environment: Environment, table: str) -> int:
    count: int = environment.client("dynamodb").describe_table(TableName=table)["Table"]["ItemCount"]
    return count


def _raw(environment: Environment, bucket: str) -> tuple[int | None, int | None]:
    if environment.embedded:
        pages = environment.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="raw/")
        sizes = [item["Size"] for page in pages for item in page.get("Contents", [])]
        return len(sizes), sum(sizes)
    objects = _storage(environment, bucket, "NumberOfObjects", "AllStorageTypes")
    return objects, _storage(environment, bucket, "BucketSizeBytes", "StandardStorage")


def _storage(environment: Environment, bucket: str, metric: str, kind: str) -> int | None:
    # S3 reports its storage metrics once a day; listing a large bucket to count it costs money.
    points = _metric(
        environment,
        "AWS/S3",
        metric,
        [{"Name": "BucketName", "Value": bucket}, {"Name": "StorageType", "Value": kind}],
        window=3 * DAY,
        period=DAY,
    )
    return int(points[-1]) if points else None


def queue(environment: Environment, url: str) -> QueueStatus:
    """Return what a queue holds now."""
    counts = queue_counts(environment, url)
    attributes = environment.client("sqs").get_queue_attributes(
        QueueUrl=url, AttributeNames=["MessageRetentionPeriod"]
    )["Attributes"]
    retention = attributes.get("MessageRetentionPeriod")
    waiting = counts["ApproximateNumberOfMessages"] + counts["ApproximateNumberOfMessagesDelayed"]
    name = [{"Name": "QueueName", "Value": url.rpartition("/")[2]}]
    ages = _metric(environment, "AWS/SQS", "ApproximateAgeOfOldestMessage", name, window=900, period=60)
    return QueueStatus(
        waiting=waiting,
        in_flight=counts["ApproximateNumberOfMessagesNotVisible"],
        oldest_seconds=ages[-1] if ages and waiting else None,
        retention_seconds=int(retention) if retention else None,
    )


def _metric(
    environment: Environment, namespace: str, metric: str, dimensions: list[dict[str, str]], window: int, period: int
) -> list[float]:
    now = datetime.now(UTC)
    points = environment.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=dimensions,
        StartTime=now - timedelta(seconds=window),
        EndTime=now,
        Period=period,
        Statistics=["Maximum"],
    )["Datapoints"]
    return [point["Maximum"] for point in sorted(points, key=lambda point: point["Timestamp"])]


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"

"""Make an incident happen on the embedded AWS: send its arrivals through the real API, then damage what it damages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pik import config, environments, events, producer, project
from pik.environments import Environment
from pik.errors import AwsError, Refused
from pik.events import format_time
from pik.incidents import faults
from pik.incidents.ground_truth import truth
from pik.incidents.kinds import make
from pik.incidents.model import Arrived, Incident

Say = Callable[[str], None]


def truth_path(env: str, name: str, seed: int) -> Path:
    """Return the file that holds the truth about an incident; it is never written into the environment."""
    return project.STATE / "incidents" / env / f"{name}-{seed}.json"


def simulate(
    env: Environment | str, name: str, seed: int, *, say: Say | None = None, path: Path | None = None
) -> dict[str, Any]:
    """Make the incident ``name`` happen in ``local`` and return the truth about it, which is also written to ``path``.

    The stream is sent through the ingest API, so ingest time is now: lags are what they should be for incidents that
    are about them (event times end now), and of no meaning for the others (event times lie years back).

    Raises:
        UsageError: no such incident, or seed.
        Refused: not ``local`` (it alters stores on purpose), or this incident has happened there already, or it needs
            the replay API and that is off.
        AwsError: not everything could be delivered.

    >>> simulate("local", "duplicate-storm", 7)["source"]               # doctest: +SKIP
    'DL-sim-duplicate-storm-7'
    """
    incident = make(name, seed)
    where = _only_local(env)
    outputs = where.outputs()
    if name == "half-replay" and "ReplayUrl" not in outputs:
        raise Refused(
            "half-replay needs the replay API",
            reason=f"{where.name} is at phase {outputs['Phase']}",
            next_step=f"pik deploy --env {where.name} --phase replay",
        )
    if _happened(where, outputs, incident):
        raise Refused(
            f"{name} {seed} has happened in {where.name} already",
            reason=f"there are events of {incident.source}",
            next_step=f"pik simulate {name} --env {where.name} --seed {seed + 1}\nor another seed",
        )
    (say or _silent)(f"sending {len(incident.arrivals):,} arrivals of {incident.source}")
    report = _send(where, incident)
    report |= faults.ACTS.get(name, faults.nothing)(where, outputs, incident)
    target = path or truth_path(where.name, name, seed)
    project.private_folder(target.parent)
    with project.private_file(target) as file:
        file.write(json.dumps(report, indent=1) + "\n")
    return report


def _only_local(env: Environment | str) -> Environment:
    name = env if isinstance(env, str) else env.name
    config.config(name)  # raises for one that is not there
    if name != "local" or (isinstance(env, Environment) and not env.embedded):
        raise Refused(
            f"incidents are not simulated in {name}",
            reason="they alter and delete what the stores hold, on purpose",
            next_step="--env local",
        )
    return environments.environment(env) if isinstance(env, str) else env


def _happened(where: Environment, outputs: dict[str, str], incident: Incident) -> bool:
    entities = {arrived.event["entity_id"] for arrived in incident.arrivals}
    found = where.client("dynamodb").query(
        TableName=outputs["EventsTable"],
        KeyConditionExpression="PK = :pk",
        ExpressionAttributeValues={":pk": {"S": events.entity_pk(min(entities))}},
        Limit=1,
    )
    return bool(found["Items"])


def _send(where: Environment, incident: Incident) -> dict[str, Any]:
    """Send all, in the order in which they come, and return the truth about what was sent."""
    began = datetime.now(UTC)
    sent: list[Arrived] = []
    _deliver(where, _bodies(incident, sent))
    if incident.live:
        times = [arrived.parsed.event_time for arrived in sent]
        incident = replace(
            incident,
            start=events.parse_time(min(times)),
            end=events.parse_time(max(times)) + timedelta(microseconds=1),
            facts=_as_sent(incident, sent),
        )
    over = datetime.now(UTC)
    return truth(incident, sent) | {"ingested": [format_time(began), format_time(over)]}


def _bodies(incident: Incident, sent: list[Arrived]) -> Iterator[bytes]:
    """Yield the bodies as they are wanted, so that a live event's time is counted from when it really leaves."""
    moved: dict[str, dict[str, Any]] = {}  # by event id: what comes again is the same event again
    for arrived in incident.arrivals:
        event = dict(arrived.event)
        if incident.live:
            now = {"event_time": format_time(datetime.now(UTC) - arrived.lag)}
            event = moved.setdefault(arrived.parsed.event_id, event | now)
        sent.append(replace(arrived, event=event))
        yield producer.encode(event)


def _deliver(where: Environment, bodies: Iterable[bytes]) -> None:
    summary = producer.send(bodies, where)
    lost = summary.failed + summary.rejected
    if lost or summary.interrupted or summary.dry_run:
        raise AwsError(
            f"{lost} of {summary.total} arrivals were not taken",
            reason=", ".join(f"{status} {count}" for status, count in summary.by_status.items()),
            next_step="pik status --env local\nthen another seed",
        )


def _as_sent(incident: Incident, sent: list[Arrived]) -> dict[str, Any]:
    """Return the incident's facts about event times as they were sent."""
    facts = dict(incident.facts)
    if "window" in facts:
        times = [arrived.parsed.event_time for arrived in sent if arrived.injected]
        facts["window"] = [min(times), max(times)]
    if "same_request" in facts:
        facts["same_request"] = False  # the producer gives every sending an id of its own
    return facts


def _silent(_: str) -> None:
    pass

"""What was done to an environment, kept on this machine: ``.pik/deploys/<time>-<environment>-<action>.{json,log}``.

The shared record is AWS's own: the history of the ``/pik/<stack>/rollout`` parameter says who entered which phase
when. Stack tags are not used for this: CloudFormation hands them on to every resource, so a digest in a tag would make
each deploy touch every table, bucket and queue.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pik import project
from pik.environments import Environment


def new(environment: Environment, action: str) -> Path:
    """Return the path of a new log file for one action; the record beside it has the suffix ``.json``."""
    folder = project.private_folder(project.STATE / "deploys")
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    return folder / f"{stamp}-{environment.name}-{action}.log"


def write(log: Path, environment: Environment, action: str, facts: dict[str, Any]) -> Path:
    """Write the record of one action beside its log and return its path."""
    path = log.with_suffix(".json")
    record = {
        "action": action,
        "environment": environment.name,
        "stack": environment.stack,
        "region": environment.region,
        "by": caller(environment),
        "at": datetime.now(UTC).isoformat(),
        **facts,
    }
    with project.private_file(path) as file:
        file.write(json.dumps(record, indent=2, default=str) + "\n")
    return path


def caller(environment: Environment) -> str:
    """Return the ARN of who is calling, or ``unknown`` when AWS does not say."""
    try:
        return str(environment.client("sts").get_caller_identity()["Arn"])
    except (ClientError, BotoCoreError):
        return "unknown"

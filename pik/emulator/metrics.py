"""Metrics of the embedded AWS, brought up to date on demand."""

from __future__ import annotations

import http.client
import json
import urllib.request

from pik import errors
from pik.environments import Environment


def extract_metrics(environment: Environment) -> int:
    """Bring the embedded AWS's metrics and alarms up to date; return how many data points that added.

    Metrics in log lines (EMF) are there at once by themselves, and queues are looked at once a minute, as on AWS. This
    looks at them now, and evaluates every alarm, so that a check need not wait for the minute. Any number of calls is
    harmless: log lines are never counted twice.

    Raises:
        UsageError: ``environment`` is not the embedded AWS (CloudWatch does this by itself).
        AwsError: it does not answer.

    Example:
        >>> extract_metrics(environment("local"))  # doctest: +SKIP
        8
    """
    if not environment.embedded:
        raise errors.UsageError(f"{environment.name}: CloudWatch extracts metrics by itself")
    request = urllib.request.Request(f"{environment.endpoint}/_pik/sample", method="POST")  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return int(json.load(answer)["points"])
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise errors.AwsError(
            "the embedded AWS does not sample its metrics", reason=str(error), next_step="pik local status"
        ) from error

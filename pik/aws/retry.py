"""Look again when a look at AWS fails for a moment: a throttled or lost answer says nothing about what is watched."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    HTTPClientError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from pik.environments import Environment
from pik.errors import AwsError, PikError

T = TypeVar("T")
SILENCE = 300.0  # seconds without any answer after which nothing is watched any more
FIRST = 20.0  # seconds for the first question of a command: nothing has begun yet, and the network may be missing
# https://docs.aws.amazon.com/awscloudformation/latest/APIReference/CommonErrors.html, and each service's own words.
_CODES = frozenset(
    {
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException"),
        *("TooManyRequestsException", "RequestLimitExceeded", "ProvisionedThroughputExceededException", "SlowDown"),
        *("PriorRequestNotComplete", "TransactionInProgressException", "BandwidthLimitExceeded"),
        *("InternalFailure", "InternalError", "InternalServerError", "ServiceException", "ServiceUnavailable"),
        *("RequestTimeout", "RequestTimeoutException"),
    }
)
_LOST = (
    BotoConnectionError,
    ConnectionClosedError,
    ConnectTimeoutError,
    HTTPClientError,
    ReadTimeoutError,
    ResponseStreamingError,
)


def transient(error: BaseException | None) -> bool:
    """Return whether an error, or what an error of ours was made from, may be gone at the next call.

    >>> transient(ClientError({"Error": {"Code": "Throttling"}}, "DescribeStacks"))
    True
    >>> transient(ClientError({"Error": {"Code": "AccessDenied"}}, "DescribeStacks"))
    False
    """
    if isinstance(error, ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return error.response.get("Error", {}).get("Code", "") in _CODES or status == 429 or status >= 500
    if isinstance(error, PikError):
        return transient(error.__cause__)
    return isinstance(error, _LOST)


def patiently(
    environment: Environment,
    look: Callable[[], T],
    *,
    say: Callable[[str], None] = lambda _: None,
    silence: float = SILENCE,
) -> T:
    """Return what ``look`` returns; call it again while AWS throttles it, fails, or cannot be reached.

    Raises:
        AwsError: there was no answer for ``silence`` seconds.
        Exception: whatever else ``look`` raises, at once.
    """
    began, pause, reported = time.monotonic(), 0.2 if environment.embedded else 1.0, False
    while True:
        try:
            return look()
        except (PikError, ClientError, BotoCoreError) as error:
            if not transient(error):
                raise
            if time.monotonic() - began >= silence:
                raise AwsError(
                    f"{environment.name}: AWS has not answered for {silence:.0f} s",
                    reason=getattr(error, "reason", "") or str(error),
                    next_step=f"pik status --env {environment.name}\nwhat CloudFormation has begun goes on by itself",
                ) from error
            if not reported:
                say(f"AWS does not answer now, looking again: {getattr(error, 'reason', '') or error}")
                reported = True
        time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter, not a secret
        pause = min(2 * pause, 20.0)

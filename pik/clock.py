"""The time as AWS has it: what AWS dates is compared with AWS's clock, not with that of the computer at hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from pik.environments import Environment

# A request that is signed by a clock further off is refused, so no producer's clock is further off than this:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
SKEW_ON_AWS = timedelta(minutes=5)
SKEW_EMBEDDED = timedelta(seconds=5)  # one machine, one clock; an answer under load takes a few seconds


def now(environment: Environment) -> datetime:
    """Return the time that AWS's answer to a question is dated with, in whole seconds, in UTC.

    Raises:
        BotoCoreError, ClientError: AWS did not answer.
    """
    answer = environment.client("sts").get_caller_identity()
    dated = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(dated).astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)  # an imitation of AWS that does not date its answers runs on this computer


def skew(environment: Environment) -> timedelta:
    """Return by how much a producer's clock may differ from AWS's."""
    return SKEW_EMBEDDED if environment.embedded else SKEW_ON_AWS


def settled(environment: Environment) -> datetime:
    """Return a moment that lies so far back that nobody's clock has it still to come.

    What happened before it has arrived, or is late.
    """
    return now(environment) - skew(environment)

"""The time as AWS has it: what AWS dates is compared with AWS's clock, not with that of the computer at hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from pik.environments import Environment

if TYPE_CHECKING:
    from pik.emulator.realism.settings import RealismSettings

# A request that is signed by a clock further off is refused, so no producer's clock is further off than this:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
SKEW_ON_AWS = timedelta(minutes=5)
AHEAD = timedelta(minutes=1)  # by how much AWS's clock may well be ahead of ours: "until now" goes on for so long
SKEW_EMBEDDED = timedelta(seconds=5)  # one machine, one clock; an answer under load takes a few seconds
SKEW_REALISM = timedelta(seconds=90)  # the realism mode sets its clock wrong by up to 60 s


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
    if not environment.embedded:
        return SKEW_ON_AWS
    settings = _realism(environment)
    return SKEW_REALISM if settings and settings.has("clock-skew") else SKEW_EMBEDDED


def lateness(environment: Environment) -> float:
    """Return how late counts, logs and metrics are, in terms of AWS: 1 on AWS, 0 on the embedded AWS.

    In its realism mode it is as late as AWS, or as many times less as its waits are shortened; not at all when the
    habits that make it late are left out.
    """
    if not environment.embedded:
        return 1.0
    settings = _realism(environment)
    return settings.lateness if settings else 0.0


def _realism(environment: Environment) -> RealismSettings | None:
    """Return the settings of the realism mode that an embedded AWS is in; None without it."""
    from pik.emulator.instance import recorded, state_dir
    from pik.emulator.realism.settings import RealismSettings

    found = recorded(state_dir())
    if found is None or found.endpoint != environment.endpoint or not found.realism:
        return None
    return RealismSettings.parse(found.realism)


def settled(environment: Environment) -> datetime:
    """Return a moment that lies so far back that nobody's clock has it still to come.

    What happened before it has arrived, or is late.
    """
    return now(environment) - skew(environment)

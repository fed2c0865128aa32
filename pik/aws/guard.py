"""Is what answers really the environment that was named? Asked before anything is written anywhere.

Compared are the caller's account and region, the stack's own id, tag and parameter, and every address and name in its
outputs. A difference stops with both sides shown, and cannot be overridden: a rollback of the wrong stack is one, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pik.aws import stack
from pik.aws.stack import Stack, aws_errors
from pik.environments import Environment
from pik.errors import Refused

ENVIRONMENT_TAG = "pik:environment"
# Outputs that name a resource of the stack by what CloudFormation calls its physical id.
NAMED = {
    *("EventsTable", "DedupeTable", "AggregatesTable", "ReplaysTable", "RawBucket", "EvidenceBucket"),
    *("QueueUrl", "DeadLetterQueueUrl", "IngestFunction", "ReplayFunction", "ProcessorFunction", "ProcessorMapping"),
    *("IngestApiId", "ReplayApiId", "IngestLogGroup", "ReplayLogGroup", "ProcessorLogGroup", "RolloutParameter"),
}
_API_HOST = re.compile(r"(?P<api>[a-z0-9]+)\.execute-api\.(?P<region>[a-z0-9-]+)\.")


@dataclass(frozen=True)
class Mismatch:
    """One thing that is not as the environment named has it."""

    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.what}: {self.expected} expected, {self.found} found"


@dataclass(frozen=True)
class Place:
    """Where we are: verified. ``stack`` is None when nothing is deployed."""

    account: str
    caller: str
    stack: Stack | None


def look(environment: Environment, url: str = "") -> tuple[Place, tuple[Mismatch, ...]]:
    """Return where we are and everything that is not as ``environment`` has it. Raise AwsError."""
    with aws_errors(environment, "ask who is calling"):
        caller = environment.client("sts").get_caller_identity()
    account = str(caller["Account"])
    differences = [*_of_account(environment, account)]
    found = None if differences else stack.read(environment)
    if found:
        differences += _of_stack(environment, found)
    if found and found.healthy:  # in the middle of an update, outputs are those of before and resources those of after
        differences += _of_outputs(environment, found)
    if url and not differences:
        differences += _of_url(environment, "the address given", url, "")
    return Place(account, str(caller["Arn"]), found), tuple(differences)


def guard(environment: Environment, url: str = "") -> Place:
    """Return where we are when everything belongs to ``environment``; nothing has been written then.

    ``url``: an address that is going to be called instead of the stack's own.

    Raises:
        Refused: something belongs elsewhere, both sides in its reason; or ``pik.toml`` does not say which account is
            the right one, where that is needed.
        AwsError: AWS did not answer.

    >>> guard(environment("local")).account                          # doctest: +SKIP
    '000000000000'
    """
    place, differences = look(environment, url)
    _require_account(environment, place.account)
    if differences:
        raise Refused(
            f"this is not {environment.name}: nothing was done",
            reason="; ".join(map(str, differences)),
            next_step=hint(environment, differences),
        )
    return place


def _require_account(environment: Environment, account: str) -> None:
    if not environment.config.account and environment.config.protection != "open":
        raise Refused(
            f"{environment.name}: pik.toml does not say which account it belongs to",
            reason=f"it is {environment.config.protection}, and you are signed in to {account}",
            next_step=f'if that is right: account = "{account}" below [environments.{environment.name}]',
        )


def _of_account(environment: Environment, account: str) -> Iterator[Mismatch]:
    wanted = environment.config.account
    if wanted and wanted != account:
        yield Mismatch("the caller's account", wanted, account)
    region = environment.config.region
    if region and region != environment.region:
        yield Mismatch("region", region, environment.region)


def _of_stack(environment: Environment, found: Stack) -> Iterator[Mismatch]:
    """Compare the stack's id, tag and parameter."""
    parts = found.id.split(":")
    if len(parts) > 5 and parts[3] != environment.region:
        yield Mismatch("the stack's region", environment.region, parts[3])
    tagged = found.tags.get(ENVIRONMENT_TAG)
    if tagged != environment.name and not (tagged is None and environment.config.protection == "open"):
        yield Mismatch(f"tag {ENVIRONMENT_TAG} of {found.name}", environment.name, tagged or "no such tag")
    named = found.parameters.get("Environment", "")
    if named != environment.name:
        yield Mismatch(f"parameter Environment of {found.name}", environment.name, named or "no such parameter")


def _of_outputs(environment: Environment, found: Stack) -> Iterator[Mismatch]:
    """Compare what the outputs lead to with what the stack consists of."""
    resources = set(stack.resources(environment).values())
    for name, value in sorted(found.outputs.items()):
        if name in NAMED and value not in resources:
            yield Mismatch(f"output {name}", f"a resource of {found.name}", value)
        if name.endswith("Url") and "execute-api" in value:
            api = found.outputs.get(name.removesuffix("Url") + "ApiId", "")
            yield from _of_url(environment, f"output {name}", value, api)


def _of_url(environment: Environment, what: str, url: str, api: str) -> Iterator[Mismatch]:
    """Compare region, API and stage of an invoke URL (the stage is the environment's name)."""
    parts = urlsplit(url)
    stage = parts.path.lstrip("/").partition("/")[0]
    host = _API_HOST.match(parts.hostname or "")
    if host and host["region"] != environment.region:
        yield Mismatch(f"region of {what}", environment.region, host["region"])
    if host and api and host["api"] != api:
        yield Mismatch(f"API of {what}", api, host["api"])
    if host and stage != environment.name:
        yield Mismatch(f"stage of {what}", environment.name, stage or "none")


def hint(environment: Environment, differences: Sequence[Mismatch]) -> str:
    """Return what to do about differences."""
    name = environment.name
    if any("account" in one.what for one in differences):
        return f"sign in to the account of {name} (profile in pik.toml, or AWS_PROFILE), then:\npik doctor"
    return f"pik doctor\nsays what belongs where; the stack of {name} is {environment.stack} in {environment.region}"

"""What would fail in this account, asked before the first deploy: each with what to do. Reads only.

Every question is asked of AWS by itself, so that a right that is missing makes one answer inconclusive and no more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.request import getproxies

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from pik import project
from pik.aws import signed
from pik.aws.guard import Place
from pik.aws.template import parse
from pik.environments import Environment
from pik.errors import AwsError
from pik.partitions import partition
from pik.results import Check
from pik.rollout.checks.verdicts import check
from pik.rollout.deploy import rights
from pik.rollout.plan import naming, sam

# Seconds that one request keeps a function busy, for the estimate of concurrency: a put into S3 and a transaction.
SECONDS_A_REQUEST = 0.1
UNRESERVED = 100  # AWS keeps this much of the account's concurrency for functions that reserve none
SERVICES = (
    *("apigateway", "athena", "cloudformation", "cloudwatch", "dynamodb", "glue", "iam", "lambda", "logs", "s3"),
    *("sqs", "ssm", "sts", "xray"),
)
SHORTEST_SIGN_IN = 30 * 60  # seconds: a deploy and a canary take as long
RENEWED = ("sso", "assume-role-with-web-identity", "iam-role", "container-role")  # botocore renews these by itself
CLOCK_MAY_DIFFER = 30.0  # seconds; AWS refuses signatures that are five minutes off
_BOUNDARY = "PermissionsBoundary"


@dataclass(frozen=True)
class Subject:
    """What is asked about: where, and with which parameters and tags the stack is or would be deployed."""

    environment: Environment
    place: Place
    document: Mapping[str, Any]
    parameters: Mapping[str, str]
    tags: Mapping[str, str]

    @classmethod
    def of(cls, environment: Environment, place: Place) -> Subject:
        """Return it for the sources at hand, and for what the stack has already."""
        document = parse(project.TEMPLATE.read_text(encoding="utf-8"))
        defaults = {name: str(one.get("Default", "")) for name, one in document["Parameters"].items()}
        there = place.stack.parameters if place.stack else sam.configured_parameters(environment)
        tags = (place.stack.tags if place.stack else {}) | sam.configured_tags(environment)
        return cls(environment, place, document, defaults | dict(there), tags)

    def number(self, parameter: str) -> float:
        """The value of a parameter that is a number."""
        return float(self.parameters[parameter])


def preflight(environment: Environment, place: Place) -> Iterator[Check]:
    """Yield a check for everything about the account, the region and this machine that a deploy depends on."""
    subject = Subject.of(environment, place)
    for name, look in CHECKS.items():
        yield _run(name, look, subject)


def _run(name: str, look: Callable[[Subject], Check], subject: Subject) -> Check:
    try:
        return look(subject)
    except (ClientError, BotoCoreError, AwsError) as error:
        reason = error.message if isinstance(error, AwsError) else str(error)
        return check(
            name,
            None,
            yes="",
            no="",
            unknown=f"could not be asked: {reason}",
            remedy=getattr(error, "next_step", "") or "ask somebody who has the right that the answer above names",
            blocking=False,
        )


def _rights(subject: Subject) -> Check:
    environment = subject.environment
    lacking = rights.lacking(environment, subject.place, subject.parameters.get(_BOUNDARY, ""))
    shown = "; ".join(lacking[:5]) + (f"; and {len(lacking) - 5} more" if len(lacking) > 5 else "")
    return check(
        "rights to deploy",
        not lacking,
        yes=f"{subject.place.caller} may do all that a deploy does",
        no=f"{subject.place.caller} may not: {shown}",
        evidence={"lacking": lacking or "none"},
        remedy=f"pik doctor --env {environment.name} --policy\nprints what is needed: have it attached",
    )


def _concurrency(subject: Subject) -> Check:
    answer = subject.environment.client("lambda").get_account_settings()["AccountLimit"]
    limit = int(answer["ConcurrentExecutions"])
    ingest = math.ceil(subject.number("IngestRateLimit") * SECONDS_A_REQUEST)
    reserved = int(subject.number("IngestReservedConcurrency"))
    others = int(subject.number("MaximumConcurrency")) + math.ceil(subject.number("ReplayRateLimit"))
    needed = max(ingest, reserved) + others
    free = limit - reserved
    wanted = max(needed, reserved + UNRESERVED) if reserved else needed
    asks = f"IngestRateLimit {subject.parameters['IngestRateLimit']}/s takes about {ingest} at once, the rest {others}"
    slower = max(1, int((limit - others) / SECONDS_A_REQUEST))
    quota = "aws service-quotas request-service-quota-increase --service-code lambda --quota-code L-B99A9384"
    return check(
        "Lambda concurrency",
        limit >= wanted and (not reserved or (free >= UNRESERVED and reserved >= ingest)),
        yes=f"the account has {limit:,}; {asks}",
        no=f"the account has {limit:,}, {wanted:,} are wanted: {asks}"
        + (f"; {reserved} are reserved for ingest, and AWS wants {UNRESERVED} unreserved" if reserved else ""),
        evidence={"limit": limit, "wanted": wanted, "reserved for ingest": reserved},
        remedy=f"{quota} --desired-value {max(1000, wanted)}; until then --set IngestRateLimit={slower}",
    )


def _region(subject: Subject) -> Check:
    region, where = subject.environment.region, partition(subject.environment.region)
    session = subject.environment.session
    known = {name: session.get_available_regions(name, partition_name=where.name) for name in SERVICES}
    missing = sorted(name for name, regions in known.items() if regions and region not in regions and name != "iam")
    unknown = all(region not in regions for regions in known.values())
    seen = where.name == "aws" and not unknown
    return check(
        "region",
        None if unknown or (not missing and not seen) else not missing,
        yes=f"{region} has every service that the stack uses",
        no=f"{region} has no {', '.join(missing)}",
        unknown=f"the stack was never deployed in {region} ({where.name}): it is not known here whether it has "
        "Python 3.14 on arm64 and Athena's managed query results",
        remedy="choose another region in pik.toml"
        if missing
        else "compare AWS's list of services by region; deploy to dev there first",
        blocking=bool(missing),
    )


def _names(subject: Subject) -> Check:
    stack = subject.environment.stack
    wrong = naming.problem(stack, subject.document)
    return check(
        "names",
        not wrong,
        yes=f"{stack}: every name made from it fits",
        no=wrong,
        remedy=f'stack = "…" below [environments.{subject.environment.name}] in pik.toml, before the first deploy',
    )


def _tags(subject: Subject) -> Check:
    environment = subject.environment
    wanted, source = set(environment.config.required_tags), "required_tags of pik.toml"
    if not wanted:
        wanted, source = _tag_policy(environment), "the organization's tag policy"
    missing = sorted(wanted - {*subject.tags, "pik:environment"})
    return check(
        "tags",
        not missing,
        yes=f"{source} asks for {', '.join(sorted(wanted)) or 'none'}, and they are set",
        no=f"{source} asks for {', '.join(missing)}, and samconfig.toml sets none of that name",
        remedy=f"samconfig.toml, [{environment.name}.deploy.parameters]: tags = {[f'{name}=…' for name in missing]}",
    )


def _tag_policy(environment: Environment) -> set[str]:
    """The tags that the organization's policy enforces.

    https://docs.aws.amazon.com/organizations/latest/APIReference/API_DescribeEffectivePolicy.html
    """
    try:
        answer = environment.client("organizations").describe_effective_policy(PolicyType="TAG_POLICY")
    except ClientError as error:
        if error.response["Error"]["Code"] in ("EffectivePolicyNotFoundException", "AWSOrganizationsNotInUseException"):
            return set()
        raise
    tags = json.loads(answer["EffectivePolicy"]["PolicyContent"]).get("tags", {})
    return {one.get("tag_key", name) for name, one in tags.items() if one.get("enforced_for")}


def _boundary(subject: Subject) -> Check:
    """Whether a role may be created with the boundary that is set, or without one."""
    name, environment, place = "permissions boundary", subject.environment, subject.place
    given = subject.parameters.get(_BOUNDARY, "")
    if given:
        environment.client("iam").get_policy(PolicyArn=given)
    if rights.is_root(place.caller):
        return check(name, True, yes=f"roles get {given or 'none'}; root needs none", no="")
    refused = _refused(subject, given)
    own = "" if given or not refused else rights.own_boundary(environment, place.caller)
    helps = bool(own) and not _refused(subject, own)
    return check(
        name,
        not refused if given or not refused or helps else None,  # without rights to create roles there is no telling
        yes=f"roles get {given}" if given else "none is demanded",
        no=f"{given} does not allow it: {'; '.join(refused)}" if given else f"roles are allowed only with {own}",
        unknown="the caller may create no role, with or without a boundary: see the rights to deploy",
        remedy=f"parameter_overrides in samconfig.toml: {_BOUNDARY}={own or 'the ARN that your company names'}",
        blocking=bool(given or helps),
    )


def _refused(subject: Subject, boundary: str) -> list[str]:
    environment, place = subject.environment, subject.place
    role = (
        f"arn:{partition(environment.region).name}:iam::{place.account}:role/{environment.stack}-IngestRole-preflight"
    )
    context = {"iam:PermissionsBoundary": boundary} if boundary else {}
    return rights.denied(environment, rights.principal(environment, place.caller), ["iam:CreateRole"], [role], context)


def _certificates(subject: Subject) -> Check:
    """Whether HTTPS works without boto3, as the ingest client and the reader of objects need it."""
    environment = subject.environment
    bundle, url = environment.ca_bundle, environment.client("sts").meta.endpoint_url
    proxies = {name: value for name, value in getproxies().items() if name in ("http", "https", "all")}
    way = f"certificates: {bundle or 'of this machine'}; proxy: {', '.join(sorted(proxies)) or 'none'}"
    try:
        with httpx.Client(verify=signed.tls(environment), trust_env=not environment.embedded, timeout=10) as client:
            client.get(url)
    except (httpx.HTTPError, OSError, ValueError) as error:
        return check(
            "certificates and proxy",
            False,
            yes="",
            no=f"no HTTPS to {url} without boto3: {type(error).__name__}: {error} ({way})",
            remedy="AWS_CA_BUNDLE: the file with your company's certificates; HTTPS_PROXY and NO_PROXY: the way out",
        )
    return check("certificates and proxy", True, yes=f"HTTPS to {url} works ({way})", no="")


def _sign_in(subject: Subject) -> Check:
    """Whether the sign-in lasts for a deploy: nobody can be asked for an MFA code in the middle of it."""
    session = subject.environment.session
    credentials, profile = session.get_credentials(), session._session.get_scoped_config()
    method, until = getattr(credentials, "method", "keys"), getattr(credentials, "_expiry_time", None)
    left = (until - datetime.now(UTC)).total_seconds() if until else math.inf
    code = bool(profile.get("mfa_serial"))
    renewed = method in RENEWED or (method == "assume-role" and not code)
    lasts = "without an end" if left == math.inf else f"until {until:%H:%M} UTC"
    return check(
        "sign-in",
        left >= SHORTEST_SIGN_IN or renewed,
        yes=f"signed in by {method}, {lasts}" + (", renewed by itself" if renewed else ""),
        no=f"signed in by {method}, only {lasts}" + (", then it asks for an MFA code" if code else ""),
        remedy="sign in again at a terminal: with new keys, by a command of the kit that asks for the code, or:\n"
        "aws sso login",
    )


def _clock(subject: Subject) -> Check:
    """How far this machine's clock is from AWS's, by the Date of an answer (whole seconds)."""
    before = datetime.now(UTC)
    answer = subject.environment.client("sts").get_caller_identity()
    after = datetime.now(UTC)
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    if not date:
        return check("clock", None, yes="", no="", unknown="AWS's answer had no Date", blocking=False)
    theirs, middle = parsedate_to_datetime(date), before + (after - before) / 2
    offset = (middle - theirs).total_seconds() - 0.5
    return check(
        "clock",
        abs(offset) <= CLOCK_MAY_DIFFER,
        yes=f"{abs(offset):.0f} s from AWS's",
        no=f"{abs(offset):,.0f} s {'ahead of' if offset > 0 else 'behind'} AWS's; signatures are refused from 300 s",
        evidence={"offset in seconds": round(offset, 1)},
        remedy="set this machine's clock (timedatectl set-ntp true, or your system's time settings)",
    )


CHECKS: Mapping[str, Callable[[Subject], Check]] = {
    "rights to deploy": _rights,
    "permissions boundary": _boundary,
    "Lambda concurrency": _concurrency,
    "region": _region,
    "names": _names,
    "tags": _tags,
    "certificates and proxy": _certificates,
    "sign-in": _sign_in,
    "clock": _clock,
}

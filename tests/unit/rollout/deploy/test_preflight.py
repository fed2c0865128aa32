"""What would fail in an account: each question fails when it should, and passes on the healthy twin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from pik.aws.guard import Place
from pik.config import LONGEST_STACK, EnvironmentConfig
from pik.environments import Environment
from pik.results import Check, Verdict
from pik.rollout.deploy import preflight, rights
from pik.rollout.deploy.preflight import CHECKS, Subject
from pik.rollout.plan import naming
from tests.unit.plan_world import DOCUMENT

ACCOUNT = "111122223333"
CALLER = f"arn:aws:sts::{ACCOUNT}:assumed-role/Deployer/ana"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/Boundary"
PASSED, FAILED, INCONCLUSIVE = Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE


def refusal(code: str, operation: str = "Op") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": f"{code}: no"}}, operation)


class Aws:
    """Answers of a healthy account; each test makes one of them ill."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        self.bound = ""  # roles are created only with this boundary
        self.own_boundary = ""
        self.concurrency = 1000
        self.tag_policy: dict[str, Any] | ClientError = refusal("EffectivePolicyNotFoundException")
        self.offset = 0.0
        self.policies = {BOUNDARY}
        self.simulated: list[dict[str, Any]] = []

    def get_role(self, RoleName: str) -> dict[str, Any]:  # noqa: N803
        role: dict[str, Any] = {"Arn": f"arn:aws:iam::{ACCOUNT}:role/path/{RoleName}"}
        if self.own_boundary:
            role["PermissionsBoundary"] = {"PermissionsBoundaryArn": self.own_boundary}
        return {"Role": role}

    def get_policy(self, PolicyArn: str) -> dict[str, Any]:  # noqa: N803
        if PolicyArn not in self.policies:
            raise refusal("NoSuchEntity", "GetPolicy")
        return {"Policy": {"Arn": PolicyArn}}

    def get_paginator(self, name: str) -> Any:
        assert name == "simulate_principal_policy"
        return SimpleNamespace(paginate=self._simulate)

    def _simulate(self, **asked: Any) -> Iterator[dict[str, Any]]:
        self.simulated.append(asked)
        context = {one["ContextKeyName"]: one["ContextKeyValues"][0] for one in asked["ContextEntries"]}
        unbound = self.bound and context.get("iam:PermissionsBoundary") != self.bound
        denied = self.denied | ({"iam:CreateRole"} if unbound else set())
        for action in asked["ActionNames"]:  # a page each
            decision = "implicitDeny" if action in denied else "allowed"
            yield {"EvaluationResults": [{"EvalActionName": action, "EvalResourceName": "r", "EvalDecision": decision}]}

    def get_account_settings(self) -> dict[str, Any]:
        return {"AccountLimit": {"ConcurrentExecutions": self.concurrency}}

    def describe_effective_policy(self, PolicyType: str) -> dict[str, Any]:  # noqa: N803
        if isinstance(self.tag_policy, ClientError):
            raise self.tag_policy
        return {"EffectivePolicy": {"PolicyContent": json.dumps(self.tag_policy)}}

    def get_caller_identity(self) -> dict[str, Any]:
        date = format_datetime(datetime.now(UTC) - timedelta(seconds=self.offset), usegmt=True)
        return {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    found = Aws()
    monkeypatch.setattr(Environment, "client", lambda *_: found)
    return found


def subject(*, region: str = "eu-west-1", stack: str = "pik-prod", **given: Any) -> Subject:
    """A first deploy of prod; ``given``: parameters, ``tags`` and ``required_tags``."""
    tags, required = given.pop("tags", {}), given.pop("required_tags", ())
    config = EnvironmentConfig(account=ACCOUNT, stack=stack, required_tags=required)
    defaults = {name: str(one.get("Default", "")) for name, one in DOCUMENT["Parameters"].items()}
    environment = Environment("prod", region=region, config=config)
    return Subject(environment, Place(ACCOUNT, CALLER, None), DOCUMENT, defaults | given, tags)


def asked(name: str, about: Subject) -> Check:
    return preflight._run(name, CHECKS[name], about)


def test_who_may_everything_passes_and_who_lacks_a_right_is_told_which(aws: Aws) -> None:
    assert asked("rights to deploy", subject()).verdict is PASSED
    assert {one["PolicySourceArn"] for one in aws.simulated} == {f"arn:aws:iam::{ACCOUNT}:role/path/Deployer"}
    assert not any("*" in name for one in aws.simulated for name in one["ActionNames"])
    aws.denied = {"dynamodb:CreateTable", "iam:PassRole"}
    found = asked("rights to deploy", subject())
    assert found.verdict is FAILED
    assert "dynamodb:CreateTable on r" in found.sentence
    assert "iam:PassRole on r" in found.sentence
    assert found.remedy.startswith("pik doctor --env prod --policy")


def test_root_may_everything_and_is_not_simulated(aws: Aws) -> None:
    aws.denied = {"dynamodb:CreateTable"}
    root = replace(subject(), place=Place(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", None))
    assert asked("rights to deploy", root).verdict is PASSED
    assert asked("permissions boundary", root).verdict is PASSED


def test_rights_that_cannot_be_asked_for_are_no_failure(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> Any:
        raise refusal("AccessDenied", "SimulatePrincipalPolicy")

    monkeypatch.setattr(rights, "denied", refused)
    found = asked("rights to deploy", subject())
    assert (found.verdict, found.blocking) == (INCONCLUSIVE, False)
    assert "SimulatePrincipalPolicy" in found.sentence


@pytest.mark.parametrize(
    ("bound", "given", "own", "verdict"),
    [
        ("", "", "", PASSED),
        (BOUNDARY, BOUNDARY, "", PASSED),
        ("", BOUNDARY, "", PASSED),
        (BOUNDARY, "", BOUNDARY, FAILED),  # the caller's own is the one that is wanted
        (BOUNDARY, "", "", INCONCLUSIVE),
        ("arn:aws:iam::1:policy/Another", BOUNDARY, "", FAILED),
    ],
)
def test_a_boundary_that_the_company_demands(aws: Aws, bound: str, given: str, own: str, verdict: Verdict) -> None:
    aws.bound, aws.own_boundary = bound, own
    found = asked("permissions boundary", subject(PermissionsBoundary=given))
    assert found.verdict is verdict
    if own:
        assert f"PermissionsBoundary={BOUNDARY}" in found.remedy


def test_a_boundary_that_is_not_there_is_said(aws: Aws) -> None:
    aws.policies = set()
    assert "NoSuchEntity" in asked("permissions boundary", subject(PermissionsBoundary=BOUNDARY)).sentence


@pytest.mark.parametrize(
    ("limit", "given", "verdict"),
    [
        (1000, {}, PASSED),
        (10, {}, FAILED),  # a new account
        (59, {}, FAILED),
        (60, {}, PASSED),  # 500/s at 0.1 s, 5 processors, 5 replays
        (10, {"IngestRateLimit": "1", "MaximumConcurrency": "2", "ReplayRateLimit": "1"}, PASSED),
        (1000, {"IngestReservedConcurrency": "200"}, PASSED),
        (1000, {"IngestReservedConcurrency": "950"}, FAILED),  # AWS keeps 100
        (1000, {"IngestReservedConcurrency": "20"}, FAILED),  # less than the rate wants
    ],
)
def test_concurrency_is_held_against_the_rates(aws: Aws, limit: int, given: dict[str, str], verdict: Verdict) -> None:
    aws.concurrency = limit
    found = asked("Lambda concurrency", subject(**given))
    assert found.verdict is verdict
    assert ("L-B99A9384" in found.remedy) is (verdict is FAILED)


@pytest.mark.parametrize(
    ("region", "verdict"),
    [
        ("eu-west-1", PASSED),
        ("us-gov-west-1", INCONCLUSIVE),
        ("cn-north-1", INCONCLUSIVE),
        ("xx-no-9", INCONCLUSIVE),
    ],
)
def test_regions_that_nobody_has_seen_are_not_passed(
    monkeypatch: pytest.MonkeyPatch, region: str, verdict: Verdict
) -> None:
    _keys(monkeypatch)
    assert asked("region", subject(region=region)).verdict is verdict


def test_a_region_without_a_service_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    _keys(monkeypatch)
    about = subject()
    known = about.environment.session.get_available_regions
    session = SimpleNamespace(
        get_available_regions=lambda name, **more: ["us-east-1"] if name == "athena" else known(name, **more)
    )
    monkeypatch.setitem(vars(about.environment), "session", session)
    found = asked("region", about)
    assert (found.verdict, found.sentence) == (FAILED, "eu-west-1 has no athena")


@pytest.mark.parametrize(
    ("stack", "verdict"), [("pik-prod", PASSED), ("p" * 33, PASSED), ("p" * 34, FAILED), ("Events", FAILED)]
)
def test_names_that_are_made_from_the_stacks(stack: str, verdict: Verdict) -> None:
    assert asked("names", subject(stack=stack)).verdict is verdict


def test_a_deploy_refuses_the_same_lengths() -> None:
    assert naming.most(DOCUMENT) == LONGEST_STACK


@pytest.mark.parametrize(
    ("required", "policy", "tags", "verdict"),
    [
        ((), None, {}, PASSED),
        (("CostCenter",), None, {"CostCenter": "4711"}, PASSED),
        (("CostCenter",), None, {}, FAILED),
        ((), {"tags": {"owner": {"tag_key": "Owner", "enforced_for": ["s3:bucket"]}}}, {}, FAILED),
        ((), {"tags": {"owner": {"tag_key": "Owner", "enforced_for": ["s3:bucket"]}}}, {"Owner": "ana"}, PASSED),
        ((), {"tags": {"owner": {"tag_key": "Owner"}}}, {}, PASSED),  # a spelling, not a duty
        ((), refusal("AccessDeniedException"), {}, INCONCLUSIVE),
    ],
)
def test_tags_that_the_company_demands(
    aws: Aws, required: tuple[str, ...], policy: Any, tags: dict[str, str], verdict: Verdict
) -> None:
    aws.tag_policy = policy or aws.tag_policy
    assert asked("tags", subject(required_tags=required, tags=tags)).verdict is verdict


@pytest.mark.parametrize(("offset", "verdict"), [(0, PASSED), (-20, PASSED), (90, FAILED), (-90, FAILED)])
def test_the_clock_is_held_against_the_date_of_an_answer(aws: Aws, offset: float, verdict: Verdict) -> None:
    aws.offset = offset
    found = asked("clock", subject())
    assert found.verdict is verdict
    assert verdict is PASSED or ("ahead of" if offset > 0 else "behind") in found.sentence


def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.mark.parametrize(
    ("method", "minutes", "profile", "verdict"),
    [
        ("env", None, {}, PASSED),
        ("sso", 5, {}, PASSED),  # renewed by itself
        ("assume-role", 5, {}, PASSED),
        ("assume-role", 50, {"mfa_serial": "arn:mfa"}, PASSED),
        ("assume-role", 5, {"mfa_serial": "arn:mfa"}, FAILED),  # it would ask for a code in the middle
        ("custom-process", 5, {}, FAILED),
    ],
)
def test_the_sign_in_lasts_for_a_deploy(
    monkeypatch: pytest.MonkeyPatch, method: str, minutes: float | None, profile: Any, verdict: Verdict
) -> None:
    until = None if minutes is None else datetime.now(UTC) + timedelta(minutes=minutes)
    credentials = SimpleNamespace(method=method, _expiry_time=until)
    session = SimpleNamespace(
        get_credentials=lambda: credentials, _session=SimpleNamespace(get_scoped_config=lambda: profile)
    )
    about = subject()
    monkeypatch.setitem(vars(about.environment), "session", session)
    assert asked("sign-in", about).verdict is verdict


def test_https_without_boto3_is_tried(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    _keys(monkeypatch)
    endpoint = SimpleNamespace(endpoint_url="https://127.0.0.1:9")
    monkeypatch.setattr(aws, "meta", endpoint, raising=False)
    found = asked("certificates and proxy", subject())
    assert found.verdict is FAILED
    assert "AWS_CA_BUNDLE" in found.remedy
    monkeypatch.setattr(httpx.Client, "get", lambda *_: None)
    assert asked("certificates and proxy", subject()).verdict is PASSED
    monkeypatch.setenv("AWS_CA_BUNDLE", "/typo.pem")
    assert asked("certificates and proxy", subject()).verdict is INCONCLUSIVE

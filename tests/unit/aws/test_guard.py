"""Environment mix-ups: each is seen, with both sides, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pik.aws.guard import guard, look
from pik.config import EnvironmentConfig
from pik.environments import Environment
from pik.errors import AwsError, Refused
from pik.rollout.checks.verdicts import check
from pik.rollout.deploy.doctor import doctor, shared

ACCOUNT, OTHER = "111122223333", "444455556666"
STACK_ID = f"arn:aws:cloudformation:eu-west-1:{ACCOUNT}:stack/pik-staging/1"
OUTPUTS = {
    "IngestUrl": "https://abc123.execute-api.eu-west-1.amazonaws.com/staging/ingest",
    "IngestApiId": "abc123",
    "EventsTable": "pik-staging-events",
    "QueueUrl": "https://sqs.eu-west-1.amazonaws.com/111122223333/pik-staging-queue",
}


class Reading:
    """An AWS that answers what it is asked, and fails on anything that could write."""

    def __init__(self, **change: Any) -> None:
        self.account: str = change.pop("account", ACCOUNT)
        self.outputs: dict[str, str] = {**OUTPUTS, **change.pop("outputs", {})}
        self.tags: dict[str, str] = change.pop("tags", {"pik:environment": "staging"})
        self.parameters: dict[str, str] = change.pop("parameters", {"Environment": "staging"})
        self.stack_id: str = change.pop("stack_id", STACK_ID)
        assert not change

    def client(self, service: str, **_: Any) -> Any:
        return {"sts": self, "cloudformation": self, "lambda": self}[service]

    def get_caller_identity(self) -> dict[str, str]:
        return {"Account": self.account, "Arn": f"arn:aws:iam::{self.account}:user/ana"}

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        described = {
            "StackName": StackName,
            "StackId": self.stack_id,
            "StackStatus": "UPDATE_COMPLETE",
            "CreationTime": None,
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in self.parameters.items()],
            "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in self.outputs.items()],
            "Tags": [{"Key": k, "Value": v} for k, v in self.tags.items()],
        }
        return {"Stacks": [described]}

    def get_paginator(self, name: str) -> Any:
        assert name in ("list_stack_resources", "list_event_source_mappings")
        return self

    def paginate(self, **asked: Any) -> list[dict[str, Any]]:
        if "EventSourceArn" in asked:
            return [{"EventSourceMappings": []}]
        values = [value for name, value in OUTPUTS.items() if name != "IngestUrl"]
        items = [
            {
                "LogicalResourceId": str(n),
                "ResourceType": "AWS::SQS::Queue",
                "PhysicalResourceId": value,
                "ResourceStatus": "CREATE_COMPLETE",
            }
            for n, value in enumerate(values)
        ]
        return [{"StackResourceSummaries": items}]


def staging(reading: Reading, **config: Any) -> Environment:
    settings = EnvironmentConfig(**{"account": ACCOUNT, "protection": "guarded", "stack": "pik-staging", **config})
    env = Environment("staging", "eu-west-1", config=settings)
    object.__setattr__(env, "client", reading.client)
    return env


def test_where_everything_belongs_we_may_go_on() -> None:
    place = guard(staging(Reading()))
    assert (place.account, place.caller) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ana")
    assert place.stack is not None
    assert place.stack.id == STACK_ID


MIX_UPS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "wrong profile": (
        {"account": OTHER},
        {},
        f"the caller's account: {ACCOUNT} expected, {OTHER} found",
    ),
    "wrong region": ({}, {"region": "eu-central-1"}, "region: eu-central-1 expected, eu-west-1 found"),
    "stack of another region": (
        {"stack_id": STACK_ID.replace("eu-west-1", "us-east-1")},
        {},
        "the stack's region: eu-west-1 expected, us-east-1 found",
    ),
    "another environment's tag": (
        {"tags": {"pik:environment": "prod"}},
        {},
        "tag pik:environment of pik-staging: staging expected, prod found",
    ),
    "no tag": ({"tags": {}}, {}, "tag pik:environment of pik-staging: staging expected, no such tag found"),
    "another environment's parameter": (
        {"parameters": {"Environment": "dev"}},
        {},
        "parameter Environment of pik-staging: staging expected, dev found",
    ),
    "URL of another stage": (
        {"outputs": {"IngestUrl": OUTPUTS["IngestUrl"].replace("/staging/", "/prod/")}},
        {},
        "stage of output IngestUrl: staging expected, prod found",
    ),
    "URL of another API": (
        {"outputs": {"IngestUrl": OUTPUTS["IngestUrl"].replace("abc123", "fed987")}},
        {},
        "API of output IngestUrl: abc123 expected, fed987 found",
    ),
    "URL of another region": (
        {"outputs": {"IngestUrl": OUTPUTS["IngestUrl"].replace("eu-west-1", "us-east-1")}},
        {},
        "region of output IngestUrl: eu-west-1 expected, us-east-1 found",
    ),
    "table of another stack": (
        {"outputs": {"EventsTable": "pik-prod-events"}},
        {},
        "output EventsTable: a resource of pik-staging expected, pik-prod-events found",
    ),
}


@pytest.mark.parametrize("name", MIX_UPS)
def test_a_mix_up_stops_with_both_sides(name: str) -> None:
    answers, config, says = MIX_UPS[name]
    with pytest.raises(Refused, match="this is not staging: nothing was done") as refused:
        guard(staging(Reading(**answers), **config))
    assert says in refused.value.reason
    assert refused.value.next_step


def test_an_address_given_must_be_of_the_stage_too() -> None:
    env = staging(Reading())
    guard(env, OUTPUTS["IngestUrl"])
    with pytest.raises(Refused) as refused:
        guard(env, OUTPUTS["IngestUrl"].replace("/staging/", "/prod/"))
    assert "stage of the address given: staging expected, prod found" in refused.value.reason


@pytest.mark.parametrize("protection", ["guarded", "protected"])
def test_an_environment_that_is_not_open_needs_its_account_named(protection: str) -> None:
    with pytest.raises(Refused, match="does not say which account") as refused:
        guard(staging(Reading(), account="", protection=protection))
    assert f'account = "{ACCOUNT}"' in refused.value.next_step


def test_an_open_one_does_not() -> None:
    assert guard(staging(Reading(tags={}), account="", protection="open")).account == ACCOUNT


def test_a_caller_of_another_account_is_asked_nothing_more() -> None:
    reading = Reading(account=OTHER)
    reading.describe_stacks = None  # type: ignore[method-assign, assignment]
    place, differences = look(staging(reading))
    assert (place.stack, len(differences)) == (None, 1)


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_what_two_environments_share_is_found() -> None:
    one = staging(Reading())
    other = Environment("prod", "eu-west-1", config=EnvironmentConfig(account=ACCOUNT, stack="pik-prod"))
    outputs = {"EventsTable": OUTPUTS["EventsTable"], "QueueUrl": "https://sqs/another"}
    object.__setattr__(other, "client", Reading(outputs=outputs).client)
    places = {env.name: (env, look(env)[0]) for env in (one, other)}
    found = shared(places)
    assert found.verdict == "failed"
    assert f"EventsTable pik-staging-events ({ACCOUNT} eu-west-1) is reached from staging and prod" in found.sentence
    assert "another" not in found.sentence


def test_the_same_stack_twice_is_found_even_before_it_is_deployed() -> None:
    def looked(env: Environment) -> Any:
        return (guard_place(), ())

    def guard_place() -> Any:
        from pik.aws.guard import Place

        return Place(ACCOUNT, "arn", None)

    one, other = (Environment(n, "eu-west-1", config=EnvironmentConfig(stack="pik")) for n in ("dev", "staging"))
    found = shared({env.name: (env, looked(env)[0]) for env in (one, other)})
    assert "stack pik" in found.sentence


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Environment | Exception]], None]:
    def patch(known: dict[str, Environment | Exception]) -> None:
        def environment(name: str) -> Environment:
            found = known[name]
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr("pik.rollout.deploy.doctor.environment", environment)

    return patch


def test_the_doctor_tells_what_is_wrong_and_what_is_out_of_reach(
    patched: Callable[[dict[str, Environment | Exception]], None],
) -> None:
    wrong = staging(Reading(tags={"pik:environment": "prod"}))
    patched({"staging": wrong, "prod": AwsError("prod: no AWS credentials found", next_step="sign in")})
    found = doctor(("staging", "prod"))
    assert not found.healthy
    verdicts = {name: [one.verdict for one in checks] for name, checks in found.checks.items()}
    assert verdicts["staging"] == ["passed", "failed"]
    assert verdicts["prod"] == ["inconclusive"]
    assert "staging expected, prod found" in found.to_text()
    assert found.as_dict()["healthy"] is False


def test_a_healthy_environment(patched: Callable[[dict[str, Environment | Exception]], None]) -> None:
    patched({"staging": staging(Reading())})
    account = [check("clock", True, yes="0 s from AWS's", no="")]
    found = doctor(("staging",), asked=lambda *_: account)
    assert [one.verdict for one in found.checks["staging"]] == ["passed"] * 4
    assert found.checks["staging"][-1] == account[0]
    assert "between environments" not in found.checks

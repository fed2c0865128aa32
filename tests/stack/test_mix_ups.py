"""Environment mix-ups on the embedded AWS: each is stopped before the first write, whatever was asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest

from pik import config, producer
from pik.environments import Environment
from pik.errors import Refused
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.doctor import doctor
from pik.rollout.deploy.promote import promote
from pik.rollout.deploy.rollback import rollback
from pik.rollout.gates.approve import approve
from tests.stack.rehearsal import PROD, STAGING, State, calls, named, toml, verified

pytestmark = pytest.mark.slow
READS = ("Get", "List", "Describe", "Head")
EVENT = {"source": "s", "event_type": "t", "entity_id": "e", "event_time": "2026-01-01T00:00:00Z", "payload": {}}
ACTIONS: dict[str, Callable[[Environment], Any]] = {
    "deploy": lambda env: deploy(env, "ingest"),
    "promote": lambda env: promote(env, "replay"),
    "promote with an override": lambda env: promote(env, "replay", override="I know what I am doing"),
    "rollback": lambda env: rollback(env, "ingest"),
    "approve": lambda env: approve(env, "replay"),
    "send": lambda env: producer.send([EVENT], env),
}


class Stranger(Environment):
    """An environment whose shell is signed in to another account."""

    @cached_property
    def session(self) -> boto3.Session:
        return boto3.Session(PROD, PROD, region_name=self.region)


@pytest.fixture(scope="module")
def both(embedded_env: Environment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Environment, Environment]:
    """Staging and prod, each at phase 1."""
    file = toml(tmp_path_factory.mktemp("config") / "pik.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(config.CONFIG_VARIABLE, str(file))
        staging, prod = named("staging"), named("prod")
        deploy(staging, "ingest")
        verified(staging)
        deploy(prod, "ingest")
        return staging, prod


def as_(env: Environment, kind: type[Environment] = Environment, **change: Any) -> Environment:
    """The environment, with something of it replaced."""
    settings = dataclasses.replace(env.config, **change.pop("config", {}))
    return kind(env.name, change.pop("region", env.region), env.endpoint, settings)


def wrong_profile(staging: Environment, prod: Environment) -> Environment:
    return as_(staging, Stranger)


def wrong_region(staging: Environment, prod: Environment) -> Environment:
    """The shell's region, where pik.toml names another."""
    return as_(staging, config={"region": "eu-central-1"})


def stack_of_another_environment(staging: Environment, prod: Environment) -> Environment:
    """pik.toml points staging to prod's account and stack."""
    return as_(staging, region=prod.region, config={"account": PROD, "stack": prod.stack})


def another_tag(staging: Environment, prod: Environment) -> Environment:
    """Somebody tagged the stack as another environment's; put back by the test."""
    retag(staging, "prod")
    return staging


def retag(env: Environment, value: str) -> None:
    there = env.client("cloudformation").describe_stacks(StackName=env.stack)["Stacks"][0]
    env.client("cloudformation").update_stack(
        StackName=env.stack,
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": p["ParameterKey"], "UsePreviousValue": True} for p in there["Parameters"]],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Tags=[{"Key": "pik:environment", "Value": value}],
    )
    env.client("cloudformation").get_waiter("stack_update_complete").wait(
        StackName=env.stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


MIX_UPS: dict[str, tuple[Callable[[Environment, Environment], Environment], str]] = {
    "wrong profile": (wrong_profile, f"the caller's account: {STAGING} expected, {PROD} found"),
    "wrong region": (wrong_region, "region: eu-central-1 expected, us-east-1 found"),
    "another environment's stack": (stack_of_another_environment, "staging expected, prod found"),
    "another environment's tag": (another_tag, "tag pik:environment of pik-staging: staging expected, prod found"),
}


@pytest.mark.parametrize("name", MIX_UPS)
def test_a_mix_up_is_stopped_before_the_first_write(
    name: str, both: tuple[Environment, Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    staging, prod = both
    mix_up, says = MIX_UPS[name]
    wrong = mix_up(staging, prod)
    before = [State.of(env) for env in both]
    try:
        for action in ACTIONS.values():
            with calls(monkeypatch) as made, pytest.raises(Refused, match="this is not staging") as refused:
                action(wrong)
            assert says in refused.value.reason
            assert made
            assert [call for call in made if not call.startswith(READS)] == []
        assert [State.of(env) for env in both] == before
    finally:
        if mix_up is another_tag:
            retag(staging, "staging")


def test_a_url_of_another_stage_is_not_called(both: tuple[Environment, Environment]) -> None:
    staging, prod = both
    before = [State.of(env) for env in both]
    with pytest.raises(Refused, match="this is not staging") as refused:
        producer.send([EVENT], staging, url=prod.outputs()["IngestUrl"])
    assert "stage of the address given: staging expected, prod found" in refused.value.reason
    assert [State.of(env) for env in both] == before


def test_the_doctor_finds_nothing_where_nothing_is_wrong_and_a_shared_stack_where_there_is_one(
    both: tuple[Environment, Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toml(tmp_path / "pik.toml")
    monkeypatch.setenv(config.CONFIG_VARIABLE, str(file))
    found = doctor(("local", "staging", "prod"))
    assert found.healthy
    assert [check.name for check in found.checks["between environments"]] == ["nothing is shared"]

    text = file.read_text()
    file.write_text(text.replace(f'"{PROD}"\nregion = "eu-west-1"', f'"{STAGING}"\nstack = "pik-staging"'))
    found = doctor(("staging", "prod"))
    assert not found.healthy
    (shared,) = found.checks["between environments"]
    assert "stack pik-staging (111122223333 us-east-1) is reached from staging and prod" in shared.sentence
    assert [check.verdict for check in found.checks["prod"]][1] == "failed"  # its tag says staging

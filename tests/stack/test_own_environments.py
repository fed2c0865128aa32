"""Environments of one's own names: deployed side by side in one account, apart from each other, worked as any other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pik import config, connect, producer, runbooks
from pik.environments import EMBEDDED_KEYS, Environment
from pik.errors import PikError, Refused
from pik.rollout.deploy import deployer
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.doctor import doctor
from pik.rollout.deploy.promote import promote
from pik.rollout.deploy.rollback import rollback
from pik.rollout.deploy.status import status
from tests.inventory import inventory
from tests.stack.rehearsal import named

pytestmark = pytest.mark.slow
ACCOUNT = "111122223333"
EVENT = {"source": "s", "event_type": "t", "entity_id": "e", "event_time": "2026-01-01T00:00:00Z", "payload": {"n": 1}}
Both = tuple[Environment, Environment]


@pytest.fixture(scope="module")
def both(embedded_env: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """``dev`` and ``dev-2`` at phase 1, rehearsed in one account: names of the second begin with those of the first."""
    file = tmp_path_factory.mktemp("config") / "pik.toml"
    file.write_text(
        "".join(f'[environments.{name}]\nplatform = "embedded"\naccount = "{ACCOUNT}"\n' for name in ("dev", "dev-2"))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(config.CONFIG_VARIABLE, str(file))
        for name in ("dev", "dev-2"):
            deploy(named(name), "ingest")
        yield named("dev"), named("dev-2")


def test_each_is_a_stack_of_its_own(both: Both) -> None:
    dev, second = both
    assert (dev.stack, second.stack) == ("pik-dev", "pik-dev-2")
    assert second.outputs()["IngestUrl"].endswith("/dev-2/ingest")
    assert not set(dev.outputs().values()) - {"ingest"} & set(second.outputs().values())
    (shared,) = doctor(("dev", "dev-2")).checks["between environments"]
    assert shared.verdict == "passed"
    assert "ingest" in status(second).to_text()
    for env, protected in ((dev, False), (second, True)):  # guarded, because pik.toml does not say otherwise
        table = env.client("dynamodb").describe_table(TableName=env.outputs()["EventsTable"])["Table"]
        assert table["DeletionProtectionEnabled"] is protected


def test_an_event_of_one_is_not_in_the_other(both: Both) -> None:
    dev, second = both
    assert producer.send([EVENT], dev).safe
    assert len(connect("dev").events(entity="e")) == 1
    assert {name: len(items) for name, items in inventory(second).stores.items() if name != "EvidenceBucket"} == {
        name: 0 for name in inventory(second).stores if name != "EvidenceBucket"
    }
    sent = producer.send([EVENT], second)
    assert sent.accepted == 1  # the same event, and no duplicate here
    assert len(connect("dev").events(entity="e")) == 1


def _role(root: Environment, name: str, policies: list[str]) -> str:
    """Make a role with these managed policies and return its keys, as ``PIK_EMBEDDED_KEYS`` takes them."""
    iam = root.client("iam")
    allowed = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    for policy in policies:
        iam.attach_role_policy(RoleName=name, PolicyArn=policy)
    found = root.client("sts").assume_role(RoleArn=arn, RoleSessionName="ana")["Credentials"]
    return ":".join((found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]))


def _deployers(root: Environment) -> list[str]:
    made = deployer.policies(root.region, ACCOUNT, root.stack, root.name)
    return [
        root.client("iam").create_policy(PolicyName=f"deploys-{root.name}-{part}", PolicyDocument=json.dumps(one))[
            "Policy"
        ]["Arn"]
        for part, one in made.items()
    ]


def _users(root: Environment) -> list[str]:
    outputs = root.outputs()
    return [outputs[f"{one}Policy"] for one in ("Viewer", "Operator", "Producer", "Approver")]


# What whoever looks, operates or deploys asks of a stack, by what the stack's outputs name.
ASKED: dict[str, Callable[[Environment, dict[str, str]], Any]] = {
    "table": lambda env, its: env.client("dynamodb").describe_table(TableName=its["EventsTable"]),
    "bucket": lambda env, its: env.client("s3").get_bucket_versioning(Bucket=its["RawBucket"]),
    "queue": lambda env, its: env.client("sqs").get_queue_attributes(QueueUrl=its["QueueUrl"], AttributeNames=["All"]),
    "function": lambda env, its: env.client("lambda").get_function_configuration(FunctionName=its["IngestFunction"]),
    "policy": lambda env, its: env.client("iam").get_policy(PolicyArn=its["ViewerPolicy"]),
    "stack": lambda env, its: env.client("cloudformation").describe_stacks(StackName=its["Stack"]),
    "parameter": lambda env, its: env.client("ssm").get_parameter(Name=its["RolloutParameter"]),
}


@pytest.mark.parametrize("who", ["user", "deployer"])
@pytest.mark.parametrize("turned", [False, True], ids=["dev on dev-2", "dev-2 on dev"])
def test_who_may_use_or_deploy_one_is_refused_in_the_other(
    both: Both, monkeypatch: pytest.MonkeyPatch, who: str, turned: bool
) -> None:
    own, other = reversed(both) if turned else both
    names = {env.name: {**env.outputs(), "Stack": env.stack} for env in both}
    keys = _role(own, f"{who}-of-{own.name}", _deployers(own) if who == "deployer" else _users(own))
    monkeypatch.setenv(EMBEDDED_KEYS, keys)
    caller = named(own.name)
    assert caller.client("sts").get_caller_identity()["Arn"].endswith(f"{who}-of-{own.name}/ana")
    for what, ask in ASKED.items():
        assert ask(caller, names[own.name]), what
        with pytest.raises(ClientError) as raised:
            ask(caller, names[other.name])
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403), what
        assert "not authorized" in str(raised.value).lower() or "denied" in str(raised.value).lower(), what
    if who == "user":
        assert producer.send([EVENT], caller).safe
    with pytest.raises(PikError):
        producer.send([EVENT], named(other.name))
    with pytest.raises(PikError):
        deploy(named(other.name), "ingest")


def test_it_is_verified_promoted_and_rolled_back_as_any_other(both: Both, tmp_path: Path) -> None:
    _, second = both
    with pytest.raises(Refused, match="guarded"):
        deploy(second, "replay")
    with pytest.raises(Refused, match="has no evidence"):
        promote(second, "replay")
    run = runbooks.run("verify-ingest", second.name, {}, runs_dir=tmp_path)
    assert run.verdict == "passed"
    assert promote(second, "replay").changed
    assert rollback(second, "ingest").changed

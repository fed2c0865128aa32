"""The documented roles do their whole work and no administrator helps: IAM of the embedded AWS is enforced.

Who deploys has nothing but the deployer's policies. Who verifies has what the stack gives to viewers, operators and
producers, by a role.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pik import producer, runbooks
from pik.aws.exchange import exchange
from pik.aws.guard import guard
from pik.environments import EMBEDDED_KEYS, Environment, environment
from pik.errors import PikError
from pik.rollout.deploy import deployer, rights
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.promote import promote
from pik.rollout.deploy.rollback import rollback

pytestmark = pytest.mark.slow
ACCOUNT = "000000000000"
As = Callable[[str], AbstractContextManager[Environment]]


def _trust() -> str:
    allowed = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [allowed]})


def _role(root: Environment, name: str, policies: list[str]) -> str:
    """Make a role with these managed policies and return its keys, as ``PIK_EMBEDDED_KEYS`` takes them."""
    iam = root.client("iam")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_trust())["Role"]["Arn"]
    for policy in policies:
        iam.attach_role_policy(RoleName=name, PolicyArn=policy)
    found = root.client("sts").assume_role(RoleArn=arn, RoleSessionName="ana")["Credentials"]
    return ":".join((found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]))


def _policy(root: Environment, part: str, document: dict[str, Any]) -> str:
    # The embedded AWS calls a log group /aws/cloudformation/<stack>/<logical id>, and AWS <stack>-<logical id>-….
    text = json.dumps(document).replace(f"log-group:{root.stack}-", f"log-group:*{root.stack}?")
    if part == "running":  # nor does it know of which function an event source mapping is
        document = json.loads(text)
        for statement in document["Statement"]:
            statement.pop("Condition", None)
        text = json.dumps(document)
    made = root.client("iam").create_policy(PolicyName=f"deployer-{part}", PolicyDocument=text)
    return str(made["Policy"]["Arn"])


@pytest.fixture(scope="module")
def acting(embedded_env: Environment) -> As:
    """``with acting("deployer") as env``: everything meanwhile is that role's, also in kernels and in sam."""
    root, keys = embedded_env, dict[str, str]()

    def made(name: str) -> list[str]:
        if name == "deployer":
            parts = deployer.policies(root.region, ACCOUNT, root.stack, root.name)
            return [_policy(root, part, document) for part, document in parts.items()]
        outputs = root.outputs()
        return [outputs[f"{one}Policy"] for one in ("Viewer", "Operator", "Producer")]

    @contextmanager
    def acting(name: str) -> Iterator[Environment]:
        if name not in keys:
            keys[name] = _role(root, f"test-{name}", made(name))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(EMBEDDED_KEYS, keys[name])
            yield environment("local")

    return acting


def _verified(env: Environment, phase: str, runs: Path) -> None:
    few: dict[str, Any] = {"entities": 3} if phase == "replay" else {}
    run = runbooks.run(f"verify-{phase}", env.name, few, runs_dir=runs)
    checks = [check for step in run.steps if step.result for check in step.result.checks]
    missing = [f"{check.name}: {check.sentence} {check.evidence}" for check in checks if check.verdict != "passed"]
    assert (run.verdict, missing) == ("passed", [])


def _conflict_again(env: Environment) -> None:
    """A body in conflict that comes again is compared with what is kept of it: the function may read that."""
    event = {"source": "s", "event_type": "t", "entity_id": "e", "event_time": "2026-01-01T00:00:00Z"}
    bodies = [json.dumps({**event, "idempotency_key": "k", "payload": {"n": n}}).encode() for n in (1, 2, 2)]
    answers = [exchange(env, env.outputs()["IngestUrl"], body) for body in bodies]
    assert [answer.status for answer in answers] == [200, 409, 409]


def _speak_http(root: Environment) -> None:
    """Take TLS-only from the bucket that `sam` has just made for artifacts: the embedded AWS speaks HTTP."""
    s3 = root.client("s3")
    (bucket,) = [one["Name"] for one in s3.list_buckets()["Buckets"] if one["Name"].startswith("aws-sam-cli-managed")]
    assert "aws:SecureTransport" in s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket_policy(Bucket=bucket)


def test_the_documented_roles_roll_out_verify_and_roll_back(
    acting: As, embedded_env: Environment, tmp_path: Path
) -> None:
    with acting("deployer") as env:
        assert env.client("sts").get_caller_identity()["Arn"].endswith("assumed-role/test-deployer/ana")
        with pytest.raises(PikError, match="sam deploy failed"):
            deploy(env, "ingest")
    _speak_http(embedded_env)
    with acting("deployer") as env:
        assert deploy(env, "ingest").changed
    with acting("operator") as env:
        assert producer.send(list(producer.load("flights:2013-01-01"))[:40], env).safe
        _conflict_again(env)
        with pytest.raises(PikError):  # who operates does not deploy
            deploy(env, "replay")
        _verified(env, "ingest", tmp_path)
    for phase in ("replay", "processor"):
        with acting("deployer") as env:
            assert promote(env, phase).changed
        with acting("operator") as env:
            _verified(env, phase, tmp_path)
    with acting("deployer") as env:
        assert rollback(env, "replay").changed


def test_the_doctor_knows_who_may_deploy(acting: As) -> None:
    """IAM's own simulation, as the caller: nothing is lacking for a deployer; an operator may not even ask."""
    parts = deployer.policies("us-east-1", ACCOUNT, "pik-local", "local").values()
    statements = [statement for part in parts for statement in part["Statement"]]
    conditional = {action for one in statements if "Condition" in one for action in one["Action"]}
    with acting("deployer") as env:
        lacking = {one.split(" ")[0] for one in rights.lacking(env, guard(env), "")}
        assert lacking <= conditional  # the embedded IAM's simulation takes no context: what has a condition is denied
    with acting("operator") as env, pytest.raises(ClientError, match="SimulatePrincipalPolicy"):
        rights.lacking(env, guard(env), "")

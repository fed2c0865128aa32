"""A whole rollout with its rollback rehearsal in other partitions, and by a clock that is not AWS's.

Each is an embedded AWS of its own, exact but for what it is called after; and what names another partition fails there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pik import emulator
from pik.aws import stack
from pik.emulator.realism import RealismSettings, only
from pik.environments import Environment, environment
from pik.errors import PikError
from pik.partitions import partition
from pik.rollout.deploy import deployer
from pik.rollout.deploy.deploy import deploy
from pik.rollout.plan import sam

pytestmark = pytest.mark.slow
PIK = Path(sys.executable).with_name("pik")
PLACES = {
    "us-gov-west-1": RealismSettings(0, without=only("partition"), region="us-gov-west-1"),
    "cn-north-1": RealismSettings(0, without=only("partition"), region="cn-north-1"),
    "operator 60 s ahead": RealismSettings(0, without=only("clock-skew"), asked_skew=-60),
    "operator 60 s behind": RealismSettings(0, without=only("clock-skew"), asked_skew=60),
}


@pytest.fixture
def env(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """``local`` on an embedded AWS with the settings that the test is given."""
    state = tmp_path / "state"
    monkeypatch.setenv(emulator.STATE_VARIABLE, str(state))
    monkeypatch.setenv(emulator.OWNER_VARIABLE, str(os.getpid()))
    emulator.up(state, owner=os.getpid(), realism=request.param)
    try:
        yield environment("local")
    finally:
        emulator.down(state)


@pytest.mark.parametrize("env", PLACES.values(), ids=PLACES, indirect=True)
def test_a_whole_rollout_passes(env: Environment, tmp_path: Path) -> None:
    command = ["run", "rollout", "--env", "local", "-p", "rehearse_rollback=true", "-p", "entities=10", "--json"]
    command += ["--runs-dir", str(tmp_path / "runs")]
    done = subprocess.run([PIK, *command], capture_output=True, text=True, check=False)
    run = json.loads(done.stdout)
    checks = [check for step in run["steps"] for check in (step["result"] or {}).get("checks", [])]
    missing = {check["name"]: check for check in checks if check["verdict"] != "passed"}
    assert (missing, run["verdict"], done.returncode) == ({}, "passed", 0), done.stderr
    assert {step["state"] for step in run["steps"]} == {"passed"}

    here = partition(env.region)
    outputs = env.outputs()
    assert f".execute-api.{env.region}.{here.suffix}/" in outputs["IngestUrl"]
    role = env.client("lambda").get_function_configuration(FunctionName=outputs["IngestFunction"])["Role"]
    arns = [stack.require(env).id, outputs["QueueArn"], outputs["ViewerPolicy"], role]
    assert [arn for arn in arns if not arn.startswith(f"arn:{here.name}:")] == []
    told = emulator.status().realism
    assert told
    assert told["struck"] == {}  # nothing named another partition
    assert told["skew_seconds"] == RealismSettings.parse(told["settings"]).skew


# --- what this sees: a partition that is written out somewhere ------------------------------------------------------

GOV = pytest.mark.parametrize("env", [PLACES["us-gov-west-1"]], indirect=True)


@GOV
def test_a_deployers_policy_of_another_partition_is_refused(env: Environment) -> None:
    def create(region: str) -> None:
        for part, document in deployer.policies(region, "000000000000", env.stack, env.name).items():
            env.client("iam").create_policy(PolicyName=f"{part}-{region}", PolicyDocument=json.dumps(document))

    create(env.region)
    with pytest.raises(ClientError, match=r"MalformedPolicyDocument.* Partition \"aws\" is not valid"):
        create("eu-west-1")


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is built of the project, but in one ARN the partition is written out."""
    build = sam.build

    def planted(*arguments: Any) -> sam.Build:
        whole = build(*arguments)
        found = replace(whole, folder=Path(shutil.copytree(whole.folder, tmp_path / "build", dirs_exist_ok=True)))
        text, right = found.template.read_text(encoding="utf-8"), "arn:${AWS::Partition}:cloudformation:"
        assert text.count(right) == 1
        found.template.write_text(text.replace(right, "arn:aws:cloudformation:"), encoding="utf-8")
        return found

    monkeypatch.setattr(sam, "build", planted)


@GOV
@pytest.mark.usefixtures("planted")
def test_a_template_with_its_partition_written_out_is_not_deployed(env: Environment) -> None:
    with pytest.raises(PikError) as raised:
        deploy(env, "ingest")
    events = env.client("cloudformation").describe_stack_events(StackName=env.stack)["StackEvents"]
    reasons = {
        one["LogicalResourceId"]: one["ResourceStatusReason"] for one in events if "_FAILED" in one["ResourceStatus"]
    }
    assert 'Partition "aws" is not valid' in reasons["ViewerPolicy"], (reasons, str(raised.value))

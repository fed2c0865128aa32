"""Every AWS partition is served: nothing writes an ARN or an address as it is in the partition ``aws`` only."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from pik import ledger, phases, project
from pik.aws import stack
from pik.aws.evaluation import pseudo
from pik.aws.guard import Place
from pik.environments import Environment
from pik.partitions import partition
from pik.rollout.checks import permissions
from pik.rollout.deploy import revert_deploy
from pik.rollout.gates.recording import BEFORE
from tests.unit import template_tools as tools
from tests.unit.plan_world import DOCUMENT, a_stack

ACCOUNT = "111122223333"
REGIONS = {
    "eu-west-1": ("aws", "amazonaws.com"),
    "us-gov-west-1": ("aws-us-gov", "amazonaws.com"),
    "cn-north-1": ("aws-cn", "amazonaws.com.cn"),
    "us-isob-east-1": ("aws-iso-b", "sc2s.sgov.gov"),
}
HERE = pytest.mark.parametrize(("region", "name", "suffix"), [(r, *p) for r, p in REGIONS.items()])
# Not addresses of a deployed stack: what a message gives as an example, and inputs of things that imitate AWS.
# A namespace of error types, and names of services in IAM, which are no hosts and the same in every partition.
_SAME_EVERYWHERE = re.compile(r"com\.amazonaws\.|\b(lambda|sso)\.amazonaws\.com(?![.\w])")
EXAMPLES = {"pik/config.py", "pik/incidents/memory.py", "pik/aws/evaluation.py", "pik/emulator/gateway.py"}
IMITATES = {"pik/emulator/realism/partition.py"}  # it makes other partitions of the emulator's `aws`


@HERE
def test_a_region_is_in_its_partition(region: str, name: str, suffix: str) -> None:
    found = pseudo(region, ACCOUNT, "pik-dev")
    assert (partition(region).name, partition(region).suffix) == (name, suffix)
    assert (found["AWS::Partition"], found["AWS::URLSuffix"]) == (name, suffix)
    assert found["AWS::StackId"].startswith(f"arn:{name}:")


def test_a_stack_knows_its_partition_better_than_its_region_does() -> None:
    there = pseudo("cn-north-1", ACCOUNT, "pik-dev", f"arn:aws:cloudformation:cn-north-1:{ACCOUNT}:stack/pik-dev/1")
    assert there["AWS::Partition"] == "aws"


@HERE
def test_the_template_writes_arns_and_addresses_of_its_partition(region: str, name: str, suffix: str) -> None:
    full = tools.Stack(
        tools.load(), {"Environment": "prod", **tools.PHASES["processor"]}, pseudo(region, ACCOUNT, "pik-prod")
    )
    text = json.dumps([full.resources, full.outputs])
    assert f"arn:{name}:" in text
    assert name == "aws" or "arn:aws:" not in text
    assert full.outputs["IngestUrl"].endswith(f".execute-api.{region}.{suffix}/prod/ingest")


def _literals(file: str) -> list[str]:
    tree = ast.parse((project.ROOT / file).read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if text not in docs]


def test_no_code_writes_the_partition_aws_or_its_host_names() -> None:
    files = [str(path.relative_to(project.ROOT)) for path in (project.ROOT / "pik").rglob("*.py")]
    wrong = [
        f"{file}: {text}"
        for file in sorted(set(files) - EXAMPLES - IMITATES - {"pik/partitions.py"})
        for text in _literals(file)
        if "arn:aws:" in text or "amazonaws." in _SAME_EVERYWHERE.sub("", text)
    ]
    assert wrong == []


@HERE
def test_permissions_in_force_are_compared_with_arns_of_the_partition(
    monkeypatch: pytest.MonkeyPatch, region: str, name: str, suffix: str
) -> None:
    """What IAM returns in each partition is what the check expects there: without it, no promotion passes."""
    found = a_stack(phases.PROCESSOR)
    found = type(found)(**{**vars(found), "id": f"arn:{name}:cloudformation:{region}:{ACCOUNT}:stack/pik-dev/1a-b"})
    monkeypatch.setattr(permissions, "guard", lambda _: Place(ACCOUNT, "ana", found))
    monkeypatch.setattr(stack, "deployed", lambda _: DOCUMENT)
    monkeypatch.setattr(stack, "resources", lambda _: {one: f"pik-{one}" for one in DOCUMENT["Resources"]})
    _, wanted = permissions.declared(Environment("dev", region=region))
    resources = [r for one in wanted.values() for statement in one.values() for r in statement["Resource"]]
    assert [resource for resource in resources if not resource.startswith((f"arn:{name}:", "*"))] == []
    ingest = {sid: one["Resource"] for sid, one in wanted["IngestRole/ingest"].items()}
    assert ingest["Index"] == [f"arn:{name}:dynamodb:{region}:{ACCOUNT}:table/pik-EventsTable"]
    assert ingest["TellMissingFromForbidden"] == [f"arn:{name}:s3:::pik-RawBucket"]
    assert ingest["WriteLogs"] == [f"arn:{name}:logs:{region}:{ACCOUNT}:log-group:pik-IngestLogGroup:*"]
    assert wanted["ProcessorRole/processor"]["Consume"]["Resource"] == [f"arn:{name}:sqs:{region}:{ACCOUNT}:pik-Queue"]


@HERE
def test_a_template_from_before_is_fetched_from_the_partitions_s3(
    monkeypatch: pytest.MonkeyPatch, region: str, name: str, suffix: str
) -> None:
    body = json.dumps({"Resources": {}}).encode()
    link = SimpleNamespace(name=f"{BEFORE}.json", key="evidence/1/before.json", sha256=hashlib.sha256(body).hexdigest())
    where: Any = SimpleNamespace(get=lambda _: body, bucket="pik-evidence")
    monkeypatch.setattr(ledger, "locate", lambda *_: where)
    entry: Any = SimpleNamespace(number=3, links=[link])
    _, url = revert_deploy._kept(Environment("dev", region=region), Place(ACCOUNT, "ana", None), entry)
    assert url == f"https://s3.{region}.{suffix}/pik-evidence/evidence/1/before.json"


def test_every_page_of_a_roles_policies_is_compared() -> None:
    pages = {
        "list_role_policies": [{"PolicyNames": ["one"]}, {"PolicyNames": ["two"]}],
        "list_attached_role_policies": [{"AttachedPolicies": []}, {"AttachedPolicies": [{"PolicyArn": "arn:x"}]}],
    }
    iam = SimpleNamespace(
        get_paginator=lambda operation: SimpleNamespace(paginate=lambda **_: pages[operation]),
        get_role_policy=lambda **_: {"PolicyDocument": {"Statement": []}},
    )
    env: Any = SimpleNamespace(client=lambda _: iam)
    found = permissions.in_force(env, {"Role": ("AWS::IAM::Role", "pik-role")})
    assert set(found) == {"Role/one", "Role/two", "Role/arn:x"}

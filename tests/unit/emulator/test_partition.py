"""The embedded AWS in another partition: its modules are rewritten, and what names another partition is refused."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from typer.testing import CliRunner

from pik import errors, partitions, project
from pik.cli.local import local as commands
from pik.emulator.instance import Instance
from pik.emulator.realism import HABITS, REGION, RealismSettings, only
from pik.emulator.realism.dice import Tally
from pik.emulator.realism.partition import ForeignPartition, PartitionHabit, partition_of, rewrite
from pik.emulator.realism.wire import Call
from pik.emulator.starting import PARTITION, launch_environment, start

GOV, CN = "us-gov-west-1", "cn-north-1"
OTHER = "arn:aws:iam::000000000000:role/x"
OWN = "arn:aws-us-gov:iam::000000000000:role/x"


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", GOV, CN, "us-isob-east-1", "xx-nowhere-1"])
def test_the_emulator_has_botocores_partitions_as_pik_has(region: str) -> None:
    expected = partitions.partition(region)
    assert partition_of(region) == (expected.name, expected.suffix)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('arn = f"arn:aws:s3:::{name}"', 'arn = f"arn:aws-cn:s3:::{name}"'),
        ('if spec.partition != "aws" or x:', 'if spec.partition != "aws-cn" or x:'),
        ('if spec.partition == "aws":', 'if spec.partition == "aws-cn":'),
        ('{"AWS::Partition": "aws",', '{"AWS::Partition": "aws-cn",'),
        ('{"AWS::URLSuffix": "amazonaws.com",', '{"AWS::URLSuffix": "amazonaws.com.cn",'),
        ('f"{a}.execute-api.{get_region()}.amazonaws.com"', 'f"{a}.execute-api.{get_region()}.amazonaws.com.cn"'),
        ('"lambda.amazonaws.com"', '"lambda.amazonaws.com"'),  # a service principal
        ('"http://s3.amazonaws.com/doc/2006-03-01/"', '"http://s3.amazonaws.com/doc/2006-03-01/"'),
        ('"amazonaws.com.cn",', '"amazonaws.com.cn",'),
        ('name.startswith("aws")', 'name.startswith("aws")'),
    ],
)
def test_a_module_is_rewritten(source: str, expected: str) -> None:
    assert rewrite(source, "aws-cn", "amazonaws.com.cn") == expected


def _names_aws(tree: ast.AST) -> list[str]:
    """What still says ``aws``: texts with an ARN in them, and comparisons with a partition."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "arn:aws:" in node.value:
            found.append(node.value)
        if isinstance(node, ast.Compare) and re.search(r"partition\b", ast.unparse(node)):
            values = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
            found += [ast.unparse(node)] if "aws" in values else []
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                names = isinstance(key, ast.Constant) and key.value in ("AWS::Partition", "AWS::URLSuffix")
                found += [ast.unparse(value)] if names and ast.unparse(value) in ("'aws'", "'amazonaws.com'") else []
    return found


def test_the_modules_that_the_stack_needs_say_nothing_of_the_partition_aws() -> None:
    """A new ministack may write its partition in another way: then this fails, and ``rewrite`` has to follow."""
    (services,) = project.EMULATOR_PYTHON.parents[1].glob("lib/python*/site-packages/ministack/services")
    names = "s3 dynamodb sqs lambda_svc apigateway_v1 iam sts cloudwatch cloudwatch_logs ssm stepfunctions athena glue"
    files = [services / f"{name}.py" for name in names.split()]
    files += [*services.glob("cloudformation/*.py"), *services.parent.glob("core/*.py")]
    sources = {file.name: file.read_text(encoding="utf-8") for file in files}
    before = sum(len(_names_aws(ast.parse(source))) for source in sources.values())
    after = {name: _names_aws(ast.parse(rewrite(s, "aws-cn", "amazonaws.com.cn"))) for name, s in sources.items()}
    assert before > 100  # it sees them
    assert {name: found for name, found in after.items() if found} == {}


def test_the_emulator_imports_what_is_rewritten_and_leaves_no_bytecode() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from realism import partition\n"
        "partition.install(sys.argv[2])\n"
        "from ministack.core import arn\n"
        "print(arn.execute_api_arn('r', 'a', 'i', 's', 'GET', '/'))\n"
    )
    said = {}
    for region in (CN, REGION, GOV):
        arguments = [
            str(project.EMULATOR_PYTHON),
            "-c",
            script,
            str(Path(project.__file__).parent / "emulator"),
            region,
        ]
        said[region] = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split(":")[1]
    assert said == {CN: "aws-cn", REGION: "aws", GOV: "aws-us-gov"}


# --- the habit ------------------------------------------------------------------------------------------------------


def _call(service: str, region: str = GOV, path: str = "/", body: bytes = b"", **headers: str) -> Call:
    scope = f"AWS4-HMAC-SHA256 Credential=test/20260101/{region}/{service}/aws4_request, SignedHeaders=host"
    path, _, query = path.partition("?")
    found = {"authorization": scope, **{name.replace("_", "-"): value for name, value in headers.items()}}
    pairs = [(name.encode(), value.encode()) for name, value in found.items()]
    scope_: dict[str, Any] = {"method": "POST", "path": path, "query_string": query.encode(), "headers": pairs}
    return Call.of(scope_, body)


def _json(target: str, **parameters: Any) -> Call:
    return _call("x", body=json.dumps(parameters).encode(), x_amz_target=target)


def _form(service: str, **parameters: str) -> Call:
    return _call(service, body=urlencode(parameters).encode(), content_type="application/x-www-form-urlencoded")


def _policy(arn: str) -> str:
    return json.dumps({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": arn}]})


REFUSED = {
    "a policy": _form("iam", Action="CreatePolicy", PolicyDocument=_policy(OTHER)),
    "a name in a policy": _form("iam", Action="CreatePolicy", PolicyDocument=_policy("arn:aws:s3:::pik-*")),
    "a parameter": _form("sts", Action="AssumeRole", RoleArn=OTHER),
    "a parameter in JSON": _json("DynamoDB_20120810.TagResource", ResourceArn="arn:aws:dynamodb:r:1:table/t"),
    "an address": _call("lambda", path=f"/2015-03-31/functions/{quote('arn:aws:lambda:r:1:function:f')}/invocations"),
    "a query": _call("lambda", path=f"/2015-03-31/event-source-mappings?EventSourceArn={quote(OTHER, safe='')}"),
    "a header": _call("s3", path="/b/k", x_amz_server_side_encryption_aws_kms_key_id="arn:aws:kms:r:1:key/k"),
    "the policy of a bucket": _call("s3", path="/b?policy", body=_policy("arn:aws:s3:::b").encode()),
    "a parameter of a stack": _form("cloudformation", Action="CreateStack", TemplateBody="{}", RoleARN=OTHER),
    "a third partition": _form("sts", Action="AssumeRole", RoleArn="arn:aws-cn:iam::1:role/x"),
    "another partition's region": _call("s3", region="us-east-1", path="/b/k"),
    "such a region in a link": Call.of(
        {
            "method": "GET",
            "path": "/b/k",
            "headers": [],
            "query_string": b"X-Amz-Credential=test%2F20260101%2Fus-east-1%2Fs3%2Faws4_request",
        },
        b"",
    ),
}
LET_THROUGH = {
    "its own": _form("iam", Action="CreatePolicy", PolicyDocument=_policy(OWN)),
    "another region of its own": _call("s3", region="us-gov-east-1", path="/b/k"),
    "a raw object": _call("s3", path="/b/raw/k", body=OTHER.encode()),
    "an event": Call.of(
        {"method": "POST", "path": "/restapis/a/s/_user_request_/ingest", "headers": []}, OTHER.encode()
    ),
    "a message": _json("AmazonSQS.SendMessage", MessageBody=OTHER),
    "an item": _json("DynamoDB_20120810.TransactWriteItems", TransactItems=[{"Put": {"Item": {"p": {"S": OTHER}}}}]),
    "a line": _json("Logs_20140328.PutLogEvents", logEvents=[{"message": OTHER}]),
    "what a function is given": _call("lambda", path="/2015-03-31/functions/f/invocations", body=OTHER.encode()),
    "a template, which is not evaluated yet": _form("cloudformation", Action="CreateStack", TemplateBody=OTHER),
    "any partition's pattern": _form("iam", Action="CreatePolicy", PolicyDocument=_policy("arn:*:s3:::b")),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_names_another_partition_is_refused(call: Call) -> None:
    tally = Tally()
    answer = PartitionHabit(tally, GOV).before(call)
    assert answer
    assert answer.status in (400, 403)
    assert b"aws-us-gov" in answer.body  # it says which one this is
    assert tally.counts() == {"partition": 1}


@pytest.mark.parametrize("call", LET_THROUGH.values(), ids=LET_THROUGH)
def test_users_data_and_its_own_partition_pass(call: Call) -> None:
    tally = Tally()
    assert PartitionHabit(tally, GOV).before(call) is None
    assert tally.counts() == {}


def test_an_evaluated_template_is_looked_at() -> None:
    habit = PartitionHabit(Tally(), CN)
    habit.check({"Policy": [{"Resource": "arn:aws-cn:s3:::b"}]})
    with pytest.raises(ForeignPartition, match=r'Partition "aws" is not valid for resource "arn:aws:s3:::b/\*"'):
        habit.check({"Policy": [{"Resource": "arn:aws:s3:::b/*"}]})


# --- settings and state ---------------------------------------------------------------------------------------------


def test_a_region_is_asked_for_alone_or_with_habits() -> None:
    alone = RealismSettings.parse("0 only=partition region=cn-north-1")
    assert (alone.region, alone.without) == (CN, frozenset(HABITS) - {"partition"})
    for text in (
        "0 only=partition region=cn-north-1",
        "7 compress=10 region=us-gov-west-1",
        "0 only=clock-skew skew=-60",
    ):
        assert RealismSettings.parse(text).text == text
    assert RealismSettings.parse("0 only=").without == frozenset(HABITS)
    assert RealismSettings(0, without=only()).text == "0 only="
    assert RealismSettings.parse("0 only=clock-skew skew=-60").skew == -60
    assert RealismSettings.parse("0 skew=0").skew == 0


@pytest.mark.parametrize(
    "text", ["0 only=rain", "0 only=partition without=partition", "0 region=mars", "0 only=partition skew=60"]
)
def test_settings_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no such habit|exclude|region|skew"):
        RealismSettings.parse(text)


def test_the_emulator_is_told_its_region(tmp_path: Path) -> None:
    told = launch_environment(tmp_path, "nonce", 0, realism=RealismSettings(0, region=CN))
    assert {told[name] for name in ("MINISTACK_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")} == {CN}
    assert Instance("nonce", 1, 1, "", "0 region=cn-north-1").region == CN
    assert Instance("nonce", 1, 1, "").region == REGION


def test_a_state_stays_in_its_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "EMULATOR_PYTHON", Path("/bin/false"))  # the launch fails; this comes before

    def begin(region: str) -> BaseException:
        with pytest.raises(errors.PikError) as raised:
            start(tmp_path, realism=RealismSettings(0, region=region))
        return raised.value

    assert isinstance(begin(GOV), errors.AwsError)
    assert isinstance(begin("us-gov-east-1"), errors.AwsError)
    assert "of the partition aws-us-gov, and cn-north-1 is in aws-cn" in str(begin(CN))
    (tmp_path / PARTITION).unlink()
    (tmp_path / "snapshots" / "00000001").mkdir(parents=True)  # saved before the partition was noted
    assert "of the partition aws, and" in str(begin(GOV))


def test_the_command_line_takes_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RealismSettings | None] = []

    def up(state: Path | None, realism: RealismSettings | None = None) -> None:
        asked.append(realism)
        raise errors.AwsError("enough")

    monkeypatch.setattr("pik.emulator.up", up)
    CliRunner().invoke(commands, ["up", "--region", GOV])
    CliRunner().invoke(commands, ["up", "--realism", "7", "--region", GOV])
    assert asked == [RealismSettings(0, without=only("partition"), region=GOV), RealismSettings(7, region=GOV)]

"""Templates read and evaluated, and what they are called: digests of the template and of the code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pik import project
from pik.aws.artifact import Digests, checksum, digests
from pik.aws.evaluation import Evaluator, evaluate
from pik.aws.template import parse
from pik.errors import UsageError

TEMPLATE = """
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: {code}
      MemorySize: {memory}
      Role: !GetAtt R.Arn
"""


def digests_of(code: str = "s3://one/abc", memory: int = 512) -> Digests:
    return digests(parse(TEMPLATE.format(code=code, memory=memory)))


def small(**sections: Any) -> dict[str, Any]:
    return parse({"Resources": {}, **sections})


# --- reading --------------------------------------------------------------------------------------------------------

SHORT = """
Resources:
  A:
    Type: AWS::SSM::Parameter
    Properties:
      Name: !Sub "${AWS::StackName}-a"
      Value: !If [Lit, !GetAtt B.Arn, !Ref AWS::NoValue]
      Type: !Select [0, !Split [",", "String,x"]]
      Description: !Sub ["${It}", {It: !Ref B}]
  B: {Type: AWS::IAM::Role}
Conditions:
  Lit: !And [!Condition Ready, !Not [!Equals [a, b]]]
  Ready: !Or [!Equals [a, a], !Equals [a, b]]
"""
LONG = {
    "Resources": {
        "A": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {
                "Name": {"Fn::Sub": "${AWS::StackName}-a"},
                "Value": {"Fn::If": ["Lit", {"Fn::GetAtt": ["B", "Arn"]}, {"Ref": "AWS::NoValue"}]},
                "Type": {"Fn::Select": [0, {"Fn::Split": [",", "String,x"]}]},
                "Description": {"Fn::Sub": ["${It}", {"It": {"Ref": "B"}}]},
            },
        },
        "B": {"Type": "AWS::IAM::Role"},
    },
    "Conditions": {
        "Lit": {"Fn::And": [{"Condition": "Ready"}, {"Fn::Not": [{"Fn::Equals": ["a", "b"]}]}]},
        "Ready": {"Fn::Or": [{"Fn::Equals": ["a", "a"]}, {"Fn::Equals": ["a", "b"]}]},
    },
}


def test_short_and_long_functions_text_and_json_are_the_same_template() -> None:
    dotted = json.loads(json.dumps(LONG).replace('["B", "Arn"]', '"B.Arn"'))
    written = [SHORT, LONG, dotted, json.dumps(LONG), yaml.safe_dump(LONG)]
    assert [parse(body) for body in written] == [LONG] * len(written)
    assert len({digests(parse(body)).template for body in written}) == 1


def test_a_date_is_text_and_a_number_too_large_for_json_too() -> None:
    read = parse("Resources: {}\nAWSTemplateFormatVersion: 2010-09-09\nMetadata: {n: 9007199254740993, m: 12}")
    assert read["AWSTemplateFormatVersion"] == "2010-09-09"
    assert read["Metadata"] == {"n": "9007199254740993", "m": 12}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("Resources: {A: [", "cannot be read"),
        ("a list is", "no CloudFormation template"),
        ("Parameters: {}", "no CloudFormation template"),
        ("Resources: {}\nMappings: {}", "Mappings"),
        ("Resources: {}\nTransform: AWS::LanguageExtensions", "AWS::LanguageExtensions"),
        ("Resources: {}\nTransform: [AWS::Serverless-2016-10-31, Mine]", "Mine"),
    ],
)
def test_what_is_not_known_is_not_read(body: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(body)


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"Resources": {"A": {"Type": "T", "Properties": {"X": {"Fn::ImportValue": "x"}}}}}, "Fn::ImportValue"),
        ({"Resources": {"A": {"Type": "T", "Properties": {"X": {"Ref": "Nobody"}}}}}, "Nobody"),
        ({"Resources": {"A": {"Type": "T", "Properties": {"X": {"Fn::Sub": "a ${Nobody.Arn}"}}}}}, "Nobody"),
        ({"Resources": {"A": {"Type": "T", "CreationPolicy": {}}}}, "CreationPolicy"),
        ({"Resources": {"A": {"Type": "T", "Condition": "Nowhere"}}}, "Nowhere"),
        ({"Resources": {"A": {"Type": "T"}}, "Globals": {"HttpApi": {}}}, "HttpApi"),
        ({"Conditions": {"C": {"Fn::Xor": []}}, "Resources": {"A": {"Type": "T", "Condition": "C"}}}, "Fn::Xor"),
    ],
)
def test_what_is_not_known_is_not_evaluated(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        evaluate(small(**sections))


def test_a_parameter_that_is_not_there_is_refused_with_the_nearest() -> None:
    document = small(Parameters={"BatchSize": {"Type": "Number", "Default": 10}})
    with pytest.raises(UsageError) as error:
        evaluate(document, {"BatchSise": "7"})
    assert error.value.next_step == "did you mean BatchSize?"


# --- evaluating -----------------------------------------------------------------------------------------------------


def test_conditions_decide_and_references_stay_readable() -> None:
    found = evaluate(parse(SHORT), {}, {"AWS::StackName": "mine"}).resources
    assert found["A"].properties == {"Name": "mine-a", "Value": "<B.Arn>", "Type": "String", "Description": "<B>"}
    off = SHORT.replace("Ready: !Or [!Equals [a, a]", "Ready: !Or [!Equals [a, c]")
    assert "Value" not in evaluate(parse(off)).resources["A"].properties


GLOBALS = {
    "Function": {
        "Runtime": "python3.14",
        "Layers": ["common"],
        "Environment": {"Variables": {"A": "common", "B": {"Ref": "P"}}},
        "Tracing": {"Fn::If": ["On", "Active", "PassThrough"]},
    },
    "Api": {"Auth": {"DefaultAuthorizer": "AWS_IAM"}},
}


def test_globals_are_merged_as_sam_merges_them() -> None:
    own = {
        "Runtime": "python3.11",
        "Layers": ["own"],
        "Environment": {"Variables": {"A": "own", "C": "own"}},
        "Tracing": "Active",
    }
    document = small(
        Parameters={"P": {"Type": "String", "Default": "p"}},
        Conditions={"On": {"Fn::Equals": ["a", "b"]}},
        Globals=GLOBALS,
        Resources={
            "F": {"Type": "AWS::Serverless::Function", "Properties": own},
            "G": {"Type": "AWS::Serverless::Function"},
            "Api": {"Type": "AWS::Serverless::Api", "Properties": {"Auth": {"InvokeRole": "NONE"}}},
            "Q": {"Type": "AWS::SQS::Queue"},
        },
    )
    found = {name: one.properties for name, one in evaluate(document).resources.items()}
    assert found["F"] == {
        "Runtime": "python3.11",
        "Layers": ["common", "own"],
        "Environment": {"Variables": {"A": "own", "B": "p", "C": "own"}},
        "Tracing": "Active",
    }
    assert found["G"]["Tracing"] == "PassThrough"
    assert found["Api"] == {"Auth": {"DefaultAuthorizer": "AWS_IAM", "InvokeRole": "NONE"}}
    assert found["Q"] == {}


def test_our_own_globals_reach_every_function_and_api() -> None:
    document = parse(project.TEMPLATE.read_text(encoding="utf-8"))
    found = evaluate(document, {"EnableReplay": "true", "EnableProcessor": "true"}).resources
    functions = [one.properties for one in found.values() if one.type == "AWS::Serverless::Function"]
    assert len(functions) == 3
    assert all(one["Environment"]["Variables"]["POWERTOOLS_LOG_LEVEL"] == "INFO" for one in functions)
    assert all(one.properties["BinaryMediaTypes"] for one in found.values() if one.type == "AWS::Serverless::Api")


def test_a_stores_policies_and_its_condition_are_kept() -> None:
    document = small(
        Conditions={"On": {"Fn::Equals": ["a", "a"]}},
        Resources={"T": {"Type": "AWS::DynamoDB::Table", "DeletionPolicy": "Retain", "Condition": "On"}},
    )
    table = evaluate(document).resources["T"]
    assert table.store
    assert table.attributes == {"DeletionPolicy": "Retain", "Condition": "On"}


def test_a_type_nobody_has_looked_at_is_taken_for_a_store() -> None:
    document = small(Resources={"S": {"Type": "AWS::Kinesis::Stream"}, "R": {"Type": "AWS::IAM::Role"}})
    assert {name: one.store for name, one in evaluate(document).resources.items()} == {"S": True, "R": False}


def test_rules_speak_up() -> None:
    document = parse(project.TEMPLATE.read_text(encoding="utf-8"))
    assert Evaluator(document, {"EnableProcessor": "true"}).rule_failures()
    assert not Evaluator(document, {"EnableProcessor": "true", "EnableReplay": "true"}).rule_failures()


# --- digests --------------------------------------------------------------------------------------------------------


def test_code_and_template_have_a_digest_each() -> None:
    assert digests_of().template == digests_of(code="s3://one/xyz").template
    assert digests_of().code != digests_of(code="s3://one/xyz").code
    assert digests_of().template != digests_of(memory=1024).template
    assert digests_of().code == digests_of(memory=1024).code


def test_the_code_digest_does_not_depend_on_the_bucket() -> None:
    assert digests_of(code="s3://two/abc").code == digests_of().code
    assert digests_of(code="s3://two/below/abc").code == digests_of().code
    assert digests_of(code="{Bucket: three, Key: below/abc}").code == digests_of().code


def test_what_changes_nothing_is_not_in_the_digest() -> None:
    plain = small(Resources={"Q": {"Type": "AWS::SQS::Queue"}})
    described = small(
        Description="text",
        Metadata={"a": 1},
        Resources={"Q": {"Type": "AWS::SQS::Queue", "Metadata": {"SamResourceId": "Q"}}},
    )
    assert digests(described) == digests(plain)


def test_the_code_digest_of_a_build_is_known_before_it_is_uploaded(tmp_path: Path) -> None:
    (tmp_path / "Code").mkdir()
    (tmp_path / "Code" / "a.py").write_text("print()")
    built = digests(parse(TEMPLATE.format(code="Code", memory=512)), tmp_path)
    assert built == digests_of(code=f"s3://anywhere/{checksum(tmp_path / 'Code')}")


SAM_PYTHON = project.SAM.with_name("python")


@pytest.mark.skipif(not SAM_PYTHON.exists(), reason="the SAM CLI is not installed")
def test_a_folders_checksum_is_what_sam_says(tmp_path: Path) -> None:
    for name in ("b.py", "a/b.py", "a.py", "a-b/ä.txt", "z/y/x.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 3 + b"\xff")
    (tmp_path / "linked").symlink_to(tmp_path / "a-b")
    script = "import sys; from samcli.lib.utils.hash import dir_checksum; print(dir_checksum(sys.argv[1]))"
    said = subprocess.run([SAM_PYTHON, "-c", script, tmp_path], capture_output=True, text=True, check=True).stdout
    assert checksum(tmp_path) == said.strip()
    (tmp_path / "b.py").write_bytes(b"another")
    assert checksum(tmp_path) != said.strip()

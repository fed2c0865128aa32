"""What the template promises, proven on the template itself with its conditions evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pik import project
from pik.pipeline import settings
from tests.unit import template_tools as tools
from tests.unit.template_tools import Stack, phases

TEMPLATE = tools.load()
DAY = 86_400
SETTINGS = {value for name, value in vars(settings).items() if name.isupper() and str(value).startswith("PIK_")}
REPLAY = {
    "ReplayApi",
    "ReplayFunction",
    "ReplayRole",
    "ReplayErrorAlarm",
    "ReplayThrottleAlarm",
    "ReplayServerErrorAlarm",
}
PROCESSOR = {
    "ProcessorFunction",
    "ProcessorMapping",
    "ProcessorRole",
    "ProcessorErrorAlarm",
    "ProcessorThrottleAlarm",
}
OUTPUTS = {
    *("Phase", "IngestUrl", "IngestApiId", "IngestFunction", "RolloutParameter", "Dashboard"),
    *("EventsTable", "DedupeTable", "AggregatesTable", "ReplaysTable", "RawBucket", "EvidenceBucket"),
    *("QueueUrl", "QueueArn", "DeadLetterQueueUrl", "DeadLetterQueueArn"),
    *("IngestLogGroup", "ReplayLogGroup", "ProcessorLogGroup", "AccessLogGroup"),
    *("ProducerPolicy", "OperatorPolicy", "ViewerPolicy", "ApproverPolicy"),
    *("QueryDatabase", "QueryWorkGroup"),
}


FULL = phases(TEMPLATE, Environment="prod")["processor"]


# --- stores ---------------------------------------------------------------------------------------------------------


def test_every_resource_type_is_known_as_store_or_stateless() -> None:
    types = {resource["Type"] for resource in TEMPLATE["Resources"].values()}
    assert types <= tools.STORES | tools.STATELESS
    assert types >= tools.STORES


def test_no_store_is_conditional_unretained_or_different_in_another_phase() -> None:
    assert tools.conditional_stores(TEMPLATE) == []
    assert tools.unretained_stores(TEMPLATE) == []
    assert tools.changing_stores(TEMPLATE) == []


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("check", "change"),
    [
        (tools.conditional_stores, lambda r: r["AggregatesTable"].update(Condition="ProcessorOn")),
        (tools.unretained_stores, lambda r: r["RawBucket"].pop("DeletionPolicy")),
        (tools.unretained_stores, lambda r: r["Queue"].update(UpdateReplacePolicy="Delete")),
        (tools.changing_stores, lambda r: r["ProcessorLogGroup"].update(Condition="ProcessorOn")),
        (
            tools.changing_stores,
            lambda r: r["Queue"]["Properties"].update(VisibilityTimeout={"Fn::If": ["ProcessorOn", 190, 30]}),
        ),
    ],
)
def test_the_store_checks_can_fail(check: Callable[[dict[str, Any]], list[str]], change: Change) -> None:
    assert check(tools.mutated(TEMPLATE, change))


def test_tables_are_recoverable_encrypted_on_demand_and_protected_where_it_matters() -> None:
    for environment, protected in (("dev", False), ("staging", True), ("prod", True), ("qa", True), ("dev-2", True)):
        tables = Stack(TEMPLATE, {"Environment": environment}).of_type("AWS::DynamoDB::Table")
        assert len(tables) == 4
        for table in tables.values():
            assert table["BillingMode"] == "PAY_PER_REQUEST"
            assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
            assert table["SSESpecification"] == {"SSEEnabled": True}
            assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
            assert table["DeletionProtectionEnabled"] is protected


def test_the_raw_bucket_is_private_versioned_and_written_once() -> None:
    bucket = FULL.resources["RawBucket"]["Properties"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    rules = bucket["LifecycleConfiguration"]["Rules"]
    assert rules[0]["ExpirationInDays"] == FULL.values["RetentionDays"]
    assert "NoncurrentVersionExpiration" in rules[0]
    policy = {s["Sid"]: s for s in FULL.resources["RawBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]}
    assert set(policy) == {"TlsOnly", "NeverDeleted", "WrittenOnce"}
    assert all(s["Effect"] == "Deny" and s["Principal"] == "*" for s in policy.values())
    assert policy["WrittenOnce"]["Condition"]["Null"] == {"s3:if-none-match": "true"}
    assert "<RawBucket.Arn>/raw/*" in policy["NeverDeleted"]["Resource"]


def test_ingest_may_read_whatever_it_writes_only_once() -> None:
    """What it finds instead of its own put, it reads: the first arrival, or the body of an earlier conflict."""
    statements = FULL.resources["IngestRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    by_name = {statement["Sid"]: statement["Resource"] for statement in statements}
    assert set(by_name["CompareWithWhatIsThere"]) == set(by_name["KeepWhatCame"]) - {"<RawBucket.Arn>/rejected/*"}


def test_the_evidence_bucket_is_private_versioned_and_written_once() -> None:
    bucket = FULL.resources["EvidenceBucket"]["Properties"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert not any("ExpirationInDays" in rule for rule in bucket["LifecycleConfiguration"]["Rules"])
    policy = {s["Sid"]: s for s in FULL.resources["EvidenceBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]}
    assert set(policy) == {"TlsOnly", "NeverDeleted", "WrittenOnce"}
    assert all(s["Effect"] == "Deny" and s["Principal"] == "*" for s in policy.values())
    assert policy["NeverDeleted"]["Resource"] == policy["WrittenOnce"]["Resource"] == "<EvidenceBucket.Arn>/*"
    assert policy["WrittenOnce"]["Condition"]["Null"] == {"s3:if-none-match": "true"}


POLICIES = {"RawBucketPolicy", "EvidenceBucketPolicy", "QueuePolicy", "DeadLetterQueuePolicy"}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"Environment": "local"}, set()),
        ({"Environment": "staging", "Platform": "embedded"}, set()),
        ({"Environment": "dev"}, POLICIES),
    ],
)
def test_tls_is_demanded_everywhere_but_on_the_loopback_interface(
    parameters: dict[str, str], expected: set[str]
) -> None:
    stack = Stack(TEMPLATE, parameters)
    policies = stack.of_type("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy")
    assert {
        n for n, p in policies.items() if "TlsOnly" in [s["Sid"] for s in p["PolicyDocument"]["Statement"]]
    } == expected


def test_messages_outlive_failures_and_alarms_come_before_they_expire() -> None:
    queue, dead = (FULL.resources[name]["Properties"] for name in ("Queue", "DeadLetterQueue"))
    processor, mapping = (FULL.resources[name]["Properties"] for name in ("ProcessorFunction", "ProcessorMapping"))
    assert queue["VisibilityTimeout"] >= 6 * processor["Timeout"] + mapping["MaximumBatchingWindowInSeconds"]
    assert dead["MessageRetentionPeriod"] >= queue["MessageRetentionPeriod"] == 14 * DAY
    assert queue["RedrivePolicy"]["maxReceiveCount"] == "20"
    allowed = dead["RedriveAllowPolicy"]["sourceQueueArns"]
    assert [arn.rpartition(":")[2] for arn in allowed] == [queue["QueueName"]] == ["pik-test-queue-1a2b3c4d"]
    alarm = TEMPLATE["Resources"]["QueueAgeAlarm"]
    assert "Condition" not in alarm
    assert alarm["Properties"]["MetricName"] == "ApproximateAgeOfOldestMessage"
    assert alarm["Properties"]["Threshold"] <= 14 * DAY - 7 * DAY


# --- phases ---------------------------------------------------------------------------------------------------------


def test_each_phase_adds_its_own_resources_and_nothing_else() -> None:
    ingest, replay, processor = (set(s.resources) for s in phases(TEMPLATE).values())
    assert replay - ingest == REPLAY
    assert processor - replay == PROCESSOR
    assert ingest < replay < processor
    assert Stack(TEMPLATE).resources.keys() == ingest  # the defaults are the safe ones


def test_a_toggle_never_touches_the_producers_api() -> None:
    ingest, *others = phases(TEMPLATE).values()
    for name in ("IngestApi", "IngestFunction", "IngestRole", "ProducerPolicy"):
        assert all(other.resources[name] == ingest.resources[name] for other in others)


def test_the_processor_needs_replay() -> None:
    assert Stack(TEMPLATE, {"EnableProcessor": "true"}).rule_failures()
    assert not any(s.rule_failures() for s in phases(TEMPLATE).values())
    assert not Stack(TEMPLATE, {"EnableProcessor": "true"}).condition("ProcessorOn")


def test_the_phase_parameter_is_in_every_phase_and_differs_in_each() -> None:
    values = []
    for dry_run in ("false", "true"):
        for name, stack in phases(TEMPLATE, DryRun=dry_run).items():
            parameter = stack.resources["RolloutParameter"]["Properties"]
            assert parameter["Name"] == "/pik/pik-test/rollout"
            value = json.loads(parameter["Value"])
            assert value["phase"] == stack.outputs["Phase"] == name
            assert value["dry_run"] is (dry_run == "true")
            assert value["replay"] is (name != "ingest")
            assert value["processor"] is (name == "processor")
            values.append(parameter["Value"])
    assert len(set(values)) == 6


def test_outputs_are_what_the_workbench_reads() -> None:
    ingest, replay, processor = (set(s.outputs) for s in phases(TEMPLATE).values())
    assert ingest == OUTPUTS
    assert replay - ingest == {"ReplayUrl", "ReplayApiId", "ReplayFunction"}
    assert processor - replay == {"ProcessorFunction", "ProcessorMapping"}
    assert FULL.outputs["IngestUrl"] == "https://<IngestApi>.execute-api.eu-west-1.amazonaws.com/prod/ingest"


def test_a_dry_run_does_not_consume() -> None:
    for dry_run, enabled in (("true", False), ("false", True)):
        mapping = phases(TEMPLATE, DryRun=dry_run)["processor"].resources["ProcessorMapping"]["Properties"]
        assert mapping["Enabled"] is enabled


def test_a_canary_is_two_processors_at_work() -> None:
    for platform in ("aws", "embedded"):
        stack = phases(TEMPLATE, Platform=platform, Canary="true", MaximumConcurrency="50")["processor"]
        assert stack.resources["ProcessorMapping"]["Properties"]["ScalingConfig"] == {"MaximumConcurrency": 2}


# --- functions ------------------------------------------------------------------------------------------------------


def test_functions_are_told_exactly_what_they_read() -> None:
    functions = FULL.of_type("AWS::Serverless::Function")
    told = {name: FULL.environment_of(name) for name in functions}
    assert {key for variables in told.values() for key in variables if key.startswith("PIK_")} == SETTINGS
    assert {v["POWERTOOLS_SERVICE_NAME"] for v in told.values()} == {"ingest", "replay", "processor"}
    assert {v["POWERTOOLS_METRICS_NAMESPACE"] for v in told.values()} == {settings.METRICS_NAMESPACE}


def test_functions_log_to_groups_that_stay_and_answer_in_time() -> None:
    for name, function in FULL.of_type("AWS::Serverless::Function").items():
        kind = name.removesuffix("Function")
        assert function["Handler"] == f"pik.pipeline.{kind.lower()}.handler"
        assert (project.ROOT / "pik" / "pipeline" / f"{kind.lower()}.py").exists()
        # Text: with JSON, Lambda would wrap what Powertools prints, and EMF lines would be metrics no longer.
        assert function["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": f"<{kind}LogGroup>"}
        assert function["Timeout"] <= (29 if "Events" in function else 60)


def test_traced_everywhere_but_locally() -> None:
    for environment, mode, disabled in (("local", "PassThrough", "true"), ("prod", "Active", "false")):
        stack = Stack(TEMPLATE, {"Environment": environment})
        assert stack.resolve(TEMPLATE["Globals"]["Function"]["Tracing"]) == mode
        assert stack.environment_of("IngestFunction")["POWERTOOLS_TRACE_DISABLED"] == disabled


def test_the_mapping_reports_failures_by_message() -> None:
    mapping = FULL.resources["ProcessorMapping"]["Properties"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": "5"}


# --- APIs -----------------------------------------------------------------------------------------------------------


def test_apis_are_signed_throttled_and_pass_bytes_on() -> None:
    common = TEMPLATE["Globals"]["Api"]
    assert common["Auth"] == {"DefaultAuthorizer": "AWS_IAM", "InvokeRole": "NONE"}
    assert common["BinaryMediaTypes"] == ["*/*"]
    assert common["OpenApiVersion"]  # or SAM adds a second stage that nothing throttles
    apis = FULL.of_type("AWS::Serverless::Api")
    assert set(apis) == {"IngestApi", "ReplayApi"}
    for name, api in apis.items():
        kind = name.removesuffix("Api")
        assert api["StageName"] == "prod"
        assert not api.keys() & common.keys()  # nothing of the above is overridden
        (method,) = api["MethodSettings"]
        assert (method["ResourcePath"], method["HttpMethod"]) == (f"/{kind.lower()}", "POST")
        assert method["ThrottlingRateLimit"] == FULL.values[f"{kind}RateLimit"]
        event = FULL.resources[f"{kind}Function"]["Properties"]["Events"]["Post"]["Properties"]
        assert event == {"RestApiId": f"<{name}>", "Path": f"/{kind.lower()}", "Method": "POST"}


def test_access_logs_are_opt_in_and_json() -> None:
    assert "AccessLogSetting" not in FULL.resources["IngestApi"]["Properties"]
    on = Stack(TEMPLATE, {"AccessLogs": "true"}).resources["IngestApi"]["Properties"]["AccessLogSetting"]
    assert set(json.loads(on["Format"])) >= {"time", "request_id", "status", "caller"}


def test_refusals_of_the_gateway_look_like_our_errors() -> None:
    for response in TEMPLATE["Globals"]["Api"]["GatewayResponses"].values():
        text = response["ResponseTemplates"]["application/json"].replace("$context.error.messageString", '"why"')
        assert set(json.loads(text)) == {"error", "code", "do_this"}

"""Who may do what, asked of the embedded AWS with IAM enforced: every principal against every call, exactly.

A call that would change something is sent in a form that is refused *after* the permission was checked (a row without
its key, a message without a body), so the matrix leaves no trace in the stores.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from pik import ledger
from pik.aws import signed, stack
from pik.environments import Environment
from pik.errors import AwsError
from pik.results import Verdict
from pik.rollout.checks.permissions import permissions
from tests.conftest import Deploy

Outputs = dict[str, str]
Call = Callable[["Caller", Outputs], object]

EVENT = {
    "source": "pik.probe",
    "event_type": "permissions.checked",
    "entity_id": "pik-probe-permissions",
    "event_time": "2026-01-01T00:00:00Z",
    "payload": {},
}
WINDOW = {
    "entity_id": "pik-probe-permissions",
    "start_time": "2026-01-01T00:00:00Z",
    "end_time": "2026-01-02T00:00:00Z",
    "dry_run": True,
}


@dataclass(frozen=True)
class Caller(Environment):
    """The embedded environment as somebody else than its administrator."""

    keys: tuple[str, str, str | None] = ("", "", None)
    clients: dict[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def session(self) -> boto3.Session:
        return boto3.Session(*self.keys, region_name=self.region)

    def client(self, service: str, **options: Any) -> Any:
        if service not in self.clients:
            self.clients[service] = super().client(service, **options)
        return self.clients[service]


@pytest.fixture(scope="module")
def outputs(deployed: Deploy, embedded_env: Environment) -> Outputs:
    found = deployed("processor")
    return {**found, "IngestRole": stack.resources(embedded_env)["IngestRole"]}


@pytest.fixture(scope="module")
def callers(embedded_env: Environment, outputs: Outputs) -> Iterator[dict[str, Caller]]:
    """A user for each managed policy (and for none), and the session of each function's role."""
    iam = embedded_env.client("iam")
    policies = {
        "producer": [outputs["ProducerPolicy"]],
        "viewer": [outputs["ViewerPolicy"]],
        "operator": [outputs["ViewerPolicy"], outputs["OperatorPolicy"]],
        "approver": [outputs["ViewerPolicy"], outputs["ApproverPolicy"]],
        "nobody": [],
    }
    found, users = {}, []
    for name, arns in policies.items():
        user = f"pik-test-{name}-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=user)
        users.append(user)
        for arn in arns:
            iam.attach_user_policy(UserName=user, PolicyArn=arn)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        found[name] = _caller(embedded_env, key["AccessKeyId"], key["SecretAccessKey"])
    for kind in ("Ingest", "Replay", "Processor"):
        function = embedded_env.client("lambda").get_function_configuration(FunctionName=outputs[f"{kind}Function"])
        role = embedded_env.client("sts").assume_role(RoleArn=function["Role"], RoleSessionName="pik-test")
        keys = role["Credentials"]
        found[f"{kind} role"] = _caller(
            embedded_env, keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]
        )
    yield found
    for user in users:
        for policy in iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]:
            iam.detach_user_policy(UserName=user, PolicyArn=policy["PolicyArn"])
        for listed in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=user, AccessKeyId=listed["AccessKeyId"])
        iam.delete_user(UserName=user)


def _caller(environment: Environment, key: str, secret: str, token: str | None = None) -> Caller:
    return Caller(environment.name, environment.region, environment.endpoint, keys=(key, secret, token))


# --- the calls ------------------------------------------------------------------------------------------------------


def _ingest(who: Environment, outputs: Outputs, sign: bool = True) -> httpx.Response:
    url = who.address(outputs["IngestUrl"]) + "?dry_run=true"
    return signed.request(who, "POST", url, json.dumps(EVENT).encode(), signed=sign)


def _replay(who: Environment, outputs: Outputs) -> httpx.Response:
    return signed.request(who, "POST", outputs["ReplayUrl"], json.dumps(WINDOW).encode())


def _s3(operation: str, key: str = "", bucket: str = "RawBucket", **arguments: Any) -> Call:
    named = {"Key": key} if key else {}
    return lambda who, o: getattr(who.client("s3"), operation)(Bucket=o[bucket], **named, **arguments)


def _s3_put(key: str, bucket: str = "RawBucket") -> Call:
    return _s3("put_object", key, bucket, Body=b"x", ContentMD5="bm90IHRoZSBkaWdlc3QhIQ==", IfNoneMatch="*")


def _table(operation: str, table: str, **arguments: Any) -> Call:
    return lambda who, o: getattr(who.client("dynamodb"), operation)(TableName=o[table], **arguments)


def _keyless_put(table: str) -> Call:
    return _table("put_item", table, Item={"no": {"S": "key"}})


def _query(table: str) -> Call:
    return _table(
        "query", table, KeyConditionExpression="PK = :pk", ExpressionAttributeValues={":pk": {"S": "pik-probe-none"}}
    )


def _sqs(operation: str, queue: str, **arguments: Any) -> Call:
    return lambda who, o: getattr(who.client("sqs"), operation)(QueueUrl=o[queue], **arguments)


def _receive(queue: str) -> Call:
    return _sqs("receive_message", queue, MaxNumberOfMessages=99)


def _delete_message(queue: str) -> Call:
    return _sqs("delete_message", queue, ReceiptHandle="of-no-message")


EVIDENCE = "EvidenceBucket"
CALLS: dict[str, Call] = {
    "POST /ingest": _ingest,
    "POST /replay": _replay,
    "read raw": _s3("get_object", "raw/pik-probe-none"),
    "read rejected": _s3("get_object", "rejected/pik-probe-none"),
    "list raw": _s3("list_objects_v2", Prefix="raw/", MaxKeys=1),
    "write raw": _s3_put("raw/pik-probe-none"),
    "write rejected": _s3_put("rejected/pik-probe-none"),
    "write elsewhere": _s3_put("elsewhere/pik-probe-none"),
    "delete raw": _s3("delete_object", "raw/pik-probe-none"),
    "read ledger": _s3("get_object", "ledger/pik-probe-none", EVIDENCE),
    "read evidence": _s3("get_object", "evidence/pik-probe-none", EVIDENCE),
    "list ledger": _s3("list_objects_v2", bucket=EVIDENCE, Prefix="ledger/", MaxKeys=1),
    "list ledger versions": _s3("list_object_versions", bucket=EVIDENCE, Prefix="ledger/", MaxKeys=1),
    "write ledger": _s3_put("ledger/pik-probe-none", EVIDENCE),
    "write evidence": _s3_put("evidence/pik-probe-none", EVIDENCE),
    "delete ledger": _s3("delete_object", "ledger/pik-probe-none", EVIDENCE),
    "write approval": _s3_put("approvals/pik-probe-none", EVIDENCE),
    "delete evidence": _s3("delete_object", "evidence/pik-probe-none", EVIDENCE),
    "take the ledger's policy away": lambda who, o: who.client("s3").put_bucket_policy(Bucket=o[EVIDENCE], Policy="no"),
    "query events": _query("EventsTable"),
    "scan events": _table("scan", "EventsTable", Limit=1),
    "put event": _keyless_put("EventsTable"),
    "delete event": _table("delete_item", "EventsTable", Key={"no": {"S": "key"}}),
    "get dedupe": _table("get_item", "DedupeTable", Key={"event_id": {"S": "pik-probe-none"}}),
    "put dedupe": _keyless_put("DedupeTable"),
    "query aggregates": _query("AggregatesTable"),
    "get aggregate": _table("get_item", "AggregatesTable", Key={"PK": {"S": "none"}, "SK": {"S": "none"}}),
    "put aggregate": _keyless_put("AggregatesTable"),
    "query replays": _query("ReplaysTable"),
    "put replay": _keyless_put("ReplaysTable"),
    "queue attributes": _sqs("get_queue_attributes", "QueueUrl", AttributeNames=["QueueArn"]),
    "send": _sqs("send_message", "QueueUrl", MessageBody=""),
    "receive": _receive("QueueUrl"),
    "delete message": _delete_message("QueueUrl"),
    "send dead letter": _sqs("send_message", "DeadLetterQueueUrl", MessageBody=""),
    "receive dead letter": _receive("DeadLetterQueueUrl"),
    "delete dead letter": _delete_message("DeadLetterQueueUrl"),
    "read logs": lambda who, o: who.client("logs").filter_log_events(logGroupName=o["IngestLogGroup"], limit=1),
    "read role policies": lambda who, o: who.client("iam").list_role_policies(RoleName=o["IngestRole"]),
    "read managed policy": lambda who, o: who.client("iam").get_policy(PolicyArn=o["ViewerPolicy"]),
    "read phase": lambda who, o: who.client("ssm").get_parameter(Name=o["RolloutParameter"]),
    "describe stack": lambda who, o: who.client("cloudformation").describe_stacks(StackName=who.stack),
    "read alarms": lambda who, o: who.client("cloudwatch").describe_alarms(MaxRecords=1),
    "describe query table": lambda who, o: who.client("glue").get_table(DatabaseName=o["QueryDatabase"], Name="raw"),
    "read query workgroup": lambda who, o: who.client("athena").get_work_group(WorkGroup=o["QueryWorkGroup"]),
    "start query": lambda who, o: who.client("athena").start_query_execution(
        QueryString=" ", WorkGroup=o["QueryWorkGroup"]
    ),
    "see mapping": lambda who, o: who.client("lambda").get_event_source_mapping(UUID=o["ProcessorMapping"]),
    "invoke ingest": lambda who, o: who.client("lambda").invoke(
        FunctionName=o["IngestFunction"], InvocationType="DryRun"
    ),
}

VIEWER = {
    *("read raw", "read rejected", "list raw", "query events", "scan events", "get dedupe", "query aggregates"),
    *("get aggregate", "query replays", "queue attributes", "read logs", "read phase", "describe stack"),
    *(
        "read role policies",
        "read managed policy",
        "read alarms",
        "see mapping",
        "describe query table",
        "read query workgroup",
        "start query",
    ),
    *("read ledger", "read evidence", "list ledger", "list ledger versions"),
}
MAY = {
    "nobody": set(),
    "producer": {"POST /ingest"},
    "viewer": VIEWER,
    "approver": VIEWER | {"write ledger", "write approval"},
    "operator": VIEWER
    | {"POST /replay", "send", "receive", "receive dead letter", "delete dead letter"}
    | {"write ledger", "write evidence"},
    "Ingest role": {"read raw", "list raw", "write raw", "write rejected", "put event", "get dedupe", "put dedupe"},
    "Replay role": {"query events", "query replays", "put replay", "send", "list raw"},
    "Processor role": {
        *("read raw", "list raw", "get aggregate", "put aggregate", "queue attributes", "receive", "delete message"),
        "send dead letter",
    },
}
DENIALS = {"AccessDenied", "AccessDeniedException"}


def _permitted(call: Call, who: Caller, outputs: Outputs) -> bool:
    """Whether the permission was there; what AWS thinks of the call otherwise does not matter."""
    try:
        answer = call(who, outputs)
    except ClientError as error:
        return error.response["Error"]["Code"] not in DENIALS
    return not (isinstance(answer, httpx.Response) and answer.status_code == 403)


@pytest.mark.parametrize("principal", MAY)
def test_each_principal_may_do_exactly_what_it_needs(
    principal: str, callers: dict[str, Caller], outputs: Outputs
) -> None:
    assert {name for name, call in CALLS.items() if _permitted(call, callers[principal], outputs)} == MAY[principal]


def test_a_producer_is_answered_and_an_operator_can_replay(callers: dict[str, Caller], outputs: Outputs) -> None:
    stored = _ingest(callers["producer"], outputs)
    assert (stored.status_code, stored.json()["dry_run"]) == (200, True)
    replayed = _replay(callers["operator"], outputs)
    assert (replayed.status_code, replayed.json()["dry_run"]) == (200, True)


def test_unsigned_and_wrongly_signed_requests_are_refused(callers: dict[str, Caller], outputs: Outputs) -> None:
    producer = callers["producer"]
    assert _ingest(producer, outputs, sign=False).status_code == 403
    key, _, _ = producer.keys
    forged = Caller(producer.name, producer.region, producer.endpoint, keys=(key, "not-the-secret", None))
    assert _ingest(forged, outputs).status_code == 403


def test_a_viewer_verifies_the_ledger_and_an_operator_appends_to_it(
    callers: dict[str, Caller], outputs: Outputs
) -> None:
    about = ledger.subjects(code="0" * 64)

    entry = ledger.append(
        callers["operator"],
        ledger.Kind.APPROVAL,
        subjects=about,
        predicate={"sentence": "asked by a test"},
        evidence=[("note.txt", b"yes", "text/plain")],
    )

    assert "user/pik-test-operator" in entry.by
    assert ledger.verify(callers["viewer"], receipt=str(entry)) == ()
    with pytest.raises(AwsError, match=f"could not write ledger/{entry.number + 1:08d}"):
        ledger.append(callers["viewer"], ledger.Kind.APPROVAL, subjects=about, predicate={})
    with pytest.raises(AwsError):
        ledger.read(callers["producer"])


def test_not_even_an_administrator_deletes_raw_bytes_or_evidence(
    embedded_env: Environment, callers: dict[str, Caller], outputs: Outputs
) -> None:
    iam = embedded_env.client("iam")
    user = f"pik-test-admin-{uuid.uuid4().hex[:8]}"
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.create_user(UserName=user)
    try:
        iam.put_user_policy(UserName=user, PolicyName="everything", PolicyDocument=json.dumps(everything))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        administrator = _caller(embedded_env, key["AccessKeyId"], key["SecretAccessKey"])
        assert _permitted(CALLS["scan events"], administrator, outputs)
        kept = {"RawBucket": ("raw", "conflicts", "rejected"), EVIDENCE: ("ledger", "evidence", "elsewhere")}
        for bucket, prefix in ((bucket, prefix) for bucket, prefixes in kept.items() for prefix in prefixes):
            assert not _permitted(_s3("delete_object", f"{prefix}/pik-probe-none", bucket), administrator, outputs)
            version = _s3("delete_object", f"{prefix}/pik-probe-none", bucket, VersionId="none")
            assert not _permitted(version, administrator, outputs)
    finally:
        iam.delete_user_policy(UserName=user, PolicyName="everything")
        iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
        iam.delete_user(UserName=user)


def test_what_is_in_force_is_compared_with_what_is_declared(embedded_env: Environment, outputs: Outputs) -> None:
    assert permissions(embedded_env).verdict is Verdict.PASSED

    iam, role = embedded_env.client("iam"), outputs["IngestRole"]
    kept = iam.get_role_policy(RoleName=role, PolicyName="ingest")["PolicyDocument"]
    wider = json.loads(json.dumps(kept))
    next(s for s in wider["Statement"] if s["Sid"] == "Index")["Action"] = ["dynamodb:PutItem", "dynamodb:DeleteItem"]
    more = {"Version": "2012-10-17", "Statement": [{"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"}]}
    try:
        iam.put_role_policy(RoleName=role, PolicyName="ingest", PolicyDocument=json.dumps(wider))
        iam.put_role_policy(RoleName=role, PolicyName="by-hand", PolicyDocument=json.dumps(more))
        found = permissions(embedded_env)
    finally:
        iam.put_role_policy(RoleName=role, PolicyName="ingest", PolicyDocument=json.dumps(kept))
        iam.delete_role_policy(RoleName=role, PolicyName="by-hand")
    assert found.verdict is Verdict.FAILED
    assert "IngestRole/by-hand exists, but is not declared in the template" in found.sentence
    assert "IngestRole/ingest: statement Index is not as declared" in found.sentence
    assert permissions(embedded_env).verdict is Verdict.PASSED

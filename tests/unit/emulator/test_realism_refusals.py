"""What AWS's habits refuse, fail, lose and leave undone, and in which form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from botocore.parsers import create_parser

from pik.emulator.realism.wire import Answer
from tests.unit.emulator.rig import FORM, Rig, ok, parsed, refused, service_model

CALLS: dict[str, tuple[str, str, Callable[[Rig], Answer | None]]] = {
    "dynamodb": ("dynamodb", "PutItem", lambda rig: rig.target("DynamoDB_20120810.PutItem", TableName="t", Item={})),
    "sqs": ("sqs", "SendMessage", lambda rig: rig.target("AmazonSQS.SendMessage")),
    "states": ("stepfunctions", "ListExecutions", lambda rig: rig.target("AWSStepFunctions.ListExecutions")),
    "logs": ("logs", "FilterLogEvents", lambda rig: rig.target("Logs_20140328.FilterLogEvents")),
    "cloudwatch": (
        "cloudwatch",
        "GetMetricData",
        lambda rig: rig.target("GraniteServiceVersion20100801.GetMetricData"),
    ),
    "lambda": (
        "lambda",
        "Invoke",
        lambda rig: rig.signed("lambda", "POST", "/2015-03-31/functions/f/invocations", b"{}"),
    ),
}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_throttling_is_what_botocore_takes_for_it(name: str) -> None:
    service, operation, send = CALLS[name]
    rig = Rig("throttling")

    answer = rig.until(lambda: send(rig), refused)

    code = parsed(service, operation, answer)["Error"]["Code"]
    from botocore.retries.standard import ThrottledRetryableChecker

    assert code in ThrottledRetryableChecker._THROTTLED_ERROR_CODES
    assert rig.struck == {"throttling": 1}
    assert not rig.served or rig.served[-1] is not None


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_failed_call_was_not_served_and_is_a_server_error(name: str) -> None:
    service, operation, send = CALLS[name]
    rig = Rig("failed-calls")
    before: list[int] = []

    def counted() -> Answer | None:
        before.append(len(rig.served))
        return send(rig)

    answer = rig.until(counted, refused)

    assert len(rig.served) == before[-1]
    found = parsed(service, operation, answer)
    assert found["ResponseMetadata"]["HTTPStatusCode"] >= 500
    assert found["Error"]["Code"]
    rig.until(lambda: send(rig), lambda answer: answer is None)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_lost_answer_is_of_a_call_that_was_served(name: str) -> None:
    *_, send = CALLS[name]
    rig = Rig("lost-answers")
    sent = 0

    def counted() -> Answer | None:
        nonlocal sent
        sent += 1
        return send(rig)

    rig.until(counted, lambda answer: answer is None)

    assert len(rig.served) == sent
    assert rig.struck == {"lost-answers": 1}


def test_the_answers_of_an_api_are_lost_and_refused_as_well() -> None:
    rig = Rig("lost-answers", "throttling", "failed-calls")
    statuses = set()
    for _ in range(6000):
        rig.now += 1
        answer = rig.call("POST", "/restapis/abc/local/_user_request_/ingest", {}, b"{}")
        statuses.add(answer.status if answer else 0)

    assert statuses == {0, 200, 429, 500}


def test_a_stack_is_created_without_lost_answers() -> None:
    rig = Rig("lost-answers", "failed-calls", "throttling")
    for _ in range(1000):
        answer = rig.signed("cloudformation", "POST", "/", b"Action=CreateChangeSet", **FORM)
        assert answer
        assert answer.status == 200


def test_cloudformations_reads_are_throttled() -> None:
    rig = Rig("cloudformation-throttling")

    answer = rig.until(lambda: rig.signed("cloudformation", "POST", "/", b"Action=DescribeStacks", **FORM), refused)

    error = parsed("cloudformation", "DescribeStacks", answer)["Error"]
    assert (error["Code"], error["Message"]) == ("Throttling", "Rate exceeded")


def test_cloudwatch_in_cbor() -> None:
    rig = Rig("throttling")
    path = "/service/GraniteServiceVersion20100801/operation/GetMetricData"

    answer = rig.until(lambda: rig.call("POST", path, {"Smithy-Protocol": "rpc-v2-cbor"}), refused)

    assert answer
    model = service_model("cloudwatch")
    raw = {
        "status_code": answer.status,
        "headers": {name.decode(): value.decode() for name, value in answer.headers},
        "body": answer.body,
    }
    found = create_parser("smithy-rpc-v2-cbor").parse(raw, model.operation_model("GetMetricData").output_shape)
    assert found["Error"]["Code"] == "ThrottlingException"


def test_a_transaction_names_the_conflict() -> None:
    rig = Rig("transaction-conflicts")
    items = [{"Put": {"TableName": "t", "Item": {}}} for _ in range(3)]

    answer = rig.until(
        lambda: rig.target("DynamoDB_20120810.TransactWriteItems", TransactItems=items),
        refused,
    )

    found = parsed("dynamodb", "TransactWriteItems", answer)
    assert found["Error"]["Code"] == "TransactionCanceledException"
    assert sorted(reason["Code"] for reason in found["CancellationReasons"]) == ["None", "None", "TransactionConflict"]
    assert "TransactionConflict" in found["Error"]["Message"]


def test_a_single_write_meets_a_transaction() -> None:
    rig = Rig("transaction-conflicts")

    answer = rig.until(lambda: rig.target("DynamoDB_20120810.PutItem", TableName="t", Item={}), refused)

    assert parsed("dynamodb", "PutItem", answer)["Error"]["Code"] == "TransactionConflictException"


def test_a_throttled_transaction_says_so_in_its_reasons() -> None:
    rig = Rig("throttling")

    answer = rig.until(
        lambda: rig.target("DynamoDB_20120810.TransactWriteItems", TransactItems=[{"Put": {}}, {"Put": {}}]), refused
    )

    reasons = parsed("dynamodb", "TransactWriteItems", answer)["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["ThrottlingError", "None"]


def test_s3_is_busy_and_in_conflict() -> None:
    rig = Rig("s3-busy")
    codes = set()
    for _ in range(1500):
        rig.now += 1
        answer = rig.signed("s3", "PUT", "/bucket/key", b"x", **{"If-None-Match": "*"})
        if refused(answer):
            codes.add(parsed("s3", "PutObject", answer)["Error"]["Code"])

    assert codes == {"SlowDown", "ConditionalRequestConflict"}


def test_only_a_conditional_write_of_s3_conflicts() -> None:
    rig = Rig("s3-busy")
    for _ in range(1500):
        answer = rig.signed("s3", "GET", "/bucket/key")
        assert answer
        assert answer.status in (200, 503)


def test_a_batch_fails_entry_by_entry_in_a_successful_answer() -> None:
    rig = Rig("partial-batches")
    rig.respond = lambda call: ok({"Successful": [{"Id": "a"}, {"Id": "b"}]})
    entries = [{"Id": "a", "MessageBody": "1"}, {"Id": "b", "MessageBody": "2"}]

    answer = rig.until(
        lambda: rig.target("AmazonSQS.SendMessageBatch", QueueUrl="q", Entries=entries),
        lambda answer: bool(answer and answer.json().get("Failed")),
    )

    found = parsed("sqs", "SendMessageBatch", answer)
    assert [entry["Id"] for entry in found["Failed"]] == ["a", "b"]
    assert found["Failed"][0]["SenderFault"] is False


def test_a_batch_read_leaves_keys_undone() -> None:
    keys = [{"PK": {"S": str(number)}} for number in range(4)]
    rig = Rig("partial-batches")
    rig.respond = lambda call: ok({"Responses": {"t": [{**key, "n": {"N": "1"}} for key in keys]}})

    answer = rig.until(
        lambda: rig.target("DynamoDB_20120810.BatchGetItem", RequestItems={"t": {"Keys": keys}}),
        lambda answer: bool(answer and answer.json().get("UnprocessedKeys")),
    )

    found = parsed("dynamodb", "BatchGetItem", answer)
    left = found["UnprocessedKeys"]["t"]["Keys"]
    read = [{"PK": item["PK"]} for item in found["Responses"]["t"]]
    assert [*read, *left] == keys
    assert left

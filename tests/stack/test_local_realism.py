"""The realism mode as botocore's clients meet it: every habit, on an embedded AWS that really runs."""

from __future__ import annotations

import io
import json
import os
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from pik import emulator
from pik.emulator.realism import HABITS, REGION, RealismSettings
from pik.emulator.realism.limits import FRESH_SECONDS
from pik.environments import Environment

SETTINGS = RealismSettings(11, compress=10, fail_resource=2)
CODE = """
import time
def handler(event, context):
    print("a line of the function")
    if isinstance(event, (int, float)):
        time.sleep(event)
    return time.time()
"""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An embedded AWS in realism mode; afterwards, what struck is what the tests saw."""
    state = tmp_path_factory.mktemp("real")
    info = emulator.up(state, owner=os.getpid(), realism=SETTINGS)
    try:
        yield Environment("local", REGION, info.endpoint)
        live = emulator.status(state).realism
        assert live
        assert live["settings"] == SETTINGS.text
    finally:
        emulator.down(state)
    report = emulator.last_realism(state)
    assert report
    assert set(HABITS) - {"clock-skew", "lifecycle"} <= set(report["struck"])


def once(aws: Environment, service: str) -> Any:
    """Return a client that tries nothing twice, and does not wait long."""
    return aws.client(service, retries={"max_attempts": 0}, read_timeout=60)


def patient(work: Callable[[], Any], attempts: int = 100) -> Any:
    """Do what may be refused for now until it is done."""
    for _ in range(attempts):
        try:
            return work()
        except (ClientError, BotoCoreError) as error:
            last = error
            time.sleep(0.05)
    raise last


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := patient(condition)):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return found


def codes(work: Callable[[], Any], times: int) -> set[str]:
    """Do something many times; return the codes (or the kinds) of the errors that were met."""
    met = set()
    for _ in range(times):
        try:
            work()
        except ClientError as error:
            met.add(error.response["Error"]["Code"])
        except BotoCoreError as error:
            met.add(type(error).__name__)
    return met


@pytest.fixture(scope="module")
def function(aws: Environment) -> str:
    """Create a function that sleeps as long as it is told, and tells its time."""
    allow = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam = aws.client("iam")
    role = iam.create_role(RoleName="real", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    rule = {"Effect": "Allow", "Action": ["sqs:*", "logs:*"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    iam.put_role_policy(RoleName="real", PolicyName="real", PolicyDocument=policy)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("real.py", CODE)
    aws.client("lambda").create_function(
        FunctionName="real",
        Runtime="python3.13",
        Handler="real.handler",
        Role=role,
        Code={"ZipFile": archive.getvalue()},
        Timeout=60,
    )
    return "real"


@pytest.fixture(scope="module")
def table(aws: Environment) -> str:
    """Create a table with an index."""
    names = ("id", "group")
    patient(
        lambda: aws.client("dynamodb").create_table(
            TableName="real",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by-group",
                    "KeySchema": [{"AttributeName": "group", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
    )
    return "real"


def new_item(number: int, group: str = "g") -> dict[str, Any]:
    item = {"id": {"S": f"{group}{number}"}, "group": {"S": group}}
    return {"TableName": "real", "Item": item, "ConditionExpression": "attribute_not_exists(id)"}


def test_dynamodb_refuses_conflicts_and_loses(aws: Environment, table: str) -> None:
    client, numbers = once(aws, "dynamodb"), iter(range(10_000))

    met = codes(lambda: client.transact_write_items(TransactItems=[{"Put": new_item(next(numbers), "w")}]), 700)
    met |= codes(lambda: client.put_item(**new_item(next(numbers), "w")), 700)

    assert {"TransactionCanceledException", "TransactionConflictException"} <= met
    assert {"InternalServerError", "ProvisionedThroughputExceededException"} <= met
    assert "ConnectionClosedError" in met


def test_a_batch_read_is_partial(aws: Environment, table: str) -> None:
    client = aws.client("dynamodb")
    keys = [{"id": {"S": f"w{number}"}} for number in range(5)]

    answers = (patient(lambda: client.batch_get_item(RequestItems={"real": {"Keys": keys}})) for _ in range(400))

    assert any(answer["UnprocessedKeys"] for answer in answers)


def test_an_item_over_400_kb_is_refused(aws: Environment, table: str) -> None:
    item = {"id": {"S": "large"}, "data": {"S": "x" * 410_000}}

    def put() -> str:
        try:
            aws.client("dynamodb").put_item(TableName="real", Item=item)
        except aws.client("dynamodb").exceptions.ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""

    until(lambda: put() == "ValidationException")


def test_an_arn_of_another_partition_is_refused(aws: Environment) -> None:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws-cn:s3:::bucket/*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    create = partial(once(aws, "iam").create_policy, PolicyName="foreign", PolicyDocument=document)
    until(lambda: codes(create, 1) == {"MalformedPolicyDocument"})


def put_once(client: Any, item: dict[str, Any]) -> None:
    """Put a new item; that it is there already says that an earlier answer was lost."""
    try:
        client.put_item(**item)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise


def test_an_index_is_behind_its_table(aws: Environment, table: str) -> None:
    client, missing, put = aws.client("dynamodb"), 0, 30
    for number in range(put):
        patient(partial(put_once, client, new_item(number, "late")))
        query = {"TableName": "real", "KeyConditionExpression": "#g = :g", "ExpressionAttributeNames": {"#g": "group"}}
        found = client.query(**query, IndexName="by-group", ExpressionAttributeValues={":g": {"S": "late"}})
        missing += number + 1 - found["Count"]

    assert missing > 0
    until(
        lambda: (
            client.query(**query, IndexName="by-group", ExpressionAttributeValues={":g": {"S": "late"}})["Count"] == put
        )
    )


def test_s3_is_busy(aws: Environment) -> None:
    patient(lambda: aws.client("s3").create_bucket(Bucket="real"))
    client = once(aws, "s3")

    met = codes(lambda: client.put_object(Bucket="real", Key="k", Body=b"x", IfNoneMatch="*"), 900)

    assert {"SlowDown", "ConditionalRequestConflict", "PreconditionFailed"} <= met


def test_cloudformation_reads_are_throttled_and_a_resource_fails(aws: Environment) -> None:
    client = once(aws, "cloudformation")
    assert codes(client.list_stacks, 200) == {"Throttling"}
    kept = {"Type": "AWS::SQS::Queue", "DeletionPolicy": "Retain", "Properties": {"QueueName": "retained"}}
    second = {"Type": "AWS::SQS::Queue", "DependsOn": "Kept", "Properties": {"QueueName": "second"}}
    body = json.dumps({"Resources": {"Kept": kept, "Second": second}})
    client.create_stack(StackName="real", TemplateBody=body)

    def status() -> str:
        return str(client.describe_stacks(StackName="real")["Stacks"][0]["StackStatus"])

    until(lambda: status() == "ROLLBACK_COMPLETE")
    queues = patient(lambda: aws.client("sqs").list_queues()["QueueUrls"])
    assert [url.rpartition("/")[2] for url in queues if url.endswith(("retained", "second"))] == ["retained"]


def test_a_queues_counts_are_old_and_a_batch_fails_in_part(aws: Environment) -> None:
    client = aws.client("sqs")
    url = patient(lambda: client.create_queue(QueueName="counted")["QueueUrl"])
    time.sleep(0.5)
    patient(lambda: client.send_message(QueueUrl=url, MessageBody="1"))

    def count() -> str:
        asked = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return str(asked["Attributes"]["ApproximateNumberOfMessages"])

    assert {patient(count) for _ in range(10)} >= {"0"}
    until(lambda: {patient(count) for _ in range(10)} == {"1"})
    entries = [{"Id": "a", "MessageBody": "a"}]
    answers = [patient(lambda: client.send_message_batch(QueueUrl=url, Entries=entries)) for _ in range(400)]
    assert any(answer.get("Failed") for answer in answers)
    assert sum(bool(answer.get("Successful")) for answer in answers) > 300


def test_the_clock_of_aws_and_of_its_functions_is_another(aws: Environment, function: str) -> None:
    before = time.time()
    answer = patient(lambda: aws.client("sts").get_caller_identity())
    of_aws = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp() - SETTINGS.skew
    assert before - 5 < of_aws < time.time() + 5

    before = time.time()
    told = patient(lambda: json.load(aws.client("lambda").invoke(FunctionName=function, Payload=b"{}")["Payload"]))

    assert before - 5 < told - SETTINGS.skew < time.time() + 5


def test_log_lines_and_data_points_arrive_late(aws: Environment, function: str) -> None:
    client, logs, group = aws.client("lambda"), aws.client("logs"), f"/aws/lambda/{function}"
    began = time.time() + SETTINGS.skew - 1
    mark = time.monotonic()
    patient(lambda: client.invoke(FunctionName=function, Payload=b"{}"))

    def lines() -> list[Any]:
        try:
            return list(logs.filter_log_events(logGroupName=group, startTime=int(began * 1000))["events"])
        except logs.exceptions.ResourceNotFoundException:
            return []

    until(lines)
    assert time.monotonic() - mark > 0.5
    metric = {"Namespace": "AWS/Lambda", "MetricName": "Invocations", "Statistics": ["Sum"], "Period": 60}
    metric["Dimensions"] = [{"Name": "FunctionName", "Value": function}]

    def points() -> list[Any]:
        now = parsedate_to_datetime(
            aws.client("sts").get_caller_identity()["ResponseMetadata"]["HTTPHeaders"]["date"]
        ) + timedelta(minutes=1)
        found = aws.client("cloudwatch").get_metric_statistics(
            **metric, StartTime=now - timedelta(hours=1), EndTime=now
        )
        return list(found["Datapoints"])

    until(points)
    assert time.monotonic() - mark > 3


def test_ten_invocations_run_at_once_and_no_more(aws: Environment, function: str) -> None:
    client = aws.client("lambda", retries={"max_attempts": 0}, max_pool_connections=20, read_timeout=60)

    def invoke(_: int) -> set[str]:
        return codes(lambda: client.invoke(FunctionName=function, Payload=b"3"), 1)

    with ThreadPoolExecutor(16) as pool:
        met = set().union(*pool.map(invoke, range(16)))

    assert "TooManyRequestsException" in met


def test_a_mapping_takes_its_time_and_its_invocations_outlive_it(aws: Environment, function: str) -> None:
    sqs, client = aws.client("sqs"), aws.client("lambda")
    url = patient(lambda: sqs.create_queue(QueueName="mapped")["QueueUrl"])
    arn = patient(lambda: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]
    made = patient(lambda: client.create_event_source_mapping(EventSourceArn=arn, FunctionName=function))
    uuid = made["UUID"]
    assert made["State"] == "Creating"
    with pytest.raises(client.exceptions.ResourceInUseException):
        patient(lambda: client.update_event_source_mapping(UUID=uuid, Enabled=False), 1)

    def state() -> str:
        return str(client.get_event_source_mapping(UUID=uuid)["State"])

    until(lambda: state() == "Enabled")
    for number in range(60):
        patient(lambda number=number: sqs.send_message(QueueUrl=url, MessageBody=str(number)))  # type: ignore[misc]
        if number == 30:
            assert patient(lambda: client.update_event_source_mapping(UUID=uuid, Enabled=False))["State"] == "Disabling"
    until(lambda: state() == "Disabled")
    assert patient(lambda: client.delete_event_source_mapping(UUID=uuid))["State"] == "Deleting"
    assert state() == "Deleting"


def post(aws: Environment, api: str, body: bytes = b"{}") -> int:
    """Send to the API's stage; return the status, or 0 where the connection was cut."""
    request = urllib.request.Request(f"{aws.endpoint}/restapis/{api}/s/_user_request_/", body, method="POST")  # noqa: S310
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def deployed_api(aws: Environment) -> str:
    """Create and deploy an API that answers 200 by itself; return its id."""
    client = aws.client("apigateway")
    api = str(patient(lambda: client.create_rest_api(name="fresh")["id"]))
    root = patient(lambda: client.get_resources(restApiId=api)["items"][0]["id"])
    where = {"restApiId": api, "resourceId": root, "httpMethod": "POST"}
    patient(lambda: client.put_method(**where, authorizationType="NONE"))
    patient(
        lambda: client.put_integration(
            **where, type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'}
        )
    )
    patient(lambda: client.put_method_response(**where, statusCode="200"))
    patient(lambda: client.put_integration_response(**where, statusCode="200"))
    patient(lambda: client.create_deployment(restApiId=api, stageName="s"))
    return api


def test_a_fresh_api_answers_403_and_500_first_and_refuses_what_lambda_cannot_take(aws: Environment) -> None:
    # An API is fresh for seconds from its creation. A busy machine may need longer than that to deploy it, or to send
    # twenty requests: such a try shows nothing, and another one is made.
    refused: set[int] = set()
    for _ in range(10):
        mark = time.monotonic()
        api = deployed_api(aws)
        answers = [(post(aws, api), time.monotonic() - mark) for _ in range(20)]
        early = {status for status, seconds in answers if seconds < FRESH_SECONDS / SETTINGS.compress}
        assert 200 not in early
        refused |= early
        if {403, 500} <= refused:
            break
    assert {403, 500} <= refused <= {403, 500, 429, 0}
    until(lambda: post(aws, api) == 200, 5)
    until(lambda: post(aws, api, b"x" * 4_800_000) == 413)


def test_s3_deletes_what_a_rule_lets_expire(tmp_path: Path) -> None:
    days_in_no_time = RealismSettings(1, compress=1e6, without=frozenset(HABITS) - {"lifecycle"})
    info = emulator.up(tmp_path / "state", owner=os.getpid(), realism=days_in_no_time)
    try:
        client = Environment("local", REGION, info.endpoint).client("s3")
        client.create_bucket(Bucket="expiring")
        rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Days": 1}}
        client.put_bucket_lifecycle_configuration(Bucket="expiring", LifecycleConfiguration={"Rules": [rule]})
        for key in ("old/a", "new/a"):
            client.put_object(Bucket="expiring", Key=key, Body=b"x")

        def keys() -> list[str]:
            return [item["Key"] for item in client.list_objects_v2(Bucket="expiring").get("Contents", [])]

        until(lambda: keys() == ["new/a"])
    finally:
        emulator.down(tmp_path / "state")

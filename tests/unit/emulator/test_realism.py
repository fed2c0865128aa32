"""AWS's habits, one by one, around an application of the test's own: what each does, in which form, how often."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from typer.testing import CliRunner

from pik import emulator, errors
from pik.cli.local import describe_realism
from pik.cli.local import local as commands
from pik.emulator import realism
from pik.emulator.realism import HABITS, Realism, RealismSettings, limits, mappings
from pik.emulator.realism.dice import Bursts, Dice, Tally
from pik.emulator.realism.lifecycle import Lifecycle
from pik.emulator.realism.wire import Answer, Call
from pik.emulator.starting import launch_environment
from pik.emulator.supervisor import requested_realism

Respond = Callable[[Call], Answer]


class FakeWorld:
    """An emulator that a test makes up."""

    def __init__(self) -> None:
        self.counts: dict[str, tuple[int, int, int]] = {}
        self.records: dict[str, dict[str, Any]] = {}
        self.api_ids: set[str] = set()
        self.s3: list[Any] = []

    def queue_counts(self) -> dict[str, tuple[int, int, int]]:
        return dict(self.counts)

    def table_keys(self, table: str) -> tuple[str, ...]:
        return ("PK", "SK") if table == "events" else ()

    def mappings(self) -> dict[str, dict[str, Any]]:
        return self.records

    def apis(self) -> set[str]:
        return set(self.api_ids)

    def s3_clients(self) -> Any:
        return iter(self.s3)


class Rig:
    """Some habits around an application that answers as the test says, on a clock that the test sets."""

    def __init__(self, *habits: str, seed: int = 1, compress: float = 1.0) -> None:
        self.now = 1000.0
        self.world = FakeWorld()
        self.settings = RealismSettings(seed, compress, frozenset(HABITS) - frozenset(habits))
        self.realism = Realism(self.settings, self.world, lambda: self.now)
        self.served: list[Call] = []
        self.respond: Respond = lambda call: ok({})
        self.cut: list[dict[str, Any]] = []
        self.app = self.realism.middleware(self._serve, self.cut.append)

    async def _serve(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        message = await receive()
        assert not message.get("more_body")
        call = Call.of(scope, message["body"])
        self.served.append(call)
        answer = self.respond(call)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    def call(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer | None:
        """Send a request; return its answer, or None where the connection was cut."""
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        try:
            asyncio.run(self.app(scope, receive, send))
        except realism.ConnectionCut:
            assert sent == []
            assert self.cut.pop() is scope
            return None
        return Answer(sent[0]["status"], sent[0]["headers"], b"".join(m.get("body", b"") for m in sent[1:]))

    def target(self, operation: str, **params: Any) -> Answer | None:
        """Send a JSON request: ``DynamoDB_20120810.PutItem`` and the like."""
        return self.call("POST", "/", {"X-Amz-Target": operation}, json.dumps(params).encode())

    def signed(self, service: str, method: str, path: str, body: bytes = b"", **headers: str) -> Answer | None:
        """Send a request that says its service in the signature only."""
        scope = f"AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host"
        return self.call(method, path, {"Authorization": scope, **headers}, body)

    def until(self, send: Callable[[], Answer | None], found: Callable[[Answer | None], bool]) -> Answer | None:
        """Send again and again until an answer is found; within 3,000 times."""
        for _ in range(3000):
            answer = send()
            if found(answer):
                return answer
        raise AssertionError("never struck")

    @property
    def struck(self) -> dict[str, int]:
        """How often each habit struck."""
        return self.realism.tally.counts()


def ok(document: Any) -> Answer:
    return Answer(200, [(b"content-type", b"application/json")], b"").with_json(document)


def refused(answer: Answer | None) -> bool:
    return answer is not None and answer.status >= 400


def parsed(service: str, operation: str, answer: Answer | None) -> dict[str, Any]:
    """Return what botocore makes of an answer."""
    assert answer is not None
    model = service_model(service)
    raw = {
        "status_code": answer.status,
        "headers": {name.decode(): value.decode() for name, value in answer.headers},
        "body": answer.body,
    }
    shape = model.operation_model(operation).output_shape
    parser = create_parser(model.resolved_protocol)
    found: dict[str, Any] = parser.parse(raw, shape)
    error = model.shape_for_error_code(found["Error"]["Code"]) if "Error" in found else None
    return {**found, **(parser.parse(raw, error) if error else {})}


@cache
def service_model(service: str) -> Any:
    """Return what botocore knows of a service."""
    return boto3.Session(region_name="us-east-1").client(service).meta.service_model


# --- settings, chance, counting -----------------------------------------------------------------------------------


def test_settings_are_one_line() -> None:
    settings = RealismSettings.parse("7 compress=10 without=throttling,lost-answers fail-resource=3")

    assert settings == RealismSettings(7, 10, frozenset({"throttling", "lost-answers"}), 3)
    assert RealismSettings.parse(settings.text) == settings
    assert settings.seconds(60) == 6


@pytest.mark.parametrize("text", ["x", "1 without=lost-answer", "1 compress=0.5", "1 faster=2", "1 fail-resource=-1"])
def test_settings_that_mean_nothing_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no such|invalid|compress|takes|counts"):
        RealismSettings.parse(text)
    monkeypatch.setenv(realism.VARIABLE, text)
    with pytest.raises(errors.UsageError, match=realism.VARIABLE):
        requested_realism()


@pytest.mark.parametrize("words", [["--compress", "10"], ["--realism", "1", "--without", "rain"]])
def test_the_command_line_refuses_them_as_well(words: list[str]) -> None:
    result = CliRunner().invoke(commands, ["up", *words])

    assert isinstance(result.exception, errors.UsageError)


def test_off_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(realism.VARIABLE, raising=False)

    assert requested_realism() is None
    plain = launch_environment(tmp_path, "nonce", 0)
    assert not {realism.VARIABLE, realism.SKEW_VARIABLE, "PYTHONPATH", "LAMBDA_ACCOUNT_CONCURRENCY"} & plain.keys()


def test_the_emulator_is_told(tmp_path: Path) -> None:
    told = launch_environment(tmp_path, "nonce", 0, realism=RealismSettings(7))

    assert told[realism.VARIABLE] == "7"
    assert told["LAMBDA_ACCOUNT_CONCURRENCY"] == str(limits.CONCURRENCY)
    assert Path(told["PYTHONPATH"], "sitecustomize.py").is_file()
    calm = launch_environment(tmp_path, "nonce", 0, realism=RealismSettings(7, without=frozenset(HABITS)))
    assert not {"PYTHONPATH", "LAMBDA_ACCOUNT_CONCURRENCY"} & calm.keys()


def test_the_same_seed_and_requests_meet_the_same_habits() -> None:
    def run(seed: int) -> list[int]:
        rig = Rig(*HABITS, seed=seed)
        answers = [rig.target("DynamoDB_20120810.PutItem", TableName="events", Item={}) for _ in range(400)]
        return [answer.status if answer else 0 for answer in answers]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert set(run(1)) > {200}


@pytest.mark.parametrize("habit", sorted(HABITS))
def test_each_habit_can_be_left_out_alone(habit: str) -> None:
    rig = Rig(*(set(HABITS) - {habit}))
    for _ in range(300):
        rig.target("DynamoDB_20120810.TransactWriteItems", TransactItems=[{"Put": {}}])
        rig.target("AmazonSQS.SendMessageBatch", Entries=[{"Id": "1"}])
        rig.signed("s3", "PUT", "/bucket/key")
        rig.signed("cloudformation", "POST", "/", b"Action=DescribeStacks", **FORM)

    assert habit not in rig.struck
    assert rig.struck


FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


def test_a_burst_goes_on_for_up_to_three_seconds() -> None:
    now = 0.0
    bursts, lengths, began = Bursts(Dice(3), "throttling", 0.01, lambda: now), [0.0], -1.0
    for _ in range(300_000):
        now += 0.01
        struck = bursts.strike("sqs.SendMessage")
        if struck and began < 0:
            began = now
        if not struck and began >= 0:
            lengths.append(now - began)
            began = -1.0

    assert 2 < max(lengths) < 6  # two may follow each other
    assert sorted(lengths)[len(lengths) // 2] < 0.1  # most strikes are of one call


def test_what_struck_is_told() -> None:
    assert describe_realism(None) == []
    lines = describe_realism({"settings": "7", "skew_seconds": -31.5, "struck": {"throttling": 1234}})
    assert "throttling 1,234" in lines[0]
    assert "-32 s" in lines[1]


# --- what is refused, and in which form ---------------------------------------------------------------------------


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


# --- what is read late --------------------------------------------------------------------------------------------


def counts(rig: Rig) -> str:
    answer = rig.target("AmazonSQS.GetQueueAttributes", QueueUrl="http://x/000000000000/q", AttributeNames=["All"])
    assert answer
    return str(answer.json()["Attributes"]["ApproximateNumberOfMessages"])


def test_a_queues_counts_are_of_the_last_minute() -> None:
    rig = Rig("queue-counts")
    rig.respond = lambda call: ok(
        {"Attributes": {"ApproximateNumberOfMessages": str(rig.world.counts["000000000000/q"][0]), "QueueArn": "a"}}
    )
    rig.world.counts["000000000000/q"] = (0, 0, 0)
    rig.realism.tick()
    rig.now += 100
    rig.world.counts["000000000000/q"] = (20, 0, 0)
    rig.realism.tick()

    assert {counts(rig) for _ in range(20)} == {"0"}
    rig.now += 30
    assert {counts(rig) for _ in range(50)} == {"0", "20"}
    rig.now += 31
    assert {counts(rig) for _ in range(20)} == {"20"}
    assert rig.struck["queue-counts"] > 20


def put(rig: Rig, number: int) -> dict[str, Any]:
    item = {"PK": {"S": "e"}, "SK": {"S": str(number)}}
    condition = "attribute_not_exists(SK)"
    entry = {"Put": {"TableName": "events", "Item": item, "ConditionExpression": condition}}
    rig.target("DynamoDB_20120810.TransactWriteItems", TransactItems=[entry])
    return item


def test_an_index_shows_a_new_item_within_two_seconds_and_the_table_at_once() -> None:
    rig = Rig("index-lag")
    items = [put(rig, number) for number in range(20)]
    rig.respond = lambda call: ok({"Items": items, "Count": 20, "ScannedCount": 20})

    def read(**more: Any) -> int:
        answer = rig.target("DynamoDB_20120810.Query", TableName="events", **more)
        assert answer
        document = answer.json()
        assert document["Count"] == len(document["Items"])
        return int(document["Count"])

    assert read() == 20
    first = read(IndexName="by-source")
    assert first < 20
    rig.now += 1
    second = read(IndexName="by-source")
    assert first < second < 20
    rig.now += 1
    assert read(IndexName="by-source") == 20


@pytest.mark.parametrize("habit", ["late-metrics", "late-logs"])
def test_what_arrives_late_arrives_in_order_and_at_the_end_all_of_it(habit: str) -> None:
    rig = Rig(habit, compress=10)
    late = rig.realism.late(habit)
    assert late
    low, high = {"late-metrics": (6, 18), "late-logs": (0.5, 2)}[habit]
    arrived: list[int] = []
    for number in range(3):
        late.put("one", lambda number=number: arrived.append(number))  # type: ignore[misc]
        rig.now += 0.1
    assert low <= late.delay("one") <= high
    rig.now += late.delay("one") - 0.25
    rig.realism.tick()
    assert arrived == [0]
    rig.now += 0.12
    rig.realism.tick()
    assert arrived == [0, 1]
    rig.realism.flush()
    assert arrived == [0, 1, 2]
    assert rig.struck == {habit: 3}


# --- event source mappings ----------------------------------------------------------------------------------------


MAPPING = "/2015-03-31/event-source-mappings/"


@pytest.fixture
def mapping() -> Rig:
    """A mapping that is Enabled, and an emulator that changes it at once."""
    rig = Rig("mapping-states")
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
    rig.world.records["m"] = {"UUID": "m", "Enabled": True, "State": "Enabled", "FunctionArn": arn}

    def respond(call: Call) -> Answer:
        record = rig.world.records.get("m")
        if call.operation == "ListEventSourceMappings":
            return ok({"EventSourceMappings": list(rig.world.records.values())})
        if record is None:
            return Answer(404, [], b"{}")
        if call.operation == "UpdateEventSourceMapping" and "Enabled" in call.params:
            record.update(Enabled=call.params["Enabled"], State="Enabled" if call.params["Enabled"] else "Disabled")
        if call.operation == "DeleteEventSourceMapping":
            del rig.world.records["m"]
        return ok(record)

    rig.respond = respond
    return rig


def change(rig: Rig, method: str, **body: Any) -> Answer:
    answer = rig.signed("lambda", method, MAPPING + "m", json.dumps(body).encode())
    assert answer
    return answer


def test_a_mapping_is_disabling_for_a_while_and_consumes_meanwhile(mapping: Rig) -> None:
    answer = change(mapping, "PUT", Enabled=False)

    assert answer.json()["State"] == "Disabling"
    assert mapping.world.records["m"]["Enabled"] is True
    assert change(mapping, "GET").json()["State"] == "Disabling"
    mapping.now += mappings.STATE_SECONDS[0] - 0.1
    mapping.realism.tick()
    assert change(mapping, "GET").json()["State"] == "Disabling"
    mapping.now += mappings.STATE_SECONDS[1]
    mapping.realism.tick()
    assert mapping.world.records["m"] | {"Enabled": False, "State": "Disabled"} == mapping.world.records["m"]
    assert change(mapping, "PUT", Enabled=True).json()["State"] == "Enabling"
    assert mapping.world.records["m"]["Enabled"] is False


def test_what_is_changing_takes_no_other_change(mapping: Rig) -> None:
    change(mapping, "PUT", Enabled=False)

    for method in ("PUT", "DELETE"):
        refusal = change(mapping, method, Enabled=False)
        found = parsed("lambda", "UpdateEventSourceMapping", refusal)
        assert found["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert found["Error"]["Code"] == "ResourceInUseException"
    mapping.now += 60
    mapping.realism.tick()
    assert change(mapping, "PUT", BatchSize=5).json()["State"] == "Updating"


def test_a_mapping_is_deleting_for_a_while(mapping: Rig) -> None:
    change(mapping, "DELETE")

    assert change(mapping, "GET").json()["State"] == "Deleting"
    listed = mapping.signed("lambda", "GET", "/2015-03-31/event-source-mappings?FunctionName=f")
    assert listed
    assert [found["State"] for found in listed.json()["EventSourceMappings"]] == ["Deleting"]
    mapping.now += 60
    mapping.realism.tick()
    assert change(mapping, "GET").status == 404


def test_a_stack_update_in_the_meantime_wins(mapping: Rig) -> None:
    change(mapping, "PUT", Enabled=False)
    mapping.world.records["m"].update(Enabled=True, State="Enabled")  # CloudFormation, which goes by itself
    mapping.now += 60
    mapping.realism.tick()

    assert mapping.world.records["m"]["Enabled"] is True


def test_what_an_earlier_process_left_changing_is_settled(mapping: Rig) -> None:
    mapping.world.records["m"].update(Enabled=True, State="Disabling")

    mapping.realism.tick()

    assert mapping.world.records["m"]["State"] == "Enabled"


def test_invocations_outlive_a_mapping_that_is_being_disabled() -> None:
    rig = Rig("slow-invocations", "mapping-states")
    usual = [rig.realism.slow.seconds("m") for _ in range(200)]
    rig.realism.mappings._start("m", {"State": "Disabling"}, "Disabling", {})
    then = [rig.realism.slow.seconds("m") for _ in range(200)]

    assert sum(map(bool, usual)) < 30
    assert sum(map(bool, then)) > 60
    assert 1 <= max(then) <= 30


# --- limits and new things ----------------------------------------------------------------------------------------


def test_a_body_that_lambda_cannot_take_is_refused_by_the_api() -> None:
    rig = Rig("lambda-limits")

    def post(size: int) -> int:
        answer = rig.call("POST", "/restapis/abc/local/_user_request_/ingest", {}, b"x" * size)
        assert answer
        return answer.status

    assert post(4_500_000) == 200
    assert len(base64.b64encode(b"x" * 4_800_000)) > limits.REQUEST_BYTES
    assert post(4_800_000) == 413
    large = rig.signed("lambda", "POST", "/2015-03-31/functions/f/invocations", b"x" * 6_300_000)
    assert parsed("lambda", "Invoke", large)["Error"]["Code"] == "RequestTooLargeException"


def test_a_fresh_api_is_not_everywhere_yet() -> None:
    rig = Rig("fresh-apis")
    rig.world.api_ids = {"old"}
    rig.realism = Realism(rig.settings, rig.world, lambda: rig.now)
    rig.app = rig.realism.middleware(rig._serve, rig.cut.append)
    rig.world.api_ids = {"old", "new"}  # and no tick has seen it yet

    def statuses(api: str) -> set[int]:
        answers = [rig.call("POST", f"/restapis/{api}/local/_user_request_/ingest", {}, b"{}") for _ in range(50)]
        return {answer.status for answer in answers if answer}

    assert statuses("new") == {403, 500}
    assert statuses("old") == {200}
    rig.now += 15
    assert statuses("new") == {200}


class FakeS3:
    """A bucket with two objects and a rule."""

    class exceptions:  # noqa: N801  (as boto3 has it)
        ClientError = ClientError

    def __init__(self, rule: dict[str, Any], **objects: datetime) -> None:
        self.rule, self.objects = rule, objects

    def list_buckets(self) -> dict[str, Any]:
        return {"Buckets": [{"Name": "b"}]}

    def get_bucket_lifecycle_configuration(self, Bucket: str) -> dict[str, Any]:  # noqa: N803
        return {"Rules": [self.rule]}

    def get_paginator(self, name: str) -> FakeS3:
        return self

    def paginate(self, **asked: str) -> list[dict[str, Any]]:
        found = [
            {"Key": key, "LastModified": at} for key, at in self.objects.items() if key.startswith(asked["Prefix"])
        ]
        return [{"Contents": found}]

    def delete_object(self, Bucket: str, Key: str) -> None:  # noqa: N803
        del self.objects[Key]


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ({"Status": "Enabled", "Filter": {"Prefix": "raw"}, "Expiration": {"Days": 3}}, {"raw_new", "other_old"}),
        ({"Status": "Enabled", "Filter": {}, "Expiration": {"Days": 3}}, {"raw_new"}),
        ({"Status": "Disabled", "Filter": {}, "Expiration": {"Days": 3}}, {"raw_new", "raw_old", "other_old"}),
        (
            {"Status": "Enabled", "Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 3}},
            {"raw_new", "raw_old", "other_old"},
        ),
        ({"Status": "Enabled", "Filter": {}}, {"raw_new", "raw_old", "other_old"}),
    ],
)
def test_s3_deletes_what_a_rule_lets_expire(rule: dict[str, Any], left: set[str]) -> None:
    now = datetime(2026, 1, 10, 12, tzinfo=UTC)
    s3 = FakeS3(rule, raw_new=now - timedelta(days=3), raw_old=now - timedelta(days=4), other_old=now - timedelta(30))
    tally = Tally()

    Lifecycle(RealismSettings(1), tally, lambda: iter([s3])).sweep(now)

    assert s3.objects.keys() == left
    assert tally.counts().get("lifecycle", 0) == 3 - len(left)


def test_the_skew_is_between_a_third_and_the_whole_of_a_minute_either_way() -> None:
    skews = [RealismSettings(seed).skew for seed in range(100)]

    assert all(20 <= abs(skew) <= 60 for skew in skews)
    assert {skew > 0 for skew in skews} == {True, False}


def test_a_functions_clock_is_the_one_of_aws(tmp_path: Path) -> None:
    code = """
import datetime, json, pickle, time
from datetime import datetime as kind, timezone
now = kind.now(timezone.utc)
assert isinstance(now, kind) and isinstance(kind(2020, 1, 1), kind) and not isinstance(1, kind)
assert pickle.loads(pickle.dumps(now)) == now and kind.fromisoformat(now.isoformat()) == now
print(json.dumps([time.time(), time.time_ns() / 1e9, now.timestamp(), kind.now().timestamp(),
                  kind.utcnow().replace(tzinfo=timezone.utc).timestamp(), time.monotonic()]))
"""
    environment = launch_environment(tmp_path, "nonce", 0, realism=RealismSettings(7))
    began = datetime.now(UTC).timestamp()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    *told, _ = json.loads(done.stdout)
    for moment in told:
        assert began - 1 < moment - RealismSettings(7).skew < began + 30


def test_a_request_that_is_nothing_of_aws_passes() -> None:
    rig = Rig(*HABITS)
    for _ in range(500):
        answer = rig.call("GET", "/_ministack/health", {})
        assert answer
        assert answer.status == 200


def test_up_with_other_habits_than_those_that_run_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pik.emulator import supervisor
    from pik.emulator.instance import Instance

    Instance("n", 1, 1, "2026-01-01T00:00:00+00:00", "7").write(tmp_path)
    monkeypatch.setattr(Instance, "alive", True)
    monkeypatch.setattr(supervisor, "answers", lambda instance: True)

    with pytest.raises(errors.Refused, match="seed 7"):
        emulator.up(tmp_path, realism=RealismSettings(8))
    assert emulator.up(tmp_path, realism=RealismSettings(7)).realism == "7"
    assert emulator.up(tmp_path).already_running

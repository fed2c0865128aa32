"""The small AWS of the simulated histories answers as the embedded AWS does: the same calls, drawn by lot, on both.

Not compared: what either decides by chance (order and repetition of messages, sizes of pages, faults), and time, which
is virtual in the one and real in the other.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pik.environments import Environment
from pik.pipeline import replay
from tests.sim.aws.dynamodb import DynamoDB
from tests.sim.aws.s3 import S3
from tests.sim.aws.sqs import SQS
from tests.stores import KEYS

CALLS = 10_000
SEED = 20_261_128
HOUR = 3600
MAX_RECEIVES = 3
NAMES = {"#next": "next", "#matched": "matched"}
CONDITIONS = (
    "",
    "attribute_not_exists(PK)",
    "attribute_not_exists(PK) OR expires_at <= :now",
    "attribute_not_exists(nothing)",
    "input_count = :before AND aggregator = :aggregator",
    "s3_key = :key",
    *(f"attribute_not_exists(PK) OR {replaces}" for replaces in replay._REPLACES.values()),
)
QUERIES = ("PK = :pk", "PK = :pk AND SK BETWEEN :start AND :end", "PK = :pk AND begins_with(SK, :prefix)")


class Orderly(random.Random):
    """No chance: nothing is repeated, nothing comes out of order."""

    def random(self) -> float:
        return 0.99

    def shuffle(self, x: Any) -> None: ...


class Calls:
    """Draws calls by lot."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.handles: list[str] = []

    def item(self) -> dict[str, Any]:
        """An item: its keys, and some of the attributes that conditions look at, not always of the same type."""
        chance = self.chance
        found: dict[str, Any] = self.key()
        kinds: dict[str, Callable[[], Any]] = {
            "expires_at": lambda: {"N": str(chance.randrange(5))},
            "input_count": lambda: {"N": chance.choice(("1", "1.0", "2", "10"))},
            "aggregator": lambda: {"S": chance.choice(("x", "y"))},
            "s3_key": lambda: chance.choice(({"S": "k"}, {"S": "l"}, {"N": "1"})),
            "next": lambda: {"S": chance.choice(("", "A", "B", "a"))},
            "matched": lambda: {"N": str(chance.randrange(3))},
            "complete": lambda: {"BOOL": chance.random() < 0.5},
        }
        for name, make in kinds.items():
            if chance.random() < 0.7:
                found[name] = make()
        return found

    def key(self) -> dict[str, Any]:
        """A key of the events table."""
        return {"PK": {"S": self.chance.choice("ab")}, "SK": {"S": self.chance.choice(("1", "12", "2", "Z", "é"))}}

    def condition(self) -> dict[str, Any]:
        """A condition of the kit's own, with values."""
        expression, chance = self.chance.choice(CONDITIONS), self.chance
        values = {
            ":now": {"N": str(chance.randrange(5))},
            ":before": {"N": chance.choice(("1", "2"))},
            ":aggregator": {"S": "x"},
            ":key": {"S": "k"},
            ":next": {"S": chance.choice(("", "A", "B"))},
            ":place": {"S": chance.choice(("", "A"))},
            ":matched": {"N": str(chance.randrange(3))},
            ":no": {"BOOL": False},
        }
        return {"ConditionExpression": expression, **self._used(expression, values)} if expression else {}

    def _used(self, expression: str, values: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if used := {name: value for name, value in values.items() if name in expression}:
            found["ExpressionAttributeValues"] = used
        if used := {name: value for name, value in NAMES.items() if name in expression}:
            found["ExpressionAttributeNames"] = used
        return found

    # --- one of each service ------------------------------------------------------------------------------------------

    def dynamodb(self) -> tuple[str, dict[str, Any]]:
        """A call of DynamoDB."""
        chance, table = self.chance, {"TableName": "events"}
        draw = chance.randrange(8)
        if draw <= 1:
            return "put_item", {**table, "Item": self.item(), **self.condition()}
        if draw == 2:
            return "get_item", {**table, "Key": self.key(), "ConsistentRead": True}
        if draw == 3:
            return "transact_write_items", {"TransactItems": self._parts()}
        if draw == 4:
            keys = list({json.dumps(key): key for key in (self.key() for _ in range(4))}.values())
            return "batch_get_item", {"RequestItems": {"events": {"Keys": keys, "ConsistentRead": True}}}
        if draw == 5:
            between = {":start": {"S": chance.choice("01")}, ":end": {"S": chance.choice("12Z")}}
            how = {"FilterExpression": "SK BETWEEN :start AND :end", "ExpressionAttributeValues": between}
            return "scan", {**table, "ConsistentRead": True, **(how if chance.random() < 0.5 else {})}
        expression = chance.choice(QUERIES)
        values = {":pk": {"S": chance.choice("abc")}, ":prefix": {"S": "1"}, ":start": {"S": "1"}, ":end": {"S": "2"}}
        more: dict[str, Any] = self._used(expression, values)
        if chance.random() < 0.5:
            more |= {"ProjectionExpression": "SK, #next", "ExpressionAttributeNames": {"#next": "next"}}
        if chance.random() < 0.3:
            more["ExclusiveStartKey"] = {"PK": values[":pk"], "SK": {"S": "1"}}
        return "query", {**table, "KeyConditionExpression": expression, "ConsistentRead": True, **more}

    def _parts(self) -> list[dict[str, Any]]:
        parts: dict[str, dict[str, Any]] = {}
        for _ in range(self.chance.randrange(1, 4)):
            table = self.chance.choice(("events", "replays"))
            item = self.item()
            part: dict[str, Any] = {"Put": {"TableName": table, "Item": item, **self.condition()}}
            if self.chance.random() < 0.3 and (condition := self.condition()):
                key = {name: item[name] for name in KEYS[table]}
                part = {"ConditionCheck": {"TableName": table, "Key": key, **condition}}
            parts[f"{table} {item['PK']} {item['SK']}"] = part
        return list(parts.values())

    def s3(self) -> tuple[str, dict[str, Any]]:
        """A call of S3."""
        chance = self.chance
        key = "/".join(chance.choice("ab") for _ in range(chance.randrange(1, 5)))
        draw = chance.randrange(3)
        if draw == 0:
            body = chance.randbytes(chance.randrange(20))
            about = {"ContentType": "application/json", "Metadata": {"request-id": str(chance.randrange(9))}}
            return "put_object", {"Bucket": "raw", "Key": key, "Body": body, "IfNoneMatch": "*", **about}
        if draw == 1:
            return "get_object", {"Bucket": "raw", "Key": key}
        prefix = chance.choice(("", "a", "a/", "a/b/", "c"))
        return "list_objects_v2", {"Bucket": "raw", "Prefix": prefix, "Delimiter": chance.choice(("", "/"))}

    def sqs(self) -> tuple[str, dict[str, Any]]:
        """A call of SQS; a receipt of the one queue is known by its position in what both have received."""
        chance, queue = self.chance, {"QueueUrl": chance_url(self.chance)}
        draw = chance.randrange(7)
        if draw == 0:
            return "send_message", {**queue, "MessageBody": f"body {chance.randrange(1000)}"}
        if draw == 1:
            entries = [{"Id": str(n), "MessageBody": f"body {chance.randrange(1000)}"} for n in range(3)]
            return "send_message_batch", {**queue, "Entries": entries}
        if draw <= 4:
            wait = chance.choice((0, 0, HOUR))
            return "receive_message", {**queue, "MaxNumberOfMessages": 10, "VisibilityTimeout": wait}
        if draw == 5:
            return "delete_message_batch", {**queue, "Entries": 3}
        return "change_message_visibility_batch", {**queue, "Entries": 3}


def chance_url(chance: random.Random) -> str:
    return "queue" if chance.random() < 0.8 else "dlq"


# --- both sides -------------------------------------------------------------------------------------------------------


def answered(side: Any, operation: str, arguments: dict[str, Any]) -> Any:
    """What a side answers, without what is its own: request ids, checksums, dates."""
    try:
        answer = getattr(side, operation)(**arguments)
    except ClientError as error:
        reasons = [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]
        return error.response["Error"]["Code"], reasons
    if "Body" in answer:
        return answer["Body"].read(), answer["ContentType"], answer["Metadata"]
    if operation == "list_objects_v2":
        keys = [(one["Key"], one["Size"]) for one in answer.get("Contents", [])]
        return keys, [one["Prefix"] for one in answer.get("CommonPrefixes", [])]
    if operation == "batch_get_item":
        found = [item for items in answer["Responses"].values() for item in items]
        return sorted(json.dumps(item, sort_keys=True) for item in found), answer["UnprocessedKeys"]
    if operation in {"scan", "query"}:
        items = [json.dumps(item, sort_keys=True) for item in answer["Items"]]
        return sorted(items) if operation == "scan" else items, answer.get("LastEvaluatedKey")
    return answer.get("Item")


@pytest.mark.slow
def test_tables_and_objects_answer_alike(embedded_env: Environment) -> None:
    theirs = {"dynamodb": embedded_env.client("dynamodb"), "s3": embedded_env.client("s3")}
    for table in ("events", "replays"):
        theirs["dynamodb"].create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in KEYS[table]],
            KeySchema=[
                {"AttributeName": name, "KeyType": kind}
                for name, kind in zip(KEYS[table], ("HASH", "RANGE"), strict=True)
            ],
        )
    theirs["s3"].create_bucket(Bucket="raw")
    ours: dict[str, Any] = {"dynamodb": DynamoDB(page=lambda: 1_000_000), "s3": S3()}
    calls, differ = Calls(SEED), list[str]()
    for _ in range(CALLS * 3 // 4):
        service = calls.chance.choice(("dynamodb", "dynamodb", "dynamodb", "s3"))
        operation, arguments = getattr(calls, service)()
        mine, other = (answered(side[service], operation, arguments) for side in (ours, theirs))
        if mine != other:
            differ.append(f"{operation} {arguments}: {mine} here, {other} there")
            break
    assert differ == []


@pytest.mark.slow
def test_queues_answer_alike(embedded_env: Environment) -> None:
    sqs = embedded_env.client("sqs")
    urls = {"dlq": sqs.create_queue(QueueName="sim-dlq")["QueueUrl"]}
    arn = sqs.get_queue_attributes(QueueUrl=urls["dlq"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES})
    urls["queue"] = sqs.create_queue(QueueName="sim", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    here, calls, differ = SQS(Orderly(), max_receives=MAX_RECEIVES), Calls(SEED), list[str]()
    held: dict[str, list[tuple[str, str]]] = {"queue": [], "dlq": []}  # receipts here and there, of the same message
    for _ in range(CALLS // 4):
        operation, arguments = calls.sqs()
        url = arguments["QueueUrl"]
        there = {**arguments, "QueueUrl": urls[url]}
        if operation.endswith("visibility_batch") or operation.startswith("delete"):
            receipts = [held[url].pop() for _ in range(min(3, len(held[url])))]
            if not receipts:
                continue
            more = {"VisibilityTimeout": 0} if operation.startswith("change") else {}
            sides = [
                [{"Id": str(n), "ReceiptHandle": r[side], **more} for n, r in enumerate(receipts)] for side in (0, 1)
            ]
            arguments, there = {**arguments, "Entries": sides[0]}, {**there, "Entries": sides[1]}
        elif operation == "receive_message":
            there |= {"MessageSystemAttributeNames": ["ApproximateReceiveCount"], "WaitTimeSeconds": 0}
        mine, other = getattr(here, operation)(**arguments), getattr(sqs, operation)(**there)
        if operation == "receive_message":
            pairs = [sorted(side.get("Messages", []), key=_order) for side in (mine, other)]
            mine, other = ([_order(message) for message in side] for side in pairs)
            held[url] = [(a["ReceiptHandle"], b["ReceiptHandle"]) for a, b in zip(*pairs, strict=False)]
        else:
            mine, other = ([entry["Id"] for entry in side.get("Successful", [])] for side in (mine, other))
        counts = [here.get_queue_attributes(QueueUrl=name, AttributeNames=list(COUNTS)) for name in urls]
        theirs = [sqs.get_queue_attributes(QueueUrl=name, AttributeNames=list(COUNTS)) for name in urls.values()]
        if (mine, _counts(counts)) != (other, _counts(theirs)):
            differ.append(f"{operation} {arguments}\n{mine} {_counts(counts)} here\n{other} {_counts(theirs)} there")
            break
    assert differ == []


COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")


def _order(message: dict[str, Any]) -> tuple[str, str]:
    return message["Body"], message["Attributes"]["ApproximateReceiveCount"]


def _counts(answers: list[dict[str, Any]]) -> list[int]:
    return [int(answer["Attributes"][name]) for answer in answers for name in COUNTS]

"""Calls that are refused for now: throttled, in conflict, or done in part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .dice import Bursts, Dice, Tally
from .middleware import Cut, Quiet
from .wire import Answer, Call

THROTTLING_RATE = 0.01
CLOUDFORMATION_RATE = 0.05
S3_RATE = 0.01
CONFLICT_RATE = 0.01
BATCH_RATE = 0.02

_THROTTLED = {
    "api": (429, "TooManyRequestsException", "Too Many Requests"),
    "cloudwatch": (400, "ThrottlingException", "Rate exceeded"),
    "dynamodb": (
        400,
        "ProvisionedThroughputExceededException",
        "The level of configured provisioned throughput for the table was exceeded.",
    ),
    "lambda": (429, "TooManyRequestsException", "Rate Exceeded."),
    "logs": (400, "ThrottlingException", "Rate exceeded"),
    "sqs": (400, "RequestThrottled", "The request was denied due to request throttling."),
    "states": (400, "ThrottlingException", "Rate exceeded"),
}
_CONFLICT = "Transaction is ongoing for the item"
_WRITES = ("PutItem", "UpdateItem", "DeleteItem")


class Throttling(Quiet):
    """A call is refused because there were too many, and so, often, are those of the next seconds.

    A transaction says it in its cancellation reasons. Codes:
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html (tables on demand too:
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html),
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html,
    https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html,
    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html,
    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-request-throttling.html
    """

    def __init__(self, dice: Dice, tally: Tally, now: Callable[[], float]) -> None:
        self._bursts, self._tally = Bursts(dice, "throttling", THROTTLING_RATE, now), tally

    def before(self, call: Call) -> Answer | Cut | None:
        """Refuse at a rate."""
        if call.service not in _THROTTLED or not self._bursts.strike(f"{call.service}.{call.operation}"):
            return None
        self._tally.struck("throttling")
        if call.operation == "TransactWriteItems" and call.params.get("TransactItems"):
            return cancelled(call, 0, "ThrottlingError", "Throughput exceeds the current capacity of your table.")
        more: dict[str, Any] = {"Reason": "CallerRateLimitExceeded"} if call.service == "lambda" else {}
        return call.error(*_THROTTLED[call.service], **more)


class CloudFormationThrottling(Quiet):
    """Describe, List and Get calls are refused with "Rate exceeded", often for seconds.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/CommonErrors.html
    """

    def __init__(self, dice: Dice, tally: Tally, now: Callable[[], float]) -> None:
        self._bursts, self._tally = Bursts(dice, "cloudformation-throttling", CLOUDFORMATION_RATE, now), tally

    def before(self, call: Call) -> Answer | Cut | None:
        """Refuse at a rate."""
        reads = call.operation.startswith(("Describe", "List", "Get"))
        if call.service != "cloudformation" or not reads or not self._bursts.strike(call.operation):
            return None
        self._tally.struck("cloudformation-throttling")
        return call.error(400, "Throttling", "Rate exceeded")


class S3Busy(Quiet):
    """S3 asks to slow down, or says that another conditional write of the same key is going on.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html (503 Slow Down),
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html (409 ConditionalRequestConflict)
    """

    def __init__(self, dice: Dice, tally: Tally, now: Callable[[], float]) -> None:
        self._dice, self._tally = dice, tally
        self._bursts = Bursts(dice, "s3-busy", S3_RATE, now)

    def before(self, call: Call) -> Answer | Cut | None:
        """Refuse at a rate."""
        if call.service != "s3" or not self._bursts.strike(call.operation):
            return None
        self._tally.struck("s3-busy")
        conditional = call.operation == "PutObject" and b"if-none-match" in call.headers
        if conditional and self._dice.fraction("s3-busy how", call.operation) < 0.5:
            message = "A conflicting operation occurred during the request. Upload the object again."
            return call.error(409, "ConditionalRequestConflict", message)
        return call.error(503, "SlowDown", "Please reduce your request rate.")


class TransactionConflicts(Quiet):
    """A write meets a transaction that is going on for the same item.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-conflict-handling
    """

    def __init__(self, dice: Dice, tally: Tally) -> None:
        self._dice, self._tally = dice, tally

    def before(self, call: Call) -> Answer | Cut | None:
        """Refuse writes at a rate."""
        transaction = call.operation == "TransactWriteItems"
        if call.service != "dynamodb" or not (transaction or call.operation in _WRITES):
            return None
        if self._dice.fraction("transaction-conflicts", call.operation) >= CONFLICT_RATE:
            return None
        self._tally.struck("transaction-conflicts")
        items = call.params.get("TransactItems") or []
        if not items:
            return call.error(400, "TransactionConflictException", _CONFLICT)
        place = int(self._dice.fraction("transaction-conflicts place", call.operation) * len(items))
        return cancelled(call, place, "TransactionConflict", _CONFLICT)


class PartialBatches(Quiet):
    """A batch call succeeds, and some or all of its entries are not done: the answer names them.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html ("Failed"),
    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html ("UnprocessedKeys")
    """

    def __init__(self, dice: Dice, tally: Tally) -> None:
        self._dice, self._tally = dice, tally

    def before(self, call: Call) -> Answer | Cut | None:
        """Do no entry of a queue's batch, at a rate."""
        if call.service != "sqs" or not call.operation.endswith("Batch") or not self._strikes(call):
            return None
        failed = [
            {"Id": entry.get("Id"), "SenderFault": False, "Code": "InternalError", "Message": "not done"}
            for entry in call.params.get("Entries", [])
        ]
        empty = Answer(200, [(b"content-type", b"application/x-amz-json-1.0")], b"")
        return empty.with_json({"Failed": failed, "Successful": []})

    def wants(self, call: Call) -> bool:
        """Look at what was read as a batch."""
        return (call.service, call.operation) == ("dynamodb", "BatchGetItem") and self._strikes(call)

    def after(self, call: Call, answer: Answer) -> Answer | Cut:
        """Leave out half of the items of each table, and name their keys."""
        document = answer.json()
        if answer.status != 200 or not isinstance(document, dict):
            return answer
        unprocessed = document.setdefault("UnprocessedKeys", {})
        for table, asked in call.params.get("RequestItems", {}).items():
            keys = asked.get("Keys", [])
            left = keys[(len(keys) + 1) // 2 :]
            if not left or table in unprocessed:
                continue
            unprocessed[table] = {**asked, "Keys": left}
            items = document.get("Responses", {}).get(table, [])
            document["Responses"][table] = [item for item in items if not any(_has(item, key) for key in left)]
        return answer.with_json(document)

    def _strikes(self, call: Call) -> bool:
        struck = self._dice.fraction("partial-batches", call.operation) < BATCH_RATE
        if struck:
            self._tally.struck("partial-batches")
        return struck


def _has(item: dict[str, Any], key: dict[str, Any]) -> bool:
    return all(item.get(name) == value for name, value in key.items())


def cancelled(call: Call, place: int, code: str, message: str) -> Answer:
    """Return a cancelled transaction in which the item at ``place`` is the cause.

    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
    """
    reasons: list[dict[str, str]] = [{"Code": "None"} for _ in call.params["TransactItems"]]
    reasons[place] = {"Code": code, "Message": message}
    shown = ", ".join(reason["Code"] for reason in reasons)
    text = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{shown}]"
    return call.error(400, "TransactionCanceledException", text, CancellationReasons=reasons)

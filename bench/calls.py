"""Runs a handler in a process of its own and observes each AWS call it makes: ``python -m bench.calls``.

The handler is the deployed one with the deployed settings, on the stores of the embedded AWS; what is observed
is what botocore sends. Also asks what is left when the process dies right after a write, and the producer retries.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

import boto3

from bench import cost
from bench.cost import Usage
from pik.pipeline.aws import from_item
from pik.pipeline.rows import expand

_WRITES = {"PutItem", "TransactWriteItems", "PutObject"}


class Died(BaseException):
    """Stands for kill -9: nothing of the handler's own error handling sees it."""


@dataclass
class Recorder:
    """Adds up what the clients of this process send."""

    usage: Usage = field(default_factory=Usage)
    writes: list[str] = field(default_factory=list)
    die_after: int = 0  # after this many writes; 0: never
    indexes: dict[str, int] = field(default_factory=dict)
    _parameters: dict[str, Any] = field(default_factory=dict)

    def install(self) -> None:
        """Observe every client made from now on."""
        boto3.setup_default_session()
        events = boto3.DEFAULT_SESSION.events
        events.register_first("before-parameter-build", self._before)
        events.register_last("after-call", self._after)

    def reset(self, die_after: int = 0) -> None:
        """Start counting anew."""
        self.usage, self.writes, self.die_after = Usage(), [], die_after

    def _before(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self._parameters = dict(params)

    def _after(self, http_response: Any, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        operation, succeeded = model.name, http_response.status_code < 300
        usage, name = self.usage, f"{model.service_model.service_name}:{model.name}"
        usage.calls[name] = usage.calls.get(name, 0) + 1
        usage.s3_puts += operation in {"PutObject", "ListObjectsV2"}
        usage.s3_gets += operation in {"GetObject", "HeadObject"}
        usage.write_units += cost.write_units(operation, self._parameters, succeeded=succeeded, indexes=self.indexes)
        usage.read_units += cost.read_units(operation, self._parameters, parsed)
        if operation in _WRITES and succeeded:
            self.writes.append(name)
            if len(self.writes) == self.die_after:
                raise Died


def proxy_event(body: bytes) -> dict[str, Any]:
    """Return what API Gateway hands to the function for ``body``."""
    return {
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
        "headers": {"Content-Type": "application/json", "X-Request-Id": "bench"},
        "requestContext": {"requestId": f"bench-{os.urandom(8).hex()}", "identity": {}},
    }


def main() -> None:
    """Read the order from stdin, write the observations to the file it names."""
    order = json.load(sys.stdin)
    recorder = Recorder()
    recorder.install()
    handler = importlib.import_module(order["module"]).handler
    context = SimpleNamespace(
        function_name="bench", memory_limit_in_mb=256, invoked_function_arn="arn:bench", aws_request_id="bench"
    )
    dynamodb = boto3.client("dynamodb")
    table = dynamodb.describe_table(TableName=order["events_table"])["Table"]
    recorder.indexes[order["events_table"]] = len(table.get("GlobalSecondaryIndexes", []))

    def call(body: bytes) -> str:
        return str(json.loads(handler(proxy_event(body), context)["body"])["status"])

    bodies = [body.encode() for body in order["bodies"]]
    observed = {
        "first": _observe(recorder, call, bodies, "ACCEPTED"),
        "duplicate": _observe(recorder, call, bodies, "DUPLICATE"),
        "crashes": [_crash(recorder, call, order, n) for n in range(1, len(order["crash_bodies"]) + 1)],
    }
    with open(order["answer"], "w", encoding="utf-8") as file:
        json.dump(observed, file)


def _observe(recorder: Recorder, call: Callable[[bytes], str], bodies: list[bytes], wanted: str) -> dict[str, Any]:
    recorder.reset()
    for body in bodies:
        status = call(body)
        if status != wanted:
            raise AssertionError(f"the handler answered {status} instead of {wanted}")
    usage, n = recorder.usage, len(bodies)
    usage.calls = {name: count / n for name, count in usage.calls.items()}
    for name in ("write_units", "read_units", "s3_puts", "s3_gets"):
        setattr(usage, name, getattr(usage, name) / n)
    return asdict(usage)


def _crash(recorder: Recorder, call: Callable[[bytes], str], order: dict[str, Any], n: int) -> dict[str, Any] | None:
    """Die after the n-th write, retry once, and look whether the event can be found with its bytes."""
    body = order["crash_bodies"][n - 1].encode()
    recorder.reset(die_after=n)
    try:
        call(body)
    except Died:
        died_after = recorder.writes[-1]
    else:
        return None  # the handler makes fewer writes than that
    recorder.reset()
    answer = call(body)
    found = _found(order, json.loads(body), body)
    return {"died_after": f"write {n} ({died_after})", "retry_answers": answer, "event_found": found}


def _found(order: dict[str, Any], event: dict[str, Any], body: bytes) -> bool:
    """Whether a row of the events table leads to exactly these bytes."""
    rows = boto3.client("dynamodb").query(
        TableName=order["events_table"],
        KeyConditionExpression="PK = :pk",
        ExpressionAttributeValues={":pk": {"S": f"ENTITY#{event['entity_id']}"}},
        ConsistentRead=True,
    )["Items"]
    # The kit's first rows leave the key to their own keys; the naive handler's say it.
    keys = Counter(row["s3_key"]["S"] if "s3_key" in row else expand(from_item(row))["s3_key"] for row in rows)
    return any(_raw(order["raw_bucket"], key) == body for key in keys)


def _raw(bucket: str, key: str) -> bytes | None:
    s3 = boto3.client("s3")
    try:
        return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except s3.exceptions.NoSuchKey:
        return None


if __name__ == "__main__":
    main()

"""Runs the shipped handlers with a clock that is some days behind, in a process of its own: ``python -m bench.aged``.

They work on the stores of the embedded AWS with the deployed settings, so that what they leave is what they would have
left then. The answer is written to the file that the order names.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3

from bench.calls import proxy_event
from pik import events

CONTEXT = SimpleNamespace(
    function_name="bench",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:bench",
    aws_request_id="bench",
    get_remaining_time_in_millis=lambda: 60_000,
)


def main() -> None:
    """Ingest, replay and count what the order on stdin says, days ago; write the events' ids and the time."""
    order = json.load(sys.stdin)
    then = datetime.now(UTC) - timedelta(days=order["days"])
    setattr(events, "now", lambda: events.format_time(then))  # noqa: B010 - the clock of the handlers
    ids = {name: _ingest(body) for name, body in order["bodies"].items()}
    for name, window in order["replays"].items():
        _replay({"replay_id": name, **window})
    _process(order["queue_url"], order["counted"])
    with open(order["answer"], "w", encoding="utf-8") as file:
        json.dump({"ids": ids, "at": then.timestamp()}, file)


def _ingest(body: dict[str, Any]) -> str:
    from pik.pipeline import ingest

    answer = json.loads(ingest.handler(proxy_event(json.dumps(body).encode()), CONTEXT)["body"])
    if answer["status"] != "ACCEPTED":
        raise AssertionError(answer)
    return str(answer["event_id"])


def _replay(body: dict[str, Any]) -> None:
    from pik.pipeline import replay

    answer = json.loads(replay.handler(proxy_event(json.dumps(body).encode()), CONTEXT)["body"])
    if not answer.get("sent"):
        raise AssertionError(answer)


def _process(queue_url: str, counted: list[str]) -> None:
    """Count the messages of some replays; take all others out of the queue, as if they had been lost."""
    from pik.pipeline import processor

    sqs = boto3.client("sqs")
    while found := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages"):
        records = [
            {
                "messageId": one["MessageId"],
                "body": one["Body"],
                "eventSource": "aws:sqs",
                "attributes": {"ApproximateReceiveCount": "1"},
            }
            for one in found
            if json.loads(one["Body"])["replay_id"] in counted
        ]
        if records and processor.handler({"Records": records}, CONTEXT)["batchItemFailures"]:
            raise AssertionError("a message was not counted")
        for one in found:
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=one["ReceiptHandle"])


if __name__ == "__main__":
    main()

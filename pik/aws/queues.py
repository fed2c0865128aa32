"""How many messages a queue holds, and how long a count must have lasted to be believed."""

from __future__ import annotations

from pik import clock
from pik.environments import Environment

QUEUE_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
# SQS's counts are approximate and may not be consistent before a minute has passed since the last message was sent:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
SETTLE_SECONDS = 90.0


def messages(environment: Environment, queue_url: str) -> int:
    """Return how many messages a queue holds, waiting, in flight and delayed (approximate on AWS)."""
    return sum(queue_counts(environment, queue_url).values())


def settling(environment: Environment) -> float:
    """Return how many seconds a count of a queue must have lasted to be believed; the embedded AWS counts exactly."""
    return SETTLE_SECONDS * clock.lateness(environment)


def queue_counts(environment: Environment, queue_url: str) -> dict[str, int]:
    """Return a queue's three message counts under AWS's names."""
    client = environment.client("sqs")
    found = client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=list(QUEUE_COUNTS))["Attributes"]
    return {name: int(found.get(name, 0)) for name in QUEUE_COUNTS}

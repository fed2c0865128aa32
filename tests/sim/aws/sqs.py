"""SQS, as far as the kit calls it: at least once, in any order, with receive counts and a dead-letter queue.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html: counts become right a
minute after the last message was sent.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html: with the receipt handle of
an earlier receipt, a message may stay.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pik.aws.queues import QUEUE_COUNTS


@dataclass(eq=False)
class Message:
    """A message; ``visible_at``: when it may be received again."""

    id: str
    body: str
    attributes: dict[str, Any]
    sent_at: float = 0.0
    visible_at: float = 0.0
    receives: int = 0

    @property
    def handle(self) -> str:
        """The receipt handle of its last receipt."""
        return f"{self.id} {self.receives}"


@dataclass
class SQS:
    """The queues by their URL. ``taken``: every message that a queue ever took, by URL."""

    chance: random.Random
    now: Callable[[], float] = lambda: 0.0
    max_receives: int = 20  # of the queue; the dead-letter queue has no such limit
    queues: dict[str, list[Message]] = field(default_factory=lambda: {"queue": [], "dlq": []})
    taken: dict[str, list[Message]] = field(default_factory=lambda: {"queue": [], "dlq": []})
    late: Callable[[], float] = lambda: 0.0  # by how many seconds a count of messages is late
    refused: Callable[[], bool] = lambda: False  # whether an entry of a batch fails in an answer that succeeds

    def send_message(self, QueueUrl: str, MessageBody: str, MessageAttributes: Any = None) -> Any:
        """Take a message."""
        number = len(self.taken["queue"]) + len(self.taken["dlq"])
        message = Message(f"m-{number}", MessageBody, MessageAttributes or {}, self.now())
        self.queues[QueueUrl].append(message)
        self.taken[QueueUrl].append(message)
        return {"MessageId": message.id}

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:
        """Take messages, or some of them: the call succeeds all the same."""
        return self._each(Entries, lambda entry: self.send_message(QueueUrl, entry["MessageBody"]))

    def receive_message(self, QueueUrl: str, MaxNumberOfMessages: int, VisibilityTimeout: float, **_: Any) -> Any:
        """Receive messages in any order; one received too often goes to the dead-letter queue instead."""
        received = self.receive(QueueUrl, MaxNumberOfMessages, VisibilityTimeout)
        return {"Messages": [_received(message) for message in received]} if received else {}

    def receive(self, url: str, most: int, visibility: float) -> list[Message]:
        """Receive messages, as the event source mapping does."""
        waiting = [message for message in self.queues[url] if message.visible_at <= self.now()]
        self.chance.shuffle(waiting)
        received = list[Message]()
        for message in waiting:
            if len(received) == most:
                break
            if url == "queue" and message.receives >= self.max_receives:
                self.queues[url].remove(message)
                self.queues["dlq"].append(message)
                self.taken["dlq"].append(message)
                continue
            message.receives += 1
            # At least once: now and then it stays visible, and somebody else receives it as well.
            message.visible_at = self.now() + (0 if self.chance.random() < 0.02 else visibility)
            received.append(message)
        return received

    def delete(self, url: str, handle: str) -> None:
        """Delete a message; one that is gone already is no error."""
        name, _, _ = handle.partition(" ")
        for message in self.queues[url]:
            if message.id == name and (message.handle == handle or self.chance.random() < 0.5):
                self.queues[url].remove(message)
                return

    def delete_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:
        """Delete messages, or some of them."""
        return self._each(Entries, lambda entry: self.delete(QueueUrl, entry["ReceiptHandle"]))

    def change_message_visibility_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:
        """Make messages visible again, or some of them."""

        def change(entry: dict[str, Any]) -> None:
            for message in self.queues[QueueUrl]:
                if message.handle == entry["ReceiptHandle"]:
                    message.visible_at = self.now() + entry["VisibilityTimeout"]

        return self._each(Entries, change)

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> Any:
        """Return how many messages there are; those of the last minute may not be counted yet."""
        until = self.now() - self.late()
        known = [message for message in self.queues[QueueUrl] if message.sent_at <= until]
        visible = sum(message.visible_at <= self.now() for message in known)
        counts = (visible, len(known) - visible, 0)
        found = dict(zip(QUEUE_COUNTS, map(str, counts), strict=True))
        if QueueUrl == "queue":
            found["RedrivePolicy"] = json.dumps({"maxReceiveCount": self.max_receives})
        return {"Attributes": {name: value for name, value in found.items() if name in AttributeNames}}

    def _each(self, entries: list[dict[str, Any]], work: Callable[[dict[str, Any]], Any]) -> Any:
        """Do the entries of a batch, or some of them: the call succeeds all the same."""
        answer: dict[str, list[Any]] = {"Successful": [], "Failed": []}
        for entry in entries:
            if self.refused():
                answer["Failed"].append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": False})
            else:
                work(entry)
                answer["Successful"].append({"Id": entry["Id"]})
        return answer


def _received(message: Message) -> dict[str, Any]:
    return {
        "MessageId": message.id,
        "ReceiptHandle": message.handle,
        "Body": message.body,
        "MessageAttributes": message.attributes,
        "Attributes": {
            "ApproximateReceiveCount": str(message.receives),
            "SentTimestamp": str(int(message.sent_at * 1000)),
        },
    }

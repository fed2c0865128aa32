"""SQS, as far as the pipeline calls it: at least once, in any order, with receive counts and a dead-letter queue.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Message:
    """A message; ``visible_at``: when it may be received again."""

    id: str
    body: str
    attributes: dict[str, Any]
    visible_at: float = 0.0
    receives: int = 0


@dataclass
class SQS:
    """The queues by their URL. ``taken``: every message that a queue ever took, by URL."""

    chance: random.Random
    queues: dict[str, list[Message]] = field(default_factory=lambda: {"queue": [], "dlq": []})
    taken: dict[str, list[Message]] = field(default_factory=lambda: {"queue": [], "dlq": []})
    refused: Callable[[], bool] = lambda: False  # whether an entry of a batch fails in an answer that succeeds

    def send_message(self, QueueUrl: str, MessageBody: str, MessageAttributes: Any = None) -> Any:
        """Take a message."""
        message = Message(
            f"m-{len(self.taken['queue']) + len(self.taken['dlq'])}", MessageBody, MessageAttributes or {}
        )
        self.queues[QueueUrl].append(message)
        self.taken[QueueUrl].append(message)
        return {"MessageId": message.id}

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:
        """Take messages, or some of them: the call succeeds all the same."""
        answer: dict[str, list[Any]] = {"Successful": [], "Failed": []}
        for entry in Entries:
            if self.refused():
                answer["Failed"].append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": False})
            else:
                self.send_message(QueueUrl, entry["MessageBody"])
                answer["Successful"].append({"Id": entry["Id"]})
        return answer

    def receive(self, url: str, most: int, now: float, visibility: float, most_receives: int) -> list[Message]:
        """Receive messages in any order; one received too often goes to the dead-letter queue instead."""
        waiting = [message for message in self.queues[url] if message.visible_at <= now]
        self.chance.shuffle(waiting)
        received = []
        for message in waiting[:most]:
            if message.receives >= most_receives:
                self.queues[url].remove(message)
                self.queues["dlq"].append(message)
                self.taken["dlq"].append(message)
                continue
            message.receives += 1
            # At least once: now and then it stays visible, and somebody else receives it as well.
            message.visible_at = now if self.chance.random() < 0.02 else now + visibility
            received.append(message)
        return received

    def delete(self, url: str, message: Message) -> None:
        """Delete a message; one that is gone already is no error."""
        if message in self.queues[url]:
            self.queues[url].remove(message)

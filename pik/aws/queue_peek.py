"""A live look at a few of a queue's messages, each returned at once.

Looking is not free: SQS counts every receipt and moves a message to the dead-letter queue once the count passes
maxReceiveCount. The count is only known after it was raised, so how far looking has gone is remembered on disk (in
``.pik/peeks``, before each receipt: a look that is killed counts too), and no look is allowed once half the receives
are used up: the other half is the processor's, and that of colleagues, each of whom adds at most one before the same
rule stops them. A queue that was seen empty starts anew; as SQS's counts are approximate and up to a minute old, two
looks must have found it empty, further apart than that (:func:`pik.aws.queues.settling`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pik import project
from pik.aws.queues import QUEUE_COUNTS, settling
from pik.aws.reading import StoreReader
from pik.environments import Environment
from pik.errors import Refused
from pik.pipeline.processor import Poison, parse_message

HOLD_SECONDS = 30  # a look that is killed keeps messages this long; afterwards SQS returns them by itself
BATCH = 10
WAIT_SECONDS = 1  # a long poll asks every server of the queue, so that none looks empty by chance
_ATTEMPTS = 3

Message = dict[str, Any]


@dataclass(frozen=True)
class PeekResult:
    """What was seen: messages as SQS hands them out, and whether the look was cut short by their receive count."""

    messages: tuple[Message, ...]
    max_receive_count: int | None  # None: nothing is moved away from this queue, however often it is received
    cut_short: bool

    @property
    def bodies(self) -> tuple[str, ...]:
        """The messages' bodies."""
        return tuple(message["Body"] for message in self.messages)

    @property
    def receive_count(self) -> int:
        """The highest receive count among them."""
        return max(map(receive_count, self.messages), default=0)


@dataclass
class HeldMessages:
    """Messages received and not yet returned; what is in ``gone`` was deleted and is not given back."""

    messages: dict[str, Message] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    max_receive_count: int | None = None
    cut_short: bool = False


def look(environment: Environment, queue_url: str, limit: int = 30) -> PeekResult:
    """Receive up to ``limit`` different messages and return every one to the queue before this function returns.

    Raises:
        Refused: messages are half way to the dead-letter queue already; nothing was received.
    """
    with held(environment, queue_url, limit) as found:
        pass
    return PeekResult(tuple(found.messages.values()), found.max_receive_count, found.cut_short)


@contextmanager
def held(
    environment: Environment, queue_url: str, limit: int, hold_seconds: int = HOLD_SECONDS
) -> Iterator[HeldMessages]:
    """Hold up to ``limit`` different messages; every one that is not ``gone`` is returned at the end, come what may.

    They are held together, as a message given back at once would be received again instead of the next one.
    """
    attributes = _attributes(environment, queue_url)
    found = HeldMessages(max_receive_count=_max_receive_count(attributes))
    budget = _Budget.of(queue_url, attributes, found.max_receive_count, settling(environment))
    budget.check()
    deadline = time.monotonic() + hold_seconds / 3  # well before the first of them is visible again
    try:
        while len(found.messages) < limit and not found.cut_short and time.monotonic() < deadline:
            budget.spend()
            received = _receive(environment, queue_url, min(BATCH, limit - len(found.messages)), hold_seconds)
            found.messages |= {message["MessageId"]: message for message in received}
            found.cut_short = budget.settle(max(map(receive_count, received), default=0))
            if not received:
                break
        yield found
    finally:
        kept = [message for name, message in found.messages.items() if name not in found.gone]
        _give_back(environment, queue_url, kept)


def receive_count(message: Message) -> int:
    """How often a message has been received, this time included."""
    return int(message["Attributes"]["ApproximateReceiveCount"])


def fault(stores: StoreReader, body: str) -> tuple[str, str]:
    """Return the code and the reason for which the processor would set a message aside now; empty text when none.

    The raw object is read from ``stores``; the codes are :class:`pik.pipeline.processor.Poison`'s.
    """
    try:
        message = parse_message(body)
        if message["s3_bucket"] != stores.outputs["RawBucket"]:
            raise Poison("foreign_bucket", f"{message['s3_bucket']} is not this environment's raw bucket")
        raw = stores.raw(message["s3_key"])
        if raw is None:
            raise Poison("raw_missing", f"there is no raw object {message['s3_key']}")
        event = raw.event()
    except Poison as poison:
        return poison.code, poison.reason
    except (ValueError, KeyError) as error:
        return "raw_unreadable", f"the raw object is not an event: {error}"
    if (event.event_id, event.payload_sha256) != (message["event_id"], message["payload_sha256"]):
        return "hash_mismatch", f"{message['event_id']}: the raw object is not what was received"
    return "", ""


@dataclass
class _Budget:
    """How many receipts of a queue's messages are known of, against how many are allowed for looking."""

    path: Path
    most: int | None
    level: int
    empty_since: float | None = None  # when the queue was first seen empty, of the looks that saw it so without a break

    @classmethod
    def of(cls, queue_url: str, attributes: dict[str, str], most: int | None, settle: float) -> _Budget:
        path, now = project.STATE / "peeks" / f"{queue_url.rpartition('/')[2]}.json", time.time()
        level, since = _remembered(path)
        empty = not any(int(attributes.get(name, 0)) for name in QUEUE_COUNTS)
        since = (now if since is None else since) if empty else None
        budget = cls(path, most, 0 if since is not None and now - since >= settle else level, since)
        if level:
            budget._write(budget.level)
        return budget

    def check(self) -> None:
        if self.most is None or self.level < self.most // 2:
            return
        raise Refused(
            f"no live look: messages of this queue have been received {self.level} times of {self.most}",
            reason="every look raises the receive count, and SQS moves a message to the dead-letter queue above the "
            "limit; half of it is kept for the processor",
            next_step="peek() without live=True shows what is expected there and touches nothing; "
            "live looks are allowed again once the queue has been empty",
        )

    def spend(self) -> None:
        """Count a receipt before it happens."""
        self._write(self.level + 1)

    def settle(self, seen: int) -> bool:
        """Take over the count that was seen; return whether to stop looking."""
        self.level = max(self.level, seen)
        self._write(self.level)
        return self.most is not None and self.level >= self.most // 2

    def _write(self, level: int) -> None:
        if self.most is None:
            return
        project.private_folder(self.path.parent)
        new = self.path.with_suffix(".new")
        seen = {"receive_count": level, "max_receive_count": self.most, "empty_since": self.empty_since}
        new.write_text(json.dumps(seen))
        new.replace(self.path)


def _remembered(path: Path) -> tuple[int, float | None]:
    try:
        seen = json.loads(path.read_text())
        since = seen.get("empty_since")
        return int(seen["receive_count"]), None if since is None else float(since)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0, None


def _receive(environment: Environment, queue_url: str, count: int, hold_seconds: int) -> list[Message]:
    found: list[Message] = (
        environment.client("sqs")
        .receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=count,
            VisibilityTimeout=hold_seconds,
            WaitTimeSeconds=WAIT_SECONDS,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            MessageAttributeNames=["All"],
        )
        .get("Messages", [])
    )
    return found


def _give_back(environment: Environment, queue_url: str, messages: list[Message]) -> None:
    for start in range(0, len(messages), BATCH):
        waiting = {str(n): message["ReceiptHandle"] for n, message in enumerate(messages[start : start + BATCH])}
        for _ in range(_ATTEMPTS):  # the call succeeds although some of its entries failed
            answer = environment.client("sqs").change_message_visibility_batch(
                QueueUrl=queue_url,
                Entries=[
                    {"Id": name, "ReceiptHandle": handle, "VisibilityTimeout": 0} for name, handle in waiting.items()
                ],
            )
            failed = {entry["Id"] for entry in answer.get("Failed", [])}
            waiting = {name: handle for name, handle in waiting.items() if name in failed}
            if not waiting:
                break


def _attributes(environment: Environment, queue_url: str) -> dict[str, str]:
    found: dict[str, str] = (
        environment.client("sqs")
        .get_queue_attributes(QueueUrl=queue_url, AttributeNames=["RedrivePolicy", *QUEUE_COUNTS])
        .get("Attributes", {})
    )
    return found


def _max_receive_count(attributes: dict[str, str]) -> int | None:
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    return int(policy["maxReceiveCount"]) if "maxReceiveCount" in policy else None

"""What is read is not yet what was written: counts of queues and items in indexes."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .dice import Dice, Tally
from .middleware import Cut, Quiet
from .settings import RealismSettings
from .wire import Answer, Call

COUNTS_SECONDS = 60.0
INDEX_SECONDS = 2.0
COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)

Counts = tuple[int, int, int]  # as COUNTS


class QueueCounts(Quiet):
    """The approximate numbers of messages are of some moment in the last minute.

    "… these metrics may not achieve consistency until at least 1 minute after the producers stop sending messages":
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html

    ``now`` tells the time; ``counts`` the true numbers by ``<account>/<queue>``, and is asked at each :meth:`tick`.
    """

    def __init__(
        self,
        settings: RealismSettings,
        dice: Dice,
        tally: Tally,
        counts: Callable[[], Mapping[str, Counts]],
        now: Callable[[], float],
    ) -> None:
        self._dice, self._tally, self._counts, self._now = dice, tally, counts, now
        self._longest = settings.seconds(COUNTS_SECONDS)
        self._seen: dict[str, deque[tuple[float, Counts]]] = {}

    def tick(self) -> None:
        """Note every queue's numbers; those that were followed by others more than a minute ago are forgotten."""
        now = self._now()
        for queue, counts in self._counts().items():
            seen = self._seen.setdefault(queue, deque())
            if not seen or seen[-1][1] != counts:
                seen.append((now, counts))
            while len(seen) > 1 and seen[1][0] < now - self._longest:
                seen.popleft()

    def wants(self, call: Call) -> bool:
        """Look at the attributes of queues."""
        return (call.service, call.operation) == ("sqs", "GetQueueAttributes")

    def after(self, call: Call, answer: Answer) -> Answer | Cut:
        """Give the numbers of an earlier moment."""
        document = answer.json() if answer.status == 200 else None
        queue = "/".join(str(call.params.get("QueueUrl", "")).rsplit("/", 2)[-2:])
        seen = self._seen.get(queue)
        if not isinstance(document, dict) or not seen:
            return answer
        age = self._dice.fraction("queue-counts", queue) * self._longest
        then = self._now() - age
        counts = next((counts for at, counts in reversed(seen) if at <= then), seen[0][1])
        attributes = document.get("Attributes") or {}
        old = {name: str(n) for name, n in zip(COUNTS, counts, strict=True) if name in attributes}
        if all(attributes[name] == value for name, value in old.items()):
            return answer
        self._tally.struck("queue-counts")
        attributes.update(old)
        return answer.with_json(document)


class IndexLag(Quiet):
    """A new item can be read from the table at once and from an index a little later.

    "… global secondary indexes … eventually consistent. … within a fraction of a second, under normal conditions":
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html#GSI.Writes

    Only items put where there was none are late (``attribute_not_exists`` in the condition): of one that is put over an
    older one, AWS would show the older one. ``keys`` gives the names of a table's key attributes.
    """

    def __init__(
        self,
        settings: RealismSettings,
        dice: Dice,
        tally: Tally,
        keys: Callable[[str], tuple[str, ...]],
        now: Callable[[], float],
    ) -> None:
        self._dice, self._tally, self._keys, self._now = dice, tally, keys, now
        self._longest = settings.seconds(INDEX_SECONDS)
        self._hidden: dict[tuple[str, str], float] = {}  # (table, key) -> until when
        self._lock = threading.Lock()

    def wants(self, call: Call) -> bool:
        """Look at puts that worked, and at what is read from an index."""
        if call.service != "dynamodb":
            return False
        if call.operation in ("Query", "Scan"):
            return bool(call.params.get("IndexName"))
        return call.operation in ("PutItem", "TransactWriteItems")

    def after(self, call: Call, answer: Answer) -> Answer | Cut:
        """Remember what was put; leave out what cannot be read yet."""
        if answer.status != 200:
            return answer
        if call.operation in ("Query", "Scan"):
            return self._without_hidden(call, answer)
        puts = [call.params] if call.operation == "PutItem" else [item.get("Put") for item in _items(call)]
        for put in filter(None, puts):
            if "attribute_not_exists" in str(put.get("ConditionExpression", "")):
                self._hide(str(put.get("TableName")), put.get("Item") or {})
        return answer

    def _hide(self, table: str, item: dict[str, Any]) -> None:
        now = self._now()
        until = now + self._dice.fraction("index-lag", table) * self._longest
        with self._lock:
            self._hidden = {place: end for place, end in self._hidden.items() if end > now}
            if place := self._place(table, item):
                self._hidden[place] = until

    def _place(self, table: str, item: dict[str, Any]) -> tuple[str, str] | None:
        names = self._keys(table)
        if not names or any(name not in item for name in names):
            return None
        return table, json.dumps([item[name] for name in names], sort_keys=True)

    def _without_hidden(self, call: Call, answer: Answer) -> Answer:
        document, now = answer.json(), self._now()
        if not isinstance(document, dict) or "Items" not in document:
            return answer
        table = str(call.params.get("TableName"))
        places = [(item, self._place(table, item)) for item in document["Items"]]
        with self._lock:
            shown = [item for item, place in places if not place or self._hidden.get(place, 0.0) <= now]
        missing = len(places) - len(shown)
        if not missing:
            return answer
        self._tally.struck("index-lag", missing)
        document.update(Items=shown, Count=len(shown), ScannedCount=document.get("ScannedCount", 0) - missing)
        return answer.with_json(document)


def _items(call: Call) -> list[dict[str, Any]]:
    return list(call.params.get("TransactItems") or [])

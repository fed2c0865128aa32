"""DynamoDB, as far as the pipeline calls it: conditional writes, transactions, consistent reads, queries by page.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html: all of a transaction or
nothing; its reasons are in the order of its parts. A deleted or expired item is gone only when TTL has removed it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.sim.aws.conditions import holds
from tests.sim.aws.errors import refused
from tests.stores import KEYS

Item = dict[str, Any]
Key = tuple[str, ...]
MOST_BYTES = 400 * 1024


@dataclass
class DynamoDB:
    """The tables. ``page``: items of a query's page. ``written`` is told of each write: table, before, after."""

    page: Callable[[], int]
    written: Callable[[str, Item | None, Item], None] = lambda *_: None
    tables: dict[str, dict[Key, Item]] = field(default_factory=lambda: {name: {} for name in KEYS})

    def get_item(self, TableName: str, Key: Item, ConsistentRead: bool = False) -> Item:
        """Return an item; the pipeline reads consistently, so there is no older one to return."""
        assert ConsistentRead, "an eventually consistent read is not imitated"
        found = self.tables[TableName].get(_key(TableName, Key))
        return {"Item": dict(found)} if found is not None else {}

    def put_item(self, TableName: str, Item: Item, **condition: Any) -> Item:
        """Write an item, if its condition holds."""
        if not self._may(TableName, Item, condition):
            raise refused("ConditionalCheckFailedException", "PutItem")
        self._put(TableName, Item)
        return {}

    def transact_write_items(self, TransactItems: list[Item]) -> Item:
        """Write all items, if all conditions hold."""
        puts = [part["Put"] for part in TransactItems]
        kept = ("TableName", "Item")
        may = [self._may(p["TableName"], p["Item"], {k: v for k, v in p.items() if k not in kept}) for p in puts]
        if not all(may):
            reasons = ["None" if fine else "ConditionalCheckFailed" for fine in may]
            raise refused("TransactionCanceledException", "TransactWriteItems", reasons)
        for put in puts:
            self._put(put["TableName"], put["Item"])
        return {}

    def query(self, TableName: str, KeyConditionExpression: str, ConsistentRead: bool = False, **more: Any) -> Item:
        """Return a page of items in the order of their sort key."""
        assert ConsistentRead, "an index that lags is not imitated"
        names, values = more.get("ExpressionAttributeNames", {}), more["ExpressionAttributeValues"]
        after = more.get("ExclusiveStartKey", {}).get("SK", {}).get("S", "")
        found = sorted(
            (key, item)
            for key, item in self.tables[TableName].items()
            if key[1] > after and holds(KeyConditionExpression, item, names, values)
        )
        page = found[: self.page()]
        wanted = [names.get(name, name) for name in more["ProjectionExpression"].split(", ")]
        answer: Item = {"Items": [{name: item[name] for name in wanted if name in item} for _, item in page]}
        if len(page) < len(found):
            answer["LastEvaluatedKey"] = {"PK": {"S": page[-1][0][0]}, "SK": {"S": page[-1][0][1]}}
        return answer

    def expire(self, now: int) -> None:
        """Remove what TTL may remove at ``now``."""
        for table in self.tables.values():
            for key, item in list(table.items()):
                if "expires_at" in item and int(item["expires_at"]["N"]) <= now:
                    del table[key]

    def _may(self, table: str, item: Item, condition: Mapping[str, Any]) -> bool:
        if len(json.dumps(item)) > MOST_BYTES:
            raise refused("ValidationException", "PutItem")
        if "ConditionExpression" not in condition:
            return True
        found = self.tables[table].get(_key(table, item), {})
        names = condition.get("ExpressionAttributeNames", {})
        return holds(condition["ConditionExpression"], found, names, condition.get("ExpressionAttributeValues", {}))

    def _put(self, table: str, item: Item) -> None:
        key = _key(table, item)
        self.written(table, self.tables[table].get(key), item)
        self.tables[table][key] = dict(item)


def _key(table: str, item: Item) -> Key:
    return tuple(str(item[name]["S"]) for name in KEYS[table])

"""DynamoDB, as far as the kit calls it: conditional writes, transactions, consistent reads, pages, batches.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html: all of a transaction or
nothing; its reasons are in the order of its parts. A deleted or expired item is gone only when TTL has removed it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
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
        parts = [next(iter(part.items())) for part in TransactItems]
        keys = [(part["TableName"], _key(part["TableName"], part.get("Item") or part["Key"])) for _, part in parts]
        assert len(set(keys)) == len(keys) <= 100, "a transaction has too many items, or one of them twice"
        may = [self._may(part["TableName"], part.get("Item") or part["Key"], part) for _, part in parts]
        if not all(may):
            reasons = ["None" if fine else "ConditionalCheckFailed" for fine in may]
            raise refused("TransactionCanceledException", "TransactWriteItems", reasons)
        for action, part in parts:
            if action == "Put":
                self._put(part["TableName"], part["Item"])
        return {}

    def query(self, TableName: str, KeyConditionExpression: str, ConsistentRead: bool = False, **more: Any) -> Item:
        """Return a page of items in the order of their sort key."""
        assert ConsistentRead, "an index that lags is not imitated"
        names, values = more.get("ExpressionAttributeNames", {}), more["ExpressionAttributeValues"]
        found = sorted(
            (key, item)
            for key, item in self.tables[TableName].items()
            if holds(KeyConditionExpression, item, names, values)
        )
        return self._page(TableName, found, more)

    def scan(self, TableName: str, ConsistentRead: bool, Segment: int = 0, TotalSegments: int = 1, **more: Any) -> Item:
        """Return a page of a table, or of a segment of it; a filter takes items out of the page."""
        assert ConsistentRead, "a scan that lags is not imitated"
        table = self.tables[TableName]
        mine = [key for key in sorted(table) if zlib.crc32(key[0].encode()) % TotalSegments == Segment]
        answer = self._page(TableName, [(key, table[key]) for key in mine], more, 3)
        if condition := more.get("FilterExpression"):
            names, values = more.get("ExpressionAttributeNames", {}), more["ExpressionAttributeValues"]
            answer["Items"] = [item for item in answer["Items"] if holds(condition, item, names, values)]
        return answer

    def batch_get_item(self, RequestItems: Item, **_: Any) -> Item:
        """Return items by their keys, or some of them: the others are named, to be asked for again."""
        ((table, asked),) = RequestItems.items()
        keys = [_key(table, key) for key in asked["Keys"]]
        assert asked["ConsistentRead"]
        assert len(set(keys)) == len(keys) <= 100
        answered = self.page() * 4
        found = [dict(self.tables[table][key]) for key in keys[:answered] if key in self.tables[table]]
        left = {table: {**asked, "Keys": asked["Keys"][answered:]}} if len(keys) > answered else {}
        return {"Responses": {table: found}, "UnprocessedKeys": left}

    def _page(self, table: str, found: list[tuple[Key, Item]], more: Item, times: int = 1) -> Item:
        after = _key(table, more["ExclusiveStartKey"]) if "ExclusiveStartKey" in more else ()
        found = [(key, item) for key, item in found if key > after]
        page = found[: self.page() * times]
        items = [dict(item) for _, item in page]
        if projection := more.get("ProjectionExpression"):
            names = more.get("ExpressionAttributeNames", {})
            wanted = [names.get(name, name) for name in projection.split(", ")]
            items = [{name: item[name] for name in wanted if name in item} for item in items]
        answer: Item = {"Items": items}
        if len(page) < len(found):
            answer["LastEvaluatedKey"] = {name: page[-1][1][name] for name in KEYS[table]}
        return answer

    def expire(self, now: int, goes: Callable[[], bool]) -> None:
        """Remove what TTL may remove at ``now``; ``goes``: whether an item is removed already."""
        for table in self.tables.values():
            for key, item in list(table.items()):
                if "expires_at" in item and int(item["expires_at"]["N"]) <= now and goes():
                    del table[key]

    def _may(self, table: str, item: Item, condition: Mapping[str, Any]) -> bool:
        if sum(len(name) + len(str(*value.values())) for name, value in item.items()) > MOST_BYTES:
            raise refused("ValidationException", "PutItem")
        if "ConditionExpression" not in condition:
            return True
        found = self.tables[table].get(_key(table, item), {})
        names = condition.get("ExpressionAttributeNames", {})
        return holds(condition["ConditionExpression"], found, names, condition.get("ExpressionAttributeValues", {}))

    def _put(self, table: str, item: Item) -> None:
        key = _key(table, item)
        self.written(table, self.tables[table].get(key), item)
        self.tables[table][key] = {name: _stored(value) for name, value in item.items()}


def _stored(value: Item) -> Item:
    """A value as the table holds it: a number without needless zeros.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
    """
    if "N" not in value or value["N"].isdecimal():
        return value
    return {"N": f"{Decimal(value['N']).normalize():f}"}


def _key(table: str, item: Item) -> Key:
    return tuple(str(item[name]["S"]) for name in KEYS[table])

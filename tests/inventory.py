"""What is in every store, item by item, as digests: the proof that an operation lost or changed nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pik.aws.queues import messages
from pik.aws.stack import aws_errors
from pik.environments import Environment

TABLES = ("EventsTable", "DedupeTable", "AggregatesTable", "ReplaysTable")
BUCKETS = ("RawBucket", "EvidenceBucket")
QUEUES = {"Queue": "QueueUrl", "DeadLetterQueue": "DeadLetterQueueUrl"}


@dataclass(frozen=True)
class StoreDifference:
    """How one store differs between two inventories, in numbers of items."""

    added: int
    removed: int
    changed: int

    @property
    def intact(self) -> bool:
        """Whether everything that was there is still there, unchanged."""
        return not self.removed and not self.changed

    @property
    def none(self) -> bool:
        """Whether the store is exactly the same."""
        return self.intact and not self.added


@dataclass(frozen=True)
class Inventory:
    """Every item of every table and every object version of the buckets, by digest; the queues by message count."""

    stores: dict[str, dict[str, str]] = field(default_factory=dict)
    queues: dict[str, int] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """One digest a store; equal digests mean equal content."""
        return {name: _digest(sorted(items.items())) for name, items in self.stores.items()}

    @property
    def counts(self) -> dict[str, int]:
        """Items a store, and messages a queue."""
        return {name: len(items) for name, items in self.stores.items()} | self.queues

    def difference(self, after: Inventory) -> dict[str, StoreDifference]:
        """Compare with a later inventory, store by store; for a queue the difference is in messages."""
        found = {name: _compare(items, after.stores.get(name, {})) for name, items in self.stores.items()}
        for name, before in self.queues.items():
            more = after.queues.get(name, 0) - before
            found[name] = StoreDifference(added=max(more, 0), removed=max(-more, 0), changed=0)
        return found


def inventory(environment: Environment) -> Inventory:
    """Return the exact inventory of all the environment's stores. Reads only, every item; receives no message."""
    outputs = environment.outputs()
    with aws_errors(environment, "take the inventory of the stores"), ThreadPoolExecutor(5) as pool:
        tables = {name: pool.submit(dict, _table(environment, outputs[name])) for name in TABLES}
        buckets = {name: pool.submit(dict, _bucket(environment, outputs[name])) for name in BUCKETS if name in outputs}
        queues = {name: messages(environment, outputs[key]) for name, key in QUEUES.items()}
        stores = {name: future.result() for name, future in {**tables, **buckets}.items()}
    return Inventory(stores, queues)


def _table(environment: Environment, name: str) -> Iterator[tuple[str, str]]:
    client = environment.client("dynamodb")
    keys = [k["AttributeName"] for k in client.describe_table(TableName=name)["Table"]["KeySchema"]]
    for page in client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True):
        for item in page["Items"]:
            yield json.dumps([item[key] for key in keys], default=_plain), _digest(item)


def _bucket(environment: Environment, name: str) -> Iterator[tuple[str, str]]:
    pages = environment.client("s3").get_paginator("list_object_versions").paginate(Bucket=name)
    for page in pages:
        for version in page.get("Versions", []):
            yield (
                f"{version['Key']}\0{version['VersionId']}",
                f"{version['ETag']} {version['Size']} {version['IsLatest']}",
            )
        for marker in page.get("DeleteMarkers", []):
            yield f"{marker['Key']}\0{marker['VersionId']}", f"deleted {marker['IsLatest']}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return str(value)


def _compare(before: dict[str, str], after: dict[str, str]) -> StoreDifference:
    return StoreDifference(
        added=sum(key not in before for key in after),
        removed=sum(key not in after for key in before),
        changed=sum(after.get(key, digest) != digest for key, digest in before.items()),
    )

"""Are the stores still the same ones, with what was in them? Proven by bounded reads, whatever their size.

A change of the stack can cost data in one way only: a store is deleted or replaced. So each store is identified before
and after by what AWS never gives twice (a table's id, a queue's time of creation, a bucket by versions of its
objects), and a sample of its content is read again by key. Nothing is scanned from end to end, and a store that cannot
be read says so: it is not proven then.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from pik.aws import batch, stack
from pik.aws.queues import messages
from pik.aws.stack import Stack
from pik.aws.template import STORES
from pik.environments import Environment
from pik.errors import PikError

SAMPLE = 25  # items read of each store
BUDGET = 15.0  # seconds after which a store counts as unread: a rollback does not wait for a store that hangs
# Their rows grow while somebody is at work (sums, states of replays): there, only a row that is gone is a loss.
GROWING = frozenset({"AggregatesTable", "ReplaysTable"})
EXPIRING = frozenset({"RawBucket"})  # whose lifecycle ends objects after RetentionDays
_LATE = f"no answer within {BUDGET:.0f} s"
T = TypeVar("T")
R = TypeVar("R")
_CLIENT: dict[str, Any] = {"connect_timeout": 3, "read_timeout": 5, "retries": {"mode": "standard", "max_attempts": 2}}


@dataclass(frozen=True)
class SampledItem:
    """One sampled item: where it is, a digest of what it is, and when its retention ends (seconds since 1970)."""

    key: dict[str, Any]
    digest: str
    expires: float | None = None


@dataclass(frozen=True)
class SampledStore:
    """One store as it was found: its type, its name, what tells it from a new one, its size, and a sample.

    ``count``: items as DescribeTable has them (up to six hours old) or messages as SQS has them (approximate), None
    for buckets; ``problem``: why it could not be read.
    """

    type: str
    name: str
    identity: str = ""
    count: int | None = None
    sample: tuple[SampledItem, ...] = field(default=(), repr=False)
    problem: str = ""


@dataclass(frozen=True)
class Comparison:
    """What became of one store: the same one or not, and its sampled items.

    ``missing`` and ``changed`` count sampled items; ``expired`` those that are gone because their retention is over.
    ``same`` is None when it could not be seen.
    """

    store: str
    type: str
    same: bool | None
    sampled: int = 0
    missing: int = 0
    changed: int = 0
    expired: int = 0
    before: int | None = None
    after: int | None = None
    problem: str = ""

    @property
    def intact(self) -> bool | None:
        """Whether it is the same store with all that was sampled; None when that could not be looked at."""
        if self.same is False or self.missing or (self.changed and self.store not in GROWING):
            return False
        return None if self.same is None or self.problem else True

    @property
    def sentence(self) -> str:
        """What was found, in a few words."""
        if self.same is False:
            return "another store than before, or it is gone"
        if self.problem:
            return f"could not be read: {self.problem}"
        parts = [f"{self.sampled} items sampled"]
        parts += [f"{n} {name}" for name in ("missing", "changed", "expired") if (n := getattr(self, name))]
        return f"the same store, {', '.join(parts)}" if self.type in _READERS else "the same one"

    def as_dict(self) -> dict[str, Any]:
        """Return it as one JSON-able object."""
        return {**asdict(self), "intact": self.intact}


def stores(environment: Environment, found: Stack) -> dict[str, SampledStore]:
    """Return every store of the stack by its logical id, each read within bounds. Never raises for what AWS says."""
    try:
        there = stack.typed_resources(environment)
    except PikError as error:
        return {"every store": SampledStore("", "", problem=f"{error.message}: {error.reason}")}
    known = {name: SampledStore(type_, id_) for name, (type_, id_) in there.items() if type_ in STORES}
    days = float(found.parameters.get("RetentionDays") or 0)
    read = {name: (store, days if name in EXPIRING else 0.0) for name, store in known.items()}
    return _each(read, lambda pair: _read(environment, *pair), lambda pair: replace(pair[0], problem=_LATE))


def compare(environment: Environment, before: dict[str, SampledStore]) -> tuple[Comparison, ...]:
    """Return what became of each store since :func:`stores`; reads the sampled items again, by key."""
    try:
        there: dict[str, tuple[str, str]] | None = stack.typed_resources(environment)
    except PikError:
        there = None

    def again(name: str, store: SampledStore) -> Comparison:
        first = Comparison(name, store.type, None, len(store.sample), before=store.count, problem=store.problem)
        if store.problem or there is None:
            return replace(first, problem=store.problem or "the stack's resources could not be listed")
        if there.get(name) != (store.type, store.name):
            return replace(first, same=False)
        return _compared(environment, first, store)

    late = lambda pair: Comparison(pair[0], pair[1].type, None, before=pair[1].count, problem=_LATE)  # noqa: E731
    return tuple(
        _each({name: (name, store) for name, store in before.items()}, lambda pair: again(*pair), late).values()
    )


def _each(given: dict[str, T], read: Callable[[T], R], late: Callable[[T], R]) -> dict[str, R]:
    """Read all at once; ``late`` says what stands for one that has not answered after :data:`BUDGET` seconds."""
    pool = ThreadPoolExecutor(8)
    running = {name: pool.submit(read, one) for name, one in given.items()}
    done, _ = wait(running.values(), timeout=BUDGET)
    pool.shutdown(wait=False, cancel_futures=True)
    return {name: one.result() if one in done else late(given[name]) for name, one in running.items()}


def _read(environment: Environment, store: SampledStore, retention_days: float) -> SampledStore:
    reader = _READERS.get(store.type)
    if reader is None:
        return replace(store, identity=store.name)  # a log group: the stack has it, and retains it
    try:
        identity, count = reader.identify(environment, store.name)
        sample = reader.sample(environment, store.name, retention_days)
    except (ClientError, BotoCoreError, KeyError) as error:
        return replace(store, problem=f"{type(error).__name__}: {error}")
    return replace(store, identity=identity, count=count, sample=sample)


def _compared(environment: Environment, first: Comparison, store: SampledStore) -> Comparison:
    reader = _READERS.get(store.type)
    if reader is None:
        return replace(first, same=True)
    try:
        identity, count = reader.identify(environment, store.name)
        if identity != store.identity:
            return replace(first, same=False, after=count)
        digests = reader.again(environment, store) if store.sample else []
    except (ClientError, BotoCoreError, KeyError, PikError) as error:
        gone = isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in _NO_STORE
        return replace(first, same=False) if gone else replace(first, problem=f"{type(error).__name__}: {error}")
    return _judged(replace(first, same=True, after=count), store.sample, digests, time.time())


def _judged(first: Comparison, sample: tuple[SampledItem, ...], digests: list[str], now: float) -> Comparison:
    """Compare sampled items with their digests now; no digest: the item is gone. Pure."""
    differing = [(item, digest) for item, digest in zip(sample, digests, strict=True) if digest != item.digest]
    kept = [(item, digest) for item, digest in differing if item.expires is None or item.expires > now]
    missing = sum(not digest for _, digest in kept)
    return replace(first, missing=missing, changed=len(kept) - missing, expired=len(differing) - len(kept))


_NO_STORE = frozenset(
    {
        *("ResourceNotFoundException", "NoSuchBucket", "404", "QueueDoesNotExist"),
        "AWS.SimpleQueueService.NonExistentQueue",
    }
)


def _table(environment: Environment, name: str) -> tuple[str, int | None]:
    table = environment.client("dynamodb", **_CLIENT).describe_table(TableName=name)["Table"]
    return str(table.get("TableId") or f"{table['TableArn']} {table['CreationDateTime']}"), int(table["ItemCount"])


def _table_sample(environment: Environment, name: str, _: float) -> tuple[SampledItem, ...]:
    client = environment.client("dynamodb", **_CLIENT)
    keys = [part["AttributeName"] for part in client.describe_table(TableName=name)["Table"]["KeySchema"]]
    items = client.scan(TableName=name, Limit=SAMPLE, ConsistentRead=True)["Items"]
    return tuple(SampledItem({key: item[key] for key in keys}, _digest(item), _expires(item)) for item in items)


def _expires(item: dict[str, Any]) -> float | None:
    value = item.get("expires_at", {}).get("N")
    return float(value) if value else None


def _table_again(environment: Environment, store: SampledStore) -> list[str]:
    keys = [item.key for item in store.sample]
    items = batch.items(environment.client("dynamodb", **_CLIENT), store.name, keys, attempts=5)
    found = {_digest({name: item[name] for name in keys[0]}): _digest(item) for item in items}
    return [found.get(_digest(key), "") for key in keys]


def _bucket(environment: Environment, name: str) -> tuple[str, int | None]:
    environment.client("s3", **_CLIENT).head_bucket(Bucket=name)
    return name, None  # a new bucket of the same name has other versions: the sample tells


def _bucket_sample(environment: Environment, name: str, retention_days: float) -> tuple[SampledItem, ...]:
    listed = environment.client("s3", **_CLIENT).list_object_versions(Bucket=name, MaxKeys=SAMPLE)

    def expires(modified: datetime) -> float | None:
        return (modified + timedelta(days=retention_days)).timestamp() if retention_days else None

    return tuple(
        SampledItem(
            {"Key": one["Key"], "VersionId": one["VersionId"]},
            f"{one['ETag']} {one['Size']}",
            expires(one["LastModified"]),
        )
        for one in listed.get("Versions", [])
    )


def _bucket_again(environment: Environment, store: SampledStore) -> list[str]:
    client = environment.client("s3", **_CLIENT)

    def head(item: SampledItem) -> str:
        try:
            found = client.head_object(Bucket=store.name, **item.key)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return ""
            raise
        return f"{found['ETag']} {found['ContentLength']}"

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(head, store.sample))


def _queue(environment: Environment, url: str) -> tuple[str, int | None]:
    names = ["QueueArn", "CreatedTimestamp"]
    found = environment.client("sqs", **_CLIENT).get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return " ".join(found["Attributes"][name] for name in names), messages(environment, url)


@dataclass(frozen=True)
class _Reader:
    """How a type of store is read: its identity and size, a sample with a retention in days, the sample again."""

    identify: Callable[[Environment, str], tuple[str, int | None]]
    sample: Callable[[Environment, str, float], tuple[SampledItem, ...]]
    again: Callable[[Environment, SampledStore], list[str]]


_READERS = {
    "AWS::DynamoDB::Table": _Reader(_table, _table_sample, _table_again),
    "AWS::S3::Bucket": _Reader(_bucket, _bucket_sample, _bucket_again),
    "AWS::SQS::Queue": _Reader(_queue, lambda *_: (), lambda *_: []),
}


def _digest(item: dict[str, Any]) -> str:
    plain = {name: {t: sorted(v) if t in _SETS else v for t, v in value.items()} for name, value in item.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


_SETS = {"SS", "NS", "BS"}  # DynamoDB gives no order to these

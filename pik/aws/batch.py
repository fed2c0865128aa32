"""Many items by their keys: BatchGetItem, 100 keys a request, with a pause before what DynamoDB left undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pik.errors import AwsError
from pik.pipeline.backoff import backoff

Item = dict[str, Any]  # as DynamoDB gives it: {"event_id": {"S": "…"}}
KEYS = 100  # that one request takes
PARALLEL = 16
ATTEMPTS = 12


def items(
    client: Any,
    table: str,
    keys: Sequence[Item],
    *,
    projection: str = "",
    attempts: int = ATTEMPTS,
    answered: Callable[[int, float], None] | None = None,
) -> list[Item]:
    """Return the items of a table that have one of ``keys``, read consistently, in no particular order.

    DynamoDB answers a part of a request when a table is throttled or the answer is larger than 16 MB, and leaves the
    rest to the caller, to be asked for again after a pause
    (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html).

    Args:
        client: a DynamoDB client.
        table: the table's name.
        keys: primary keys; one given twice is read once.
        projection: attributes to return, as a projection expression; all by default.
        attempts: how often a request is made for the keys that DynamoDB leaves undone.
        answered: is called after each request with the number of items and the read capacity units.

    Raises:
        AwsError: DynamoDB answered a part of the keys only, ``attempts`` times in a row.
    """
    wanted = list({repr(sorted(key.items())): key for key in keys}.values())
    batches = [wanted[start : start + KEYS] for start in range(0, len(wanted), KEYS)]
    if not batches:
        return []
    more: Item = {"ProjectionExpression": projection} if projection else {}
    with ThreadPoolExecutor(min(PARALLEL, len(batches))) as pool:
        found = pool.map(lambda batch: list(_batch(client, table, batch, more, attempts, answered)), batches)
        return [item for part in found for item in part]


def _batch(
    client: Any,
    table: str,
    keys: list[Item],
    more: Item,
    attempts: int,
    answered: Callable[[int, float], None] | None,
) -> Iterator[Item]:
    left: Any = {table: {"Keys": keys, "ConsistentRead": True, **more}}
    for attempt in range(attempts):
        answer = client.batch_get_item(RequestItems=left, ReturnConsumedCapacity="TOTAL")
        found = answer["Responses"].get(table, [])
        yield from found
        if answered:
            answered(len(found), sum(one["CapacityUnits"] for one in answer.get("ConsumedCapacity", [])))
        left = answer.get("UnprocessedKeys")
        if not left:
            return
        backoff(attempt, first=0.1, longest=10.0)
    raise AwsError(
        f"DynamoDB left keys of {table} unread {attempts} times",
        reason="the table is throttled",
        next_step="run the same again in a minute, or ask for less",
    )

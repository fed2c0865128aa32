"""The aggregates table: versions, and the contributions that prove each event is counted once.

A version (entity, day, replay) is one row; each event it counts has a row beside it. Both are written in one
transaction: each contribution only if it is new, the version only if it still has the inputs it was computed from.
Many events of one version share a transaction: a version's row is written by one worker after another, so what an
entity with many events costs is its number of transactions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from botocore.exceptions import ClientError

from pik import events
from pik.pipeline import aws
from pik.pipeline.aggregators import aggregator
from pik.pipeline.backoff import backoff
from pik.pipeline.settings import Settings
from pik.pipeline.stores import Contended

_ATTEMPTS = 12
_REFUSED = "ConditionalCheckFailed"
# A transaction takes 100 items, and one of them is the version.
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
MOST_CONTRIBUTIONS = 99
# DynamoDB takes items of 400 KB, names included; what else a version's row holds has at most a few kilobytes.
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
MAX_STATE = 390_000


class TooLarge(Exception):
    """A version's state does not fit into one row; no retry changes that."""


@dataclass(frozen=True)
class Contribution:
    """What one message adds to one version: its event's state as JSON, without the payload, which may be large."""

    event_id: str
    entity_id: str
    day: str
    state: str
    replay_id: str
    s3_key: str
    message_id: str

    @property
    def version(self) -> tuple[str, str]:
        """The keys of the version's row: entity and day, and replay."""
        return events.aggregate_pk(self.entity_id, self.day), events.version_sk(self.replay_id)

    @property
    def row(self) -> dict[str, Any]:
        """The row that proves that the event is counted."""
        return {
            "PK": self.version[0],
            "SK": events.contribution_sk(self.replay_id, self.event_id),
            "event_id": self.event_id,
            "s3_key": self.s3_key,
            "message_id": self.message_id,
            "counted": events.now(),
        }


@dataclass(frozen=True)
class Aggregates:
    """The aggregates of one environment, as the processor writes them."""

    settings: Settings

    def add(self, contributions: Sequence[Contribution], has_time: Callable[[], bool] = lambda: True) -> set[str]:
        """Count events, at most 99, in the one version they belong to, all that are new or none.

        Returns:
            The ids of the events that were not counted before.

        Raises:
            Contended: others write the same version without end, or ``has_time`` says no; the messages may come again.
            TooLarge: the version would not fit into its row.

        """
        new = dict[str, Contribution]()
        for one in contributions:
            new.setdefault(one.event_id, one)
        added = self._joined(new.values())  # before the row is read, so that others have little time in between
        for attempt in range(_ATTEMPTS):
            if attempt and not has_time():
                break
            version = self._combined(list(new.values()), added)
            try:
                writes = self._writes([one.row for one in new.values()], version)
                aws.client("dynamodb").transact_write_items(TransactItems=writes)
                return set(new)
            except ClientError as error:
                codes = aws.cancellation_codes(error)
                if not aws.passes(["None" if code == _REFUSED else code for code in codes]):
                    raise
            if known := [event_id for event_id, code in zip(new, codes, strict=False) if code == _REFUSED]:
                new = {event_id: one for event_id, one in new.items() if event_id not in known}
                if not new:
                    return set()
                added = self._joined(new.values())
            # Some are counted already, another worker added to the same version first, or writes are throttled.
            backoff(attempt, first=0.01, longest=0.5)
        raise Contended(contributions[0].version[0])

    def _joined(self, new: Iterable[Contribution]) -> str:
        combine = aggregator(self.settings.aggregator).combine
        return json.dumps(reduce(combine, (json.loads(one.state) for one in new)), sort_keys=True)

    def _combined(self, new: Sequence[Contribution], added: str) -> dict[str, Any]:
        pk, sk = new[0].version
        found = aws.client("dynamodb").get_item(
            TableName=self.settings.aggregates_table,
            Key=aws.to_item({"PK": pk, "SK": sk}),
            ConsistentRead=True,
        )
        text, count = added, len(new)
        if "Item" in found:
            row = aws.from_item(found["Item"])
            state = aggregator(self.settings.aggregator).combine(json.loads(row["state"]), json.loads(added))
            text, count = json.dumps(state, sort_keys=True), count + int(row["input_count"])
        if len(text.encode()) > MAX_STATE:
            raise TooLarge(f"the aggregate would have {len(text.encode()):,} bytes; DynamoDB takes 400 KB in one row")
        return {
            "PK": pk,
            "SK": sk,
            "entity_id": new[0].entity_id,
            "day": new[0].day,
            "replay_id": new[0].replay_id,
            "aggregator": self.settings.aggregator,
            "state": text,
            "input_count": count,
            "updated": events.now(),
        }

    def _writes(self, rows: Sequence[dict[str, Any]], version: dict[str, Any]) -> list[dict[str, Any]]:
        table, before = self.settings.aggregates_table, version["input_count"] - len(rows)
        new = {"ConditionExpression": "attribute_not_exists(PK)"}
        unchanged: dict[str, Any] = new
        if before:
            unchanged = {
                "ConditionExpression": "input_count = :before AND aggregator = :aggregator",
                "ExpressionAttributeValues": aws.to_item({":before": before, ":aggregator": version["aggregator"]}),
            }
        contributions = [{"Put": {"TableName": table, "Item": aws.to_item(row), **new}} for row in rows]
        return [*contributions, {"Put": {"TableName": table, "Item": aws.to_item(version), **unchanged}}]

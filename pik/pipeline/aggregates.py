"""The aggregates table: versions, and the contributions that prove each event is counted once.

A version (entity, day, replay) is one row; each event it counts has a row beside it. Both are written in one
transaction: the contribution only if it is new, the version only if it still has the inputs it was computed from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from pik import events
from pik.events import Event
from pik.pipeline import aws
from pik.pipeline.aggregators import aggregator
from pik.pipeline.backoff import backoff
from pik.pipeline.settings import Settings
from pik.pipeline.stores import Contended

_ATTEMPTS = 12
# DynamoDB takes items of 400 KB, names included; what else a version's row holds has at most a few kilobytes.
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
MAX_STATE = 390_000


class TooLarge(Exception):
    """A version's state does not fit into one row; no retry changes that."""


@dataclass(frozen=True)
class Aggregates:
    """The aggregates of one environment, as the processor writes them."""

    settings: Settings

    def add(self, event: Event, replay_id: str, s3_key: str, message_id: str) -> bool:
        """Count ``event`` in its version; return False when it is counted already. Raise Contended or TooLarge."""
        contribution = {
            "PK": events.aggregate_pk(event.entity_id, event.date),
            "SK": events.contribution_sk(replay_id, event.event_id),
            "event_id": event.event_id,
            "s3_key": s3_key,
            "message_id": message_id,
            "counted": events.now(),
        }
        for attempt in range(_ATTEMPTS):
            version = self._combined(event, replay_id)
            try:
                aws.client("dynamodb").transact_write_items(TransactItems=self._writes(contribution, version))
                return True
            except ClientError as error:
                codes = aws.cancellation_codes(error)
                if codes[:1] == ["ConditionalCheckFailed"]:
                    return False
                if codes[1:] != ["ConditionalCheckFailed"] and not aws.passes(codes):
                    raise
            # Another worker added to the same version first, or writes are throttled: read it again.
            backoff(attempt, first=0.01, longest=0.5)
        raise Contended(contribution["PK"])

    def _combined(self, event: Event, replay_id: str) -> dict[str, Any]:
        pk, sk = events.aggregate_pk(event.entity_id, event.date), events.version_sk(replay_id)
        found = aws.client("dynamodb").get_item(
            TableName=self.settings.aggregates_table,
            Key=aws.to_item({"PK": pk, "SK": sk}),
            ConsistentRead=True,
        )
        chosen = aggregator(self.settings.aggregator)
        state, count = chosen.lift(event), 0
        if "Item" in found:
            row = aws.from_item(found["Item"])
            state, count = chosen.combine(json.loads(row["state"]), state), int(row["input_count"])
        text = json.dumps(state, sort_keys=True)
        if len(text.encode()) > MAX_STATE:
            raise TooLarge(f"the aggregate would have {len(text.encode()):,} bytes; DynamoDB takes 400 KB in one row")
        return {
            "PK": pk,
            "SK": sk,
            "entity_id": event.entity_id,
            "day": event.date,
            "replay_id": replay_id,
            "aggregator": self.settings.aggregator,
            "state": text,
            "input_count": count + 1,
            "updated": events.now(),
        }

    def _writes(self, contribution: dict[str, Any], version: dict[str, Any]) -> list[dict[str, Any]]:
        table, before = self.settings.aggregates_table, version["input_count"] - 1
        unchanged: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(PK)"}
        if before:
            unchanged = {
                "ConditionExpression": "input_count = :before AND aggregator = :aggregator",
                "ExpressionAttributeValues": aws.to_item({":before": before, ":aggregator": version["aggregator"]}),
            }
        new = {"ConditionExpression": "attribute_not_exists(PK)"}
        return [
            {"Put": {"TableName": table, "Item": aws.to_item(contribution), **new}},
            {"Put": {"TableName": table, "Item": aws.to_item(version), **unchanged}},
        ]

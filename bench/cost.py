"""From observed AWS calls to units and dollars. The rules are AWS's, the sizes are those of the requests seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from bench import prices


@dataclass
class Usage:
    """What one event used, on average: calls by name, and the units AWS bills."""

    calls: dict[str, float] = field(default_factory=dict)
    write_units: float = 0.0
    read_units: float = 0.0
    s3_puts: float = 0.0
    s3_gets: float = 0.0
    log_bytes: float = 0.0
    gb_seconds: float = 0.0

    @property
    def total_calls(self) -> float:
        """AWS calls the function makes for one event."""
        return sum(self.calls.values())

    def dollars_per_million(self) -> dict[str, float]:
        """Return dollars for a million such events, by service; API Gateway and the invocation itself included."""
        one = {
            "API Gateway": prices.API_REQUEST.dollars,
            "Lambda requests": prices.LAMBDA_REQUEST.dollars,
            "Lambda duration": self.gb_seconds * prices.LAMBDA_GB_SECOND.dollars,
            "DynamoDB writes": self.write_units * prices.WRITE_UNIT.dollars,
            "DynamoDB reads": self.read_units * prices.READ_UNIT.dollars,
            "S3 requests": self.s3_puts * prices.S3_PUT.dollars + self.s3_gets * prices.S3_GET.dollars,
            "CloudWatch Logs": self.log_bytes / 1e9 * prices.LOG_GB.dollars,
        }
        return {name: dollars * 1e6 for name, dollars in one.items()}


def write_units(operation: str, parameters: dict[str, Any], *, succeeded: bool, indexes: dict[str, int]) -> float:
    """Write units of one DynamoDB call.

    One unit a kilobyte of the item; two in a transaction; each index takes one more a kilobyte, and only when the write
    came about. A condition that fails is charged as the write would have been, without the indexes.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html
    """
    if operation == "PutItem":
        puts, factor = [parameters], 1
    elif operation == "TransactWriteItems":
        puts, factor = [next(iter(action.values())) for action in parameters["TransactItems"]], 2
    else:
        return 0.0
    total = 0.0
    for put in puts:
        kilobytes = math.ceil(item_bytes(put["Item"]) / 1024)
        total += kilobytes * (factor + (indexes.get(put["TableName"], 0) if succeeded else 0))
    return total


def read_units(operation: str, parameters: dict[str, Any], answer: dict[str, Any]) -> float:
    """Read units of a GetItem: one for 4 KB read consistently, half otherwise; a missing item counts as 4 KB."""
    if operation != "GetItem":
        return 0.0
    blocks = max(1, math.ceil(item_bytes(answer.get("Item", {})) / 4096))
    return blocks * (1.0 if parameters.get("ConsistentRead") else 0.5)


def item_bytes(item: dict[str, dict[str, Any]]) -> int:
    """Size of an item as DynamoDB counts it: the names and the values, in UTF-8.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: dict[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            size = len(content.encode())
        case "N":
            size = math.ceil(len(content.strip("-").replace(".", "").strip("0") or "0") / 2) + 1
        case "BOOL" | "NULL":
            size = 1
        case _:
            raise NotImplementedError(f"no handler stores values of type {kind}")
    return size

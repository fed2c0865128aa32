"""The AWS clients of the Lambda functions, made once per worker, and the few calls they share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config
from botocore.exceptions import ClientError

from pik.pipeline.backoff import backoff

# API Gateway gives up after 29 s, so a store that hangs must fail well before: three attempts of at most 3 s, and
# before the second and third botocore waits up to 1 s and 2 s. S3 waits 1 s more in each attempt at a write, for "100
# Continue". So S3 takes 15 s and DynamoDB 12 s at most, and both one after the other fit as well.
# https://docs.aws.amazon.com/boto3/latest/guide/retries.html#standard-retry-mode
CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 3},
    connect_timeout=2,
    read_timeout=3,
    max_pool_connections=10,
    tcp_keepalive=True,
)
CONFLICT = "TransactionConflict"  # another transaction writes the same item at this moment
_TRANSACTIONS = 8
_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


@cache
def client(service: str) -> Any:
    """Return the worker's one client for ``service``."""
    return boto3.client(service, config=CONFIG)


def warm(*services: str) -> None:
    """Make clients while the worker starts, in Lambda only: that time is not the first request's."""
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        for service in services:
            client(service)


def to_item(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of plain values as DynamoDB wants it."""
    return {name: _serialize(value) for name, value in row.items()}


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a DynamoDB item as plain values (numbers are Decimal)."""
    return {name: _deserialize(value) for name, value in item.items()}


def error_code(error: ClientError) -> str:
    """Return the code of an AWS error, such as ``PreconditionFailed``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_name(error: Exception) -> str:
    """Return an AWS error's code (a cancelled transaction's reasons too), or the name of a failure on the way there."""
    if not isinstance(error, ClientError):
        return type(error).__name__
    reasons = sorted({code for code in cancellation_codes(error) if code != "None"})
    return f"{error_code(error)} ({', '.join(reasons)})" if reasons else error_code(error)


def cancellation_codes(error: ClientError) -> list[str]:
    """Why each item of a cancelled transaction was refused; empty when ``error`` is something else.

    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
    """
    if error_code(error) != "TransactionCanceledException":
        return []
    return [str(reason.get("Code", "None")) for reason in error.response.get("CancellationReasons", [])]


def transact(writes: Sequence[Mapping[str, Any]]) -> None:
    """Write all or nothing; again when another transaction was in the way. Raise ClientError."""
    for attempt in range(_TRANSACTIONS - 1):
        try:
            client("dynamodb").transact_write_items(TransactItems=writes)
            return
        except ClientError as failure:
            if not passes(cancellation_codes(failure)):
                raise
            backoff(attempt, first=0.02, longest=0.5)
    client("dynamodb").transact_write_items(TransactItems=writes)


def passes(codes: Sequence[str]) -> bool:
    """Whether a cancelled transaction may go through when it is sent again: all its reasons are of that kind."""
    return bool(codes) and {*codes} <= {"None", CONFLICT, "ThrottlingError", "ProvisionedThroughputExceeded"}

"""What is in the stores of a unit test, for assertions."""

from __future__ import annotations

from typing import Any

import boto3

from pik.pipeline import aws, rows, settings


class World:
    """What is in the stores, for assertions."""

    def __init__(self, config: settings.Settings) -> None:
        self.config = config

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return every row of a table, ordered by key; of the events table with what a row leaves to its keys."""
        pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=name)
        found = [aws.from_item(item) for page in pages for item in page["Items"]]
        found = [rows.expand(row) for row in found] if name == "events" else found
        return sorted(found, key=lambda row: (row.get("PK", row.get("event_id")), row.get("SK", "")))

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Return key -> bytes of everything in the raw bucket."""
        s3 = boto3.client("s3")
        found = s3.list_objects_v2(Bucket="raw", Prefix=prefix).get("Contents", [])
        return {item["Key"]: s3.get_object(Bucket="raw", Key=item["Key"])["Body"].read() for item in found}

    def messages(self, url: str) -> list[dict[str, Any]]:
        """Return what waits in a queue (and hides it)."""
        result: list[dict[str, Any]] = []
        while (
            found := boto3.client("sqs")
            .receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
            .get("Messages")
        ):
            result += found
        return result

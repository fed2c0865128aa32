"""Whether the stores agree: each raw object has exactly the rows that follow from it, and no row is without one."""

from __future__ import annotations

from typing import Any

from pik import events
from pik.environments import Environment
from pik.events import ACCEPTED
from pik.pipeline import aws, rows
from pik.pipeline.parsing import parse_event
from pik.pipeline.rows import Arrival


def disagreements(env: Environment, outputs: dict[str, str], retention_days: int) -> list[str]:
    """Return a sentence for each disagreement between raw objects, events table and dedupe table."""
    table = {row["SK"]: row for row in scan(env, outputs["EventsTable"])}
    dedupe = {row["event_id"]: row for row in scan(env, outputs["DedupeTable"])}
    found = []
    for key, event, arrival in raw_objects(env, outputs["RawBucket"]):
        expected_dedupe, expected_row = rows.first_rows(event, arrival, retention_days, key)
        if dedupe.pop(event.event_id, None) != expected_dedupe:
            found.append(f"{key}: the dedupe row is not the one the raw object gives")
        if table.pop(expected_row["SK"], None) != expected_row:
            found.append(f"{key}: the events row is not the one the raw object gives")
        if key != events.raw_key(event):
            found.append(f"{key}: not at its own key")
    found += [f"dedupe row without a raw object: {event_id}" for event_id in dedupe]
    found += [f"first row without a raw object: {sk}" for sk, row in table.items() if row["status"] == ACCEPTED]
    return found


def scan(env: Environment, table: str) -> list[dict[str, Any]]:
    """Return every row of a table."""
    pages = env.client("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [aws.from_item(item) for page in pages for item in page["Items"]]


def raw_objects(env: Environment, bucket: str) -> list[tuple[str, Any, Arrival]]:
    """Return key, event and first arrival of every raw object."""
    s3, found = env.client("s3"), []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="raw/"):
        for item in page.get("Contents", []):
            stored = s3.get_object(Bucket=bucket, Key=item["Key"])
            body = stored["Body"].read()
            arrival = Arrival.from_object(stored["Metadata"], stored["ContentType"], body)
            found.append((item["Key"], parse_event(body, arrival.event_headers), arrival))
    return found

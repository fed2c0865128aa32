"""What the rows of usual callers weigh and cost: written, kept for a year, and what a stack costs that nobody uses.

Nothing is measured: the rows are those that ingest writes (:func:`pik.pipeline.rows.first_rows`), their sizes and units
follow from DynamoDB's rules (:mod:`bench.cost`), the resources from the template.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench import cost, prices
from pik import project
from pik.aws.template import parse
from pik.pipeline import aws, rows
from pik.pipeline.parsing import parse_event
from pik.pipeline.rows import Arrival

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
TIME = "2025-12-28T23:59:59.123456Z"
RETENTION_DAYS = 365
INDEXES = 2
ENTRY_BYTES = 100  # DynamoDB adds so much to every item, in the table and in each index
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
MONTH_MINUTES = 30 * 24 * 60
POLLERS, POLL_SECONDS = 5, 20  # connections with which Lambda polls an idle queue, and how long each waits
# Metrics that the functions send (EMF), and those of a method of an API with MetricsEnabled: billed while data come.
OWN_METRICS, METHOD_METRICS = 16, 5


@dataclass(frozen=True)
class Caller:
    """Who sends an event, and how it names things; the payload is 200 bytes each time."""

    name: str
    arn: str
    source: str
    event_type: str
    entity_id: str
    request_id: str = ""
    key: str = ""

    def rows(self) -> tuple[dict[str, Any], dict[str, Any], int]:
        """Return the dedupe row, the events row and the bytes of the object, as ingest writes them."""
        named = {"source": self.source, "event_type": self.event_type, "entity_id": self.entity_id}
        body = {**named, "event_time": "2025-12-28T23:58:00Z", "payload": {"text": "x" * 189}}
        if self.key:
            body["idempotency_key"] = self.key
        sent = json.dumps(body).encode()
        headers = {"content-type": "application/json", **({"x-request-id": self.request_id} if self.request_id else {})}
        arrival = Arrival.of(sent, headers, ingest_time=TIME, request_id=UUID, producer=self.arn)
        dedupe, row = rows.first_rows(parse_event(sent, headers), arrival, RETENTION_DAYS)
        return dedupe, row, len(sent)


_ACCOUNT = "111122223333"
CALLERS = (
    Caller("IAM user, short names", f"arn:aws:iam::{_ACCOUNT}:user/flights", "UA", "flight.departed", "UA-1545"),
    Caller(
        "SSO role, UUID entity, dotted names",
        f"arn:aws:sts::{_ACCOUNT}:assumed-role/AWSReservedSSO_DataEngineer_0123456789abcdef/ana.maria@example.com",
        "com.example.orders.eu-central-1",
        "com.example.orders.order.line-item.updated.v2",
        UUID,
        UUID,
    ),
    Caller(
        "Lambda role, UUID entity, dotted names",
        f"arn:aws:sts::{_ACCOUNT}:assumed-role/orders-prod-PublisherFunctionRole-1A2B3C4D5E6F/orders-prod-PublisherFunction",
        "com.example.orders.eu-central-1",
        "com.example.orders.order.line-item.updated.v2",
        UUID,
        UUID,
    ),
    Caller(
        "the same, with an idempotency key",
        f"arn:aws:sts::{_ACCOUNT}:assumed-role/orders-prod-PublisherFunctionRole-1A2B3C4D5E6F/orders-prod-PublisherFunction",
        "com.example.orders.eu-central-1",
        "com.example.orders.order.line-item.updated.v2",
        UUID,
        UUID,
        f"{UUID}-2025-12-28T23:58:00Z",
    ),
)
WRITTEN = ["caller", "row, bytes", "dedupe row, bytes", "write units", "$ per million written"]
KEPT = ["a million events kept", "GB in DynamoDB", "$ a month: tables", "recovery", "raw objects", "total"]
IDLE = ["a stack that nobody uses", "how many", "$ a month"]


def run(*, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Work out the tables. The same every time, so ``quick`` changes nothing."""
    say("the rows of usual callers")
    return {
        "bench": "callers",
        "started": "",
        "quick": quick,
        "note": "First arrivals, worked out from the rows that ingest writes; prices as below.",
        "tables": [
            ["Written", WRITTEN, [_written(one) for one in CALLERS]],
            ["Kept: $ a month for each million events", KEPT, [_kept(one) for one in CALLERS]],
            ["Idle", IDLE, idle()],
            ["Prices", ["what", "US dollars", "AWS's page", "read at", "on"], _prices()],
        ],
    }


def units(caller: Caller) -> float:
    """Write units of a first arrival: one transaction of both rows, and the indexes."""
    dedupe, row, _ = caller.rows()
    puts = [{"Put": {"TableName": name, "Item": aws.to_item(one)}} for name, one in (("d", dedupe), ("e", row))]
    return cost.write_units("TransactWriteItems", {"TransactItems": puts}, succeeded=True, indexes={"e": INDEXES})


def _sizes(caller: Caller) -> tuple[int, int, int]:
    dedupe, row, body = caller.rows()
    return cost.item_bytes(aws.to_item(row)), cost.item_bytes(aws.to_item(dedupe)), body


def _written(caller: Caller) -> list[str]:
    row, dedupe, _ = _sizes(caller)
    dollars = units(caller) * prices.WRITE_UNIT.dollars * 1e6
    return [caller.name, f"{row:,}", f"{dedupe:,}", f"{units(caller):g}", f"{dollars:.2f}"]


def _kept(caller: Caller) -> list[str]:
    row, dedupe, body = _sizes(caller)
    # Indexes project everything, and are not part of what can be recovered.
    tables = (row + dedupe + 2 * ENTRY_BYTES) * 1e6 / 2**30
    gigabytes = tables + INDEXES * (row + ENTRY_BYTES) * 1e6 / 2**30
    dollars = (gigabytes * prices.TABLE_GB.dollars, tables * prices.RECOVERY_GB.dollars)
    objects = body * 1e6 / 2**30 * prices.S3_GB.dollars
    figures = (gigabytes, *dollars, objects, sum(dollars) + objects)
    return [caller.name, *(f"{figure:.2f}" for figure in figures)]


def idle() -> list[list[str]]:
    """What is billed without any traffic, in the last phase; and the metrics, which are billed while data come."""
    resources = parse(project.TEMPLATE.read_text(encoding="utf-8"))["Resources"].values()
    kinds = [resource["Type"] for resource in resources]
    polls = POLLERS * MONTH_MINUTES * 60 // POLL_SECONDS
    counted = (
        ("alarms", kinds.count("AWS::CloudWatch::Alarm"), prices.ALARM),
        ("dashboard", kinds.count("AWS::CloudWatch::Dashboard"), prices.DASHBOARD),
        ("receives of the event source mapping (phase 3)", polls, prices.SQS_REQUEST),
    )
    lines = [[name, f"{count:,}", f"{count * price.dollars:.2f}"] for name, count, price in counted]
    total = sum(count * price.dollars for _, count, price in counted)
    metrics = OWN_METRICS + METHOD_METRICS * kinds.count("AWS::Serverless::Api")
    lines.append(["total", "", f"{total:.2f}"])
    return [*lines, ["in use: custom metrics, at most", f"{metrics}", f"{metrics * prices.METRIC.dollars:.2f}"]]


def _prices() -> list[list[str]]:
    return [[p.unit, f"{p.dollars:.10f}".rstrip("0").rstrip("."), p.page, p.read_at, p.read] for p in prices.KEEPING]

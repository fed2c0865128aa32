"""The naive ingest: dedupe, raw, index, one after the other, without conditions.

It has the same tables with the same indexes, the same libraries, logs and metrics, and answers in the same form. What
differs is the order of the writes and the guarantees. It is as fast as this order allows: the unconditional put of the
dedupe row returns what it replaced, which says whether the event is known without another call.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger()
metrics = Metrics(namespace="PipelineInvestigationKit")
metrics.set_default_dimensions(environment="bench")
s3 = boto3.client("s3")
dynamodb = boto3.client("dynamodb")


@metrics.log_metrics
@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_REST, clear_state=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda entry point."""
    body = base64.b64decode(event["body"]) if event.get("isBase64Encoded") else event["body"].encode()
    data = json.loads(body)
    now = datetime.now(UTC)
    payload = json.dumps(data["payload"], sort_keys=True)
    name = "|".join([data["source"], data["event_type"], data["entity_id"], data["event_time"], payload])
    event_id = hashlib.sha256(name.encode()).hexdigest()
    key = f"raw/{data['source']}/{data['event_type']}/{data['event_time'][:10]}/{event_id}.json"
    expires_at = str(int((now + timedelta(days=365)).timestamp()))

    claimed = dynamodb.put_item(
        TableName=os.environ["DEDUPE_TABLE"],
        Item={"event_id": {"S": event_id}, "s3_key": {"S": key}, "expires_at": {"N": expires_at}},
        ReturnValues="ALL_OLD",
    )
    status = "DUPLICATE" if "Attributes" in claimed else "ACCEPTED"
    if status == "ACCEPTED":
        s3.put_object(Bucket=os.environ["RAW_BUCKET"], Key=key, Body=body, ContentType="application/json")
        dynamodb.put_item(
            TableName=os.environ["EVENTS_TABLE"], Item=_row(data, event_id, key, now.isoformat(), expires_at)
        )
    metrics.add_metric(status.capitalize(), MetricUnit.Count, 1)
    logger.info("arrival", status=status, event_id=event_id, s3_key=key)
    answer = {"status": status, "event_id": event_id, "s3_key": key, "ingest_time": now.isoformat(), "dry_run": False}
    return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": json.dumps(answer)}


def _row(data: dict[str, Any], event_id: str, key: str, now: str, expires_at: str) -> dict[str, Any]:
    texts = {
        "PK": f"ENTITY#{data['entity_id']}",
        "SK": f"TS#{data['event_time']}#EID#{event_id}",
        "GSI1PK": f"{data['source']}#{data['event_type']}#{data['event_time'][:10]}",
        "GSI1SK": f"{now}#{event_id}",
        "GSI2PK": f"INGEST#{now[:10]}",
        "GSI2SK": f"{now}#{event_id}",
        "status": "ACCEPTED",
        "event_id": event_id,
        "source": data["source"],
        "event_type": data["event_type"],
        "entity_id": data["entity_id"],
        "event_time": data["event_time"],
        "s3_key": key,
        "ingest_time": now,
    }
    return {**{name: {"S": text} for name, text in texts.items()}, "expires_at": {"N": expires_at}}

"""Ingest: one event in, kept for good before it is acknowledged.

The conditional put of the raw object decides who was first. The rows in DynamoDB are derived from it, and whoever
finds a raw object without them writes them, so a crash between two writes leaves nothing that the producer's retry
does not mend. Success is answered only after the rows are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit

from pik import events
from pik.events import ACCEPTED, CONFLICT, DUPLICATE, REJECTED, Event
from pik.pipeline import aws, rows
from pik.pipeline.headers import refuse_misspelt
from pik.pipeline.http import Request, answer, error, guarded, try_again
from pik.pipeline.parsing import Rejected, parse_event
from pik.pipeline.rows import Arrival
from pik.pipeline.settings import METRICS_NAMESPACE, NOT_LOGGED, Settings, settings
from pik.pipeline.stores import Contended, Stores
from pik.pipeline.tracing import traced

logger = Logger()
metrics = Metrics(namespace=METRICS_NAMESPACE)
metrics.set_default_dimensions(environment=settings().environment or "none")

aws.warm("s3", "dynamodb")


@metrics.log_metrics
@traced
@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_REST, clear_state=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda entry point for ``POST /ingest``."""
    logger.remove_keys(NOT_LOGGED)
    request = Request.of(event)
    return guarded(request, lambda: ingest(request, settings()), logger, metrics)


def ingest(request: Request, config: Settings) -> dict[str, Any]:
    """Take one request to its answer: ACCEPTED, DUPLICATE, CONFLICT or REJECTED."""
    dry_run = request.dry_run or config.dry_run
    arrival = Arrival.of(
        request.body,
        request.headers,
        ingest_time=events.now(),
        request_id=request.request_id,
        producer=request.caller,
    )
    try:
        return _answered(Stores(config), request, arrival, dry_run)
    except Contended as what:
        logger.warning("contended", what=str(what))
        return try_again("contended", "the same event arrives many times at once", request_id=arrival.request_id)


def _answered(stores: Stores, request: Request, arrival: Arrival, dry_run: bool) -> dict[str, Any]:
    try:
        refuse_misspelt(request.headers)
        # From the headers that are kept, and no others, so that it is the same event when it is read again.
        event = parse_event(request.body, arrival.event_headers, new=True)
        arrival.to_metadata()
    except Rejected as reason:
        return _reject(stores, request.body, arrival, reason, dry_run)
    status, s3_key, more = _predicted(stores, event) if dry_run else _accept(stores, event, request.body, arrival)
    return _answer(event, arrival, status, s3_key, dry_run, more)


def _accept(stores: Stores, event: Event, body: bytes, arrival: Arrival) -> tuple[str, str, dict[str, Any]]:
    # An idempotency key may come back with another event time, and so with another raw key: look before writing.
    known = stores.known(event.event_id) if event.idempotency_key is not None else None
    key = events.raw_key(event)
    while known is None:
        if stores.put_if_absent(key, body, arrival):
            if stores.index(event, arrival, key):
                return ACCEPTED, key, {}
            known = stores.known(event.event_id)
            break
        if known := stores.known(event.event_id):
            break
        first_event, first = stores.read_raw(key)
        if stores.is_over(first):
            # Its retention is over and the lifecycle has not removed it yet: this is a first arrival again.
            key = events.next_raw_key(key, first.ingest_time)
            continue
        # Raw without rows: an arrival before us got no further. Finish what it began, and it is the first, unless one
        # with the same idempotency key and another event time, and so another raw key, was indexed meanwhile.
        if stores.index(first_event, first, key):
            known, _ = rows.first_rows(first_event, first, stores.settings.retention_days, key)
        break
    known = known or stores.known(event.event_id)
    if known is None:
        raise Contended(event.event_id)
    return _repeat(stores, event, body, arrival, known)


def _repeat(
    stores: Stores, event: Event, body: bytes, arrival: Arrival, known: Mapping[str, Any]
) -> tuple[str, str, dict[str, Any]]:
    status, key, more = _compare(event, known)
    # Another arrival wrote our rows for us. A caller can choose the request's id, so it alone does not say that:
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-mapping-template-reference.html
    ours = (known["request_id"], known["ingest_time"]) == (arrival.request_id, arrival.ingest_time)
    if ours and status == DUPLICATE:
        return ACCEPTED, known["s3_key"], {}
    until = known["expires_at"]
    if status == CONFLICT:
        key, until = _keep_conflict(stores, event, body, arrival)
    stores.add_arrival(rows.arrival_row(event, arrival, stores.settings.retention_days, status, key, known, until))
    return status, key, more


def _keep_conflict(stores: Stores, event: Event, body: bytes, arrival: Arrival) -> tuple[str, int]:
    """Keep the body of a conflict; return its key, and the end of its retention: the same bytes are kept once."""
    key = events.conflict_key(event, arrival.content_sha256)
    while not stores.put_if_absent(key, body, arrival):
        _, kept = stores.read_raw(key)
        if not stores.is_over(kept):
            return key, stores.end_of(kept)
        key = events.next_raw_key(key, kept.ingest_time)
    return key, stores.end_of(arrival)


def _compare(event: Event, known: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    mine = {"payload": event.payload_sha256, "event_time": event.exact_time}
    first = {"payload": known["payload_sha256"], "event_time": known["exact_time"]}
    differs = [name for name in mine if mine[name] != first[name]]
    more = {"first_ingest_time": known["ingest_time"], "first_s3_key": known["s3_key"]}
    if not differs:
        return DUPLICATE, known["s3_key"], more
    return CONFLICT, known["s3_key"], {**more, "differs": differs}


def _predicted(stores: Stores, event: Event) -> tuple[str, str, dict[str, Any]]:
    """Say what would happen; reads only."""
    known = stores.known(event.event_id)
    return _compare(event, known) if known else (ACCEPTED, events.raw_key(event), {})


def _reject(stores: Stores, body: bytes, arrival: Arrival, reason: Rejected, dry_run: bool) -> dict[str, Any]:
    identifier = events.rejected_id(arrival.ingest_time, arrival.content_sha256)
    if not dry_run:
        kept, key = replace(arrival, headers={}), events.rejected_key(identifier)
        why = {"code": reason.code, "reason": quote(reason.message[:200], safe=" ")[:600]}
        if arrival.headers:  # part of the event, and perhaps too large for metadata
            stores.put_if_absent(f"{key}.headers.json", json.dumps(dict(arrival.headers)).encode(), kept)
        stores.put_if_absent(key, body, kept, **why)
        metrics.add_metric("Rejected", MetricUnit.Count, 1)
    logger.warning("rejected", code=reason.code, reason=reason.message, rejected_id=identifier, dry_run=dry_run)
    return error(
        reason.status,
        reason.code,
        reason.message,
        reason.do_this,
        status=REJECTED,
        rejected_id=None if dry_run else identifier,
        request_id=arrival.request_id,
        dry_run=dry_run,
    )


def _answer(
    event: Event, arrival: Arrival, status: str, s3_key: str, dry_run: bool, more: dict[str, Any]
) -> dict[str, Any]:
    lag = events.lag_ms(event.event_time, arrival.ingest_time)
    if not dry_run:
        metrics.add_metric(status.capitalize(), MetricUnit.Count, 1)
        metrics.add_metric("IngestLag", MetricUnit.Milliseconds, lag)
    body = {
        "status": status,
        "event_id": event.event_id,
        "event_time": event.event_time,
        "ingest_time": arrival.ingest_time,
        "ingest_lag_ms": lag,
        "s3_key": s3_key,
        "request_id": arrival.request_id,
        "dry_run": dry_run,
        **more,
    }
    logger.info("arrival", **{k: body[k] for k in ("status", "event_id", "ingest_lag_ms", "s3_key", "dry_run")})
    if status != CONFLICT:
        return answer(200, body)
    message = f"the idempotency key is taken by an event that differs in {' and '.join(more['differs'])}"
    do_this = "use a new key, or send what was sent first" + ("" if dry_run else "; this body is kept")
    return error(409, "conflict", message, do_this, **body)

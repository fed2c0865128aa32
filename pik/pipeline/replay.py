"""Replay: send references to an entity's events of a half-open window to the queue, every one of them.

The selection is read to its end, page by page. What does not fit into one request (a ``limit``, or the function's time)
is never dropped silently: the answer says ``complete: false`` and carries a cursor for the next request.

What is known of a replay stands in the replays table: ``HEAD``, the selection; and a row for each request, keyed by
where it began and saying where the next one begins, so that following them from the start counts every event once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import ClientError

from pik import events
from pik.pipeline import aws, queue, runs
from pik.pipeline.headers import KEY, refuse_misspelt
from pik.pipeline.http import STORE_FAILURES, Request, answer, error, guarded, store_unavailable, try_again
from pik.pipeline.selection import Selection, parse_selection
from pik.pipeline.settings import METRICS_NAMESPACE, NOT_LOGGED, Settings, settings
from pik.pipeline.strict_json import Rejected, parse_json
from pik.pipeline.tracing import traced

logger = Logger()
metrics = Metrics(namespace=METRICS_NAMESPACE)
metrics.set_default_dimensions(environment=settings().environment or "none")

# Time kept back to send the last batch and to answer, also when the queue hangs: 12 s at most (aws.CONFIG).
_RESERVE_MS = 13_000
_MOST_ROWS = 500  # rows looked at before the cursor moves, when few of them match
_HEAD = "HEAD"
_GO_ON = "send the same selection again with this replay_id and cursor; without them it is another replay"

aws.warm("dynamodb", "s3", "sqs")


@metrics.log_metrics
@traced
@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_REST, clear_state=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda entry point for ``POST /replay``."""
    logger.remove_keys(NOT_LOGGED)
    request = Request.of(event)
    return guarded(request, lambda: replay(request, settings(), lambda: _has_time(context)), logger, metrics)


def _has_time(context: Any) -> bool:
    return bool(context.get_remaining_time_in_millis() > _RESERVE_MS)


@dataclass
class _Progress:
    """How far one request has come. Nothing here runs ahead of what the queue has taken."""

    after: str
    scanned: int = 0
    matched: int = 0
    sent: int = 0
    complete: bool = False
    failed: int = 0
    days: Counter[str] = field(default_factory=Counter)


def replay(request: Request, config: Settings, has_time: Callable[[], bool]) -> dict[str, Any]:
    """Answer one replay request; ``has_time`` says whether another batch may begin. Raise Rejected."""
    refuse_misspelt(request.headers)
    if KEY in request.headers:
        do_this = "send replay_id in the body: what is sent again under it is counted once"
        raise Rejected("idempotency_key_not_taken", "POST /replay takes no Idempotency-Key header", do_this)
    document = parse_json(request.body)
    if isinstance(document, dict) and "action" in document:
        return _act(document, request, config, has_time)
    selection = parse_selection(document, dry_run=request.dry_run or config.dry_run)
    progress = _Progress(after=selection.after)
    try:
        if not selection.dry_run and not _claim(selection, request, config):
            do_this = "leave replay_id out for a new one, or repeat the selection it was made for"
            return error(409, "replay_id_taken", f"{selection.replay_id} replays another selection", do_this)
        _run(selection, config, has_time, progress)
        if not selection.dry_run:
            _record(selection, progress, request, config)
            metrics.add_metric("ReplaySent", MetricUnit.Count, progress.sent)
    except STORE_FAILURES as failure:
        return _interrupted(selection, progress, request, config, failure)
    body = _body(selection, progress)
    logger.info("replay", **body)
    if progress.failed:
        message = f"the queue did not take {progress.failed} messages"
        return try_again("queue_unavailable", message, _GO_ON, **body)
    return answer(200, body)


def _act(document: dict[str, Any], request: Request, config: Settings, has_time: Callable[[], bool]) -> dict[str, Any]:
    """Answer what is asked of a manifest's run (:mod:`pik.pipeline.runs`)."""
    answered = runs.act(document, request, config, has_time)
    said = json.loads(answered["body"])
    logger.info("run", **{"action": document["action"], "status": answered["statusCode"], **said})
    if said.get("sent"):
        metrics.add_metric("ReplaySent", MetricUnit.Count, said["sent"])
    return answered


def _interrupted(
    selection: Selection, progress: _Progress, request: Request, config: Settings, failure: Exception
) -> dict[str, Any]:
    """Answer that a store failed half-way, with all that is needed to go on: without it, a repeat is another replay."""
    if not selection.dry_run and (progress.after != selection.after or progress.complete):
        try:
            _record(selection, progress, request, config)
        except STORE_FAILURES:
            progress = _Progress(after=selection.after)  # not written down, so the next request begins where we began
    return store_unavailable(failure, logger, metrics, do_this=_GO_ON, **_body(selection, progress))


def _run(selection: Selection, config: Settings, has_time: Callable[[], bool], progress: _Progress) -> None:
    batch: list[dict[str, Any]] = []
    in_batch = matched = 0
    epoch = events.epoch(events.now())
    for row in selection.rows(config.events_table):
        wanted = selection.matches(row, epoch)
        if wanted and selection.limit == matched:
            break  # there is more: the limit counts matches, and this one is beyond it
        matched += wanted
        batch.append({**row, "wanted": wanted})
        in_batch += wanted
        if in_batch == queue.BATCH or len(batch) == _MOST_ROWS:
            if not _send(selection, config, batch, progress) or not has_time():
                return
            batch, in_batch = [], 0
    else:
        progress.complete = _send(selection, config, batch, progress)
        return
    _send(selection, config, batch, progress)


def _send(selection: Selection, config: Settings, batch: list[dict[str, Any]], progress: _Progress) -> bool:
    """Send the wanted rows of a batch and move ``after`` behind what is dealt with; return whether all were taken."""
    wanted = [row for row in batch if row["wanted"]]
    failed: set[int] = set()
    if wanted and not selection.dry_run:
        bucket, entity = config.raw_bucket, selection.entity_id
        messages = [
            queue.message(row, replay_id=selection.replay_id, entity_id=entity, bucket=bucket) for row in wanted
        ]
        failed = queue.send(config.queue_url, [queue.dumps(message) for message in messages]).refused
        progress.sent += len(wanted) - len(failed)
    refused = {wanted[position]["SK"] for position in failed}
    for row in batch:
        if row["SK"] in refused:
            progress.failed = len(failed)
            return False
        progress.after = row["SK"]
        progress.scanned += 1
        progress.matched += row["wanted"]
        if row["wanted"] and row["status"] == events.ACCEPTED:
            progress.days[row["event_time"][:10]] += 1
    return True


def _body(selection: Selection, progress: _Progress) -> dict[str, Any]:
    return {
        "replay_id": selection.replay_id,
        "entity_id": selection.entity_id,
        "start_time": selection.start_time,
        "end_time": selection.end_time,
        "scanned": progress.scanned,
        "matched": progress.matched,
        "sent": progress.sent,
        "complete": progress.complete,
        "cursor": None if progress.complete else selection.cursor(progress.after),
        "include_duplicates": selection.include_duplicates,
        "dry_run": selection.dry_run,
    }


def _claim(selection: Selection, request: Request, config: Settings) -> bool:
    """Write down what this replay is, before anything is sent; return False when its id stands for something else."""
    row = {
        "PK": events.replay_pk(selection.replay_id),
        "SK": _HEAD,
        "replay_id": selection.replay_id,
        "entity_id": selection.entity_id,
        "start_time": selection.start_time,
        "end_time": selection.end_time,
        "include_duplicates": selection.include_duplicates,
        "selection_sha256": selection.digest,
        "requested_by": request.caller,
        "created": events.now(),
    }
    # First the row by which the entity's replays are found, so that none is without.
    of_entity = {"PK": events.entity_replays_pk(selection.entity_id), "SK": row["PK"], "replay_id": row["replay_id"]}
    aws.client("dynamodb").put_item(TableName=config.replays_table, Item=aws.to_item(of_entity))
    try:
        aws.client("dynamodb").put_item(
            TableName=config.replays_table,
            Item=aws.to_item(row),
            ConditionExpression="attribute_not_exists(PK)",
        )
    except ClientError as failure:
        if aws.error_code(failure) != "ConditionalCheckFailedException":
            raise
        found = aws.client("dynamodb").get_item(
            TableName=config.replays_table,
            Key=aws.to_item({"PK": row["PK"], "SK": _HEAD}),
            ConsistentRead=True,
        )
        return bool(aws.from_item(found["Item"])["selection_sha256"] == selection.digest)
    return True


# What a repeat may replace, by whether it came to the end of the window. The row of a place says where the next request
# begins, and somebody may have gone on from there: it moves only when nothing was sent, or when nothing is left to go
# on with. A repeat that ended at the same place may have sent more: what arrived since.
_REPLACES = {
    True: "#next < :next OR (#next = :next AND (#matched < :matched OR (#matched = :matched AND complete = :no)))",
    False: "(complete = :no AND (#next = :place OR (#next = :next AND #matched < :matched)))",
}


def _record(selection: Selection, progress: _Progress, request: Request, config: Settings) -> None:
    """Write down how far the request came. A repeat changes that only as :data:`_REPLACES` says, and goes on there."""
    row = {
        "PK": events.replay_pk(selection.replay_id),
        "SK": f"PAGE#{selection.after or 'START'}",
        "next": progress.after,
        "complete": progress.complete,
        "scanned": progress.scanned,
        "matched": progress.matched,
        "sent": progress.sent,
        "days": dict(progress.days),
        "request_id": request.request_id,
        "finished": events.now(),
    }
    try:
        aws.client("dynamodb").put_item(
            TableName=config.replays_table,
            Item=aws.to_item(row),
            ConditionExpression=f"attribute_not_exists(PK) OR {_REPLACES[progress.complete]}",
            ExpressionAttributeNames={"#next": "next", "#matched": "matched"},
            ExpressionAttributeValues=aws.to_item(
                {":next": progress.after, ":matched": progress.matched, ":no": False}
                | ({} if progress.complete else {":place": selection.after})
            ),
        )
    except ClientError as failure:
        if aws.error_code(failure) != "ConditionalCheckFailedException":
            raise
        key = aws.to_item({"PK": row["PK"], "SK": row["SK"]})
        found = aws.client("dynamodb").get_item(TableName=config.replays_table, Key=key, ConsistentRead=True)
        earlier = aws.from_item(found["Item"])
        progress.after, progress.complete = earlier["next"], earlier["complete"]

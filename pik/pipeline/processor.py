"""Processor: count every replayed event exactly once, in an aggregate of its entity, day and replay.

A message is deleted only when its effect is durable. What can never succeed (an unreadable message, a missing or
altered raw object) goes at once to the dead-letter queue, with the reason; what may succeed later goes back. Events of
one entity, day and replay are counted together, and what is wrong with one of them is no other's harm.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from botocore.exceptions import BotoCoreError, ClientError

from pik.events import RAW_FOLDERS, Event, is_replay_id
from pik.pipeline import aws
from pik.pipeline.aggregates import MOST_CONTRIBUTIONS, Aggregates, Contribution, TooLarge
from pik.pipeline.aggregators import aggregator, fold
from pik.pipeline.parsing import parse_event
from pik.pipeline.queue import CODE_ATTRIBUTE, MESSAGE_FIELDS, MESSAGE_ID_ATTRIBUTE, REASON_ATTRIBUTE
from pik.pipeline.rows import Arrival
from pik.pipeline.settings import METRICS_NAMESPACE, NOT_LOGGED, Settings, settings
from pik.pipeline.stores import Contended
from pik.pipeline.strict_json import Rejected, is_unicode, shown
from pik.pipeline.tracing import traced

logger = Logger()
metrics = Metrics(namespace=METRICS_NAMESPACE)
metrics.set_default_dimensions(environment=settings().environment or "none")

_MAX_KEY = 1024  # bytes, S3's limit: a longer key is an error of its own there, and not a missing object
_MISSING = {"NoSuchKey", "404"}  # a role without s3:ListBucket would get 403 instead; ours has it
# Seconds of the function's time. Calls to S3 and DynamoDB take 15 s and 12 s at most (aws.CONFIG): with less left, no
# more messages are read. Reading stops after five seconds, and what was read is counted, before it goes on.
RESERVE, _ROUND = 15.0, 5.0
_LAST_CALL = 3.0  # with less time left, what could not be counted is not tried again


# These say nothing about the events that are counted together.
_MAY_PASS = (Contended, ClientError, BotoCoreError)


class Poison(Exception):
    """This message can never be processed: a stable ``code`` and the reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@metrics.log_metrics
@traced
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda entry point for the queue's event source mapping: a partial batch response."""
    logger.remove_keys(NOT_LOGGED)
    config = settings()
    if config.dry_run or event.get("dry_run") is True:
        return predict(event, config)
    return process_batch(event, config, lambda: context.get_remaining_time_in_millis() / 1000)


def process_batch(
    event: Mapping[str, Any], config: Settings, left: Callable[[], float] = lambda: math.inf
) -> dict[str, Any]:
    """Count a batch of messages; the answer names those that go back to the queue. ``left()``: seconds that remain.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
    """
    records = {raw["messageId"]: SQSRecord(raw) for raw in event["Records"]}
    waiting, back = list(records), set[str]()
    while waiting and (began := left()) > RESERVE:
        read = list[Contribution]()
        while waiting and left() >= max(began - _ROUND, RESERVE):
            name = waiting.pop(0)
            try:
                read.append(contribution(records[name].body, name, config))
            except Exception as error:
                _put_back({name}, records, error, config, back)
        for number, group in enumerate(_groups(read)):
            if number and left() <= _LAST_CALL:
                _put_back({one.message_id for one in group}, records, None, config, back)
                continue
            for names, why in _count(group, config, lambda: left() > _LAST_CALL):
                _put_back(names, records, why, config, back)
    if waiting:
        logger.warning("no time left; back to the queue", messages=len(waiting))
        _put_back(set(waiting), records, None, config, back)
    metrics.add_metric("TransientFailures", MetricUnit.Count, len(back))
    return {"batchItemFailures": [{"itemIdentifier": name} for name in records if name in back]}


def _groups(read: Iterable[Contribution]) -> Iterator[list[Contribution]]:
    """The events of each version, as many as one transaction takes."""
    versions: dict[tuple[str, str], list[Contribution]] = {}
    for one in read:
        versions.setdefault(one.version, []).append(one)
    for group in versions.values():
        for start in range(0, len(group), MOST_CONTRIBUTIONS):
            yield group[start : start + MOST_CONTRIBUTIONS]


def contribution(body: str, message_id: str, config: Settings) -> Contribution:
    """Return what one message adds, proven to be the event it names; raise Poison."""
    message = parse_message(body)
    event = read_event(message, config)
    return Contribution(
        event_id=event.event_id,
        entity_id=event.entity_id,
        day=event.date,
        state=json.dumps(aggregator(config.aggregator).lift(event)),
        replay_id=message["replay_id"],
        s3_key=message["s3_key"],
        message_id=message_id,
    )


def _count(
    group: Sequence[Contribution], config: Settings, has_time: Callable[[], bool]
) -> Iterator[tuple[set[str], Exception]]:
    """Count events of one version together; yield the messages of those that could not be counted, and why."""
    try:
        new = Aggregates(config).add(group, has_time)
    except Exception as error:
        why = error
    else:
        for one in group:
            _tell_counted(one, new)
        return
    if len(group) == 1 or _may_pass(why):
        yield {one.message_id for one in group}, why
        return
    # One of them may be why: the aggregate grows too large with it, or the aggregator fails.
    half = len(group) // 2
    yield from _count(group[:half], config, has_time)
    yield from _count(group[half:], config, has_time)


def _may_pass(error: Exception) -> bool:
    """Whether an error says nothing about the events that were to be counted."""
    codes = {aws.error_code(error), *aws.cancellation_codes(error)} if isinstance(error, ClientError) else set()
    return isinstance(error, _MAY_PASS) and not codes & {"ValidationException", "ValidationError"}


def _tell_counted(one: Contribution, new: set[str]) -> None:
    word = "counted" if one.event_id in new else "counted before"
    new.discard(one.event_id)  # two messages of one event may come together
    metrics.add_metric("Counted" if word == "counted" else "CountedBefore", MetricUnit.Count, 1)
    logger.info(word, message_id=one.message_id, event_id=one.event_id, replay_id=one.replay_id)


def _put_back(
    names: set[str], records: Mapping[str, SQSRecord], error: Exception | None, config: Settings, back: set[str]
) -> None:
    """Add messages that are not counted to those that go ``back`` to the queue, or set them aside with the reason."""
    for number, name in enumerate(sorted(names)):
        poison = error if isinstance(error, Poison) else None
        if isinstance(error, TooLarge):
            poison = Poison("aggregate_too_large", str(error))
        if poison is None:
            if error:
                trace = error if number == 0 else None  # of all of them it is the same
                logger.error("not processed; back to the queue", message_id=name, exc_info=trace)
            if not _is_last(records[name], config):
                back.add(name)
                continue
            # After this receive SQS itself would move the message, and could not say why.
            last = aws.error_name(error) if error else "its turn did not come in time"
            reason = f"not processed in {config.max_receive_count} receives; the last time: {last}"
            poison = Poison("retries_exhausted", reason)
        try:
            _set_aside(records[name], poison, config)
        except Exception:
            logger.exception("not set aside; back to the queue", message_id=name)
            back.add(name)


def _is_last(record: SQSRecord, config: Settings) -> bool:
    received = int(record.raw_event.get("attributes", {}).get("ApproximateReceiveCount", 0))
    return received >= config.max_receive_count > 0


def parse_message(body: str) -> dict[str, Any]:
    """Return a replay message; raise Poison. Anybody who may send to the queue can write one."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Poison("not_json", f"the message is not JSON: {type(error).__name__}") from None
    if not isinstance(message, dict) or type(message.get("v")) is not int or message["v"] != 1:
        raise Poison("not_a_replay_message", "the message is not a replay message of version 1")
    for name in ("replay_id", "s3_bucket", *MESSAGE_FIELDS):
        if not isinstance(message.get(name), str) or not message[name] or not is_unicode(message[name]):
            raise Poison("bad_message", f"the message has no {name}, or not a valid one")
    if not is_replay_id(message["replay_id"]):
        raise Poison("bad_message", f"{shown(message['replay_id'])} is not the id of a replay")
    if not message["s3_key"].startswith(RAW_FOLDERS) or len(message["s3_key"].encode()) > _MAX_KEY:
        # The processor may read nothing else, so S3 would say "forbidden", for ever, and never "missing".
        raise Poison("foreign_key", f"{shown(message['s3_key'])} is not where raw objects are kept")
    return message


def read_event(message: Mapping[str, Any], config: Settings) -> Event:
    """Return the event a message refers to, proven to be the one it names; raise Poison."""
    if message["s3_bucket"] != config.raw_bucket:
        raise Poison("foreign_bucket", f"{shown(message['s3_bucket'])} is not this environment's raw bucket")
    try:
        found = aws.client("s3").get_object(Bucket=config.raw_bucket, Key=message["s3_key"])
    except ClientError as error:
        if aws.error_code(error) not in _MISSING:
            raise
        raise Poison("raw_missing", f"there is no raw object {shown(message['s3_key'], 1024)}") from None
    body = found["Body"].read()
    try:
        event = parse_event(body, Arrival.from_object(found["Metadata"], found["ContentType"], body).event_headers)
    except (Rejected, KeyError) as error:
        raise Poison("raw_unreadable", f"the raw object is not an event: {error}") from None
    if (event.event_id, event.payload_sha256) != (message["event_id"], message["payload_sha256"]):
        raise Poison("hash_mismatch", "the raw object is not what was received: its hash differs from the message's")
    return event


def predict(event: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    """Compute everything, write nothing and consume nothing: every message goes back, and the aggregates are answered.

    ``predicted``: what would be written, for each replay, entity and day; ``poison``: messages that would go to the
    dead-letter queue, and why.
    """
    found: dict[str, list[Event]] = {}
    poison = []
    for record in event["Records"]:
        try:
            message = parse_message(record["body"])
            found.setdefault(message["replay_id"], []).append(read_event(message, config))
        except Poison as reason:
            poison.append({"message_id": record["messageId"], "code": reason.code, "reason": reason.reason})
    predicted = [
        {"replay_id": replay_id, "entity_id": entity_id, "day": day, "input_count": count, "state": state}
        for replay_id, inputs in found.items()
        for (entity_id, day), (state, count) in fold(config.aggregator, inputs).items()
    ]
    logger.info("dry run", predicted=len(predicted), poison=len(poison))
    back = [{"itemIdentifier": record["messageId"]} for record in event["Records"]]
    return {"batchItemFailures": back, "dry_run": True, "predicted": predicted, "poison": poison}


def _set_aside(record: SQSRecord, poison: Poison, config: Settings) -> None:
    attributes = {
        CODE_ATTRIBUTE: poison.code,
        REASON_ATTRIBUTE: poison.reason[:1000],
        MESSAGE_ID_ATTRIBUTE: record.message_id,
    }
    aws.client("sqs").send_message(
        QueueUrl=config.dead_letter_queue_url,
        MessageBody=record.body,
        MessageAttributes={k: {"DataType": "String", "StringValue": v} for k, v in attributes.items()},
    )
    metrics.add_metric("Poison", MetricUnit.Count, 1)
    about: dict[str, Any] = {
        "message_id": record.message_id,
        "code": poison.code,
        "reason": poison.reason,
        **_named(record.body),
    }
    logger.error("set aside", **about)


def _named(body: str) -> dict[str, str]:
    """The event and the replay that a message, which may be anything, names: so its event can be explained."""
    with suppress(ValueError, RecursionError):
        message = json.loads(body)
        if isinstance(message, dict):
            return {name: message[name] for name in ("event_id", "replay_id") if isinstance(message.get(name), str)}
    return {}

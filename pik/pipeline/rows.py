"""What is written about an arrival: S3 object metadata, and the rows of the events and dedupe tables.

Everything here is a pure function of the event and its arrival, so the rows can be rebuilt from the raw objects alone.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from pik import events
from pik.events import Event
from pik.pipeline.headers import of_event
from pik.pipeline.parsing import Rejected

# S3 allows 2 KB of user metadata for one object, names and values together:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
MAX_HEADERS_BYTES = 1200
# Metadata travels as headers: printable ASCII stays as it is, but for what says that something is encoded.
_PLAIN = string.punctuation.replace("%", "")
USUAL_CONTENT_TYPE = "application/json"
_MAX_VALUE = 256
_DAY_SECONDS = 86_400
_IN_KEYS = ("event_id", "event_time", "ingest_time", "s3_key")


@dataclass(frozen=True)
class Arrival:
    """One receipt of a body: when, by which request, from whom, and what it weighed.

    ``client_request_id`` is the producer's own id, the same when it retries; ``request_id`` is API Gateway's, and new
    each time.
    """

    ingest_time: str
    request_id: str
    client_request_id: str
    producer: str
    content_type: str
    body_sha256: str
    size_bytes: int
    headers: Mapping[str, str]  # those that are part of the event: Idempotency-Key, a binary CloudEvent's ce-*

    @classmethod
    def of(
        cls, body: bytes, headers: Mapping[str, str], *, ingest_time: str, request_id: str, producer: str
    ) -> Arrival:
        """Describe ``body`` as it arrives; ``headers`` have lower-case names."""
        return cls(
            ingest_time=ingest_time,
            request_id=request_id,
            client_request_id=_kept(headers.get("x-request-id", "")),
            producer=_kept(producer),
            content_type=_printable(headers.get("content-type", USUAL_CONTENT_TYPE)),
            body_sha256=hashlib.sha256(body).hexdigest(),
            size_bytes=len(body),
            headers=of_event(headers),
        )

    def to_metadata(self) -> dict[str, str]:
        """Return S3 user metadata: ASCII, within the limit S3 sets. Raise Rejected when the headers do not fit."""
        packed = quote(json.dumps(self.headers, sort_keys=True, ensure_ascii=False), safe=_PLAIN)
        if len(packed) > MAX_HEADERS_BYTES:
            do_this = "send what they say in the body: CloudEvents in structured mode, idempotency_key"
            raise Rejected("headers_too_large", "the ce-* and Idempotency-Key headers are too large", do_this)
        values = {
            "ingest-time": self.ingest_time,
            "request-id": self.request_id,
            "body-sha256": self.body_sha256,
            "client-request-id": events.encode(self.client_request_id),
            "producer": events.encode(self.producer),
        }
        return {**values, **({"ce-headers": packed} if self.headers else {})}

    @classmethod
    def from_object(cls, metadata: Mapping[str, str], content_type: str, body: bytes) -> Arrival:
        """Read back what :meth:`to_metadata` wrote beside ``body``."""
        return cls(
            ingest_time=metadata["ingest-time"],
            request_id=metadata["request-id"],
            client_request_id=unquote(metadata.get("client-request-id", "")),
            producer=unquote(metadata.get("producer", "")),
            content_type=content_type,
            body_sha256=metadata["body-sha256"],
            size_bytes=len(body),
            headers=json.loads(unquote(metadata["ce-headers"])) if "ce-headers" in metadata else {},
        )

    @property
    def content_sha256(self) -> str:
        """Hash of the body and of the headers that are part of the event: two events may differ in these alone."""
        if not self.headers:
            return self.body_sha256
        return hashlib.sha256(json.dumps([self.body_sha256, self.event_headers], sort_keys=True).encode()).hexdigest()

    @property
    def event_headers(self) -> dict[str, str]:
        """The headers that :func:`~pik.pipeline.parsing.parse_event` needs to read the body again."""
        return {**self.headers, "content-type": self.content_type}


def expires_at(ingest_time: str, retention_days: int) -> int:
    """Epoch second at which what arrived at ``ingest_time`` may go."""
    return events.epoch(ingest_time) + retention_days * _DAY_SECONDS


def first_rows(
    event: Event, arrival: Arrival, retention_days: int, key: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the dedupe row and the events row of a first arrival; ``key``: where its object is, if elsewhere."""
    key, pk, sk = key or events.raw_key(event), events.entity_pk(event.entity_id), events.event_sk(event)
    row = _row(event, arrival, retention_days, events.ACCEPTED, key)
    row |= {"PK": pk, "SK": sk, **_index_keys(event, arrival, event.event_id)}
    dedupe = {
        "event_id": event.event_id,
        "pk": pk,
        "sk": sk,
        "s3_key": key,
        "exact_time": event.exact_time,
        "payload_sha256": event.payload_sha256,
        "ingest_time": arrival.ingest_time,
        "request_id": arrival.request_id,
        "expires_at": row["expires_at"],
    }
    return dedupe, compact(row)


def compact(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an events row as it is written: a first arrival's without what its keys say."""
    kept = {name: value for name, value in row.items() if name not in _IN_KEYS}
    implied = expand(kept) if row["status"] == events.ACCEPTED else kept
    return {name: value for name, value in row.items() if name in kept or implied.get(name) != value}


def expand(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an events row as read, with what a first arrival's row leaves to its keys: id, times and raw object.

    DynamoDB bills by started kilobyte, for the row and for each index; left out, these four keep the row of a usual
    caller within one.

    >>> sk = f"TS#2025-01-01T00:00:00.000000Z#EID#{'a' * 64}"
    >>> expand({"SK": sk, "source": "s", "event_type": "t"})["event_time"]
    '2025-01-01T00:00:00.000000Z'
    """
    whole = {"event_id": row["SK"][events.SK_EVENT_ID], "event_time": row["SK"][events.SK_TIME]}
    if "GSI2SK" in row:
        whole["ingest_time"] = row["GSI2SK"]
    whole |= row
    if "s3_key" not in whole:
        names = (whole[name] for name in ("source", "event_type", "event_time", "event_id"))
        whole["s3_key"] = f"raw/{events.hive_path(*names)}.json"
    return whole


def short_caller(arn: str) -> str:
    """Return the name by which a person knows a caller: the user's, or the role's session's. The object keeps the ARN.

    >>> short_caller("arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/ana@example.com")
    'ana@example.com'
    """
    return arn.rpartition("/")[2] or arn if arn.startswith("arn:") else arn


def arrival_row(
    event: Event,
    arrival: Arrival,
    retention_days: int,
    status: str,
    s3_key: str,
    first: Mapping[str, Any],
    until: int,
) -> dict[str, Any]:
    """Return the events row of a later arrival; ``first`` is the dedupe row of the event it repeats.

    The row does not outlive ``until``, the end of its object's retention in seconds since 1970: an earlier arrival may
    have brought the object.
    """
    row = _row(event, arrival, retention_days, status, s3_key)
    row["expires_at"] = min(row["expires_at"], until)
    sk = events.arrival_sk(first["sk"], arrival.ingest_time, arrival.request_id)
    return row | {"PK": first["pk"], "SK": sk, **_index_keys(event, arrival, arrival.request_id)}


def _row(event: Event, arrival: Arrival, retention_days: int, status: str, s3_key: str) -> dict[str, Any]:
    row = {
        "status": status,
        "event_id": event.event_id,
        "source": event.source,
        "event_type": event.event_type,
        "entity_id": event.entity_id,
        "event_time": event.event_time,
        "payload_sha256": event.payload_sha256,
        "s3_key": s3_key,
        "ingest_time": arrival.ingest_time,
        "ingest_lag_ms": events.lag_ms(event.event_time, arrival.ingest_time),
        "request_id": arrival.request_id,
        "producer": short_caller(arrival.producer),
        "body_sha256": arrival.body_sha256,
        "size_bytes": arrival.size_bytes,
        "expires_at": expires_at(arrival.ingest_time, retention_days),
    }
    # DynamoDB bills by started kilobyte, for the row and each of its index entries: what says nothing is left out.
    optional = {
        "exact_time": event.exact_time if event.exact_time != event.event_time else None,
        "assumed_utc": event.assumed_utc or None,
        "client_request_id": arrival.client_request_id or None,
        "content_type": arrival.content_type if arrival.content_type != USUAL_CONTENT_TYPE else None,
        "idempotency_key": event.idempotency_key,
    }
    return row | {name: value for name, value in optional.items() if value is not None}


def _index_keys(event: Event, arrival: Arrival, token: str) -> dict[str, str]:
    shard = events.shard_of(token)
    lag = events.lag_ms(event.event_time, arrival.ingest_time)
    return {
        "GSI1PK": events.source_pk(event.source, event.event_type, event.date, shard),
        "GSI1SK": events.lag_sk(lag),
        "GSI2PK": events.ingest_pk(arrival.ingest_time, shard),
        "GSI2SK": arrival.ingest_time,
    }


def _kept(value: str) -> str:
    """As much of a value as its metadata holds when it is percent-encoded, so that rows and object say the same."""
    kept = value[:_MAX_VALUE]
    while len(quote(kept, safe="").replace("~", "%7E")) > events.ENCODED_LIMIT:
        kept = kept[:-1]
    return kept


def _printable(header: str) -> str:
    good = header.isascii() and header.isprintable() and 0 < len(header) <= _MAX_VALUE
    return header if good else "application/octet-stream"

"""Events: their identity, their times and every key derived from them. One source of truth for Lambda and workbench.

Times are UTC text with fixed-width microseconds, so text order is time order. Every user-supplied part of a key is
percent-encoded, so no two events share a key and no name escapes its prefix.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import rfc8785

IDENTITY_VERSION = "pik:event:1"
RAW_FOLDERS = ("raw/", "conflicts/")  # where the events themselves are kept, in the raw bucket
PROBE_SOURCE = "pik.probe"
PROBE_ENTITY_PREFIX = "pik-probe-"

ACCEPTED, DUPLICATE, CONFLICT, REJECTED = "ACCEPTED", "DUPLICATE", "CONFLICT", "REJECTED"

# DynamoDB spreads a partition key over one partition, which takes 1,000 writes a second. One busy source and day would
# throttle its index, and a throttled index throttles the base table, hence the shards.
INDEX_SHARDS = 8
# An S3 key has at most 1,024 bytes and a DynamoDB sort key as many; three encoded names must fit into one.
ENCODED_LIMIT = 290
_LAG_OFFSET_MS = 10**15  # keeps negative lags (a producer's clock ahead of ours) in order
REPLAY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# Sort key of an events row: a first arrival's, or, with an arrival's time and request behind it, a later one's.
_ROW_SK = re.compile(r"TS#(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)#EID#[0-9a-f]{64}(#ARR#[\x21-\x7e]+)?", re.ASCII)
RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))?", re.ASCII
)


class Instant(NamedTuple):
    """A parsed time: ``text`` with microseconds; ``exact`` with every digit given; whether UTC was assumed."""

    text: str
    exact: str
    assumed_utc: bool


@dataclass(frozen=True)
class Event:
    """Something that happened to an entity, as its producer told it.

    ``event_time`` has fixed-width microseconds (keys, order); ``exact_time`` every digit the producer sent (identity).
    ``mapping``: what made the event out of somebody else's record, as ``name@digest``; no part of its identity.
    """

    source: str
    event_type: str
    entity_id: str
    event_time: str
    exact_time: str
    payload: Any
    idempotency_key: str | None = None
    assumed_utc: bool = False
    mapping: str | None = None

    @cached_property
    def payload_sha256(self) -> str:
        """SHA-256 of the payload's canonical JSON (RFC 8785)."""
        return sha256_json(self.payload)

    @cached_property
    def event_id(self) -> str:
        """The event's identity: the same facts, or the same idempotency key, give the same id."""
        names = [self.source, self.event_type, self.entity_id]
        if self.idempotency_key is None:
            return sha256_json([IDENTITY_VERSION, [*names, self.exact_time, self.payload_sha256]])
        return sha256_json([IDENTITY_VERSION, [*names, self.idempotency_key]])

    @property
    def date(self) -> str:
        """UTC date of the event, ``YYYY-MM-DD``."""
        return self.event_time[:10]


def is_replay_id(text: object) -> bool:
    """Whether it may name a replay: it stands in keys, on pages and in file names, so it is plain text.

    >>> is_replay_id("rp-20250101T000000-1a2b3c4d"), is_replay_id("<b>"), is_replay_id("../x"), is_replay_id("..")
    (True, False, False, False)
    """
    return isinstance(text, str) and REPLAY_ID.fullmatch(text) is not None and bool(text.strip("."))


def is_probe(entity_id: str) -> bool:
    """Whether an entity is one of the rollout's own probes, and never anybody's data.

    >>> is_probe("pik-probe-1a2b3c"), is_probe("N14228")
    (True, False)
    """
    return entity_id.startswith(PROBE_ENTITY_PREFIX)


def sha256_json(value: Any) -> str:
    """Return the SHA-256 (hex) of ``value`` as canonical JSON.

    >>> sha256_json({"b": 1.0, "a": 2}) == sha256_json({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


def parse_instant(text: str, *, most_digits: int | None = None) -> Instant:
    """Parse an RFC 3339 time; without an offset it is taken as UTC, and that is said. Raise ValueError otherwise.

    ``most_digits``: how many digits of a second may be given; None: any number.

    >>> parse_instant("2025-12-29T00:59:59.5+01:00").text
    '2025-12-28T23:59:59.500000Z'
    >>> parse_instant("2025-12-28T23:59:59.123456789Z").exact
    '2025-12-28T23:59:59.123456789Z'
    """
    match = RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time such as 2025-12-28T23:59:59.5Z")
    *fields, fraction, zulu, sign, hours, minutes = match.groups()
    digits = (fraction or "").ljust(6, "0")
    if most_digits is not None and len(fraction or "") > most_digits:
        raise ValueError(f"{len(fraction):,} digits of a second; at most {most_digits} are taken")
    offset = timedelta()
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise ValueError(f"no such offset: {sign}{hours}:{minutes}")
        offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    try:
        # Not fromisoformat: what it takes differs between versions of Python (24:00:00 is taken by 3.14, not by 3.11).
        numbers = [int(number) for number in (*fields, digits[:6])]
        normal = format_time(datetime(*numbers, tzinfo=timezone(offset)))  # type: ignore[misc, arg-type]
    except OverflowError:
        raise ValueError("outside the years 0001 to 9999 in UTC") from None
    beyond = digits[6:].rstrip("0")
    return Instant(normal, f"{normal[:-1]}{beyond}Z", assumed_utc=not (zulu or sign))


def format_time(moment: datetime) -> str:
    """Return an aware datetime as UTC text with fixed-width microseconds."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be compared; use datetime.now(UTC)")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """Return an RFC 3339 time as an aware datetime in UTC (microseconds)."""
    return datetime.fromisoformat(parse_instant(text).text)


def now() -> str:
    """Return the current time in the kit's format."""
    return format_time(datetime.now(UTC))


def epoch(time: str) -> int:
    """Whole seconds since 1970 of a time, as DynamoDB's TTL counts them."""
    return int(parse_time(time).timestamp())


def lag_ms(event_time: str, ingest_time: str) -> int:
    """Milliseconds from event to ingest, rounded down; negative when the producer's clock is ahead, never clamped."""
    return (parse_time(ingest_time) - parse_time(event_time)) // timedelta(milliseconds=1)


def encode(value: str) -> str:
    """Percent-encode everything but letters, digits, ``_ . -``; what gets too long ends in ``~`` and its SHA-256.

    >>> encode("a/b#c|d=e~")
    'a%2Fb%23c%7Cd%3De%7E'
    """
    encoded = quote(value, safe="").replace("~", "%7E")
    if len(encoded) <= ENCODED_LIMIT:
        return encoded
    digest = hashlib.sha256(value.encode()).hexdigest()
    return f"{encoded[: ENCODED_LIMIT - len(digest) - 1]}~{digest}"


def _hive(event: Event) -> str:
    return hive_path(event.source, event.event_type, event.event_time, event.event_id)


def hive_path(source: str, event_type: str, event_time: str, event_id: str) -> str:
    """Return the folders and the name under which an event's objects are kept."""
    names = f"source={encode(source)}/event_type={encode(event_type)}"
    return f"{names}/event_date={event_time[:10]}/hour={event_time[11:13]}/event_id={event_id}"


def raw_key(event: Event) -> str:
    """S3 key of the event's raw bytes; does not depend on when they were received."""
    return f"raw/{_hive(event)}.json"


def source_of(key: str) -> str:
    """Return the source that a raw or conflict key names; empty where the key has only the beginning of a long name.

    >>> source_of("raw/source=a%2Fb/event_type=t/event_date=2025-01-01/hour=10/event_id=12ab.json")
    'a/b'
    """
    encoded = key.partition("/source=")[2].partition("/")[0]
    return "" if "~" in encoded else unquote(encoded)


def next_raw_key(key: str, ingest_time: str) -> str:
    """S3 key of an event that is sent again when the retention of the object at ``key`` is over, but not its life.

    Objects are written once, so the new bytes go beside the old ones. The key follows from the old object, so whoever
    sends the event at the same moment uses the same one. ``ingest_time``: when the old object arrived.

    >>> next_raw_key("raw/x/event_id=12ab.json", "2025-01-01T00:00:00.000000Z")
    'raw/x/event_id=12ab.after-20250101T000000.json'
    """
    stamp = ingest_time[:19].replace("-", "").replace(":", "")
    return f"{original_key(key).removesuffix('.json')}.after-{stamp}.json"


def original_key(key: str) -> str:
    """S3 key that an event or a conflict has when no older object is there: what :func:`next_raw_key` began with.

    >>> original_key("raw/source=a.after-b/event_id=12ab.after-20250101T000000.json")
    'raw/source=a.after-b/event_id=12ab.json'
    """
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}.json"


def conflict_key(event: Event, content_sha256: str) -> str:
    """S3 key of a body that claims an idempotency key already used for something else."""
    return f"conflicts/{_hive(event)}/{content_sha256}.json"


def rejected_id(ingest_time: str, content_sha256: str) -> str:
    """Id of a rejected body: the day it came and what it holds, so the same body is kept once a day."""
    return f"{ingest_time[:10]}.{content_sha256}"


def rejected_key(identifier: str) -> str:
    """S3 key of a rejected body; raise ValueError for what is not a rejected id."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d\.[0-9a-f]{64}", identifier) is None:
        raise ValueError("not a rejected id such as 2025-12-28.0f3a…")
    date, _, digest = identifier.partition(".")
    return f"rejected/ingest_date={date}/{digest}.bin"


def entity_pk(entity_id: str) -> str:
    """Partition key of an entity's rows in the events table."""
    return f"ENTITY#{encode(entity_id)}"


def event_sk(event: Event) -> str:
    """Sort key of an event's first arrival."""
    return f"TS#{event.event_time}#EID#{event.event_id}"


def arrival_sk(first_sk: str, ingest_time: str, request_id: str) -> str:
    """Sort key of a later arrival: next to the first one, never in its place."""
    return f"{first_sk}#ARR#{ingest_time}#{encode(request_id)}"


# Where an events row's sort key says the event's time and id (see event_sk); both have a fixed width.
SK_TIME, SK_EVENT_ID = slice(3, 30), slice(35, 99)


def time_of_sk(sk: str) -> str:
    """Return the event time in the sort key of an events row; raise ValueError for what is not such a key."""
    match = _ROW_SK.fullmatch(sk)
    if match is None or len(sk) > 1024:  # DynamoDB's limit for a sort key
        raise ValueError("not the sort key of an events row")
    return match[1]


def source_pk(source: str, event_type: str, date: str, shard: int) -> str:
    """Partition key of the index by source, type and day of the event."""
    return f"SRC#{encode(source)}#TYPE#{encode(event_type)}#DAY#{date}#{shard:02d}"


def lag_sk(lag: int) -> str:
    """Sort key of the index by source: in the order of the lag, also when it is negative (index keys may repeat)."""
    return f"LAG#{lag + _LAG_OFFSET_MS:016d}"


def ingest_pk(ingest_time: str, shard: int) -> str:
    """Partition key of the index by ingest time."""
    return f"INGEST#{ingest_time[:10]}#{shard:02d}"


def shard_of(token: str) -> int:
    """Shard of an index entry; the same for the same token."""
    return int(hashlib.sha256(token.encode()).hexdigest()[:8], 16) % INDEX_SHARDS


def shards() -> Iterator[int]:
    """Every shard, for whoever reads an index."""
    return iter(range(INDEX_SHARDS))


def aggregate_pk(entity_id: str, date: str) -> str:
    """Partition key of an entity's aggregates of one day."""
    return f"AGG#{encode(entity_id)}#DAY#{date}"


def version_sk(replay_id: str) -> str:
    """Sort key of one version of an aggregate: the replay that computed it."""
    return f"V#{encode(replay_id)}"


def contribution_sk(replay_id: str, event_id: str) -> str:
    """Sort key of one event's contribution to a version; its existence says that the event is counted."""
    return f"C#{encode(replay_id)}#EID#{event_id}"


def replay_pk(replay_id: str) -> str:
    """Partition key of what is known of a replay."""
    return f"REPLAY#{encode(replay_id)}"


def entity_replays_pk(entity_id: str) -> str:
    """Partition key of the ids of an entity's replays, in the replays table; their sort keys are the replays' keys."""
    return f"REPLAYS#{encode(entity_id)}"

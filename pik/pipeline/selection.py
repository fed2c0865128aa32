"""What to replay: an entity's events in a half-open window ``[start_time, end_time)``, read to the end."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pik import events
from pik.events import ACCEPTED, DUPLICATE
from pik.pipeline import aws
from pik.pipeline.parsing import Rejected, refuse_unknown
from pik.pipeline.rows import expand
from pik.pipeline.strict_json import is_unicode

MAX_LIMIT = 100_000
MAX_CURSOR = 2_000  # characters; the longest sort key, 1,024 bytes, in base64, with a digest and a replay id
FIELDS = (
    "entity_id",
    "start_time",
    "end_time",
    "limit",
    "cursor",
    "include_duplicates",
    "dry_run",
    "replay_id",
)
_READ = ("SK", "status", "event_id", "source", "event_type", "event_time", "s3_key", "payload_sha256", "expires_at")
_NAMES = {f"#{name}": name for name in _READ}


@dataclass(frozen=True)
class Selection:
    """One replay request. ``after`` is the sort key of the last row an earlier request dealt with, or empty."""

    entity_id: str
    start_time: str
    end_time: str
    include_duplicates: bool
    limit: int | None
    dry_run: bool
    replay_id: str
    after: str = ""

    @property
    def digest(self) -> str:
        """What is selected, whatever part of it one request covers."""
        return events.sha256_json([self.entity_id, self.start_time, self.end_time, self.include_duplicates])

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Yield every row of the window, in the order of time: first arrivals, duplicates and conflicts."""
        query: dict[str, Any] = {
            "TableName": table,
            # No row has exactly TS#<end> as its key, so BETWEEN, which includes both ends, leaves the end out.
            "KeyConditionExpression": "PK = :pk AND SK BETWEEN :start AND :end",
            "ExpressionAttributeValues": {
                ":pk": {"S": events.entity_pk(self.entity_id)},
                ":start": {"S": f"TS#{self.start_time}"},
                ":end": {"S": f"TS#{self.end_time}"},
            },
            "ProjectionExpression": ", ".join(_NAMES),
            "ExpressionAttributeNames": _NAMES,
            "ConsistentRead": True,
        }
        if self.after:
            query["ExclusiveStartKey"] = {"PK": {"S": events.entity_pk(self.entity_id)}, "SK": {"S": self.after}}
        while True:
            page = aws.client("dynamodb").query(**query)
            yield from (expand(aws.from_item(item)) for item in page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def matches(self, row: Mapping[str, Any], epoch: int) -> bool:
        """Whether a row is to be sent: a first arrival (or, if asked, a duplicate) whose time is not over."""
        wanted = {ACCEPTED, DUPLICATE} if self.include_duplicates else {ACCEPTED}
        return row["status"] in wanted and row["expires_at"] > epoch

    def cursor(self, after: str) -> str:
        """Return the cursor with which another request goes on behind ``after``."""
        text = json.dumps([self.digest, self.replay_id, after])
        return base64.urlsafe_b64encode(text.encode()).decode()


def parse_selection(document: Any, *, dry_run: bool) -> Selection:
    """Return the selection in a replay request's body; ``dry_run`` is what the deployment demands. Raise Rejected."""
    if not isinstance(document, dict):
        raise Rejected("not_an_object", "the body is not a JSON object", "send entity_id, start_time and end_time")
    refuse_unknown(document, FIELDS, "drop it")
    start, end = _time(document, "start_time"), _time(document, "end_time")
    if start >= end:
        raise Rejected("empty_window", f"start_time {start} is not before end_time {end}", "the end is left out")
    selection = Selection(
        entity_id=_string(document, "entity_id", r"(?s).{1,256}"),
        start_time=start,
        end_time=end,
        include_duplicates=_flag(document, "include_duplicates"),
        limit=_limit(document.get("limit")),
        dry_run=dry_run or _flag(document, "dry_run"),
        replay_id=_replay_id(document),
    )
    if document.get("cursor") is not None:
        return _continue(selection, document["cursor"])
    return _with(selection, replay_id=selection.replay_id or new_replay_id())


def new_replay_id() -> str:
    """Return a fresh replay id that sorts by the time it was made."""
    return f"rp-{events.now()[:19].replace(':', '').replace('-', '')}-{uuid4().hex[:8]}"


def _continue(selection: Selection, cursor: Any) -> Selection:
    digest, replay_id, after = _opened(cursor, selection)
    if digest != selection.digest or selection.replay_id not in {"", replay_id}:
        do_this = "repeat the selection (and replay_id) that the cursor came from"
        raise Rejected("bad_cursor", "the cursor belongs to another selection", do_this)
    return _with(selection, replay_id=replay_id, after=after)


def _opened(cursor: Any, selection: Selection) -> tuple[str, str, str]:
    """Return a cursor's parts. Anybody can write one, so each part is held to what ours hold."""
    try:
        if not isinstance(cursor, str) or len(cursor) > MAX_CURSOR:
            raise ValueError("not a short string")
        digest, replay_id, after = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        inside = not after or selection.start_time <= events.time_of_sk(after) < selection.end_time
        if not isinstance(digest, str) or not events.is_replay_id(replay_id) or not inside:
            raise ValueError("not what a cursor of ours holds")
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise Rejected("bad_cursor", "not a cursor of ours", "send the cursor of the answer before, as it is") from None
    return digest, replay_id, after


def _replay_id(document: Mapping[str, Any]) -> str:
    if "replay_id" not in document:
        return ""
    if not events.is_replay_id(document["replay_id"]):
        do_this = "send 1 to 64 letters, digits, dots, dashes or underscores"
        raise Rejected("bad_replay_id", "replay_id is not a valid string", do_this)
    return str(document["replay_id"])


def _with(selection: Selection, **changes: str) -> Selection:
    return Selection(**{**vars(selection), **changes})


def _string(document: Mapping[str, Any], name: str, pattern: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or re.fullmatch(pattern, value) is None or not is_unicode(value):
        raise Rejected(f"bad_{name}", f"{name} is missing or not a valid string", f"send {name}, matching {pattern}")
    return value


def _time(document: Mapping[str, Any], name: str) -> str:
    try:
        # Rows are in the order of microseconds: a window that begins or ends between two of them cannot be selected.
        return events.parse_instant(_string(document, name, r".+"), most_digits=6).text
    except ValueError as error:
        if isinstance(error, Rejected):
            raise
        raise Rejected("bad_time", f"{name}: {error}", "send RFC 3339, such as 2025-12-28T00:00:00Z") from None


def _flag(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        raise Rejected(f"bad_{name}", f"{name} is not true or false", f"send {name} as a JSON boolean")
    return value


def _limit(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_LIMIT:
        raise Rejected("bad_limit", f"limit is not a number from 1 to {MAX_LIMIT}", "leave it out to replay them all")
    return value

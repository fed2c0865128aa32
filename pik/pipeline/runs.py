"""Runs: a manifest is sent part by part, and somebody may pause it or cancel it at any moment.

Rows of the replays table, below the run's id:

- ``RUN``: what is to be sent: the plan's digest, the hash of each part; by whom, why.
- ``STATE``: RUNNING, PAUSED or CANCELLED; since when, by whom, why; and the rate.
- ``PART#<number>``: how far a part is sent (:mod:`pik.pipeline.parts`).

Lines are claimed before they are sent, in one transaction with a look at ``STATE``. So from the moment in which it is
no longer RUNNING nothing new is begun, and what was begun is known: the answer says ``settled`` when all of it has
ended. What somebody began and did not end, because it was killed, is sent to the end of its claim first. Then the rows
say exactly what was sent.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from pik import events
from pik.pipeline import aws, manifest
from pik.pipeline.http import Request, answer, error, try_again
from pik.pipeline.manifest import CANCELLED, PAUSED, RUNNING
from pik.pipeline.parsing import Rejected, refuse_unknown
from pik.pipeline.parts import Busy, NotInState, Sender, Taken
from pik.pipeline.settings import Settings
from pik.pipeline.strict_json import is_unicode

MOST_PARTS = 4_000  # the hash of each is in one row
# Action: the state it leads to, by the state it is asked in.
_LEADS = {
    "pause": {RUNNING: PAUSED, PAUSED: PAUSED},
    "resume": {PAUSED: RUNNING, RUNNING: RUNNING},
    "cancel": {RUNNING: CANCELLED, PAUSED: CANCELLED, CANCELLED: CANCELLED},
    "pace": {RUNNING: RUNNING, PAUSED: PAUSED},
    "settle": {RUNNING: RUNNING, PAUSED: PAUSED, CANCELLED: CANCELLED},
}
FIELDS = {
    "begin": ("digest", "parts", "messages", "windows", "part_lines", "reason", "rate"),
    "send": ("part", "limit"),
    "pause": ("reason",),
    "resume": ("reason",),
    "cancel": ("reason",),
    "pace": ("rate",),
    "settle": (),
}
_HASH = re.compile(r"[0-9a-f]{64}")


def act(
    document: Mapping[str, Any], request: Request, config: Settings, has_time: Callable[[], bool]
) -> dict[str, Any]:
    """Answer a request with an ``action``. Raise Rejected."""
    action, replay_id = _checked(document)
    if request.dry_run or (config.dry_run and action in {"begin", "send", "resume"}):
        return answer(200, {"replay_id": replay_id, "action": action, "dry_run": True})
    if action == "begin":
        return _begin(document, request, config)
    run = _row(config, replay_id, "RUN")
    if run is None:
        do_this = "run a plan under this id first"
        return error(404, "no_such_run", f"no replay run was begun under {replay_id}", do_this, replay_id=replay_id)
    if action == "send":
        return _send(document, run, request, config, has_time)
    return _change(action, document, run, request, config, has_time)


def _begin(document: Mapping[str, Any], request: Request, config: Settings) -> dict[str, Any]:
    """Write down what the run is, if its id stands for nothing else."""
    replay_id = document["replay_id"]
    pk, table, now = events.replay_pk(replay_id), config.replays_table, events.now()
    run = {
        "PK": pk,
        "SK": "RUN",
        **{name: document[name] for name in ("replay_id", "digest", "parts", "messages", "windows", "part_lines")},
        "reason": document.get("reason", ""),
        "requested_by": request.caller,
        "created": now,
    }
    state = {"PK": pk, "SK": "STATE", "state": RUNNING, "changed": now, "by": request.caller, "why": "", "version": 1}
    state |= {"rate": document["rate"]} if document.get("rate") else {}
    new = {"ConditionExpression": "attribute_not_exists(PK)"}
    writes = [
        {"Put": {"TableName": table, "Item": aws.to_item(run), **new}},
        {"Put": {"TableName": table, "Item": aws.to_item(state), **new}},
        {"ConditionCheck": {"TableName": table, "Key": aws.to_item({"PK": pk, "SK": "HEAD"}), **new}},
    ]
    try:
        aws.transact(writes)
    except ClientError as failure:
        if "ConditionalCheckFailed" not in aws.cancellation_codes(failure):
            raise
        known = _row(config, replay_id, "RUN")
        if known is None or (known["digest"], known["parts"]) != (run["digest"], run["parts"]):
            do_this = "choose another id, or none"
            return error(409, "replay_id_taken", f"{replay_id} stands for another replay", do_this)
    return _answered(config, replay_id, action="begin")


def _send(
    document: Mapping[str, Any],
    run: Mapping[str, Any],
    request: Request,
    config: Settings,
    has_time: Callable[[], bool],
) -> dict[str, Any]:
    number, most = document["part"], document.get("limit")
    if number >= len(run["parts"]):
        do_this = f"its parts are 0 to {len(run['parts']) - 1}"
        return error(404, "no_such_part", f"{run['replay_id']} has no part {number}", do_this)
    part = _part(run, number, config)
    sender = Sender(run, number, part, config, request.request_id, has_time)
    replay_id = run["replay_id"]
    about: dict[str, Any] = {"part": number, "lines": len(part.lines)}
    try:
        problem = sender.send(RUNNING, most)
    except NotInState:
        return _stopped(config, replay_id, **about, sent=sender.sent)
    except Busy as busy:
        message = f"another request sends part {number}"
        return error(
            409, "busy", message, "ask again later", replay_id=replay_id, **about, sent=sender.sent, wait=busy.seconds
        )
    except Taken as taken:
        return error(409, "replay_id_taken", f"{taken} stands for another replay", "choose another id, or none")
    about |= {"sent": sender.sent, "next": sender.at, "done": sender.at == len(part.lines)}
    if problem:
        return try_again("queue_unavailable", problem, replay_id=replay_id, **about)
    return _answered(config, replay_id, **about)


def _change(
    action: str,
    document: Mapping[str, Any],
    run: Mapping[str, Any],
    request: Request,
    config: Settings,
    has_time: Callable[[], bool],
) -> dict[str, Any]:
    """Change the state, or look whether what was begun before has ended (``settle``)."""
    replay_id = run["replay_id"]
    before = _row(config, replay_id, "STATE")
    if before is None:  # it is written together with RUN, and will be there in a moment
        return try_again("contended", "the replay run is just being begun")
    if before["state"] not in _LEADS[action]:
        message = f"{replay_id} is {before['state']}, which cannot be changed by {action}"
        return error(409, "not_possible", message, "ask for its status", replay_id=replay_id, state=before["state"])
    state = _LEADS[action][before["state"]]
    if action != "settle":
        after = {**before, "state": state, "version": int(before["version"]) + 1}
        if action == "pace":
            after["rate"] = document["rate"]
        else:
            after |= {"changed": events.now(), "by": request.caller, "why": document.get("reason", "")}
        if not _replaced(config, before, after):
            return _change(action, document, run, request, config, has_time) if has_time() else _contended()
        # A claim that was made a moment before may not be seen yet by who looks for open ones.
        wait = 1
    else:
        wait = _settle(state, run, request, config, has_time) if state != RUNNING else 0
    return _answered(config, replay_id, action=action, settled=wait == 0 and state != RUNNING, wait=wait)


def _replaced(config: Settings, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Write a state if its version is still the one that was read; return whether it was.

    The version always rises, so whoever read an older state, and writes late, changes nothing.
    """
    try:
        aws.client("dynamodb").put_item(
            TableName=config.replays_table,
            Item=aws.to_item(after),
            ConditionExpression="version = :version",
            ExpressionAttributeValues=aws.to_item({":version": before["version"]}),
        )
    except ClientError as failure:
        if aws.error_code(failure) not in {"ConditionalCheckFailedException", "TransactionConflictException"}:
            raise
        return False
    return True


def _contended() -> dict[str, Any]:
    return try_again("contended", "others change the replay run at the same time")


def _settle(
    state: str, run: Mapping[str, Any], request: Request, config: Settings, has_time: Callable[[], bool]
) -> int:
    """Send to the end what was begun and not ended. Return in how many seconds to ask again; 0 when all has ended."""
    wait = 0
    for row in _parts(config, run["replay_id"]):
        number = int(row["SK"].removeprefix("PART#"))
        try:
            if "to" in row and has_time() and not config.dry_run:
                part = _part(run, number, config)
                Sender(run, number, part, config, request.request_id, has_time).settle(state)
                wait = max(wait, 1)  # look again whether that was all
            elif "to" in row:
                wait = max(wait, 1)
        except Busy as busy:
            wait = max(wait, busy.seconds)
        except NotInState:  # somebody has changed it meanwhile
            return 1
        except Rejected:
            # The part is lost: what may be sent of it stays unsure. Who sends it now must have ended.
            wait = max(wait, int(row["until"]) - events.epoch(events.now()) + 1)
        wait = max(wait, int(row.get("lands", 0)) - events.epoch(events.now()))
    return wait


def _part(run: Mapping[str, Any], number: int, config: Settings) -> manifest.Part:
    """Return a part, proven to be the one that the run was begun with."""
    name = manifest.key(run["replay_id"], run["digest"], number)
    try:
        body = aws.client("s3").get_object(Bucket=config.raw_bucket, Key=name)["Body"].read()
    except ClientError as failure:
        if aws.error_code(failure) not in {"NoSuchKey", "404"}:
            raise
        body = b""
    with suppress(OSError, EOFError, zlib.error):  # of unpacking alone: a time-out of botocore is an OSError, too
        text = manifest.unpacked(body)
        if manifest.sha256(text) == run["parts"][number]:
            return manifest.Part.of(text)
    do_this = "cancel the run, and run the plan under another id"
    raise Rejected("manifest_changed", f"part {number} is not what the run was begun with", do_this, status=409)


def _row(config: Settings, replay_id: str, sk: str) -> dict[str, Any] | None:
    found = aws.client("dynamodb").get_item(
        TableName=config.replays_table,
        Key=aws.to_item({"PK": events.replay_pk(replay_id), "SK": sk}),
        ConsistentRead=True,
    )
    return aws.from_item(found["Item"]) if "Item" in found else None


def _parts(config: Settings, replay_id: str) -> list[dict[str, Any]]:
    query: dict[str, Any] = {
        "TableName": config.replays_table,
        "KeyConditionExpression": "PK = :pk AND begins_with(SK, :part)",
        "ExpressionAttributeValues": aws.to_item({":pk": events.replay_pk(replay_id), ":part": "PART#"}),
        "ConsistentRead": True,
    }
    found = list[dict[str, Any]]()
    while True:
        page = aws.client("dynamodb").query(**query)
        found += map(aws.from_item, page["Items"])
        if "LastEvaluatedKey" not in page:
            return found
        query["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _answered(config: Settings, replay_id: str, **about: Any) -> dict[str, Any]:
    state = _row(config, replay_id, "STATE") or {}
    rate = {"rate": int(state["rate"])} if "rate" in state else {}
    return answer(200, {"replay_id": replay_id, **about, "state": state.get("state"), **rate, "dry_run": False})


def _stopped(config: Settings, replay_id: str, **about: Any) -> dict[str, Any]:
    state = _row(config, replay_id, "STATE") or {}
    message = f"{replay_id} is {state.get('state')}: {state.get('why') or 'no reason was given'}"
    do_this = "resume it, if it is paused"
    return error(409, "not_running", message, do_this, replay_id=replay_id, **about, state=state.get("state"))


def _checked(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return action and replay id of a request. Raise Rejected."""
    action, replay_id = document["action"], document.get("replay_id")
    if not isinstance(action, str) or action not in FIELDS:
        raise Rejected("bad_action", "there is no such action", f"one of {', '.join(FIELDS)}")
    refuse_unknown(document, ("action", "replay_id", *FIELDS[action]), "drop it")
    if not events.is_replay_id(replay_id):
        do_this = "send 1 to 64 letters, digits, dots, dashes or underscores"
        raise Rejected("bad_replay_id", "replay_id is not a valid string", do_this)
    reason = document.get("reason", "")
    if not isinstance(reason, str) or len(reason) > 1000 or not is_unicode(reason):
        raise Rejected("bad_reason", "reason is not a string of at most 1,000 characters", "send a shorter one")
    needed = {"begin": ("messages", "windows", "part_lines"), "send": ("part",), "pace": ("rate",)}.get(action, ())
    for name in (*needed, *(name for name in ("limit", "rate") if name in document)):
        value, least = document.get(name), 0 if name == "part" else 1
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 100_000_000:
            raise Rejected(f"bad_{name}", f"{name} is not a whole number of at least {least}", f"send {name}")
    if action == "begin":
        _check_hashes(document)
    return action, str(replay_id)


def _check_hashes(document: Mapping[str, Any]) -> None:
    parts = document.get("parts")
    if not isinstance(parts, list) or not 1 <= len(parts) <= MOST_PARTS:
        raise Rejected("bad_parts", f"parts is not a list of 1 to {MOST_PARTS:,} hashes", "send the hash of each part")
    for value in (document.get("digest"), *parts):
        if not isinstance(value, str) or not _HASH.fullmatch(value):
            raise Rejected(
                "bad_digest", "digest or parts holds something else than SHA-256 in hex", "send those hashes"
            )

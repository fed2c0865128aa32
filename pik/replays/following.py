"""A replay of one window that somebody asked the API for and left is sent to its end: its cursor is followed."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING

from pik.aws.exchange import ATTEMPTS, tried
from pik.aws.stack import aws_errors
from pik.errors import AwsError, Refused, UsageError
from pik.pipeline.selection import Selection
from pik.replays import reading
from pik.replays.planning import ReplayPart
from pik.replays.records import Replay
from pik.replays.sending import DEPLOY, Progress, refusal

if TYPE_CHECKING:
    from pik.aws.connection import Connection


def finish(aws: Connection, url: str, replay_id: str, tell: Progress) -> Replay:
    """Send a replay of one window to its end, whoever asked for it."""
    found = _one(aws, replay_id)
    if not found.complete:
        tell(f"{replay_id}: goes on behind {found.after or 'the start of its window'}")
        _follow(aws, url, found)
    return _one(aws, replay_id)


def _follow(aws: Connection, url: str, begun: Replay) -> None:
    """Ask for the rest of a replay until it is complete."""
    part, name = _part(begun), begun.replay_id
    include_duplicates = bool(begun.head["include_duplicates"])
    window = {**part._asdict(), "include_duplicates": include_duplicates, "replay_id": name}
    cursor = _selection(name, part, include_duplicates).cursor(begun.after) if begun.after else None
    failures = 0
    while True:
        body = json.dumps({**window, **({"cursor": cursor} if cursor else {})}).encode()
        asked = tried(aws.environment, url, body)
        if asked.status == 200 and asked["dry_run"]:
            raise Refused(f"{aws.environment.name} is in dry-run mode: nothing was sent", next_step=DEPLOY)
        if asked.status == 200 and asked["complete"] is True:
            return
        if asked.answered and asked.status != 200:
            raise refusal(aws, name, asked)
        failures = 0 if asked.status == 200 else failures + 1
        if failures == ATTEMPTS:
            raise AwsError(f"{name}: the replay API did not answer {failures} times", reason=asked.summary)
        cursor = asked["cursor"] or cursor  # also a 503 says how far it came
        if failures:
            time.sleep(random.uniform(0.1, 0.5) * failures)  # noqa: S311 - jitter, not a secret


def _part(one: Replay) -> ReplayPart:
    entity, start, end = (str(one.head[name]) for name in ("entity_id", "start_time", "end_time"))
    return ReplayPart(entity, start, end)


def _selection(name: str, part: ReplayPart, include_duplicates: bool) -> Selection:
    return Selection(*part, include_duplicates=include_duplicates, limit=None, dry_run=False, replay_id=name)


def _one(aws: Connection, replay_id: str) -> Replay:
    with aws_errors(aws.environment, "read the replays table"):
        found = reading.one(aws.stores, replay_id)
    if found is None:
        raise unknown(aws, replay_id)
    return found


def unknown(aws: Connection, replay_id: str) -> UsageError:
    """Return the error that there is no such replay."""
    return UsageError(
        f"there is no replay {replay_id!r} in {aws.environment.name}",
        next_step=f"pik replay list --env {aws.environment.name}",
    )

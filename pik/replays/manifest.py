"""The manifest of a plan: its messages, in S3 before the first is sent (:mod:`pik.pipeline.manifest`)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from pik.errors import Refused
from pik.pipeline import aws as calls
from pik.pipeline.manifest import Line, Part, Window, key, packed, sha256, unpacked
from pik.replays.planning import ReplayPart, ReplayPlan

if TYPE_CHECKING:
    from pik.aws.connection import Connection

PARALLEL = 8
LINES = 1_000  # of a part
LAST = "last"  # instead of a number, in the id of a run's last window


def _is(body: bytes, text: bytes) -> bool:
    try:
        return unpacked(body) == text
    except (OSError, EOFError, zlib.error):
        return False


def names(replay_id: str, windows: int) -> list[str]:
    """Return the replay ids of a run's windows, in the order in which they are sent; one window has the id itself.

    >>> names("rp-1", 3)
    ['rp-1.1', 'rp-1.2', 'rp-1.last']
    """
    if windows == 1:
        return [replay_id]
    return [f"{replay_id}.{number}" for number in (*range(1, windows), LAST)]


def windows(plan: ReplayPlan) -> list[ReplayPart]:
    """Return the windows of a plan that hold messages."""
    return [part for part in plan.parts if plan.of(part)]


def parts(plan: ReplayPlan, replay_id: str) -> Iterator[Part]:
    """Yield the parts of a plan's manifest."""
    chosen = windows(plan)
    ids = names(replay_id, len(chosen))
    lines = [(number, row) for number, part in enumerate(chosen) for row in plan.of(part)]
    for start in range(0, len(lines), LINES):
        mine, found, rows = lines[start : start + LINES], list[Window](), list[Line]()
        for number, group in groupby(mine, key=lambda line: line[0]):
            rows += [Line(len(found), row) for _, row in group]
            before, after = lines[start - 1 : start], lines[start + len(rows) : start + len(rows) + 1]
            found.append(
                Window(
                    replay_id=ids[number],
                    **chosen[number]._asdict(),
                    include_duplicates=plan.include_duplicates,
                    after=str(before[0][1]["SK"]) if before and before[0][0] == number else "",
                    ends=not after or after[0][0] != number,
                )
            )
        yield Part(found, rows)


def write(aws: Connection, plan: ReplayPlan, replay_id: str, progress: Callable[[str], None]) -> list[str]:
    """Write a plan's manifest, and return the hash of each part. A part that is there is never overwritten.

    Raises:
        Refused: another manifest has this id.
    """
    client, bucket = aws.environment.client("s3"), aws.outputs["RawBucket"]

    def put(number: int, part: Part) -> str:
        text, name = part.text(), key(replay_id, plan.digest, number)
        about = {"Bucket": bucket, "Key": name}
        try:
            client.put_object(**about, Body=packed(text), ContentType="application/gzip", IfNoneMatch="*")
        except ClientError as error:
            # The second: another write of the same part is under way at this moment.
            if calls.error_code(error) not in {"PreconditionFailed", "ConditionalRequestConflict"}:
                raise
            if not _is(client.get_object(**about)["Body"].read(), text):
                raise Refused(f"{replay_id} has another manifest", next_step="choose another id, or none") from None
        return sha256(text)

    with ThreadPoolExecutor(PARALLEL) as pool:
        found = list(pool.map(put, *zip(*enumerate(parts(plan, replay_id)), strict=True)))
    progress(f"{replay_id}: the manifest is written, {len(found):,} {'part' if len(found) == 1 else 'parts'}")
    return found

"""A plan is run: its manifest is written, and sent part by part through the replay API, till it is complete or stopped.

The API keeps the record of how far each part is (:mod:`pik.pipeline.runs`), so whoever was interrupted goes on where it
stopped, on any machine, and nothing that is sent twice is counted twice.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pik import events, project
from pik.aws.queues import messages
from pik.aws.stack import aws_errors
from pik.errors import AwsError, PikError, Refused, UsageError
from pik.pipeline.selection import new_replay_id
from pik.replays import manifest, planning, reading, runs
from pik.replays.following import finish, unknown
from pik.replays.planning import ReplayPlan
from pik.replays.records import Replay
from pik.replays.runs import CANCELLED, PAUSED, RUNNING, ReplayRun
from pik.replays.sending import LOOK, Progress, Sending, ask

if TYPE_CHECKING:
    from pik.aws.connection import Connection

WORKERS = 4  # requests at once
_LONGEST = 57  # characters of the id that a plan is run under: each window's replay has a number after it
_SETTLES_WITHIN = 600.0  # seconds: a claim of 120 s and 60 s in which a request may still arrive, with room


def run(
    aws: Connection,
    plan: ReplayPlan,
    *,
    replay_id: str = "",
    reason: str = "",
    at_most: int | None = None,
    rate: int | None = None,
    most_waiting: int | None = None,
    progress: Progress | None = None,
) -> ReplayRun:
    """Send exactly what a plan lists, if that is still what its windows hold.

    Args:
        aws: the connection, or a workbench; the environment that the plan was made for.
        plan: what to send.
        replay_id: an id of one's own; or that of a run of this plan that was interrupted, to go on with it.
        reason: why; needed where the environment is guarded or protected.
        at_most: refuse a plan of more messages than this.
        rate: messages a second, at most.
        most_waiting: send nothing while more messages than this wait in the queue.
        progress: is called with a sentence now and then.

    Raises:
        UsageError: the plan selects nothing, or ``replay_id`` is no replay id.
        Refused: it is another environment, the set has changed since the plan was made, there is no replay API in this
            phase, ``at_most`` is exceeded, a reason is needed, the id stands for another replay, or the run was
            cancelled. Nothing was sent.
        AwsError: AWS refused or did not answer; what was sent is recorded, and its next step goes on.
    """
    url = _allowed(aws, plan, replay_id, reason, at_most)
    name, tell = replay_id or new_replay_id(), progress or (lambda _: None)
    known = _known(aws, name, plan) if replay_id else None
    if known is None:
        _unchanged(aws, plan)
    path = _record(aws, name, "begin", digest=plan.digest, reason=reason, messages=plan.messages)
    tell(f"{name}: {plan.sentence}")
    if known is None:
        again = f"pik replay run PLAN --env {aws.environment.name} --replay-id {name}"
        with _recorded(aws, name, plan.digest, again, reason, tell):
            hashes = manifest.write(aws, plan, name, tell)
            begin = {
                "digest": plan.digest,
                "parts": hashes,
                "messages": plan.messages,
                "windows": len(manifest.windows(plan)),
                "part_lines": manifest.LINES,
                "reason": reason[:1000],
                **({"rate": rate} if rate else {}),
            }
            ask(aws, url, name, "begin", **begin)
    go_on = _go_on(aws, name, most_waiting)
    with _recorded(aws, name, plan.digest, go_on, reason, tell):
        done = _drive(aws, url, name, rate, most_waiting, tell, path)
    _record(aws, name, "end", **_facts(done))
    return done


def resume(
    aws: Connection,
    replay_id: str,
    *,
    reason: str = "",
    rate: int | None = None,
    most_waiting: int | None = None,
    progress: Progress | None = None,
) -> ReplayRun | Replay:
    """Go on with a run that was paused or interrupted, or with a replay that stopped before the end of its window.

    Raises:
        UsageError: there is no such replay.
        Refused: a reason is needed, there is no replay API in this phase, or the run was cancelled.
        AwsError: AWS refused or did not answer; the same call goes on.
    """
    tell = progress or (lambda _: None)
    known = _found(aws, replay_id)
    _require_reason(aws, reason)
    if known is None:
        if rate or most_waiting is not None:
            raise UsageError(f"{replay_id} is a replay without a plan: it has no rate", next_step="leave it out")
        return finish(aws, _url(aws), replay_id, tell)
    if known.complete:
        return known
    replay_id = known.replay_id
    go_on = _go_on(aws, replay_id, most_waiting)
    with _recorded(aws, replay_id, known.digest, go_on, reason, tell):
        path = _record(aws, replay_id, "resume", digest=known.digest, reason=reason, messages=known.messages)
        if known.state == PAUSED:
            ask(aws, _url(aws), replay_id, "resume", reason=reason[:1000])
        done = _drive(aws, _url(aws), replay_id, rate, most_waiting, tell, path)
    _record(aws, replay_id, "end", **_facts(done))
    return done


def pause(aws: Connection, replay_id: str, *, reason: str = "", progress: Progress | None = None) -> ReplayRun:
    """Stop a run for now. When this returns, nothing of it is sent any more, and the run says what was.

    Raises:
        UsageError: there is no such run.
        Refused: the run was cancelled.
        AwsError: AWS refused or did not answer; the same call goes on.
    """
    return _stop(aws, replay_id, "pause", reason, progress)


def cancel(aws: Connection, replay_id: str, *, reason: str = "", progress: Progress | None = None) -> ReplayRun:
    """Stop a run for good. When this returns, nothing of it is sent any more, and the run says what was.

    Raises:
        UsageError: there is no such run.
        AwsError: AWS refused or did not answer; the same call goes on.
    """
    return _stop(aws, replay_id, "cancel", reason, progress)


def pace(aws: Connection, replay_id: str, rate: int) -> ReplayRun:
    """Change how many messages a run sends in a second, while it runs.

    Raises:
        UsageError: there is no such run.
        Refused: the run was cancelled.
        AwsError: AWS refused or did not answer.
    """
    name = status(aws, replay_id).replay_id
    ask(aws, _url(aws), name, "pace", rate=rate)
    return status(aws, name)


def status(aws: Connection, replay_id: str) -> ReplayRun:
    """Return how far a run is. Raise UsageError when there is none, or AwsError."""
    found = _found(aws, replay_id)
    if found is None:
        raise unknown(aws, replay_id)
    return found


def _found(aws: Connection, replay_id: str) -> ReplayRun | None:
    """Return the run with this id, or the one that has the window with this id."""
    with aws_errors(aws.environment, "read the replays table"):
        found = runs.read(aws.stores, replay_id)
        if found is None and (window := reading.one(aws.stores, replay_id)) and window.of_run:
            found = runs.read(aws.stores, window.of_run)
    return found


def require_place(aws: Connection, plan: ReplayPlan) -> None:
    """Raise Refused when a plan was made for another environment."""
    here = (aws.environment.name, aws.account, aws.environment.stack)
    there = (plan.environment, plan.account, plan.stack)
    if here != there:
        raise Refused(
            f"the plan was made for {' · '.join(there)}, and this is {' · '.join(here)}",
            reason="a plan lists what one environment holds",
            next_step=f"make a plan of {aws.environment.name}:\npik replay plan --help",
        )


# --- what may be run --------------------------------------------------------------------------------------------------


def _allowed(aws: Connection, plan: ReplayPlan, replay_id: str, reason: str, at_most: int | None) -> str:
    """Return the address of the replay API. Raise UsageError or Refused."""
    require_place(aws, plan)
    if not plan.messages:
        raise UsageError("the plan selects nothing", next_step="plan another window; wb.events shows what there is")
    if at_most is not None and plan.messages > at_most:
        raise Refused(
            f"the plan has {plan.messages:,} messages, and at most {at_most:,} are allowed",
            next_step="allow more, or plan less",
        )
    if replay_id and not (events.is_replay_id(replay_id) and len(replay_id) <= _LONGEST):
        raise UsageError(
            f"not an id for a replay: {replay_id!r}",
            next_step=f"1 to {_LONGEST} letters, digits, dots, dashes or underscores",
        )
    _require_reason(aws, reason)
    return _url(aws)


def _known(aws: Connection, name: str, plan: ReplayPlan) -> ReplayRun | None:
    """Return the run of this plan under this id, if it was begun. Raise Refused when it is another one."""
    with aws_errors(aws.environment, "read the replays table"):
        known = runs.read(aws.stores, name)
    if known and known.digest != plan.digest:
        raise Refused(f"{name} stands for another replay", next_step="choose another id, or none")
    return known


def _require_reason(aws: Connection, reason: str) -> None:
    if not reason and aws.environment.config.protection != "open":
        raise Refused(
            f"{aws.environment.name} is {aws.environment.config.protection}: a replay there needs a reason",
            next_step='the same with --reason "…"; it is recorded',
        )


def _url(aws: Connection) -> str:
    if url := aws.outputs.get("ReplayUrl"):
        return url
    raise Refused(
        f"{aws.environment.name} is in phase {aws.phase}, which has no replay API",
        next_step=f"pik status --env {aws.environment.name}",
    )


def _unchanged(aws: Connection, plan: ReplayPlan) -> None:
    """Raise Refused when the plan is not what would be sent now."""
    if what := planning.changes(plan, planning.again(aws, plan)):
        raise Refused(
            "the plan is not what would be sent now",
            reason=f"its windows hold {what}",
            next_step="make the plan again, look at it, and run it",
        )


# --- sending ----------------------------------------------------------------------------------------------------------


def _drive(
    aws: Connection, url: str, name: str, rate: int | None, most_waiting: int | None, tell: Progress, record: str
) -> ReplayRun:
    """Have a run's parts sent until all are, or somebody stops it. Return what is recorded then."""
    known = status(aws, name)
    if known.state == CANCELLED:
        raise Refused(f"{name} was cancelled: {known.why}", next_step="run the plan under another id")
    if rate and rate != known.rate:
        ask(aws, url, name, "pace", rate=rate)
    dead = messages(aws.environment, aws.outputs["DeadLetterQueueUrl"])
    drive = Sending(aws, url, known, rate or known.rate, most_waiting, dead, tell)
    drive.look()
    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                list(pool.map(drive.part, known.left))
            except BaseException:
                drive.stop.set()  # so that the others end, and the pool with them
                raise
    finally:
        tell(f"{name}: {known.sent + drive.sent:,} of {known.messages:,} messages sent")
    if drive.why:
        with suppress(Refused):  # somebody has cancelled it meanwhile
            _stop(aws, name, "pause", drive.why, tell)
    with aws_errors(aws.environment, "read the replays table"):
        found = runs.read(aws.stores, name, record)
    if found is None:
        raise unknown(aws, name)
    return found


def _stop(aws: Connection, replay_id: str, action: str, reason: str, progress: Progress | None) -> ReplayRun:
    """Have a run stopped, and wait until what was begun has ended."""
    before, tell = status(aws, replay_id), progress or (lambda _: None)
    if before.complete:
        return before
    replay_id = before.replay_id
    path = _record(aws, replay_id, action, digest=before.digest, reason=reason, messages=before.messages)
    began = time.monotonic()
    asked = ask(aws, _url(aws), replay_id, action, reason=reason[:1000])
    time.sleep(min(float(asked["wait"] or 0), LOOK))  # what was claimed a moment before may not be seen yet
    while True:
        asked = ask(aws, _url(aws), replay_id, "settle")
        if asked["settled"] or asked["state"] == RUNNING:  # somebody may have resumed it
            break
        if time.monotonic() - began > _SETTLES_WITHIN:
            raise AwsError(
                f"{replay_id} is {asked['state']}, and requests that were begun before have not ended",
                next_step=f"pik replay status {replay_id} --env {aws.environment.name}",
            )
        tell(f"{replay_id} is {asked['state']}; what was begun before ends in at most {asked['wait']} s")
        time.sleep(min(float(asked["wait"]), LOOK))
    done = status(aws, replay_id)
    _record(aws, replay_id, "end", **_facts(done))
    tell(f"{replay_id}: recorded in {path}")
    return done


# --- the record on this machine ---------------------------------------------------------------------------------------


def _go_on(aws: Connection, name: str, most_waiting: int | None) -> str:
    waiting = "" if most_waiting is None else f" --most-waiting {most_waiting}"
    return f"pik replay resume {name} --env {aws.environment.name}{waiting}"


@contextmanager
def _recorded(aws: Connection, name: str, digest: str, go_on: str, reason: str, tell: Progress) -> Iterator[None]:
    """Say how to go on, and write it down, when what is inside does not end well."""
    try:
        yield
    except (PikError, ClientError, BotoCoreError, KeyboardInterrupt) as error:
        go_on += f" --reason {shlex.quote(reason)}" if reason else ""
        if not isinstance(error, UsageError | Refused):
            tell(f"{name} stopped; to go on: {go_on}")
        _record(aws, name, "stopped", digest=digest, why=f"{type(error).__name__}: {error}")
        if isinstance(error, KeyboardInterrupt | UsageError | Refused):
            raise
        why = getattr(error, "reason", "") or str(error)
        raise AwsError(f"{name} stopped: {error}", reason=why, next_step=f"{go_on}\ngoes on from there") from error


def _facts(done: ReplayRun) -> dict[str, Any]:
    return {name: value for name, value in done.to_dict().items() if name != "replay_id"}


def _record(aws: Connection, name: str, what: str, **facts: Any) -> str:
    """Write a line about a run on this machine; the shared record of what was sent is the replays table."""
    path = project.STATE / "replays" / f"{aws.environment.name}.jsonl"
    project.private_folder(path.parent)
    line: dict[str, Any] = {"at": events.now(), "replay": what, "replay_id": name, "stack": aws.environment.stack}
    if what in {"begin", "resume", "pause", "cancel"}:
        with aws_errors(aws.environment, "ask who you are"):
            line["by"] = aws.environment.client("sts").get_caller_identity()["Arn"]
    line |= facts
    with project.private_file(path, "a") as file:
        file.write(json.dumps(line) + "\n")
    return str(path)

"""A plan is run: one replay for each of its windows, through the replay API, followed to its end.

The API keeps its own record of each request (:mod:`pik.replays.records`), so whoever was interrupted goes on where it
stopped, and nothing that is sent twice is counted twice.
"""

from __future__ import annotations

import json
import random
import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pik import events, project
from pik.aws.exchange import ATTEMPTS, tried
from pik.aws.stack import aws_errors
from pik.errors import AwsError, PikError, Refused, UsageError
from pik.pipeline.selection import Selection, new_replay_id
from pik.replays import planning, reading
from pik.replays.planning import ReplayPart, ReplayPlan
from pik.replays.records import Replay, Row

if TYPE_CHECKING:
    from pik.aws.connection import Connection

LAST = "last"  # instead of a number, in the id of a plan's last window
_LONGEST = 57  # characters of the id that a plan is run under: each window's replay has a number after it
_DEPLOY = "deploy it without DryRun, then run the plan"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class ReplayRun:
    """What running a plan came to.

    Attributes:
        replay_id: the id that it was run under; of more than one window, each has ``<id>.<number>``.
        plan: what was to be sent.
        replays: what is recorded of each window's replay, by id.
        extra: ids of events that were sent and are not in the plan: they arrived in the meantime.
        unsure: entities and days of which one cannot say exactly which events were sent: others arrived meanwhile, and
            the records have numbers alone.
        record: where it is recorded on this machine.
    """

    replay_id: str
    plan: ReplayPlan
    replays: dict[str, Replay] = field(repr=False)
    extra: frozenset[str]
    unsure: frozenset[tuple[str, str]] = frozenset()
    record: str = ""

    @property
    def complete(self) -> bool:
        """Whether every window was sent to its end."""
        return len(self.replays) == len(self.plan.parts) and all(one.complete for one in self.replays.values())

    @property
    def as_planned(self) -> bool:
        """Whether exactly the plan's events were sent."""
        known = self.complete and not self.extra and not self.unsure
        return known and (not self.plan.include_duplicates or self.sent == self.plan.messages)

    @property
    def sent(self) -> int:
        """How many messages were sent; one that was sent again when an answer was lost counts once."""
        return sum(one.total("matched") for one in self.replays.values())

    @property
    def sentence(self) -> str:
        """What it means, in one sentence."""
        if self.as_planned:
            return f"{self.replay_id}: exactly the {len(self.plan.event_ids):,} planned events were sent"
        parts = [] if self.complete else ["not sent to its end"]
        parts += [f"{len(self.extra):,} sent that arrived after the plan was made"] if self.extra else []
        if self.unsure:
            parts.append(
                f"{len(self.unsure):,} days on which events arrived meanwhile: it is not known which were sent"
            )
        return f"{self.replay_id}: {len(self.plan.event_ids):,} events planned, {', '.join(parts)}"

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """Return it, JSON-able."""
        return {
            "replay_id": self.replay_id,
            "digest": self.plan.digest,
            "planned_events": len(self.plan.event_ids),
            "planned_messages": self.plan.messages,
            "sent": self.sent,
            "complete": self.complete,
            "as_planned": self.as_planned,
            "extra": sorted(self.extra),
            "unsure": [list(one) for one in sorted(self.unsure)],
            "record": self.record,
        }


def run(
    aws: Connection,
    plan: ReplayPlan,
    *,
    replay_id: str = "",
    reason: str = "",
    at_most: int | None = None,
    progress: Progress | None = None,
) -> ReplayRun:
    """Send what a plan selects, if that is still what it was.

    Args:
        aws: the connection, or a workbench; the environment that the plan was made for.
        plan: what to send.
        replay_id: an id of one's own; or that of a run of this plan that was interrupted, to go on with it.
        reason: why; needed where the environment is guarded or protected.
        at_most: refuse a plan of more messages than this.
        progress: is called with a sentence now and then.

    Raises:
        UsageError: the plan selects nothing, or ``replay_id`` is no replay id.
        Refused: it is another environment, the set has changed since the plan was made, there is no replay API in this
            phase, ``at_most`` is exceeded, a reason is needed, or the id stands for another replay. Nothing was sent.
        AwsError: AWS refused or did not answer; what was sent is recorded, and its next step goes on.
    """
    url = _allowed(aws, plan, replay_id, reason, at_most)
    name, tell = replay_id or new_replay_id(), progress or (lambda _: None)
    parts, once = names(name, plan), set[str]()
    with aws_errors(aws.environment, "read the replays table"):
        begun = reading.of(aws.stores, parts) if replay_id else {}
    for one, replay in begun.items():
        if (_part(replay), bool(replay.head["include_duplicates"])) != (parts[one], plan.include_duplicates):
            raise Refused(f"{one} stands for another replay", next_step="choose another id, or none")
    _unchanged(aws, plan, begun, parts)
    path = _record(aws, name, plan, "begin", reason=reason)
    tell(f"{name}: {plan.sentence}")
    try:
        for number, (one, part) in enumerate(parts.items(), 1):
            if _follow(aws, url, one, part, plan.include_duplicates, begun.get(one)) and one not in begun:
                once.add(one)
            if number % 20 == 0 or number == len(parts):
                tell(f"{number:,} of {len(parts):,} windows sent")
        done = compared(aws, name, plan, once, path)
    except (PikError, ClientError, BotoCoreError, KeyboardInterrupt) as error:
        go_on = f"pik replay run PLAN --env {aws.environment.name} --replay-id {name}"
        go_on += f" --reason {shlex.quote(reason)}" if reason else ""
        tell(f"{name} stopped; to go on: {go_on}")
        _record(aws, name, plan, "stopped", why=f"{type(error).__name__}: {error}")
        if isinstance(error, KeyboardInterrupt | UsageError | Refused):
            raise
        why = getattr(error, "reason", "") or str(error)
        raise AwsError(f"{name} stopped: {error}", reason=why, next_step=f"{go_on}\ngoes on from there") from error
    _record(aws, name, plan, "end", **done.to_dict())
    return done


def resume(aws: Connection, replay_id: str, *, reason: str = "", progress: Progress | None = None) -> Replay:
    """Go on with a replay that stopped before the end of its window, whoever began it. Return what is recorded then.

    Raises:
        UsageError: there is no such replay.
        Refused: a reason is needed, or there is no replay API in this phase.
        AwsError: AWS refused or did not answer; the same call goes on.
    """
    found = _one(aws, replay_id)
    _require_reason(aws, reason)
    if not found.complete:
        (progress or (lambda _: None))(f"{replay_id}: goes on behind {found.after or 'the start of its window'}")
        _follow(aws, _url(aws), replay_id, _part(found), bool(found.head["include_duplicates"]), found)
    return _one(aws, replay_id)


def names(replay_id: str, plan: ReplayPlan) -> dict[str, ReplayPart]:
    """Return the replay ids of a plan's windows, in the order in which they are sent.

    One window has the id itself. Of several, the last one is called so, and whoever reads the records knows that there
    is no other.
    """
    if len(plan.parts) == 1:
        return {replay_id: plan.parts[0]}
    numbers = [*map(str, range(1, len(plan.parts))), LAST]
    return {f"{replay_id}.{number}": part for number, part in zip(numbers, plan.parts, strict=True)}


def compared(aws: Connection, replay_id: str, plan: ReplayPlan, once: Collection[str], record: str = "") -> ReplayRun:
    """Compare what a plan lists with what the records say was sent.

    What a plan lists was there before the first request, so each of its events was sent, and the records have their
    number by day. ``once``: replays of which each request was answered; of the others one may have been sent twice, and
    recorded with the number of either time.
    """
    with aws_errors(aws.environment, "compare a replay with its plan"):
        replays = reading.of(aws.stores, names(replay_id, plan))
        extra, unsure = set[str](), set[tuple[str, str]]()
        for name, one in replays.items():
            part = _part(one)
            for day, more, arrived in _by_day(one, plan.of(part), aws.stores.arrivals(*part)):
                if more == len(arrived):
                    extra |= arrived
                elif more or name not in once:
                    unsure.add((part.entity_id, day))
    return ReplayRun(replay_id, plan, replays, frozenset(extra), frozenset(unsure), record)


def _by_day(one: Replay, listed: list[Row], there: list[Row]) -> Iterator[tuple[str, int, set[str]]]:
    """Yield each day, how many events more than the plan's were sent, and the events that are not in the plan."""
    planned = {row["event_id"]: str(row["event_time"])[:10] for row in listed}
    arrived = {
        row["event_id"]: str(row["event_time"])[:10]
        for row in there
        if row["status"] == events.ACCEPTED and row["event_id"] not in planned
    }
    counts = Counter(planned.values())
    for day in sorted({*counts, *one.expected, *arrived.values()}):
        yield day, one.expected[day] - counts[day], {name for name, its in arrived.items() if its == day}


def _part(one: Replay) -> ReplayPart:
    entity, start, end = (str(one.head[name]) for name in ("entity_id", "start_time", "end_time"))
    return ReplayPart(entity, start, end)


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


def _unchanged(aws: Connection, plan: ReplayPlan, begun: dict[str, Replay], parts: dict[str, ReplayPart]) -> None:
    """Look whether the plan still is what would be sent; of a run that goes on, only what has not begun."""
    left = tuple(part for name, part in parts.items() if name not in begun or not begun[name].chain)
    before = replace(plan, parts=left, rows=tuple(row for part in left for row in plan.of(part)))
    if left and (what := planning.changes(before, planning.again(aws, before))):
        raise Refused(
            "the plan is not what would be sent now",
            reason=f"its windows hold {what}",
            next_step="make the plan again, look at it, and run it",
        )


def _follow(
    aws: Connection, url: str, name: str, part: ReplayPart, include_duplicates: bool, begun: Replay | None
) -> bool:
    """Ask for a replay, and for the rest of it, until it is complete. Return whether each request was answered."""
    if begun and begun.complete:
        return False
    window = {**part._asdict(), "include_duplicates": include_duplicates, "replay_id": name}
    cursor = _selection(name, part, include_duplicates).cursor(begun.after) if begun and begun.after else None
    failures, each = 0, True
    while True:
        body = json.dumps({**window, **({"cursor": cursor} if cursor else {})}).encode()
        asked = tried(aws.environment, url, body)
        if asked.status == 200 and asked["dry_run"]:
            raise Refused(f"{aws.environment.name} is in dry-run mode: nothing was sent", next_step=_DEPLOY)
        if asked.status == 200 and asked["complete"] is True:
            return each
        each = each and asked.status == 200
        if asked.answered and asked.status != 200:
            _refuse(aws, name, asked.answer)
        failures = 0 if asked.status == 200 else failures + 1
        if failures == ATTEMPTS:
            raise AwsError(f"{name}: the replay API did not answer {failures} times", reason=asked.summary)
        cursor = asked["cursor"] or cursor  # also a 503 says how far it came
        if failures:
            time.sleep(random.uniform(0.1, 0.5) * failures)  # noqa: S311 - jitter, not a secret


def _refuse(aws: Connection, name: str, answer: dict[str, Any]) -> None:
    what = str(answer.get("error") or answer)
    if answer.get("code") == "replay_id_taken":
        raise Refused(f"{name} stands for another replay: {what}", next_step="choose another id, or none")
    raise AwsError(f"{aws.environment.name}: the replay API refused {name}: {what}", reason=str(answer.get("code", "")))


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


def _record(aws: Connection, name: str, plan: ReplayPlan, what: str, **facts: Any) -> str:
    """Write a line about a run on this machine; the shared record of what was sent is the replays table."""
    path = project.STATE / "replays" / f"{aws.environment.name}.jsonl"
    project.private_folder(path.parent)
    line: dict[str, Any] = {"at": events.now(), "replay": what, "replay_id": name, "stack": plan.stack}
    if what == "begin":
        line["by"] = aws.environment.client("sts").get_caller_identity()["Arn"]
    line |= {"digest": plan.digest, "messages": plan.messages, "windows": len(plan.parts), **facts}
    with project.private_file(path, "a") as file:
        file.write(json.dumps(line) + "\n")
    return str(path)

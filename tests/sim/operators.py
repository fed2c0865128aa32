"""Operators in a history: they read, peek, replay, predict, redrive and rebuild rows with the kit's own functions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import ClientError, ReadTimeoutError

from pik import events
from pik.aws import event_source_mapping, queue_peek
from pik.aws.stack import Stack
from pik.environments import Environment
from pik.errors import AwsError, Refused
from pik.pipeline import rows
from pik.replays import planning, running
from pik.replays.manifest import names, windows
from pik.replays.planning import ReplayPart, ReplayPlan
from pik.replays.runs import CANCELLED, PAUSED, ReplayRun
from pik.rollout.deploy.rollback import Consumption
from pik.rollout.plan.prediction import Prediction, predict
from pik.workbench.consistency.reconcile import HARMLESS, reconcile
from pik.workbench.consistency.reindex import reindex
from pik.workbench.consistency.snapshot import key_id
from pik.workbench.redriving import Choice, Redrive, redrive
from tests.sim.connection import connection
from tests.sim.model import counts
from tests.sim.scheduler import Task, Violation
from tests.sim.world import PROCESSOR_SECONDS, World
from tests.stores import SETTINGS

T = TypeVar("T")
MOST_TRIES = 200
CLOCK_SECONDS = 300.0  # an operator's clock is wrong by so much at most: AWS refuses requests that are dated worse
ENTITIES = ("N1", "N2")
DAYS = ("2025-05-30", "2025-05-31")
WINDOW = (f"{DAYS[0]}T00:00:00Z", "2025-06-01T00:00:00Z")
#: What a reconciliation may say of a healthy system: a raw object that was never acknowledged, a replay under way.
_TRUE = HARMLESS | {"orphan_raw", "half_replay"}


@dataclass
class Replayed:
    """One replay that somebody asked for: its selection, and what was acknowledged before its first request."""

    request: dict[str, Any]
    before: frozenset[str]
    complete: bool = False
    refused: bool = False  # as its id stands for another selection
    duplicates: Counter[str] = field(default_factory=Counter)  # acknowledged before, by event


@dataclass
class Operators:
    """The operators of one history, and what they know in the end."""

    world: World
    replays: list[Replayed] = field(default_factory=list)
    predicted: Prediction | None = None
    counted: dict[tuple[str, str], int] = field(default_factory=dict)  # by version, when that was predicted
    deleted: set[tuple[str, tuple[str, ...]]] = field(default_factory=set)  # rows that somebody deleted: table, key
    held: set[str] = field(default_factory=set)  # runs that are paused, and are not resumed for now
    undecided: set[str] = field(default_factory=set)  # events of which reindex could not say which object they are

    def __post_init__(self) -> None:
        self.aws = connection(self.world)

    def command(self, name: str, work: Callable[[], T], *, only_reads: bool = True) -> T:
        """Run a command of the kit as its own process, and again when AWS did not answer or it was killed."""
        scheduler, chance = self.world.scheduler, self.world.chance
        assert scheduler.current is not None
        scheduler.current.skew = (2 * chance.random() - 1) * CLOCK_SECONDS
        for _ in range(MOST_TRIES):
            process = self._once(name, work, only_reads=only_reads)
            if process and not process.killed:
                result: T = process.result
                return result
            scheduler.pause(chance.random() * 20)
        raise AssertionError(f"{name} did not succeed in {MOST_TRIES} tries")

    def _once(self, name: str, work: Callable[[], Any], *, only_reads: bool = False) -> Task | None:
        """Run a command once; None when it was refused, or AWS did not answer."""
        scheduler = self.world.scheduler
        try:
            return scheduler.call(name, work, patience=1e6, only_reads=only_reads)
        except (AwsError, Refused, ClientError, ReadTimeoutError) as error:
            scheduler.note(name, "", f"{type(error).__name__}: {error}"[:100])
            return None

    # --- replays ------------------------------------------------------------------------------------------------------

    def selection(self, name: str) -> dict[str, Any]:
        """Choose what to replay."""
        chance = self.world.chance
        request: dict[str, Any] = {
            "entity_id": ENTITIES[chance.random() < 0.2],
            "start_time": WINDOW[0],
            "end_time": chance.choice((f"{DAYS[1]}T00:00:00Z", WINDOW[1])),
            "replay_id": name,
        }
        if chance.random() < 0.5:
            request["limit"] = 1 + int(chance.random() * 2)
        if chance.random() < 0.2:
            request["include_duplicates"] = True
        return request

    def replay(self, request: dict[str, Any], patience: float) -> None:
        """Ask for a replay, and follow the cursor until it is complete."""
        world = self.world
        world.scheduler.pause(world.chance.random() * patience)
        # Whoever asks again under the same id goes on with the same replay: it began with the first request.
        before = [one.before for one in self.replays if one.request["replay_id"] == request["replay_id"]]
        mine = Replayed(request, before[0] if before else self._acknowledged())
        if not before and request.get("include_duplicates"):
            mine.duplicates.update(
                one.answer["event_id"] for one in self.world.acks if one.answer.get("status") == events.DUPLICATE
            )
        self.replays.append(mine)
        cursor: str | None = None
        if world.chance.random() < 0.2:
            world.post("replay", json.dumps(request).encode(), dry_run=True)
        for _ in range(MOST_TRIES):
            document = {**request, **({"cursor": cursor} if cursor else {})}
            ack = world.post("replay", json.dumps(document).encode())
            if ack and ack.answer.get("code") == "replay_id_taken":
                mine.refused = True
                return
            if ack and ack.status in {200, 503} and "complete" in ack.answer:
                cursor = ack.answer["cursor"]
                if ack.answer["complete"]:
                    mine.complete = True
                    if world.chance.random() < 0.2:  # somebody asks once more, from the start, and not to the end
                        again = {**request, "limit": 1 + int(world.chance.random() * 3)}
                        world.post("replay", json.dumps(again).encode())
                    return
            world.scheduler.pause(0.2 + world.chance.random() * 3)
        raise AssertionError(f"{request['replay_id']} is not complete after {MOST_TRIES} requests")

    def run_plan(self, name: str, patience: float) -> None:
        """Plan a replay and run it, until it is complete or cancelled. Raises Violation when it is not as it says."""
        world, plans = self.world, dict[str, tuple[ReplayPlan, frozenset[str]]]()
        world.scheduler.pause(world.chance.random() * patience)
        rate = world.chance.choice((None, 1, 1, 2))  # slow enough to be stopped half-way
        entity, midnight = ENTITIES[world.chance.random() < 0.2], "T00:00:00.000000Z"
        parts = [ReplayPart(entity, f"{DAYS[0]}{midnight}", f"{DAYS[1]}{midnight}")]
        if world.chance.random() < 0.5:
            parts.append(ReplayPart(ENTITIES[entity == ENTITIES[0]], f"{DAYS[0]}{midnight}", f"{DAYS[1]}{midnight}"))
        for _ in range(MOST_TRIES):
            if self._run_row(name, "RUN") is None:
                before = self._acknowledged()
                plan = self.command("pik replay plan", partial(planning.plan, self.aws, parts))
                if not plan.messages:
                    return None
                plans[plan.digest] = (plan, before)
                work: Callable[[], Any] = partial(running.run, self.aws, plan, replay_id=name, rate=rate)
            else:
                work = partial(running.resume, self.aws, name, rate=rate)
            while name in self.held:
                world.scheduler.pause(5)
            done = self._once("pik replay run", work)
            if (row := self._run_row(name, "RUN")) and (state := self._run_row(name, "STATE")):
                plan, before = plans[row["digest"]["S"]]
                self._follow(name, plan, before)
                if done and not done.killed and (done.result.complete or done.result.state == CANCELLED):
                    return self._is_so(done.result, plan)
                if state["state"]["S"] == CANCELLED:
                    return None
            world.scheduler.pause(0.2 + world.chance.random() * 10)
        raise AssertionError(f"{name} was not run in {MOST_TRIES} tries")

    def _run_row(self, name: str, sk: str) -> dict[str, Any] | None:
        return self.world.dynamodb.tables["replays"].get((events.replay_pk(name), sk))

    def _follow(self, name: str, plan: ReplayPlan, before: frozenset[str]) -> None:
        """Keep in mind what its windows' replays must and may send."""
        chosen = windows(plan)
        known = {one.request["replay_id"] for one in self.replays}
        for one, part in zip(names(name, len(chosen)), chosen, strict=True):
            if one not in known and self._run_row(one, "HEAD"):
                self.replays.append(Replayed({**part._asdict(), "replay_id": one}, before))

    def _sent(self, name: str) -> list[str]:
        """The events of a run's messages that the queue has taken, one for each message."""
        taken = (json.loads(message.body) for message in self.world.sqs.taken["queue"])
        return [one["event_id"] for one in taken if one["replay_id"].partition(".")[0] == name]

    def _is_so(self, done: ReplayRun, plan: ReplayPlan) -> None:
        """A run that is complete sent exactly its plan. Raises Violation."""
        sent = set(self._sent(done.replay_id))
        if done.complete and (sent - plan.event_ids or len(sent) != done.sent):
            raise Violation(f"{done.sentence}; {len(sent)} were sent of {len(plan.event_ids)}")
        for one in self.replays:
            one.complete |= done.complete and one.request["replay_id"].partition(".")[0] == done.replay_id

    def stop_run(self, name: str, patience: float) -> None:
        """Pause or cancel a run while it is sent. Raises Violation when anything is sent afterwards."""
        world = self.world
        action = running.cancel if world.chance.random() < 0.4 else running.pause
        for _ in range(MOST_TRIES):
            if self._run_row(name, "STATE"):
                break
            world.scheduler.pause(patience / 10)
        else:
            return  # its plan selects nothing
        for _ in range(int(world.chance.random() * 20)):  # often while a request is under way that nobody waits for
            if world.faults.under_way:
                break
            world.scheduler.pause(0.1)
        done = self._once(f"pik replay {action.__name__}", partial(action, self.aws, name))
        state = self._run_row(name, "STATE")
        if not done or done.killed or not state or done.result.state != state["state"]["S"]:
            return
        if state["state"]["S"] not in {PAUSED, CANCELLED}:
            return  # it was over, or somebody has resumed it
        sent, changed = self._sent(name), state["changed"]
        if len({*sent}) != done.result.sent or done.result.unsure:
            raise Violation(f"{done.result.sentence}; {len({*sent})} were sent")
        self.held.add(name)
        world.scheduler.pause(world.chance.random() * 120)
        now = self._run_row(name, "STATE")
        if now and now["changed"] == changed and len(self._sent(name)) != len(sent):
            raise Violation(f"{name} is {now['state']['S']}, and {len(self._sent(name)) - len(sent)} more were sent")
        self.held.discard(name)

    def _acknowledged(self) -> frozenset[str]:
        stored = {events.ACCEPTED, events.DUPLICATE}
        return frozenset(one.answer["event_id"] for one in self.world.acks if one.answer.get("status") in stored)

    # --- looking ------------------------------------------------------------------------------------------------------

    def reconcile(self, patience: float) -> None:
        """Compare the stores, at any moment. Raises Violation when a loss is reported that is none."""
        self.world.scheduler.pause(self.world.chance.random() * patience)
        kept, dead = self._kept(), bool(self.world.sqs.queues["dlq"])
        found = self.command("pik reconcile", partial(reconcile, self.aws, *WINDOW)).found
        for row in found:
            if row["class"] == "aggregate_partial" and (dead or self.world.sqs.queues["dlq"]):
                continue  # dead letters are not counted
            if row["class"] not in _TRUE or (row["class"] == "orphan_raw" and row["where"] in kept & self._kept()):
                raise Violation(f"a reader reports a loss that is none: {row['class']} {row['where']}: {row['detail']}")

    def _kept(self) -> set[str]:
        """The objects of events that were acknowledged, and whose retention is not over."""
        stored, now = {events.ACCEPTED, events.DUPLICATE}, self.world.time().timestamp() + 2  # by any function's clock
        found = (one for one in self.world.acks if one.answer.get("status") in stored)
        return {
            one.answer["s3_key"]
            for one in found
            if rows.expires_at(one.answer.get("first_ingest_time", one.answer["ingest_time"]), SETTINGS.retention_days)
            > now
        }

    def peek(self, patience: float) -> None:
        """Look at messages, which are received and given back for that."""
        world = self.world
        for _ in range(1 + int(world.chance.random() * 3)):
            world.scheduler.pause(world.chance.random() * patience)
            url = "queue" if world.chance.random() < 0.8 else "dlq"
            self._once("peek", partial(queue_peek.look, self.aws.environment, url, 5))

    # --- a rollback stops consumption ---------------------------------------------------------------------------------

    def stop_consumption(self) -> None:
        """Have a rollback disable the mapping and wait. Raises Violation when the queue is consumed all the same."""
        work = partial(_stopped, self.aws.environment, self._stack())
        done = self.command("pik rollback", work, only_reads=False)
        if not done.problem:  # it says that the queue is no longer consumed
            self.world.stop()

    def start_consumption(self) -> None:
        """Enable the mapping again."""
        self.world.stopped = False
        switch = partial(event_source_mapping.switch, self.aws.environment, self.aws.outputs, on=True)
        self.command("enable", switch, only_reads=False)

    def _stack(self) -> Stack:
        return Stack("pik-sim", "UPDATE_COMPLETE", "", self.world.time(), outputs=self.aws.outputs)

    # --- the processor is switched on late ----------------------------------------------------------------------------

    def enable_late(self) -> None:
        """Replay, predict what the processor will write, and switch it on."""
        world = self.world
        for number in range(1 + int(world.chance.random() * 2)):
            self.replay(self.selection(f"late-{number}"), patience=5)
            if world.chance.random() < 0.3:  # it was on for a moment, and counted some of the messages
                world.mapping.set(True)
                world.scheduler.pause(world.chance.random() * 3)
                world.mapping.set(False)
                world.scheduler.pause(PROCESSOR_SECONDS + 1)
        while world.faults.under_way:
            world.scheduler.pause(5)
        silent: Callable[[str], None] = lambda _: None  # noqa: E731
        self.predicted = self.command("predict", partial(predict, self.aws.stores, silent))
        self.counted = counts(world)
        world.scheduler.note("event source mapping", "", f"enabled; {self.predicted.sentence}")
        world.mapping.set(True)

    # --- after incidents ----------------------------------------------------------------------------------------------

    def delete_rows(self) -> None:
        """Somebody deletes rows of first arrivals: of the one table, of the other, or of both."""
        world, chance = self.world, self.world.chance
        for key, item in list(world.dynamodb.tables["events"].items()):
            if item["status"]["S"] == events.CONFLICT and chance.random() < 0.5:
                kept = world.s3.objects[item["s3_key"]["S"]]  # of those that it brought, a row can be rebuilt
                if kept.metadata["request-id"] == item["request_id"]["S"]:
                    del world.dynamodb.tables["events"][key]
                    continue
            if item["status"]["S"] != events.ACCEPTED or chance.random() < 0.5:
                continue
            which = int(chance.random() * 3)
            gone = [("events", key)] if which != 1 else []
            gone += [("dedupe", (_event_id(key),))] if which != 0 else []
            for table, name in gone:
                if world.dynamodb.tables[table].pop(name, None):
                    self.deleted.add((table, name))
            world.scheduler.note("somebody", "", f"deletes rows of {key[1]}: {('events', 'dedupe', 'both')[which]}")

    def _lost(self) -> set[tuple[str, tuple[str, ...]]]:
        tables = self.world.dynamodb.tables
        return {(table, key) for table, key in self.deleted if key not in tables[table]}

    def rebuild(self) -> None:
        """Look what is lost, and write the rows again that raw objects give. Raises Violation."""
        lost = self._lost()
        said = self.command("pik reconcile", partial(reconcile, self.aws, *WINDOW))
        if lost & self._lost() and said.clean:
            raise Violation(f"rows are lost, and a reader says that all stores agree: {sorted(lost)[:3]}")
        self.world.scheduler.pause(2 + self.world.chance.random() * 10)
        found = self.command("pik reindex --apply", partial(reindex, self.aws, apply=True), only_reads=False)
        if found.applied != bool(found.events or found.dedupe):
            raise Violation(f"rows are absent, and it says: {found.to_text()}")
        for name in map(key_id, found.skipped):
            objects = [key for key in self.world.s3.objects if key.startswith("raw/") and key_id(key) == name]
            if len(objects) < 2:
                raise Violation(f"{name[:8]} has one object, and it says: {found.to_text()}")
            self.undecided.add(name)

    def delete_objects(self) -> None:
        """Somebody deletes raw objects, so that messages that refer to them can't be processed."""
        for key in list(self.world.s3.objects):
            if key.startswith("raw/") and self.world.chance.random() < 0.8:
                del self.world.s3.objects[key]
                self.world.scheduler.note("somebody", "", f"deletes {key}")

    def mend_and_redrive(self) -> None:
        """Replay, find dead letters, put the objects back, and send the dead letters back to the queue."""
        world = self.world
        self.replay(self.selection("ill"), patience=5)
        while world.sqs.queues["queue"]:
            world.scheduler.pause(5 + world.chance.random() * 10)
        world.s3.undelete()
        world.scheduler.note("operator", "", "restores the raw objects")
        self.redrive_all()

    def redrive_all(self) -> None:
        """Send the dead letters back to the queue, until none is left."""
        world = self.world
        for _ in range(MOST_TRIES):
            if not world.sqs.queues["dlq"] and not world.faults.under_way:
                return
            plan = self.command("wb.dlq.redrive()", partial(redrive, self.aws, Choice()))
            if not plan.preview:
                raise Violation("a preview of a redrive says that it was none")
            if len(plan.frame):
                again = partial(redrive, self.aws, Choice(), preview=False, confirm=plan.confirm)
                done = self._once("wb.dlq.redrive(False)", again)
                if done and not done.killed:
                    self._is_recorded(done.result)
            world.scheduler.pause(30 + world.chance.random() * 100)
        raise AssertionError(f"dead letters are left after {MOST_TRIES} redrives")

    def _is_recorded(self, done: Redrive) -> None:
        """What was moved is written down. Raises Violation."""
        last = json.loads(Path(done.record).read_text().splitlines()[-1])
        if (last["redrive"], tuple(last["moved"])) != ("end", done.moved) or {*done.moved} & {*done.doubled}:
            raise Violation(f"a redrive moved {done.moved}, and recorded {last}")


def _stopped(environment: Environment, found: Stack) -> Consumption:
    consumption = Consumption(environment, lambda _: None)
    consumption.stop(found)
    return consumption


def _event_id(key: tuple[str, ...]) -> str:
    return key[1].partition("#EID#")[2].partition("#")[0]

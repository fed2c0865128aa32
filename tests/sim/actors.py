"""Who acts in a history: producers that retry until they are answered, operators, the queue's consumers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pik import events
from pik.pipeline import rows
from pik.producer.delivery import FAILED
from tests.sim import delivering
from tests.sim.operators import DAYS, ENTITIES, MOST_TRIES, Operators
from tests.sim.scheduler import Task, Violation
from tests.sim.world import EPOCH, Ack, World
from tests.stores import SETTINGS

FRACTIONS = ("", "", ".5", ".000001")
NONSENSE = (b"{", b'{"source": "s"}', b'{"source": "s", "event_type": "a", "entity_id": "", "payload": {}}')
NO_REPLAY = json.dumps({"entity": "N1", "entity_id": "N1", "start_time": DAYS[0], "end_time": DAYS[1]}).encode()


@dataclass
class Sent:
    """One body that a producer had to deliver, and the answer that settled it."""

    body: bytes
    ack: Ack


@dataclass
class Cast:
    """The actors of one history and what they know in the end."""

    world: World
    sent: list[Sent] = field(default_factory=list)
    busy: list[Task] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    pace: float = 20.0
    one_key: bool = False

    def __post_init__(self) -> None:
        self.operators = Operators(self.world)

    def enter(self) -> None:
        """Decide who acts, and add them."""
        chance = self.world.chance
        size = chance.choice((0.15, 0.3, 0.3, 1))  # small histories find most, and are soon told
        self.one_key = chance.random() < 0.25  # all events claim to be the same one
        self.pace = chance.choice((0.05, 1, 20))  # seconds between a producer's events, at most
        self.bodies = [self._body() for _ in range(2 + int(chance.random() * 8 * size))]
        for number in range(1 + int(chance.random() * 4 * size)):
            mine = [chance.choice(self.bodies) for _ in range(1 + int(chance.random() * 5 * size))]
            self._add(f"producer {number + 1}", partial(self._produce, mine))
        for number in range(1 + int(chance.random() * 3 * size)):
            name = f"rp-{number}" if chance.random() < 0.9 else "rp-0"  # two people may think of the same one
            request = self.operators.selection(name)
            self._add(f"operator {number + 1}", partial(self.operators.replay, request, patience=6 * self.pace))
        if chance.random() < 0.25:
            self._add("planner", partial(self.operators.run_plan, "planned", patience=6 * self.pace))
            if chance.random() < 0.6:
                patience = chance.choice((1, 1, 6 * self.pace))
                self._add("stopper", partial(self.operators.stop_run, "planned", patience=patience))
        if chance.random() < 0.3:
            self._add("careless producer", self._produce_nonsense)
        if chance.random() < 0.2:
            self._add("cautious producer", self._ask_before)
        if chance.random() < 0.2:
            self._add("reader", partial(self.operators.reconcile, patience=3 * self.pace))
        if chance.random() < 0.2:
            self._add("peeker", partial(self.operators.peek, patience=60))
        self._add("switch", self._switch)
        self._consumers()

    # --- what may come afterwards, when all is quiet ----------------------------------------------------------------

    def come_back_after_retention(self) -> None:
        """Producers send again, a year later, what may have been deleted or may be deleted at any moment."""
        world, chance = self.world, self.world.chance
        kept = sorted(item for item in world.s3.objects.items() if "ingest-time" in item[1].metadata)
        if not kept:  # nobody delivered anything
            return
        one = chance.choice(kept)[1]
        ends = rows.expires_at(one.metadata["ingest-time"], SETTINGS.retention_days) - EPOCH.timestamp()
        world.scheduler.now = max(world.scheduler.now, ends - 90 + chance.random() * 100)
        world.acks.clear()
        self.sent.clear()
        for number in range(1 + int(chance.random() * 2)):
            mine = [chance.choice(self.bodies) for _ in range(1 + int(chance.random() * 4))]
            self._add(f"late producer {number + 1}", partial(self._produce, mine))
        self._add("retention", self._expire)
        if chance.random() < 0.3:
            self._add("reader", partial(self.operators.reconcile, patience=30))

    def lose_rows(self) -> None:
        """Somebody deletes rows; an operator writes them again while producers send again what was accepted."""
        self.operators.delete_rows()
        self._add("operator", self.operators.rebuild)
        again = [one.body for one in self.sent if one.ack.status == 200]
        if again:
            self._add("producer", partial(self._produce, [self.world.chance.choice(again)]))

    def lose_objects(self) -> None:
        """Somebody deletes raw objects, so that messages end in the dead-letter queue; they are put back."""
        self.operators.delete_objects()
        self._add("operator", self.operators.mend_and_redrive)
        if self.world.chance.random() < 0.5:
            self._add("peeker", partial(self.operators.peek, patience=200))
        self._consumers()

    def enable_late(self) -> None:
        """The processor is off while an operator replays; what it will write is predicted, and it is switched on."""
        self.world.patient()
        self.world.mapping.set(False)
        self._add("operator", self.operators.enable_late)
        self._consumers()

    def compare(self) -> None:
        """An operator compares the stores."""
        self._add("reader", partial(self.operators.reconcile, patience=1))

    def redrive(self) -> None:
        """Messages have used up their receives; an operator sends them back to the queue."""
        self._add("operator", self.operators.redrive_all)
        if self.world.chance.random() < 0.5:
            self._add("reader", partial(self.operators.reconcile, patience=100))
        self._consumers()

    def _consumers(self) -> None:
        for number in range(1 + int(self.world.chance.random() * 4)):
            if number == 0 or self.world.faults.happens(f"mapping {number + 1}"):
                self.world.scheduler.spawn(f"mapping {number + 1}", self._consume)

    def _expire(self) -> None:
        """Delete what is over: DynamoDB and S3 do it late, each at its own time."""
        world = self.world
        for _ in range(int(world.chance.random() * 5)):
            world.scheduler.pause(world.chance.random() * 15)
            if world.chance.random() < 0.5:
                world.dynamodb.expire(events.epoch(world.clock()), lambda: world.chance.random() < 0.5)
                world.scheduler.note("dynamodb TTL", "", "expired rows are deleted")
                continue
            for key, found in list(world.s3.objects.items()):
                if "ingest-time" not in found.metadata:
                    continue  # a manifest, which is younger
                over = rows.expires_at(found.metadata["ingest-time"], SETTINGS.retention_days)
                if over <= events.epoch(world.clock()) and world.chance.random() < 0.5:
                    del world.s3.objects[key]
                    world.scheduler.note("s3 lifecycle", "", f"{key} is deleted")

    def _add(self, name: str, work: Callable[[], None]) -> None:
        if not self.world.faults.happens(name):
            return
        self.busy.append(self.world.scheduler.spawn(name, work))

    def _body(self) -> bytes:
        chance = self.world.chance
        keyed = self.one_key or chance.random() < 0.5
        event: dict[str, Any] = {
            "source": "s",
            "event_type": chance.choice(("a", "b")),
            "entity_id": ENTITIES[chance.random() < 0.2],  # most events meet in one version
            "event_time": f"{DAYS[chance.random() < 0.2]}T12:00:0{int(chance.random() * 3)}{chance.choice(FRACTIONS)}Z",
            "payload": {"n": int(chance.random() * 3)},
        }
        if keyed:
            event["idempotency_key"] = "k1" if self.one_key else chance.choice(("k1", "k2"))
        return json.dumps(event).encode()

    # --- producers --------------------------------------------------------------------------------------------------

    def _produce(self, bodies: list[bytes]) -> None:
        delivers, gives_up = self.world.chance.random() < 0.4, self.world.chance.random() < 0.15
        for number, body in enumerate(bodies, start=1):
            self.world.scheduler.pause(self.world.chance.random() * self.pace)
            if not self.world.faults.happens(f"{self.world.scheduler.current}, event {number}"):
                continue
            if gives_up:  # it may have crashed: whatever becomes of its request, it never comes back
                self.world.post("ingest", body)
                continue
            ack = self._delivered(body) if delivers else self._until_settled(partial(self.world.post, "ingest", body))
            self.sent.append(Sent(body, ack))

    def _produce_nonsense(self) -> None:
        """Send what is no event, or asks for no replay."""
        world, nonsense = self.world, [("ingest", body) for body in NONSENSE] + [("replay", NO_REPLAY)]
        function, body = world.chance.choice(nonsense)
        world.scheduler.pause(world.chance.random() * 20)
        ack = self._until_settled(partial(world.post, function, body))
        if ack.status != 400:
            raise Violation(f"nonsense, and answered {ack.status}: {ack.answer}")

    def _ask_before(self) -> None:
        """Ask what would become of an event."""
        self.world.scheduler.pause(self.world.chance.random() * 40)
        body = self.world.chance.choice((*self.bodies, *NONSENSE))
        self._until_settled(partial(self.world.post, "ingest", body, dry_run=True))

    def _delivered(self, body: bytes) -> Ack:
        """Have the kit's own delivery send it, and begin anew when that has used up its attempts."""
        delivery = delivering.new()
        for _ in range(MOST_TRIES):
            outcome = delivery.deliver(body)
            if outcome.result != FAILED:
                return Ack(body, int(outcome.status), outcome.answer)
            self.world.scheduler.note("delivery", "", f"failed after {outcome.attempts} attempts: {outcome.status}")
        raise AssertionError(f"not delivered in {MOST_TRIES} times {outcome.attempts} attempts")

    def _until_settled(self, send: Callable[[], Ack | None]) -> Ack:
        """Send again what was answered 5xx, or not at all, as a producer must."""
        for _ in range(MOST_TRIES):
            ack = send()
            if ack and ack.status < 500:
                return ack
            self.world.scheduler.pause(0.01 + self.world.chance.random() * min(3, self.pace))
        raise AssertionError(f"not settled in {MOST_TRIES} tries")

    # --- the processor ------------------------------------------------------------------------------------------------

    def _switch(self) -> None:
        """Stop consumption as a rollback does, and enable it again."""
        for _ in range(int(self.world.chance.random() * 3)):
            self.world.scheduler.pause(self.world.chance.random() * 40)
            self.operators.stop_consumption()
            self.world.scheduler.pause(self.world.chance.random() * 40)
            self.operators.start_consumption()

    def _consume(self) -> None:
        """Consume until everybody has done their work and the queue is empty."""
        world = self.world
        while not all(task.done for task in self.busy) or world.sqs.queues["queue"] or world.faults.under_way:
            if world.mapping.consumes:
                world.consume()
            # All of them wake when a message can be received.
            world.scheduler.pause(30 + world.chance.random(), self._waiting)
            world.scheduler.pause(world.chance.random() * world.chance.choice((0.01, 0.1, 3)))

    def _waiting(self) -> bool:
        """Whether there is something to consume."""
        world = self.world
        return world.mapping.consumes and any(m.visible_at <= world.scheduler.now for m in world.sqs.queues["queue"])

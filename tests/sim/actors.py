"""Who acts in a history: producers that retry until they are answered, operators who replay, the queue's consumers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pik import events
from pik.pipeline import rows
from tests.sim.scheduler import Task
from tests.sim.world import Ack, World
from tests.stores import SETTINGS

MOST_TRIES = 60
ENTITIES = ("N1", "N2")
DAYS = ("2025-05-30", "2025-05-31")
YEAR = 365 * 86_400.0


@dataclass
class Sent:
    """One body that a producer had to deliver, and the answer that settled it."""

    body: bytes
    ack: Ack


@dataclass
class Replayed:
    """One replay that somebody asked for: its selection, and what was acknowledged before its first request."""

    request: dict[str, Any]
    before: frozenset[str]
    complete: bool = False


@dataclass
class Cast:
    """The actors of one history and what they know in the end."""

    world: World
    sent: list[Sent] = field(default_factory=list)
    replays: list[Replayed] = field(default_factory=list)
    busy: list[Task] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def enter(self) -> None:
        """Decide who acts, and add them."""
        world, chance = self.world, self.world.chance
        self.bodies = [self._body() for _ in range(2 + int(chance.random() * 8))]
        for number in range(1 + int(chance.random() * 4)):
            mine = [chance.choice(self.bodies) for _ in range(1 + int(chance.random() * 5))]
            self._add(f"producer {number + 1}", partial(self._produce, mine))
        for number in range(1 + int(chance.random() * 3)):
            request = self._selection(number)
            self._add(f"operator {number + 1}", partial(self._replay, request))
        self._add("switch", self._switch)
        for number in range(1 + int(chance.random() * 4)):
            world.scheduler.spawn(f"mapping {number + 1}", self._consume)

    def return_after_retention(self) -> None:
        """Have producers send again, a year later, what may have been deleted or may be deleted at any moment."""
        world, chance = self.world, self.world.chance
        world.scheduler.now += YEAR * (0.99 + chance.random() / 50)
        world.acks.clear()
        self.sent.clear()
        world.faults.made = 0
        for number in range(1 + int(chance.random() * 2)):
            mine = [chance.choice(self.bodies) for _ in range(1 + int(chance.random() * 2))]
            self._add(f"late producer {number + 1}", partial(self._produce, mine))
        self._add("retention", self._expire)

    def _expire(self) -> None:
        """Delete what is over: DynamoDB and S3 do it late, each at its own time."""
        world = self.world
        for _ in range(int(world.chance.random() * 5)):
            world.scheduler.pause(world.chance.random() * 15)
            if world.chance.random() < 0.5:
                world.dynamodb.expire(events.epoch(world.clock()))
                world.scheduler.note("dynamodb TTL", "", "expired rows are deleted")
                continue
            for key, found in list(world.s3.objects.items()):
                over = rows.expires_at(found.metadata["ingest-time"], SETTINGS.retention_days)
                if over <= events.epoch(world.clock()) and world.chance.random() < 0.5:
                    del world.s3.objects[key]
                    world.scheduler.note("s3 lifecycle", "", f"{key} is deleted")

    def _add(self, name: str, work: Callable[[], None]) -> None:
        self.busy.append(self.world.scheduler.spawn(name, work))

    def _body(self) -> bytes:
        chance = self.world.chance
        keyed = chance.random() < 0.5
        event: dict[str, Any] = {
            "source": "s",
            "event_type": chance.choice(("a", "b")),
            "entity_id": ENTITIES[chance.random() < 0.2],  # most events meet in one version
            "event_time": f"{DAYS[chance.random() < 0.2]}T12:00:0{int(chance.random() * 4)}Z",
            "payload": {"n": int(chance.random() * 3)},
        }
        if keyed:
            event["idempotency_key"] = chance.choice(("k1", "k2"))
        return json.dumps(event).encode()

    # --- producers --------------------------------------------------------------------------------------------------

    def _produce(self, bodies: list[bytes]) -> None:
        for body in bodies:
            self.world.scheduler.pause(self.world.chance.random() * 20)
            ack = self._until_settled(partial(self.world.post, "ingest", body))
            self.sent.append(Sent(body, ack))

    def _until_settled(self, send: Callable[[], Ack | None]) -> Ack:
        """Send again what was answered 5xx, or not at all, as a producer must."""
        for _ in range(MOST_TRIES):
            ack = send()
            if ack and ack.status < 500:
                return ack
            self.world.scheduler.pause(0.2 + self.world.chance.random() * 3)
        raise AssertionError(f"not settled in {MOST_TRIES} tries")

    # --- operators ----------------------------------------------------------------------------------------------------

    def _selection(self, number: int) -> dict[str, Any]:
        chance = self.world.chance
        request: dict[str, Any] = {
            "entity_id": ENTITIES[chance.random() < 0.2],
            "start_time": f"{DAYS[0]}T00:00:00Z",
            "end_time": chance.choice((f"{DAYS[1]}T00:00:00Z", "2025-06-01T00:00:00Z")),
            "replay_id": f"rp-{number}",
        }
        if chance.random() < 0.5:
            request["limit"] = 1 + int(chance.random() * 2)
        return request

    def _replay(self, request: dict[str, Any]) -> None:
        world = self.world
        world.scheduler.pause(world.chance.random() * 120)
        acknowledged = {one.answer["event_id"] for one in world.acks if one.answer.get("status") == "ACCEPTED"}
        mine = Replayed(request, frozenset(acknowledged))
        self.replays.append(mine)
        cursor: str | None = None
        for _ in range(MOST_TRIES):
            document = {**request, **({"cursor": cursor} if cursor else {})}
            ack = world.post("replay", json.dumps(document).encode())
            if ack and ack.status in {200, 503} and "complete" in ack.answer:
                cursor = ack.answer["cursor"]
                if ack.answer["complete"]:
                    mine.complete = True
                    return
            world.scheduler.pause(0.2 + world.chance.random() * 3)
        raise AssertionError(f"{request['replay_id']} is not complete after {MOST_TRIES} requests")

    # --- the processor ------------------------------------------------------------------------------------------------

    def _switch(self) -> None:
        """Switch consumption off and on again."""
        world = self.world
        for _ in range(int(world.chance.random() * 4)):
            world.scheduler.pause(world.chance.random() * 40)
            world.consuming = not world.consuming
            world.scheduler.note("event source mapping", "", "enabled" if world.consuming else "disabled")
        world.consuming = True

    def _consume(self) -> None:
        """Consume until everybody has done their work and the queue is empty."""
        world = self.world
        while not all(task.done for task in self.busy) or world.sqs.queues["queue"]:
            if world.consuming:
                world.consume()
            visible = any(message.visible_at <= world.scheduler.now for message in world.sqs.queues["queue"])
            world.scheduler.pause(world.chance.random() * (0.1 if visible and world.consuming else 6))

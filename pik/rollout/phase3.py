"""What must be proven in phase 3 (processor): it writes exactly what was predicted, and loses nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pik.environments import Environment
from pik.pipeline import queue
from pik.pipeline.processor import CODE_ATTRIBUTE, REASON_ATTRIBUTE
from pik.results import Check
from pik.rollout import common, stack
from pik.rollout.probe import Probe
from pik.rollout.reading import Row, Stores, eventually
from pik.rollout.replaying import Group, Raws, Selection, latest_batch, predict, read_raws
from pik.rollout.stack import Say, silent
from pik.rollout.verdicts import check, every, missing, run

REDELIVERED = 20


@dataclass(frozen=True)
class Prediction:
    """What the processor must write for the last batch of replays, computed before it is switched on."""

    replays: dict[str, Selection]
    raws: Raws
    waiting: int
    aggregates: dict[Group, tuple[dict[str, Any], int]]

    @property
    def events(self) -> int:
        """Events of all those replays."""
        return sum(len(selection.rows) for selection in self.replays.values())


@dataclass(frozen=True)
class Drain:
    """How the queue emptied: ``timeline`` holds (seconds, messages) as they were seen."""

    seconds: float
    left: int
    timeline: list[tuple[float, int]] = field(repr=False)


class ProcessorChecks:
    """Compares what the processor writes with what the raw objects say it must write."""

    def __init__(self, environment: Environment, *, patience: float = 300.0) -> None:
        self.environment = environment
        self.patience = patience
        self.timeline: list[tuple[float, int]] = []
        self._started = time.monotonic()

    @property
    def stores(self) -> Stores:
        """The stores, with the outputs as they are now (a deploy adds some)."""
        return Stores(self.environment)

    def predict(self) -> Prediction:
        """Predict the aggregates of the last batch from its raw objects alone."""
        stores = self.stores
        replays = latest_batch(stores)
        raws = read_raws(stores, [row for selection in replays.values() for row in selection.rows])
        aggregator = stack.require(self.environment).parameters.get("Aggregator", "daily-summary")
        return Prediction(replays, raws, stores.waiting(), predict(aggregator, raws, replays))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the queue meanwhile: consumption begins while the deploy that switches it on is still at work."""
        done = threading.Event()
        stores = self.stores
        self.timeline, self._started = [], time.monotonic()

        def watch() -> None:
            while not done.wait(self._every):
                with suppress(ClientError, BotoCoreError):
                    self._sample(stores)

        watcher = threading.Thread(target=watch, name="pik-queue-watch", daemon=True)
        self._sample(stores)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def drain(self, on_progress: Say | None = None) -> Drain:
        """Wait until the queue is empty, or patience is over; ``seconds`` counts from the first message consumed."""
        say, stores, began = on_progress or silent, self.stores, time.monotonic()
        while True:
            left = self._sample(stores)
            if len(self.timeline) == 1 or left != self.timeline[-2][1]:
                say(f"{left} messages left")
            if left == 0 or time.monotonic() - began > self.patience or self._dry:
                return Drain(_emptying(self.timeline), left, self.timeline)
            time.sleep(self._every)

    def _sample(self, stores: Stores) -> int:
        left = stores.waiting()
        self.timeline.append((round(time.monotonic() - self._started, 2), left))
        return left

    @property
    def _every(self) -> float:
        return 0.25 if self.environment.embedded else 3.0

    def all(self, predicted: Prediction, drained: Drain) -> tuple[Check, ...]:
        """Answer every question of the phase."""
        stores = self.stores
        questions: dict[str, Callable[[], Check]] = {
            "the queue drains": lambda: self.drains(predicted, drained),
            "aggregates written = predicted": lambda: self.aggregates(predicted),
            "every input is counted": lambda: self.inputs(predicted),
            "dead-letter queue is empty": lambda: common.dead_letters_empty(stores),
            "no alarm": lambda: common.no_alarm(stores),
            "redelivery changes nothing": lambda: self.redelivery(predicted),
            "a poison message is set aside with its reason": self.poison,
            "ingest still answers": lambda: common.ingest_answers(stores),
            "only this phase is on": lambda: common.components(stores),
        }
        return tuple(run(name, look) for name, look in questions.items())

    def drains(self, predicted: Prediction, drained: Drain) -> Check:
        """Nothing is left in the queue."""
        ok = None if self._dry or not (predicted.waiting or predicted.events) else drained.left == 0
        return check(
            "the queue drains",
            ok,
            yes=f"{predicted.waiting} messages, {drained.seconds:.1f} s to the last one",
            no=f"{drained.left} messages are left after {drained.seconds:.0f} s",
            unknown="DRY_RUN: the mapping is disabled" if self._dry else "there was nothing in the queue",
            evidence={
                "before": predicted.waiting,
                "left": drained.left,
                "seen": ", ".join(f"{count} at {second:.1f} s" for second, count in _thin(drained.timeline)),
            },
            remedy="read the processor's log group; what failed comes back after the visibility timeout",
        )

    def aggregates(self, predicted: Prediction) -> Check:
        """Each (entity, day, replay) has exactly the state that was predicted."""
        wanted = predicted.aggregates
        found = eventually(lambda: self.stores.versions(wanted), lambda f: not _different(wanted, f), self._wait)
        wrong = _different(wanted, found)
        example = next(iter(wanted), None)
        return check(
            "aggregates written = predicted",
            not wrong if wanted and not self._dry else None,
            yes=f"all {len(wanted)} aggregates are what the raw objects say",
            no=f"{len(wrong)} of {len(wanted)} aggregates are missing or different",
            unknown="DRY_RUN: nothing is written" if self._dry else "no replay to compare with: run phase 2 first",
            evidence={
                "table": self.stores.outputs["AggregatesTable"],
                "different": wrong[:3] or "none",
                "example": example and f"{' · '.join(example)}: {json.dumps((found[example] or {}).get('state'))}",
            },
            remedy=f"pik rollback --env {self.environment.name}, then compare the versions",
        )

    def inputs(self, predicted: Prediction) -> Check:
        """The input counts of each replay add up to what was sent: complete, and nothing twice."""
        found = self.stores.versions(predicted.aggregates)
        partial = {}
        for replay_id, selection in predicted.replays.items():
            rows = [row for group, row in found.items() if group[2] == replay_id]
            counted = sum(row["input_count"] for row in rows if row)
            if counted != len(selection.rows):
                partial[replay_id] = f"{counted} of {len(selection.rows)}"
        return check(
            "every input is counted",
            not partial if predicted.events and not self._dry else None,
            yes=f"{predicted.events} of {predicted.events} events in {len(predicted.replays)} replays: COMPLETE",
            no=f"{len(partial)} replays are PARTIAL",
            unknown="DRY_RUN: nothing is written" if self._dry else "no replay to count",
            evidence={"events": predicted.events, "partial": partial or "none"},
            remedy="wait for the queue to drain, then run the step again",
        )

    def redelivery(self, predicted: Prediction) -> Check:
        """Messages that were processed already are sent again: every sum stays as it was."""
        stores, again = self.stores, self._copies(predicted)
        before = stores.versions(predicted.aggregates)
        if not again or self._dry:
            return check("redelivery changes nothing", None, yes="", no="", unknown="no message to send again")
        client, url = self.environment.client("sqs"), stores.outputs["QueueUrl"]
        for start in range(0, len(again), queue.BATCH):
            part = again[start : start + queue.BATCH]
            client.send_message_batch(
                QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(part)]
            )
        left = eventually(stores.waiting, lambda count: count == 0, self._wait)
        changed = [group for group, row in stores.versions(predicted.aggregates).items() if row != before[group]]
        return check(
            "redelivery changes nothing",
            None if left else not changed,
            yes=f"{len(again)} messages delivered again, no aggregate changed",
            no=f"{len(changed)} aggregates changed",
            unknown=f"{left} messages are still in the queue",
            evidence={"sent again": len(again), "changed": changed[:3] or "none"},
            remedy=f"pik rollback --env {self.environment.name}: something is counted twice",
        )

    def _copies(self, predicted: Prediction) -> list[str]:
        bucket = self.stores.outputs["RawBucket"]
        found: list[str] = []
        for replay_id, selection in predicted.replays.items():
            for row in selection.rows[: REDELIVERED - len(found)]:
                message = queue.message(row, replay_id=replay_id, entity_id=selection.entity_id, bucket=bucket)
                found.append(queue.dumps(message))
        return found

    def poison(self) -> Check:
        """A message that can never be processed goes to the dead-letter queue with its reason; it is removed again."""
        name, probe, stores = "a poison message is set aside with its reason", Probe(), self.stores
        if self._dry:
            return check(name, None, yes="", no="", unknown="DRY_RUN: nothing is consumed")
        body = queue.dumps(_poison(probe, stores.outputs["RawBucket"]))
        before = stores.dead_letters()
        self.environment.client("sqs").send_message(QueueUrl=stores.outputs["QueueUrl"], MessageBody=body)
        found = eventually(lambda: self._take(body), bool, self._wait)
        after = eventually(stores.dead_letters, lambda count: count == before, self._wait)
        attributes = {key: value["StringValue"] for key, value in (found or {}).get("MessageAttributes", {}).items()}
        seen = {
            "arrived": found is not None,
            "has a code": bool(attributes.get(CODE_ATTRIBUTE)),
            "has a reason": bool(attributes.get(REASON_ATTRIBUTE)),
            "queue left as found": after == before,
        }
        return check(
            name,
            every(seen),
            yes=f"set aside as {attributes.get(CODE_ATTRIBUTE)}; the dead-letter queue is left as it was found",
            no=f"not as it must be: {missing(seen)}",
            evidence={"sent": body, "found": attributes or "nothing", "dead letters": f"{before}, then {after}"},
            remedy="read the processor's log group; the probe may come later: look into the dead-letter queue",
        )

    def _take(self, body: str) -> Row | None:
        """Remove our own probe from the dead-letter queue and return it; everything else goes back at once."""
        client, url = self.environment.client("sqs"), self.stores.outputs["DeadLetterQueueUrl"]
        received = client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=20, WaitTimeSeconds=1, MessageAttributeNames=["All"]
        ).get("Messages", [])
        ours: Row | None = None
        for message in received:
            if message["Body"] == body:
                client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                ours = message
            else:
                client.change_message_visibility(
                    QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )
        return ours

    @property
    def _dry(self) -> bool:
        return stack.require(self.environment).parameters.get("DryRun") == "true"

    @property
    def _wait(self) -> float:
        return min(self.patience, 60.0)


def _poison(probe: Probe, bucket: str) -> dict[str, Any]:
    row = {
        "event_id": "0" * 64,
        "source": "pik.probe",
        "event_type": "probe",
        "event_time": probe.event_time,
        "s3_key": f"raw/source=pik.probe/there-is-no-such-object-{probe.id}.json",
        "payload_sha256": "0" * 64,
    }
    return queue.message(row, replay_id=f"poison-{probe.id}", entity_id=probe.entity_id, bucket=bucket)


def _different(wanted: dict[Group, tuple[dict[str, Any], int]], found: dict[Group, Row | None]) -> list[str]:
    wrong = []
    for group, (state, count) in wanted.items():
        row = found.get(group)
        if row is None:
            wrong.append(f"{' · '.join(group)}: missing")
        elif (row["state"], row["input_count"]) != (json.loads(json.dumps(state)), count):
            wrong.append(f"{' · '.join(group)}: {row['input_count']} inputs of {count}, or another state")
    return wrong


def _emptying(timeline: list[tuple[float, int]]) -> float:
    """Seconds from the last time nothing was consumed yet to the first time nothing was left (or to the end)."""
    most = max((count for _, count in timeline), default=0)
    full = max((second for second, count in timeline if count == most), default=0.0)
    empty = [second for second, count in timeline if count == 0 and second >= full]
    return round((min(empty) if empty else timeline[-1][0]) - full, 2) if timeline else 0.0


def _thin(timeline: list[tuple[float, int]], most: int = 8) -> list[tuple[float, int]]:
    step = max(1, len(timeline) // most)
    return [*timeline[:-1:step], *timeline[-1:]]

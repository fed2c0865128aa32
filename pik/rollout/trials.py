"""What phase 3 tries out on the running processor: redelivery, poison, a dry run. Each leaves things as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pik.environments import Environment
from pik.events import PROBE_SOURCE
from pik.pipeline import queue
from pik.pipeline.queue import CODE_ATTRIBUTE, REASON_ATTRIBUTE
from pik.results import Check
from pik.rollout import stack
from pik.rollout.probe import Probe
from pik.rollout.reading import Row, Stores, eventually
from pik.rollout.replaying import Group, Raws, Selection, predict
from pik.rollout.verdicts import check, every, missing

SAMPLE = 20  # messages that are sent, or asked about, again


@dataclass(frozen=True)
class Prediction:
    """What the processor must write for the last batch of replays, computed before it is switched on."""

    replays: dict[str, Selection]
    raws: Raws
    waiting: int
    aggregates: dict[Group, tuple[dict[str, Any], int]]
    aggregator: str = "daily-summary"

    @property
    def events(self) -> int:
        """Events of all those replays."""
        return sum(len(selection.rows) for selection in self.replays.values())

    def sample(self, most: int = SAMPLE) -> dict[str, Selection]:
        """Return the first events of these replays, as replays."""
        found: dict[str, Selection] = {}
        for replay_id, selection in self.replays.items():
            left = most - sum(len(one.rows) for one in found.values())
            if left and selection.rows:
                found[replay_id] = replace(selection, rows=selection.rows[:left])
        return found


class Trials:
    """Tries things out on one environment's processor; ``wait`` says how many seconds one of them may wait."""

    def __init__(self, environment: Environment, wait: Callable[[], float]) -> None:
        self.environment = environment
        self.wait = wait
        self.poisoned = ""  # the message that was sent to be set aside

    @property
    def stores(self) -> Stores:
        """The stores, with the outputs as they are now (a deploy adds some)."""
        return Stores(self.environment)

    @property
    def dry(self) -> bool:
        """Whether the environment is deployed with DRY_RUN."""
        return stack.require(self.environment).parameters.get("DryRun") == "true"

    def redelivery(self, predicted: Prediction) -> Check:
        """Messages that were processed already are sent again: every sum stays as it was."""
        name, stores, again = "redelivery changes nothing", self.stores, self._copies(predicted)
        if not again or self.dry:
            return check(name, None, yes="", no="", unknown="no message to send again")
        before = stores.versions(predicted.aggregates)
        client, url = self.environment.client("sqs"), stores.outputs["QueueUrl"]
        for start in range(0, len(again), queue.BATCH):
            part = again[start : start + queue.BATCH]
            client.send_message_batch(
                QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(part)]
            )
        left = eventually(stores.waiting, lambda count: count == 0, self.wait())
        changed = [group for group, row in stores.versions(predicted.aggregates).items() if row != before[group]]
        return check(
            name,
            None if left else not changed,
            yes=f"{len(again)} messages delivered again, no aggregate changed",
            no=f"{len(changed)} aggregates changed",
            unknown=f"{left} messages are still in the queue",
            evidence={"sent again": len(again), "changed": changed[:3] or "none"},
        )

    def dry_run(self, predicted: Prediction) -> Check:
        """A dry run of the processor itself predicts what was predicted here, and hands every message back."""
        name, stores, bodies = "a processor's dry run predicts the same", self.stores, self._copies(predicted)
        if not bodies:
            return check(name, None, yes="", no="", unknown="no message to ask about")
        before = stores.versions(predicted.aggregates)
        said = self._ask_dry(stores, bodies)
        seen = {
            "says dry_run": said.get("dry_run") is True,
            "predicts the same": _groups(said)
            == _plain(predict(predicted.aggregator, predicted.raws, predicted.sample())),
            "hands every message back": len(said.get("batchItemFailures", [])) == len(bodies),
            "writes nothing": stores.versions(predicted.aggregates) == before,
        }
        return check(
            name,
            every(seen),
            yes=f"{len(bodies)} messages: predicted as here, none consumed, no aggregate changed",
            no=f"not as it must be: {missing(seen)}",
            evidence={"messages": len(bodies), "aggregates predicted": len(said.get("predicted", []))},
        )

    def poison(self) -> Check:
        """A message that can never be processed goes to the dead-letter queue with its reason; it is removed again."""
        name, probe, stores = "a poison message is set aside with its reason", Probe(), self.stores
        if self.dry:
            return check(name, None, yes="", no="", unknown="DRY_RUN: nothing is consumed")
        body = queue.dumps(_poison(probe, stores.outputs["RawBucket"]))
        before = stores.dead_letters()
        sent = self.environment.client("sqs").send_message(QueueUrl=stores.outputs["QueueUrl"], MessageBody=body)
        self.poisoned = str(sent["MessageId"])
        found = eventually(lambda: self._take(body), bool, self.wait())
        after = eventually(stores.dead_letters, lambda count: count == before, self.wait())
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
        )

    def _copies(self, predicted: Prediction) -> list[str]:
        bucket = self.stores.outputs["RawBucket"]
        return [
            queue.dumps(queue.message(row, replay_id=replay_id, entity_id=selection.entity_id, bucket=bucket))
            for replay_id, selection in predicted.sample().items()
            for row in selection.rows
        ]

    def _ask_dry(self, stores: Stores, bodies: list[str]) -> dict[str, Any]:
        records = [{"messageId": str(n), "body": body, "eventSource": "aws:sqs"} for n, body in enumerate(bodies)]
        answer = self.environment.client("lambda").invoke(
            FunctionName=stores.outputs["ProcessorFunction"],
            Payload=json.dumps({"dry_run": True, "Records": records}).encode(),
        )
        said = json.loads(answer["Payload"].read())
        return said if isinstance(said, dict) else {}

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


def _groups(said: dict[str, Any]) -> dict[Group, tuple[Any, int]]:
    """What a dry run of the processor predicts."""
    return {
        (str(one["entity_id"]), str(one["day"]), str(one["replay_id"])): (one["state"], int(one["input_count"]))
        for one in said.get("predicted", [])
    }


def _plain(predicted: dict[Group, tuple[dict[str, Any], int]]) -> dict[Group, tuple[Any, int]]:
    """What is predicted here, as it looks after it was JSON."""
    return {group: (json.loads(json.dumps(state)), count) for group, (state, count) in predicted.items()}


def _poison(probe: Probe, bucket: str) -> dict[str, Any]:
    row = {
        "event_id": "0" * 64,
        "source": PROBE_SOURCE,
        "event_type": "probe",
        "event_time": probe.event_time,
        "s3_key": f"raw/source={PROBE_SOURCE}/there-is-no-such-object-{probe.id}.json",
        "payload_sha256": "0" * 64,
    }
    return queue.message(row, replay_id=f"poison-{probe.id}", entity_id=probe.entity_id, bucket=bucket)

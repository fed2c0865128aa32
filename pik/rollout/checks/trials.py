"""What phase 3 tries out on the running processor: redelivery, poison, a dry run. Each leaves things as they were."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pik import clock
from pik.aws import queue_peek, stack
from pik.aws.reading import Row, StoreReader, eventually
from pik.environments import Environment
from pik.events import PROBE_SOURCE
from pik.pipeline import queue
from pik.pipeline.queue import CODE_ATTRIBUTE, REASON_ATTRIBUTE
from pik.results import Check
from pik.rollout.checks.probe import Probe
from pik.rollout.checks.replaying import EntityWindow, Group, Raws, predict
from pik.rollout.checks.verdicts import check, every, later, missing, patience

SAMPLE = 20  # messages that are sent, or asked about, again
DRY_RUN_SECONDS = 12.0  # for a function that raises, to answer
SENDS = 4  # of a batch of which SQS does not take all ("Failed")
MOST_DEAD_LETTERS = 100  # are held, for seconds, to find the poison message
POISON_PREFIX = "poison-"  # of the replay ids of poison messages


@dataclass(frozen=True)
class TrialPrediction:
    """What the processor must write for the last batch of replays, computed before it is switched on."""

    replays: dict[str, EntityWindow]
    raws: Raws
    waiting: int
    aggregates: dict[Group, tuple[dict[str, Any], int]]
    aggregator: str = "daily-summary"

    @property
    def events(self) -> int:
        """Events of all those replays."""
        return sum(len(selection.rows) for selection in self.replays.values())

    @property
    def unsure(self) -> set[Group]:
        """Aggregates of which it is not certain which events were sent (:mod:`pik.replays.sent`)."""
        return {(one.entity_id, day, replay_id) for replay_id, one in self.replays.items() for day in one.unsure}

    def sample(self, most: int = SAMPLE) -> dict[str, EntityWindow]:
        """Return the first events of these replays, as replays."""
        found: dict[str, EntityWindow] = {}
        for replay_id, selection in self.replays.items():
            left = most - sum(len(one.rows) for one in found.values())
            if left and selection.rows:
                found[replay_id] = replace(selection, rows=selection.rows[:left])
        return found


def uncounted(wanted: dict[Group, tuple[dict[str, Any], int]], found: dict[Group, Row | None]) -> dict[Group, int]:
    """Return how many events each aggregate does not count yet; those that count all are left out."""
    counts = {group: row["input_count"] if row else 0 for group, row in found.items()}
    return {group: count - counts.get(group, 0) for group, (_, count) in wanted.items() if counts.get(group, 0) < count}


class Trials:
    """Tries things out on one environment's processor; ``asked``: how many seconds somebody wants to wait for each."""

    def __init__(self, environment: Environment, asked: float) -> None:
        self.environment = environment
        self.asked = asked
        self.poisoned = ""  # the id of the poison message
        self.since = datetime.now(UTC)  # when that was, by AWS's clock

    @property
    def stores(self) -> StoreReader:
        """The stores, with the outputs as they are now (a deploy adds some)."""
        return StoreReader(self.environment)

    @property
    def dry(self) -> bool:
        """Whether the environment is deployed with DRY_RUN."""
        return stack.require(self.environment).parameters.get("DryRun") == "true"

    def redelivery(self, predicted: TrialPrediction) -> Check:
        """Messages that were processed already are sent again: every sum stays as it was.

        That they were delivered is proven by the processor's log lines, which name each message: an empty queue, by its
        approximate counts, would also be one to which they have not come yet.
        """
        name, stores, again = "redelivery changes nothing", self.stores, self._copies(predicted)
        if not again or self.dry:
            return check(name, None, yes="", no="", unknown="no message to send again")
        before = stores.versions(predicted.aggregates)
        if left := uncounted(predicted.aggregates, before):
            unknown = f"{sum(left.values())} predicted events are not counted yet: what is sent again may be the first"
            return check(name, None, yes="", no="", unknown=unknown)
        since = clock.now(self.environment) - timedelta(seconds=2)
        ids, wait = self._send(stores, again), patience(name, self.environment, self.asked)
        lines = eventually(lambda: self._handled(stores, ids, since), lambda seen: len(seen) == len(ids), wait)
        changed = [group for group, row in stores.versions(predicted.aggregates).items() if row != before[group]]
        twice = [message for message, text in lines.items() if text != "counted before"]
        delivered = len(lines) == len(ids) == len(again)
        return check(
            name,
            False if changed or twice else True if delivered else None,
            yes=f"{len(again)} messages delivered again, no aggregate changed",
            no=f"{len(changed)} aggregates changed, {len(twice)} messages were not taken for counted before",
            unknown=f"of {len(again)} messages sent again the processor's log names {len(lines)} as delivered",
            remedy="" if delivered else f"{later(self.environment, 'processor', wait)}; LogLevel must be INFO or DEBUG",
            evidence={
                "sent again": len(ids),
                "delivered": len(lines),
                "log group": stores.outputs.get("ProcessorLogGroup"),
                "changed": changed[:3] or "none",
            },
        )

    def _send(self, stores: StoreReader, bodies: list[str]) -> set[str]:
        """Send messages to the queue; return the ids of those that it took. What it did not take is sent again."""
        client, url, ids = self.environment.client("sqs"), stores.outputs["QueueUrl"], set[str]()
        for start in range(0, len(bodies), queue.BATCH):
            left = dict(enumerate(bodies[start : start + queue.BATCH]))
            for attempt in range(SENDS):
                time.sleep(attempt)
                entries = [{"Id": str(n), "MessageBody": body} for n, body in left.items()]
                taken = client.send_message_batch(QueueUrl=url, Entries=entries).get("Successful", [])
                ids |= {str(entry["MessageId"]) for entry in taken}
                left = {n: body for n, body in left.items() if str(n) not in {entry["Id"] for entry in taken}}
                if not left:
                    break
        return ids

    @staticmethod
    def _handled(stores: StoreReader, ids: set[str], since: datetime) -> dict[str, str]:
        """What the processor's log says of these messages, by their id: the first line that speaks of each."""
        found: dict[str, str] = {}
        for line in stores.log_lines("ProcessorLogGroup", "counted", since):
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("message_id") in ids:
                    found.setdefault(entry["message_id"], str(entry.get("message")))
        return found

    def dry_run(self, predicted: TrialPrediction) -> Check:
        """A dry run of the processor itself predicts what was predicted here, and hands every message back."""
        name, stores, bodies = "a processor's dry run predicts the same", self.stores, self._copies(predicted)
        if not bodies:
            return check(name, None, yes="", no="", unknown="no message to ask about")
        before = stores.versions(predicted.aggregates)
        answer = self._ask_dry(stores, bodies)
        seen = {
            "says dry_run": answer.get("dry_run") is True,
            "predicts the same": _groups(answer)
            == _plain(predict(predicted.aggregator, predicted.raws, predicted.sample())),
            "hands every message back": len(answer.get("batchItemFailures", [])) == len(bodies),
            "writes nothing": stores.versions(predicted.aggregates) == before,
        }
        return check(
            name,
            every(seen),
            yes=f"{len(bodies)} messages: predicted as here, none consumed, no aggregate changed",
            no=f"not as it must be: {missing(seen)}",
            evidence={
                "messages": len(bodies),
                "aggregates predicted": len(answer.get("predicted", [])),
                "the function raised": answer.get("errorMessage") or "nothing",
            },
        )

    def poison(self) -> Check:
        """A message that can never be processed goes to the dead-letter queue with its reason; it is removed again."""
        name, probe, stores = "a poison message reaches the dead-letter queue with its reason", Probe(), self.stores
        if self.dry:
            return check(name, None, yes="", no="", unknown="DRY_RUN: nothing is consumed")
        body = queue.dumps(_poison(probe, stores.outputs["RawBucket"]))
        wait = patience(name, self.environment, self.asked)
        self.since = clock.now(self.environment) - timedelta(seconds=2)
        sent = self.environment.client("sqs").send_message(QueueUrl=stores.outputs["QueueUrl"], MessageBody=body)
        self.poisoned = str(sent["MessageId"])
        found = eventually(lambda: self._take(body), bool, wait)
        logged = "" if found else _last_message(stores.log_lines("ProcessorLogGroup", self.poisoned, self.since))
        attributes = {key: value["StringValue"] for key, value in (found or {}).get("MessageAttributes", {}).items()}
        seen = {
            "arrived": None if logged and not logged.startswith("counted") else found is not None,
            "has a code": bool(attributes.get(CODE_ATTRIBUTE)) if found else None,
            "has a reason": bool(attributes.get(REASON_ATTRIBUTE)) if found else None,
        }
        return check(
            name,
            every(seen),
            yes=f"moved to the dead-letter queue as {attributes.get(CODE_ATTRIBUTE)}; the probe was then removed",
            no=f"not as it must be: {missing(seen)}",
            unknown=f"the log says of the probe: {logged}; it is not among the dead letters that were received",
            remedy="redrive or remove the dead letters; a failed message returns to the queue after its "
            "visibility timeout; then run the step again"
            if logged
            else "",
            evidence={"sent": body, "message": self.poisoned, "found": attributes or "nothing"},
        )

    def _copies(self, predicted: TrialPrediction) -> list[str]:
        """The messages of some events of these replays again, without those that the processor must move to the
        dead-letter queue."""
        bucket = self.stores.outputs["RawBucket"]
        return [
            queue.dumps(queue.message(row, replay_id=replay_id, entity_id=selection.entity_id, bucket=bucket))
            for replay_id, selection in predicted.sample().items()
            for row in selection.rows
            if row["event_id"] in predicted.raws.events
        ]

    def _ask_dry(self, stores: StoreReader, bodies: list[str]) -> dict[str, Any]:
        """Invoke the processor for a dry run, again when it raised: a busy store makes it raise, and it writes nothing.

        https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html: FunctionError says that the function raised.
        """
        records = [{"messageId": str(n), "body": body, "eventSource": "aws:sqs"} for n, body in enumerate(bodies)]
        payload = json.dumps({"dry_run": True, "Records": records}).encode()
        client, name = self.environment.client("lambda"), stores.outputs["ProcessorFunction"]
        answer = eventually(
            lambda: client.invoke(FunctionName=name, Payload=payload),
            lambda seen: not seen.get("FunctionError"),
            DRY_RUN_SECONDS,
            every=1.0,
        )
        found = json.loads(answer["Payload"].read())
        return found if isinstance(found, dict) else {}

    def _take(self, body: str) -> Row | None:
        """Remove our own probe from the dead-letter queue and return it; everything else goes back."""
        client, url = self.environment.client("sqs"), self.stores.outputs["DeadLetterQueueUrl"]
        with queue_peek.held(self.environment, url, MOST_DEAD_LETTERS) as held:
            for name, message in held.messages.items():
                if message["Body"] == body:
                    client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                    held.gone.add(name)
                    return message
        return None


def _last_message(lines: list[str]) -> str:
    """The message of the last log line; empty when there is none."""
    for line in reversed(lines):
        with suppress(ValueError, AttributeError):
            return str(json.loads(line).get("message") or line)
    return lines[-1] if lines else ""


def _groups(answer: dict[str, Any]) -> dict[Group, tuple[Any, int]]:
    """What a dry run of the processor predicts."""
    return {
        (str(one["entity_id"]), str(one["day"]), str(one["replay_id"])): (one["state"], int(one["input_count"]))
        for one in answer.get("predicted", [])
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
    return queue.message(row, replay_id=f"{POISON_PREFIX}{probe.id}", entity_id=probe.entity_id, bucket=bucket)

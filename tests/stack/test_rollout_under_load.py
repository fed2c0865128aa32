"""Producers do not notice a rollout: twenty requests a second through every toggle, forward and back, twice."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pik import config, events, ledger
from pik.environments import Environment
from pik.producer import Delivery, Outcome, Retries
from pik.rollout import deploy, promote, rollback
from pik.rollout.phase2 import ReplayChecks
from pik.workbench import connect
from tests.stack.rehearsal import named, toml, verified

pytestmark = pytest.mark.slow
RATE = 20.0
SOURCE = "under-load"


class Producer:
    """Sends an event every fiftieth of a second, each once: no answer is retried, so that none is hidden."""

    def __init__(self, env: Environment) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self.bodies: dict[int, bytes] = {}
        self.done = threading.Event()
        self._delivery = Delivery(
            env, env.outputs()["IngestUrl"], connections=16, retries=Retries(attempts=1), timeout=60
        )

    def send(self, number: int) -> None:
        event = {
            "source": SOURCE,
            "event_type": "ticked",
            "entity_id": f"clock-{number % 20}",
            "event_time": events.now(),
            "payload": {"number": number},
        }
        self.bodies[number] = json.dumps(event).encode()
        self.outcomes[number] = self._delivery.deliver(self.bodies[number])

    def run(self) -> None:
        """Send on time, whatever the answers take."""
        began, number = time.monotonic(), 0
        with ThreadPoolExecutor(16) as pool:
            while not self.done.wait(max(0.0, began + number / RATE - time.monotonic())):
                pool.submit(self.send, number)
                number += 1
        self._delivery.close()


@contextmanager
def producing(env: Environment) -> Iterator[Producer]:
    """Produce meanwhile."""
    producer = Producer(env)
    thread = threading.Thread(target=producer.run, name="producer")
    thread.start()
    try:
        yield producer
    finally:
        producer.done.set()
        thread.join()


def test_no_acknowledged_event_is_lost_and_no_request_fails_because_of_a_toggle(
    embedded_env: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(config.CONFIG_VARIABLE, str(toml(tmp_path / "pik.toml")))
    env = named("staging")
    deploy(env, "ingest")
    url, began, clock = env.outputs()["IngestUrl"], events.now(), time.monotonic()

    with producing(env) as producer:
        for _ in range(2):
            time.sleep(2)
            verified(env)
            promote(env, "replay")
            ReplayChecks(env, entities=5).replay()
            verified(env)
            promote(env, "processor")
            time.sleep(2)
            rollback(env, "replay")
            rollback(env, "ingest")
        time.sleep(2)
        seconds = time.monotonic() - clock

    assert env.outputs()["IngestUrl"] == url  # the address that producers have never changed
    statuses = Counter((outcome.result, outcome.status) for outcome in producer.outcomes.values())
    assert len(producer.outcomes) > 0.8 * RATE * seconds  # it really sent all the time
    assert set(statuses) == {("ACCEPTED", "200")}, statuses
    acknowledged = {str(outcome.answer["event_id"]): number for number, outcome in producer.outcomes.items()}
    assert len(acknowledged) == len(producer.outcomes)

    wb = connect("staging")
    end = events.now()
    found = wb.events(source=SOURCE, start=began, end=end)
    assert set(found["event_id"]) == set(acknowledged)
    raw = wb.raw(found)
    assert set(raw["event_id"]) == set(acknowledged)
    assert raw["hash_ok"].all()
    told = wb.reconcile(began, end)
    assert told.frame[told.frame["class"] != "aggregate_partial"].empty  # messages may wait: the processor is off
    assert ledger.read(env).problems == ()

"""A rollout while producers send twenty requests a second: through every toggle, forward and back, twice.

Neither notices the other. No request fails because of a toggle; and every verification, made for real on the entities
to which events come at that very moment, some of them late, passes.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pik import config, events, ledger
from pik.environments import Environment
from pik.ledger import Kind
from pik.notebooks.rollout_steps import IngestStep, ProcessorStep, ReplayStep
from pik.producer import Delivery, Outcome, Retries
from pik.results import StepResult
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.promote import promote
from pik.rollout.deploy.rollback import rollback
from pik.workbench import connect
from tests.stack.rehearsal import named, toml

pytestmark = pytest.mark.slow
RATE = 20.0
SOURCE = "under-load"
LATE_SECONDS = 30  # every tenth event happened so long ago: inside the windows that are replayed meanwhile


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
            "event_time": _happened(number),
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


def _happened(number: int) -> str:
    late = timedelta(seconds=LATE_SECONDS if number % 10 == 0 else 0)
    return events.format_time(datetime.now(UTC) - late)


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


def proven(env: Environment, step: IngestStep | ReplayStep | ProcessorStep) -> StepResult:
    """Verify the phase that is deployed, put the result into the ledger as a runbook would, and see it pass."""
    step.deploy()
    result = step.result()
    assert {c.name: f"{c.verdict}: {c.sentence} {c.evidence}" for c in result.checks if c.stops} == {}
    assert result.proof is not None
    predicate = {"phase": result.proof.phase, "verdict": str(result.verdict), "sentence": result.headline}
    subjects = ledger.subjects(**result.proof.model_dump(exclude={"phase"}))
    ledger.append(env, Kind.VERIFICATION, subjects=subjects, predicate=predicate)
    return result


def test_no_acknowledged_event_is_lost_and_no_request_fails_because_of_a_toggle(
    embedded_env: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(config.CONFIG_VARIABLE, str(toml(tmp_path / "pik.toml")))
    env = named("staging")
    deploy(env, "ingest")
    url, began, clock = env.outputs()["IngestUrl"], _happened(0), time.monotonic()

    with producing(env) as producer:
        for _ in range(2):
            time.sleep(2)
            proven(env, IngestStep(env.name, events="", deploy=False))
            promote(env, "replay")
            replayed = proven(env, ReplayStep(env.name, deploy=False, entities=5))
            assert replayed.facts["sent"] > 5 * 2  # of entities to which events come, and not only the probe's
            step = ProcessorStep(env.name, deploy=False)
            step.predict()
            promote(env, "processor")
            assert proven(env, step).facts["inputs"] == replayed.facts["sent"]
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

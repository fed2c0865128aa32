"""``pik replay run`` killed at any moment, while events arrive: exactly its manifest is counted, each event once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import pik
from pik import producer
from pik.aws.reading import eventually
from pik.environments import Environment
from pik.errors import UsageError
from pik.workbench import Workbench
from tests.conftest import Deploy

DAY, NEXT = "2024-05-06", "2024-05-07"
EVENTS = int(os.environ.get("PIK_TEST_EVENTS", "120"))
POINTS = int(os.environ.get("PIK_TEST_POINTS", "6"))
PIK = str(Path(sys.executable).with_name("pik"))


def events(first: int, number: int) -> list[dict[str, object]]:
    """Events of three entities on one day, several of them at the same moment."""
    return [
        {
            "source": "shop",
            "event_type": "sold",
            "entity_id": f"K-{n % 3}",
            "event_time": f"{DAY}T{n // 7 % 24:02d}:00:00.{n % 10}Z",
            "payload": {"number": n},
        }
        for n in range(first, first + number)
    ]


@pytest.fixture(scope="module")
def wb(embedded_env: Environment, deployed: Deploy) -> Workbench:
    deployed("processor")
    assert producer.send(events(0, EVENTS), embedded_env).safe
    return pik.connect("local")


def sent(wb: Workbench, name: str) -> int:
    with suppress(UsageError):
        return wb.replay.status(name).sent
    return 0


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_is_counted_exactly(wb: Workbench, tmp_path: Path) -> None:
    chance = random.Random(7)
    entities = [f"K-{number}" for number in range(3)]
    plan = wb.replay.plan(entities=entities, start=DAY, end=NEXT)
    plan.write(tmp_path / "plan.gz")
    rate = ("--rate", str(EVENTS // 4))
    command = [PIK, "replay", "run", "plan.gz", "--yes", "--json", "--replay-id", "killed", *rate]
    for point in range(POINTS):
        # It is killed when so many are sent, or a random moment after that; another event arrives each time.
        until = point * EVENTS // (POINTS + 1)
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while sent(wb, "killed") < until and process.poll() is None:
                time.sleep(0.05)
            time.sleep(chance.random() * 1.5)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
        if point == 0:
            continue  # the set must not change before the run is begun
        assert producer.send(events(EVENTS + point, 1), wb.environment).safe
        command = [PIK, "replay", "resume", "killed", "--json", *rate]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["as_planned"], said["sent"], said["digest"]) == (True, EVENTS, plan.digest)

    found = eventually(lambda: wb.replay.result("killed"), lambda found: found.done, patience=120)
    assert found.done, found.sentence
    assert set(found.frame["event_id"]) == plan.event_ids
    assert int(found.versions["input_count"].sum()) == EVENTS  # and nothing outside of it
    assert found.dead == 0

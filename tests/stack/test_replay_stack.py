"""A replay by the command line, on the real template: planned, run, counted, compared; and its events in own code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pik
from pik import producer
from pik.aws.reading import eventually
from pik.environments import Environment
from pik.workbench import Workbench
from tests.conftest import Deploy
from tests.inventory import inventory

DAY, NEXT, COUNT = "2024-04-05", "2024-04-06", 25
PIK = Path(sys.executable).with_name("pik")


@pytest.fixture(scope="module")
def wb(embedded_env: Environment, deployed: Deploy) -> Workbench:
    deployed("processor")
    events = [
        {
            "source": "shop",
            "event_type": "sold",
            "entity_id": f"R-{n % 2}",
            "event_time": f"{DAY}T{n % 24:02d}:00:0{n // 24}Z",
            "payload": {"price": n},
        }
        for n in range(COUNT)
    ]
    assert producer.send([*events, events[0]], embedded_env).safe
    return pik.connect("local")


def call(folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """Run a command of ``pik replay``; return the object that it prints."""
    done = subprocess.run(
        (str(PIK), "replay", *words, "--json"), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_what_is_planned_is_sent_and_counted(wb: Workbench, tmp_path: Path) -> None:
    window = ("--entity", "R-0", "--entity", "R-1", "--start", DAY, "--end", NEXT)
    before = inventory(wb.environment)
    plan = call(tmp_path, "plan", *window, "--save", "plan.gz")
    after = inventory(wb.environment)
    assert all(difference.none for difference in before.difference(after).values())
    assert (plan["messages"], plan["left_out"]) == (COUNT, {"DUPLICATE": 1})

    done = call(tmp_path, "run", "plan.gz", "--yes", "--reason", "a test")
    assert (done["as_planned"], done["sent"], done["digest"]) == (True, COUNT, plan["digest"])
    listed = [row for row in call(tmp_path, "list")["replays"] if row["replay_id"].startswith(done["replay_id"])]
    assert [(row["entity_id"], row["complete"]) for row in listed] == [("R-0", True), ("R-1", True)]

    found = eventually(lambda: wb.replay.result(done["replay_id"]), lambda found: found.done, patience=60)
    assert (found.counted, found.done) == (COUNT, True)
    result = call(tmp_path, "result", done["replay_id"])
    assert [row["completeness"] for row in result["versions"]] == ["COMPLETE"] * 2
    assert call(tmp_path, "resume", listed[0]["replay_id"])["complete"]

    again = call(tmp_path, "run", "plan.gz", "--yes")
    found = eventually(lambda: wb.replay.result(again["replay_id"]), lambda found: found.done, patience=60)
    assert "Of 2 that had a version before, 0 changed" in found.sentence


def test_own_code_is_compared_over_the_same_events(wb: Workbench, tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(
        "def old(event): return event['payload']['price']\n"
        "def new(event): return event['payload']['price'] + (event['entity_id'] == 'R-1')\n"
    )
    call(tmp_path, "plan", "--entity", "R-0", "--entity", "R-1", "--start", DAY, "--end", NEXT, "--save", "plan.gz")
    found = call(tmp_path, "local", "plan.gz", "rules:new", "--against", "rules:old", "--out", "rows.parquet")
    assert (found["events"], found["failed"], len(found["rows"])) == (COUNT, 0, COUNT // 2)
    assert {row["entity_id"] for row in found["rows"]} == {"R-1"}
    assert (tmp_path / "rows.parquet").stat().st_size > 100
    call(tmp_path, "local", "plan.gz", "rules:none", code=2)
    call(tmp_path, "run", "plan.gz", "--yes", "--at-most", "3", code=3)

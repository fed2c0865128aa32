"""``pik ingest`` ended at any moment: the same command again leaves every event stored exactly once."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pik import producer
from pik.environments import Environment
from pik.pipeline.aws import from_item

Deploy = Callable[[str], dict[str, str]]
EVENTS, POINTS = 80, 10
_MAIN = "from pik.cli import main; main()"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_same_command_finishes_what_was_ended_anywhere(
    embedded_env: Environment, deployed: Deploy, tmp_path: Path, number: signal.Signals
) -> None:
    outputs = deployed("ingest")
    items = [json.loads(item.body) for item in producer.open_source("flights:2013-01-13")][:EVENTS]
    for point in range(POINTS):
        entity = f"{number.name}-{point}"
        lines = [json.dumps({**event, "source": entity, "entity_id": entity}) for event in items]
        path = tmp_path / f"{entity}.jsonl.gz"
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
        began, command = _rows(embedded_env, outputs, entity).total(), _command(path)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}) as process:
            while _rows(embedded_env, outputs, entity).total() <= began + point * EVENTS // (2 * POINTS):
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=60)
        assert process.returncode == (-9 if number == signal.SIGKILL else 130), stderr
        assert b"Traceback" not in stderr
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        summary = json.loads(again.stdout)
        assert summary["accepted"] + summary["duplicate"] == summary["total"] == EVENTS
        assert _rows(embedded_env, outputs, entity)["ACCEPTED"] == EVENTS


def _command(path: Path) -> list[str]:
    return [sys.executable, "-c", _MAIN, "ingest", str(path), "--env", "local", "--json", "--concurrency", "2"]


def _rows(environment: Environment, outputs: dict[str, str], entity: str) -> Counter[str]:
    pages = (
        environment.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=outputs["EventsTable"],
            KeyConditionExpression="PK = :pk",
            ExpressionAttributeValues={":pk": {"S": f"ENTITY#{entity}"}},
            ConsistentRead=True,
        )
    )
    return Counter(str(from_item(item)["status"]) for page in pages for item in page["Items"])

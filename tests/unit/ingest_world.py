"""``pik ingest`` against the shipped handler and stores in memory: the command, and what it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from pik.cli import ingest as command
from pik.environments import Environment
from pik.pipeline import ingest
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from pik.producer import sending
from pik.producer.delivery import Delivery

CASES = Path(__file__).parent.parent / "cases"


class Ingest:
    """Runs ``pik ingest`` and remembers the bodies that the handler got."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def run(self, *arguments: str | Path) -> Result:
        """Run the command; return its result."""
        app = typer.Typer()
        command.register(app)
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    def json(self, *arguments: str | Path) -> dict[str, Any]:
        """Run the command; return what ``--json`` prints."""
        result = self.run(*arguments, "--json")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        # The handler, which runs in the same process here, logs to the same place.
        found: dict[str, Any] = json.loads(next(line for line in result.stdout.splitlines() if '"safe"' in line))
        return found


@contextmanager
def ingest_world(
    monkeypatch: pytest.MonkeyPatch, config: Settings, request_of: Callable[..., Any], state: Path
) -> Iterator[Ingest]:
    """Have deliveries reach the handler directly, one at a time."""
    world, lock = Ingest(), threading.Lock()

    def once(delivery: Delivery, body: bytes, headers: dict[str, str]) -> tuple[str, dict[str, Any], float]:
        query = {"dry_run": "true"} if "dry_run" in delivery._url else {}
        with lock:
            world.bodies.append(body)
            found = ingest.ingest(Request.of(request_of(body, headers, **query)), config)
        return str(found["statusCode"]), json.loads(found["body"]), 0.0

    monkeypatch.setattr("pik.project.STATE", state)
    monkeypatch.setattr(sending, "environment", lambda _: Environment("local", "us-east-1", "http://127.0.0.1:1"))
    monkeypatch.setattr(sending, "_require", lambda *_: False)
    monkeypatch.setattr(Environment, "outputs", lambda _: {"IngestUrl": "http://127.0.0.1:1/ingest"})
    monkeypatch.setattr(Delivery, "_once", once)
    yield world

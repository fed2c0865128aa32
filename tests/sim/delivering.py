"""What a producer's delivery (:mod:`pik.producer.delivery`) gets in place of HTTP, threads, clocks and chance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from pik.producer import delivery

if TYPE_CHECKING:
    from tests.sim.world import World

URL = "https://sim/events"


def replaced(world: World) -> Iterator[tuple[Any, str, Any]]:
    """Yield what :mod:`pik.producer.delivery` finds: module, name, value."""

    class Client:
        """Sends a request to the history's API."""

        def __init__(self, **_: Any) -> None: ...

        def post(self, _: str, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
            ack = world.post("ingest", content, dict(headers))
            if ack:
                return httpx.Response(ack.status, content=json.dumps(ack.answer).encode(), headers=ack.headers)
            if world.chance.random() < 0.5:
                raise httpx.ReadTimeout("no answer")
            return httpx.Response(504, content=b'{"message": "Endpoint request timed out"}')

    class Event:
        """Nobody interrupts a delivery."""

        def wait(self, seconds: float) -> bool:
            world.scheduler.pause(seconds)
            return False

    now = lambda: world.scheduler.now  # noqa: E731
    http = {
        name: getattr(httpx, name) for name in ("Timeout", "Limits", "TimeoutException", "TransportError", "Response")
    }
    yield delivery, "httpx", SimpleNamespace(Client=Client, **http)
    yield delivery, "threading", SimpleNamespace(Event=Event, Lock=lambda: None)
    yield delivery, "time", SimpleNamespace(monotonic=now, perf_counter=now, time=now)
    yield delivery, "random", world.chance
    yield delivery, "uuid4", lambda: UUID(int=world.chance.getrandbits(128), version=4)
    yield delivery, "signed", SimpleNamespace(sign=lambda *given: given[-1], tls=lambda _: True)


def new() -> delivery.Delivery:
    """Return a delivery to the history's API."""
    where: Any = SimpleNamespace(address=lambda url: url, embedded=False)
    return delivery.Delivery(where, URL, connections=1)

"""How much memory the embedded AWS takes under ten minutes of load: 20 events a second, and replays.

Counted are all its processes against the events that it acknowledged: itself, its Lambda workers, and now and then
the copy that writes a snapshot. What an event takes is the slope over the last four fifths: by then the workers run.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psutil

from bench.embedded import embedded
from bench.load import at_rate, meanwhile

MB = 1_000_000
CONNECTIONS = 16  # of the producer
ENTITIES = 20
COLUMNS = ["seconds", "events", "messages replayed", "the process, MB", "Lambda workers", "their MB", "together, MB"]


@dataclass(frozen=True)
class Plan:
    """The load."""

    seconds: int = 600
    rate: float = 20.0  # events a second
    sample_every: float = 20.0
    replay_every: float = 60.0  # seconds; each time a quarter of the entities, the last minutes of each


def run(*, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Send, replay and look; return the measurements."""
    plan = Plan(seconds=30, sample_every=5.0, replay_every=10.0) if quick else Plan()
    started, load = datetime.now(UTC).isoformat(timespec="seconds"), f"{os.getloadavg()[0]:.2f}"
    with embedded() as env:
        samples = [_sample(0.0, Counter())]
        began = time.monotonic()
        with _watching_copies() as copies, _sending(env, plan) as done, _replaying(env, plan, done):
            while (at := time.monotonic() - began) < plan.seconds:
                time.sleep(min(plan.sample_every, plan.seconds - at))
                samples.append(_sample(time.monotonic() - began, done))
                say(", ".join(f"{name} {value:,.0f}" for name, value in samples[-1].items()))
        _drain(env)
        samples.append(_sample(time.monotonic() - began, done))
    return {
        "bench": "memory",
        "started": started,
        "quick": quick,
        "note": f"Measured {started} on {os.cpu_count()} CPUs, load average {load} before; {plan.rate:g} events a "
        f"second for {plan.seconds} s, {samples[-1]['replayed']:,.0f} messages of replays; "
        f"{_slope(samples) / 1000:.1f} kB an event; the copy that writes a snapshot took up to "
        f"{copies[0] / MB:,.0f} MB more.",
        "plan": vars(plan),
        "samples": samples,
        "bytes_an_event": round(_slope(samples)),
        "bytes_of_a_copy": copies[0],
        "tables": [["Memory", COLUMNS, [_row(one) for one in _some(samples)]]],
    }


def _row(one: dict[str, float]) -> list[str]:
    figures = [one["seconds"], one["events"], one["replayed"], one["self"] / MB, one["workers"], one["of_workers"] / MB]
    return [f"{figure:,.0f}" for figure in (*figures, (one["self"] + one["of_workers"]) / MB)]


def _some(samples: list[dict[str, float]]) -> list[dict[str, float]]:
    """The first, every second minute's, and the last."""
    step = max(1, len(samples) // 6)
    return [*samples[:-1:step], samples[-1]]


def _slope(samples: list[dict[str, float]]) -> float:
    """Bytes for each event that is stored, by least squares over the last four fifths; the workers do not grow."""
    late = samples[len(samples) // 5 :]
    return float(np.polyfit([one["events"] for one in late], [one["self"] for one in late], 1)[0])


def _sample(seconds: float, done: Counter[str]) -> dict[str, float]:

    from pik.emulator.instance import processes, recorded, state_dir

    instance = recorded(state_dir())
    assert instance  # noqa: S101 - it runs
    own, workers, count = psutil.Process(instance.pid).memory_info().rss, 0, 0
    for pid in processes(instance.nonce):
        try:
            process = psutil.Process(pid)
            if "ministack-lambda" in " ".join(process.cmdline()):
                workers, count = workers + process.memory_full_info().pss, count + 1
        except psutil.Error:
            continue
    found = {"self": own, "workers": count, "of_workers": workers}
    return {"seconds": round(seconds), "events": done["events"], "replayed": done["replayed"], **found}


@contextmanager
def _watching_copies() -> Iterator[list[int]]:
    """Keep the most that the copy that writes a snapshot took beside its original, for as long as a block lasts."""
    from pik.emulator.instance import recorded, state_dir

    most, instance = [0], recorded(state_dir())
    assert instance  # noqa: S101 - it runs
    original = psutil.Process(instance.pid)

    def watch(stop: threading.Event) -> None:
        while not stop.wait(0.2):
            with suppress(psutil.Error):
                copies = [child for child in original.children() if child.cmdline() == original.cmdline()]
                together = sum(one.memory_full_info().pss for one in (original, *copies))
                most[0] = max(most[0], together - original.memory_info().rss if copies else 0)

    with meanwhile(watch):
        yield most


@contextmanager
def _sending(env: Any, plan: Plan) -> Iterator[Counter[str]]:
    """Send events for as long as a block lasts; count those that were acknowledged."""
    from pik.producer import Delivery

    done = Counter[str]()
    delivery = Delivery(env, env.outputs()["IngestUrl"], connections=CONNECTIONS, fresh=True)

    def send(number: int) -> None:
        outcome = delivery.deliver(json.dumps(_event(number)).encode())
        done["events" if outcome.result in ("ACCEPTED", "DUPLICATE") else "refused"] += 1

    try:
        with meanwhile(lambda stop: at_rate(stop, plan.rate, CONNECTIONS, send)):
            yield done
    finally:
        delivery.close()


def _event(number: int) -> dict[str, Any]:
    return {
        "source": "load",
        "event_type": "flight.departed",
        "entity_id": f"load-{number % ENTITIES}",
        "event_time": _now(),
        "payload": {"n": number, "origin": "EWR", "destination": "ATL", "delay": number % 60, "tail": f"N{number}"},
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@contextmanager
def _replaying(env: Any, plan: Plan, done: Counter[str]) -> Iterator[None]:
    """Replay the last minutes of a quarter of the entities, now and then, for as long as a block lasts."""
    from pik.aws import signed

    url = env.outputs()["ReplayUrl"]

    def replay(stop: threading.Event) -> None:
        start, number = _now(), 0
        while not stop.wait(plan.replay_every):
            end = _now()
            for entity in range(number % 4, ENTITIES, 4):
                body = {"entity_id": f"load-{entity}", "start_time": start, "end_time": end}
                answer = signed.request(
                    env, "POST", url, json.dumps({**body, "replay_id": f"r{number}-{entity}"}).encode()
                )
                done["replayed"] += int(answer.json().get("sent", 0))
            start, number = end, number + 1

    with meanwhile(replay):
        yield


def _drain(env: Any) -> None:
    """Wait for the processor."""
    from pik.aws.reading import StoreReader, eventually

    eventually(StoreReader(env).waiting, lambda left: left == 0, 60)

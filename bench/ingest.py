"""Ingest through the API: the project beside a naive handler, on one embedded AWS, in one run, in turns."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from statistics import mean, median
from typing import Any

from bench.cost import Usage
from bench.stage import Target, stage
from pik import producer

Say = Callable[[str], None]
KINDS = ("first", "duplicate")


@dataclass(frozen=True)
class Plan:
    """How much is sent: rounds, events a round by concurrency, and events whose calls are observed one by one."""

    rounds: int
    events: dict[int, int]
    observed: int
    crashes: int = 6  # boundaries between writes to try; there are fewer

    @classmethod
    def of(cls, *, quick: bool) -> Plan:
        """Return the full plan, or one that only shows that the benchmark works."""
        if quick:
            return cls(rounds=2, events={1: 15, 8: 40, 32: 64}, observed=4)
        return cls(rounds=7, events={1: 100, 8: 300, 32: 300}, observed=50)


def run(*, quick: bool, say: Say) -> dict[str, Any]:
    """Run the benchmark and return everything that was measured, JSON-able."""
    plan = Plan.of(quick=quick)
    feed = producer.load("flights")
    load_before = round(os.getloadavg()[0], 2)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with stage(say) as targets:
        observed = _observe(targets, plan, feed, say)
        rounds = [entry for n in plan.events for entry in _rounds(targets, n, plan, feed, say)]
        memory_mb = targets[0].memory_mb
    names = [target.name for target in targets]
    return {
        "bench": "ingest",
        "started": started,
        "quick": quick,
        "machine": f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, {platform.python_version()}",
        "load_average": load_before,
        "memory_mb": memory_mb,
        "plan": asdict(plan),
        "speed": [_speed(rounds, names, n, kind) for n in plan.events for kind in KINDS],
        "cost": [_cost(name, kind, observed[name], rounds, memory_mb) for kind in KINDS for name in names],
        "crashes": {name: [crash for crash in observed[name]["crashes"] if crash] for name in names},
        "rounds": rounds,
    }


def _observe(
    targets: tuple[Target, ...], plan: Plan, feed: Iterator[dict[str, Any]], say: Say
) -> dict[str, dict[str, Any]]:
    bodies = [producer.encode(event) for event in islice(feed, plan.observed)]
    # An entity each, so that what is found can only be theirs.
    crashing = [
        producer.encode({**event, "entity_id": f"bench-crash-{n}"})
        for n, event in enumerate(islice(feed, plan.crashes))
    ]
    observed = {}
    for target in targets:
        say(f"observe the AWS calls of {plan.observed} events · {target.name}")
        observed[target.name] = target.observe(bodies, crashing)
    return observed


def _rounds(
    targets: tuple[Target, ...], concurrency: int, plan: Plan, feed: Iterator[dict[str, Any]], say: Say
) -> Iterator[dict[str, Any]]:
    # Cold starts are not what is compared, and 32 at once on a small machine distort everything after them.
    warm_up = list(islice(feed, 3 * concurrency + 5))
    for target in targets:
        say(f"concurrency {concurrency}: warm up {target.name}")
        target.send(warm_up, concurrency)
    for number in range(plan.rounds):
        events = list(islice(feed, plan.events[concurrency]))
        # In turns, and the turns change places: neither always profits from what the other left behind.
        for target in targets if number % 2 == 0 else reversed(targets):
            for kind in KINDS:
                entry = _round(target, events, concurrency, kind)
                say(
                    f"concurrency {concurrency}, round {number + 1}/{plan.rounds}: {target.name} {kind} "
                    f"{entry['events_per_second']:,.0f} events/s, p50 {entry['p50']:.0f} ms, p99 {entry['p99']:.0f} ms"
                )
                yield entry


def _round(target: Target, events: list[dict[str, Any]], concurrency: int, kind: str) -> dict[str, Any]:
    since_ms = int(time.time() * 1000)
    summary = target.send(events, concurrency)
    wanted = summary.accepted if kind == "first" else summary.duplicate
    if wanted != len(events):
        raise AssertionError(f"{target.name} {kind}: {summary.as_dict()}")
    entry = {
        "target": target.name,
        "concurrency": concurrency,
        "kind": kind,
        "events": len(events),
        "events_per_second": summary.events_per_second,
        "p50": summary.latency_ms["p50"],
        "p99": summary.latency_ms["p99"],
        "retried": summary.retried,
    }
    if concurrency == 1:  # with more at once, the durations are those of waiting for a CPU
        time.sleep(0.3)  # the logs of the last invocation follow its answer
        durations, log_bytes = target.logs(since_ms)
        entry |= {"billed_ms": round(mean(durations), 2), "log_bytes": round(log_bytes)}
    return entry


def _speed(rounds: list[dict[str, Any]], names: list[str], concurrency: int, kind: str) -> dict[str, Any]:
    """Medians over the rounds, and the median of the ratios project/naive of rounds that ran side by side."""
    mine = {
        name: [r for r in rounds if (r["target"], r["concurrency"], r["kind"]) == (name, concurrency, kind)]
        for name in names
    }
    figures = ("events_per_second", "p50", "p99")
    medians = {name: {f: round(median(r[f] for r in mine[name]), 1) for f in figures} for name in names}
    pairs = list(zip(*mine.values(), strict=True))
    ratios = {f: sorted(ours[f] / theirs[f] for ours, theirs in pairs) for f in figures}
    return {
        "concurrency": concurrency,
        "kind": kind,
        "medians": medians,
        "ratio": {f: round(median(values), 2) for f, values in ratios.items()},
        "ratio_range": {f: [round(values[0], 2), round(values[-1], 2)] for f, values in ratios.items()},
    }


def _cost(
    name: str, kind: str, observed: dict[str, Any], rounds: list[dict[str, Any]], memory_mb: int
) -> dict[str, Any]:
    measured = [r for r in rounds if (r["target"], r["kind"]) == (name, kind) and "billed_ms" in r]
    billed_ms = median(r["billed_ms"] for r in measured)
    usage = Usage(**observed[kind])
    usage.log_bytes = median(r["log_bytes"] for r in measured)
    usage.gb_seconds = memory_mb / 1024 * billed_ms / 1000
    dollars = usage.dollars_per_million()
    return {
        "target": name,
        "kind": kind,
        "billed_ms": billed_ms,
        "calls_per_event": usage.total_calls,
        **asdict(usage),
        "dollars_per_million": {service: round(value, 3) for service, value in dollars.items()},
        "total": round(sum(dollars.values()), 2),
    }

"""``pik explain`` on an event that is 60 days old, in an environment with 100,000 log lines.

On an embedded AWS of its own the shipped handlers ingest, replay and count events with a clock that is 60 days behind
(:mod:`bench.aged`), so that the stores say so. A log line of each is put among many others: a half over the 60 days,
a quarter in the three minutes around the event's times, a quarter in the last hour, where explain looks for messages
that were never counted. The seconds are those of the command, imports and all; every request to AWS is counted in a
process where the command runs once more.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.embedded import embedded, handler_variables

PIK = Path(sys.executable).with_name("pik")
DAYS = 60
ENTITY, DAY = "bench-explain", "2025-01-01"
COLUMNS = ["event", "seconds: median", "smallest", "largest", "CPU seconds", "log requests", "DynamoDB calls", "other"]
# What is asked for, and how it is called in the table.
KINDS = {
    "counted": "replayed and counted",
    "lost": "replayed, and its message lost",
    "kept": "never replayed",
    "never": "an id that never existed",
}
_STREAMS, _LINES_A_CALL = 500, 4_000  # the embedded AWS has a stream for each invocation: many in each log group
_SHARES = {"ingest": 0.6, "processor": 0.25, "access": 0.1, "replay": 0.05}  # of the log lines


@dataclass(frozen=True)
class Plan:
    """How much there is, and how often each event is explained."""

    lines: int = 100_000
    rows: int = 5_000
    rounds: int = 7


def run(*, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Explain each kind of event several times, in turns; return the measurements."""
    plan = Plan(lines=2_000, rows=100, rounds=1) if quick else Plan()
    started, load = datetime.now(UTC).isoformat(timespec="seconds"), f"{os.getloadavg()[0]:.2f}"
    with embedded() as env:
        ids, at = _age(env, plan, say)
        _fill_logs(env, ids, at, plan.lines, say)
        measured: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
        _explain(env, ids["counted"], "counted")  # the interpreter keeps what it compiled, as on anybody's machine
        for number in range(plan.rounds):
            for kind in KINDS:
                measured[kind].append(_explain(env, ids[kind], kind))
            say(f"round {number + 1}: " + ", ".join(f"{k} {v[-1]['seconds']:.2f} s" for k, v in measured.items()))
        calls = {kind: _calls(ids[kind]) for kind in KINDS}
    return {
        "bench": "explain",
        "started": started,
        "quick": quick,
        "note": f"Measured {started} on {os.cpu_count()} CPUs, load average {load} before; {plan.lines:,} log lines, "
        f"events of {DAYS} days ago, {plan.rows:,} replays of others; {plan.rounds} rounds, the kinds in turns.",
        "plan": vars(plan),
        "measured": measured,
        "calls": calls,
        "tables": [["explain", COLUMNS, [_row(kind, measured[kind], calls[kind]) for kind in KINDS]]],
    }


def _row(kind: str, measured: list[dict[str, float]], calls: dict[str, int]) -> list[str]:
    seconds = [one["seconds"] for one in measured]
    of = Counter(name.partition(":")[0] for name in calls for _ in range(calls[name]))
    others = of.total() - of["logs"] - of["dynamodb"]
    return [
        KINDS[kind],
        *(f"{one:.2f}" for one in (median(seconds), min(seconds), max(seconds))),
        f"{median(one['cpu_seconds'] for one in measured):.2f}",
        *(str(one) for one in (of["logs"], of["dynamodb"], others)),
    ]


def _age(env: Any, plan: Plan, say: Callable[[str], None]) -> tuple[dict[str, str], float]:
    """Let the handlers leave the events, and put the replays of others beside theirs; return ids and the time."""
    from pik.aws import event_source_mapping

    outputs = env.outputs()
    event_source_mapping.switch(env, outputs, on=False)  # the messages are counted with the clock of then
    window = {"start_time": f"{DAY}T00:00:00Z", "end_time": f"{DAY}T01:00:00Z"}
    with tempfile.TemporaryDirectory() as folder:
        order = {
            "days": DAYS,
            "bodies": {kind: _event(kind) for kind in ("counted", "lost", "kept")},
            "replays": {f"rp-{kind}": {"entity_id": f"{ENTITY}-{kind}", **window} for kind in ("counted", "lost")},
            "counted": ["rp-counted"],
            "queue_url": outputs["QueueUrl"],
            "answer": f"{folder}/answer.json",
        }
        functions = [outputs[name] for name in ("IngestFunction", "ReplayFunction", "ProcessorFunction")]
        run = subprocess.run(
            [sys.executable, "-m", "bench.aged"],
            input=json.dumps(order),
            text=True,
            capture_output=True,
            env=handler_variables(env, functions),
            check=False,
        )
        if run.returncode:
            raise RuntimeError(run.stderr[-2000:])
        answer = json.loads(Path(order["answer"]).read_text(encoding="utf-8"))
    say(f"{plan.rows:,} replays of others")
    _seed_replays(env, plan.rows)
    return {**answer["ids"], "never": "0" * 64}, float(answer["at"])


def _event(kind: str) -> dict[str, Any]:
    return {
        "source": "bench",
        "event_type": "bench.explained",
        "entity_id": f"{ENTITY}-{kind}",
        "event_time": f"{DAY}T00:10:00Z",
        "payload": {"n": 1},
    }


def _seed_replays(env: Any, count: int) -> None:
    """Put replays of other entities into the table: the row of a real one, under other ids."""
    client, table = env.client("dynamodb"), env.outputs()["ReplaysTable"]
    key = {"PK": {"S": "REPLAY#rp-counted"}, "SK": {"S": "HEAD"}}
    head = client.get_item(TableName=table, Key=key)["Item"]

    def put(start: int) -> None:
        ids = [f"other-{number}" for number in range(start, min(start + 25, count))]
        rows = [
            {**head, "PK": {"S": f"REPLAY#{name}"}, "replay_id": {"S": name}, "entity_id": {"S": f"of-{name}"}}
            for name in ids
        ]
        client.batch_write_item(RequestItems={table: [{"PutRequest": {"Item": row}} for row in rows]})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(0, count, 25)))


def _fill_logs(env: Any, ids: dict[str, str], at: float, lines: int, say: Callable[[str], None]) -> None:
    """Put log lines of others, and one of each event at its time, into the functions' log groups.

    On AWS lines arrive when they happen (older ones than 14 days are refused); the embedded AWS takes them.
    """
    from pik.workbench.log_lines import FUNCTIONS

    say(f"{lines:,} log lines")
    logs, outputs, rng = env.client("logs"), env.outputs(), random.Random(1)
    for function, share in _SHARES.items():
        group = outputs[FUNCTIONS[function]]
        own = [(at, _line(function, one)) for one in ids.values() if one != ids["never"] and function == "ingest"]
        others = [
            (moment, _line(function, rng.randbytes(32).hex())) for moment in _moments(at, int(lines * share), rng)
        ]
        for number in range(_STREAMS):
            stream = f"bench-{number}"
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
            mine = sorted([*own, *others][number::_STREAMS])
            for start in range(0, len(mine), _LINES_A_CALL):
                batch = [{"timestamp": int(t * 1000), "message": m} for t, m in mine[start : start + _LINES_A_CALL]]
                logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=batch)


def _moments(at: float, count: int, rng: random.Random) -> Iterator[float]:
    """A half since then, a quarter around the event's times, a quarter in the last hour."""
    now = time.time()
    for number in range(count):
        match number % 4:
            case 0:
                yield rng.uniform(at - 60, at + 120)
            case 1:
                yield rng.uniform(now - 3600, now)
            case _:
                yield rng.uniform(at, now)


def _line(function: str, event_id: str) -> str:
    said = {
        "level": "INFO",
        "message": "arrival" if function == "ingest" else "counted",
        "service": function,
        "cold_start": False,
        "function_name": "bench",
        "correlation_id": event_id[:32],
        "event_id": event_id,
        "s3_key": f"raw/source=bench/event_type=bench.explained/event_date={DAY}/hour=00/event_id={event_id}.json",
        "status": "ACCEPTED",
    }
    return json.dumps(said)


def _explain(env: Any, event_id: str, kind: str) -> dict[str, float]:
    """Run the command, and see that it told what became of this event."""
    shell = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [PIK, "explain", event_id, "--env", env.name, "--json"]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env=shell, check=False)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode not in (0, 4):
        raise RuntimeError(done.stderr[-2000:])
    told = json.loads(done.stdout)
    whats = {line["what"] for line in told["lines"]}
    wanted = {"counted": {"received", "processed", "log line"}, "lost": {"received", "replay"}, "kept": {"received"}}
    if told["exists"] != (kind != "never") or not wanted.get(kind, set()) <= whats:
        raise RuntimeError(f"{kind}: {done.stdout[:2000]}")
    return {"seconds": round(seconds, 3), "cpu_seconds": round(used, 3), "reading": told["seconds"]}


def _calls(event_id: str) -> dict[str, int]:
    """Run the command once more in this process, and count what it asks AWS for."""
    from botocore.endpoint import Endpoint
    from typer.testing import CliRunner

    from pik.cli import app

    counted: Counter[str] = Counter()
    make_request = Endpoint.make_request

    def counting(self: Any, model: Any, request: Any) -> Any:
        counted[f"{model.service_model.service_name}:{model.name}"] += 1
        return make_request(self, model, request)

    setattr(Endpoint, "make_request", counting)  # noqa: B010
    try:
        CliRunner().invoke(app, ["explain", event_id, "--json"])
    finally:
        setattr(Endpoint, "make_request", make_request)  # noqa: B010
    return dict(counted)

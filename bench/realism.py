"""Does a rollout hold on the AWS that exists? ``python -m bench.realism --seeds 0-19``

For each seed: an embedded AWS of its own with the habits of the realism mode, the whole rollout with its rollback
rehearsal as the command that a person runs, and meanwhile a producer that sends twenty events a second. A run that does
not pass is resumed, as its own advice says. Written down are the verdicts, each check that did not pass at first, what
became of the producer's events, how often each habit struck, and the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Console

from bench import report
from bench.load import at_rate

DOCS = report.DOCS.with_name("local.md")
PIK = Path(sys.executable).with_name("pik")
RATE = 20.0
CONNECTIONS = 6  # of the producer: with the rollout's own not far above the ten invocations of a new account
MOST_RESUMES = 3
NEEDED = 2  # seeds: fewer are a try
ENOUGH = 10  # seeds that are written down in the documentation


def run(seeds: list[int], compress: float, without: list[str], console: Console) -> dict[str, Any]:
    """Try every seed; return the measurements. They are saved after each one: many seeds take hours."""
    started, load = datetime.now(UTC).isoformat(timespec="seconds"), f"{os.getloadavg()[0]:.2f}"
    measured: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    for seed in seeds:
        one = _seed(seed, compress, without)
        measured.append(one)
        first = ", ".join(f"{name}: {verdict}" for name, verdict in one["not_passed_at_first"].items()) or "all passed"
        said = f"seed {seed}: {one['verdict']} after {one['resumes']} resumes, {one['seconds']:.0f} s; {first}"
        console.print(f"{said}; events {one['events']}, lost {one['lost']}", markup=False, soft_wrap=True)
        result = _result(measured, started, load, compress, without)
        report.save(result)
    return result


def _result(
    measured: list[dict[str, Any]], started: str, load: str, compress: float, without: list[str]
) -> dict[str, Any]:
    seconds, passed = [one["seconds"] for one in measured], sum(one["verdict"] == "passed" for one in measured)
    struck: Counter[str] = Counter()
    for one in measured:
        struck.update(one["struck"])
    return {
        "bench": "realism",
        "started": started,
        "quick": len(measured) < NEEDED,
        "load": load,
        "compress": compress,
        "without": without,
        "note": f"Measured {started} on {os.cpu_count()} CPUs, load average {load} before; waits compressed by "
        f"{compress:g}; left out: {', '.join(without) or 'no habit'}; {len(measured)} seeds, "
        f"{passed} passed; median {median(seconds):.0f} s, longest "
        f"{max(seconds):.0f} s.",
        "measured": measured,
        "tables": [
            ["Rollouts with AWS's habits, twenty events a second meanwhile", _COLUMNS, [_row(one) for one in measured]],
            [
                "What did not pass at first",
                ["seed", "verdict", "check"],
                [[str(one["seed"]), v, name] for one in measured for name, v in one["not_passed_at_first"].items()],
            ],
            [
                "How often each habit struck, all seeds",
                ["habit", "times"],
                [[n, str(c)] for n, c in sorted(struck.items())],
            ],
        ],
    }


_COLUMNS = [
    "seed",
    "verdict",
    "resumes",
    "failed at first",
    "inconclusive at first",
    "seconds",
    "events acknowledged",
    "lost",
]


def _row(one: dict[str, Any]) -> list[str]:
    verdicts = Counter(one["not_passed_at_first"].values())
    counts = [str(verdicts["failed"]), str(verdicts["inconclusive"])]
    return [
        str(one["seed"]),
        one["verdict"],
        str(one["resumes"]),
        *counts,
        f"{one['seconds']:.0f}",
        *map(str, (one["events"], one["lost"])),
    ]


def _seed(seed: int, compress: float, without: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pik-realism-") as folder:
        os.environ["PIK_LOCAL_STATE"], os.environ["PIK_LOCAL_OWNER"] = folder, str(os.getpid())
        left_out = [word for habit in without for word in ("--without", habit)]
        up = _pik("local", "up", "--realism", str(seed), "--compress", f"{compress:g}", *left_out, "--json")
        if "endpoint" not in up:
            raise RuntimeError(f"the embedded AWS did not start: {up}")
        try:
            return {"seed": seed, **_rollout()}
        finally:
            _pik("local", "down")


def _rollout() -> dict[str, Any]:
    from pik import emulator

    began = time.monotonic()
    done, outcomes = threading.Event(), dict[str, str]()
    producer = threading.Thread(target=_produce, args=(done, outcomes))
    producer.start()
    try:
        first = _pik("run", "rollout", "--env", "local", "-p", "rehearse_rollback=true", "--json")
        verdict, resumes = first, 0
        while verdict["verdict"] != "passed" and resumes < MOST_RESUMES:
            resumes += 1
            verdict = _pik("run", "--resume", "last", "--json")
        seconds = time.monotonic() - began
    finally:
        done.set()
        producer.join()
    found = emulator.status()
    return {
        "verdict": verdict["verdict"],
        "resumes": resumes,
        "not_passed_at_first": _not_passed(first),
        "not_passed_at_last": _not_passed(verdict),
        "seconds": round(seconds, 1),
        "events": len(outcomes),
        "lost": _lost(outcomes),
        "struck": (found.realism or {}).get("struck", {}),
    }


def _pik(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([PIK, *arguments], capture_output=True, text=True, check=False)
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        return {"verdict": f"exit {done.returncode}", "said": (done.stdout + done.stderr)[-2000:]}


def _not_passed(said: dict[str, Any]) -> dict[str, str]:
    """Checks that did not pass, by name; or what else ended the run."""
    found = {}
    for step in said.get("steps", []):
        result = step.get("result") or {}
        for check in result.get("checks", []):
            if check["verdict"] not in ("passed", "skipped"):
                found[f"{step['id']}: {check['name']} ({check['sentence']})"] = str(check["verdict"])
        if step.get("error"):
            found[f"{step['id']}: {step['error'].get('message', '')}"] = "error"
    if not said.get("steps"):
        found[str(said.get("said", said.get("error", "no answer")))[-300:]] = "error"
    return found


def _produce(done: threading.Event, outcomes: dict[str, str]) -> None:
    """Send an event every fiftieth of a second, as soon as there is an API; keep the ids that were acknowledged."""
    from pik.environments import environment
    from pik.errors import PikError
    from pik.producer import Delivery

    env, url = environment("local"), ""
    while not url and not done.wait(1.0):
        try:
            url = env.outputs().get("IngestUrl", "")
        except (PikError, ClientError):
            continue
    if not url:
        return
    delivery = Delivery(env, url, connections=CONNECTIONS, fresh=True)

    def send(number: int) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        event = {"source": "load", "event_type": "t", "entity_id": f"load-{number % 20}", "event_time": now}
        outcome = delivery.deliver(json.dumps({**event, "payload": {"n": number}}).encode())
        if outcome.result in ("ACCEPTED", "DUPLICATE"):
            outcomes[str(outcome.answer["event_id"])] = str(outcome.answer["s3_key"])

    at_rate(done, RATE, CONNECTIONS, send)
    delivery.close()


def _lost(outcomes: dict[str, str]) -> int:
    """How many acknowledged events have no raw object, or no row in the dedupe table."""
    from pik.environments import environment

    env = environment("local")
    outputs = _patient(env.outputs)
    rows = _pages(
        env, "dynamodb", "scan", TableName=outputs["DedupeTable"], ProjectionExpression="event_id", ConsistentRead=True
    )
    ids = {row["event_id"]["S"] for page in rows for row in page["Items"]}
    objects = _pages(env, "s3", "list_objects_v2", Bucket=outputs["RawBucket"])
    keys = {found["Key"] for page in objects for found in page.get("Contents", [])}
    return sum(event_id not in ids or key not in keys for event_id, key in outcomes.items())


def _pages(env: Any, service: str, operation: str, **arguments: Any) -> list[Any]:
    paginator = env.client(service).get_paginator(operation)
    return list(_patient(lambda: list(paginator.paginate(**arguments))))


def _patient(read: Callable[[], Any]) -> Any:
    for tried in range(20):
        try:
            return read()
        except Exception:
            if tried == 19:
                raise
            time.sleep(2.0)
    raise AssertionError


def joined(files: list[Path]) -> dict[str, Any]:
    """Return one result of several runs' files: many seeds take hours, and may be run in parts."""
    parts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    measured = sorted((one for part in parts for one in part["measured"]), key=lambda one: int(one["seed"]))
    first = min(parts, key=lambda part: str(part["started"]))
    return _result(measured, first["started"], first["load"], first["compress"], first["without"])


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench.realism", description=__doc__)
    parser.add_argument("--seeds", default="0-19", help="a seed, or a range such as 0-19")
    parser.add_argument("--compress", type=float, default=10.0, help="waits are that much shorter than AWS's")
    parser.add_argument("--without", action="append", default=[], metavar="HABIT", help="leave a habit out; repeatable")
    parser.add_argument("--join", nargs="+", type=Path, metavar="FILE", help="run nothing: make one of earlier results")
    options = parser.parse_args()
    low, _, high = options.seeds.partition("-")
    seeds = list(range(int(low), int(high or low) + 1))
    console = Console(stderr=True, highlight=False)
    result = joined(options.join) if options.join else run(seeds, options.compress, options.without, console)
    report.show(result, Console(highlight=False))
    print(report.save(result))
    if len(result["measured"]) >= ENOUGH and not result["without"]:
        report.document(result, DOCS)
    return 0 if all(one["verdict"] == "passed" and not one["lost"] for one in result["measured"]) else 4


if __name__ == "__main__":
    sys.exit(main())

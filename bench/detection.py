"""``python -m bench.detection``: does the workbench name exactly what the simulator hid, and nothing where all is well?

Incidents about rhythm, lags and duplicates are asked in memory (:class:`pik.simulate.memory.MemoryWorkbench`), those
about stores and queues of an embedded AWS of its own. What a detector says and what the truth says are both sets of
texts (a window, an event id with what is wrong with it, a message's id), so right and wrong are counted the same way.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pik.simulate import make, simulate
from pik.simulate.memory import MemoryWorkbench
from pik.simulate.truth import truth

RESULTS = Path(__file__).parent / "results" / "detection.json"
DOCS = Path(__file__).parent.parent / "docs" / "incidents.md"
BEGIN, END = "<!-- detection: generated -->", "<!-- detection: end -->"
SEEDS = 20
Told = dict[str, Any]
Named = set[str]


@dataclass(frozen=True)
class Question:
    """How one incident is looked for: what was asked, what it answers, and what it should have answered."""

    asked: str
    ask: Callable[[Any, Told], Named]
    want: Callable[[Told], Named]


@dataclass
class Score:
    """The answers over many seeds. ``wrong`` and ``missed`` are (seed, what) pairs."""

    incident: str
    asked: str
    streams: int = 0
    exact: int = 0
    right: int = 0
    wrong: list[tuple[int, str]] = field(default_factory=list)
    missed: list[tuple[int, str]] = field(default_factory=list)

    @property
    def precision(self) -> float:
        """Of what was named, the part that is true; 1 when nothing was named."""
        return self.right / (self.right + len(self.wrong)) if self.right or self.wrong else 1.0

    @property
    def recall(self) -> float:
        """Of what is true, the part that was named; 1 when there was nothing to name."""
        return self.right / (self.right + len(self.missed)) if self.right or self.missed else 1.0

    def add(self, seed: int, named: Named, wanted: Named) -> None:
        """Count one stream."""
        self.streams += 1
        self.exact += named == wanted
        self.right += len(named & wanted)
        self.wrong += [(seed, what) for what in sorted(named - wanted)]
        self.missed += [(seed, what) for what in sorted(wanted - named)]


def silent_windows(wb: Any, told: Told) -> Named:
    """Name each window in which the stream fell silent, by the events at its edges."""
    from pik.workbench.gaps import gaps

    found = gaps(wb, told["source"], start=told["start"], end=told["end"]).found
    return {f"{item['start']} {item['end']}" for item in found}


def odd_lags(wb: Any, told: Told) -> Named:
    """Name the events that came late, and those that came before they happened."""
    from pik.workbench.lateness import lateness

    found = lateness(wb, told["source"], start=told["start"], end=told["end"]).found
    return {f"{event_id} {item['kind']}" for item in found for event_id in item["event_ids"]}


def storms(wb: Any, told: Told) -> Named:
    """Name the events that were sent again and again while the stream came in."""
    from pik.workbench.duplicates import duplicates

    found = duplicates(wb, source=told["source"], start=told["ingested"][0], end=told["ingested"][1]).found
    return {event_id for item in found for event_id in item["event_ids"]}


def conflicts(wb: Any, told: Told) -> Named:
    """Name the events whose idempotency key came with something else."""
    found = wb.events(source=told["source"], start=told["start"], end=told["end"], status="CONFLICT")
    return set(found["event_id"])


def dead_letters(wb: Any, told: Told) -> Named:
    """Name the messages that were set aside since the incident began, and why; wait for the processor a while."""
    deadline = time.monotonic() + 30
    while True:
        found = wb.dlq.peek(max_messages=1000)
        found = found[found["sent"].astype(str) >= told["ingested"][0].replace("T", " ")]
        if len(found) >= len(told["messages"]) or time.monotonic() > deadline:
            return {f"{row['original_message_id']} {row['code']}" for row in found.to_dict("records")}
        time.sleep(0.5)


def disagreements(wb: Any, told: Told) -> Named:
    """Name what the stores disagree on, on the incident's own day: the event, or the replay, and the class."""
    found = wb.reconcile(told["start"], told["end"]).found
    return {f"{item.get('event_id') or item['where']} {item['class']}" for item in found}


def event_ids(told: Told) -> Named:
    """What is wanted where events are named by their ids."""
    return set(told["event_ids"])


def of_class(name: str) -> Callable[[Told], Named]:
    """What is wanted where each event has the same thing wrong with it."""
    return lambda told: {f"{event_id} {name}" for event_id in told["event_ids"]}


def without_rows(told: Told) -> Named:
    """What removed rows are called: by which of the two tables lacks them."""
    name = {"events": "missing_metadata", "dedupe": "missing_dedupe"}.get("+".join(told["removed"]), "orphan_raw")
    return of_class(name)(told)


QUESTIONS: dict[str, Question] = {
    "dropped-window": Question(
        "wb.gaps", silent_windows, lambda told: {" ".join(told["silence"])} if "silence" in told else set()
    ),
    "late-batch": Question("wb.lateness", odd_lags, of_class("late")),
    "clock-skew": Question("wb.lateness", odd_lags, of_class("clock ahead")),
    "duplicate-storm": Question("wb.duplicates", storms, event_ids),
    "conflicting-keys": Question('wb.events(status="CONFLICT")', conflicts, event_ids),
    "raw-deleted": Question("wb.reconcile", disagreements, of_class("dangling_metadata")),
    "raw-altered": Question("wb.reconcile", disagreements, of_class("hash_mismatch")),
    "metadata-removed": Question("wb.reconcile", disagreements, without_rows),
    "poison": Question(
        "wb.dlq.peek", dead_letters, lambda told: {f"{m['message_id']} {m['code']}" for m in told["messages"]}
    ),
    "half-replay": Question("wb.reconcile", disagreements, lambda told: {f"replay {told['replay_id']} half_replay"}),
}
IN_MEMORY = ("dropped-window", "late-batch", "duplicate-storm", "clock-skew")


def in_memory(name: str, stream: str, seeds: Iterable[int]) -> Score:
    """Ask the question of incident ``name`` about ``stream`` (the same, or a healthy one), in memory."""
    question = QUESTIONS[name]
    score = Score(name if stream == name else stream, question.asked)
    for seed in seeds:
        incident = make(stream, seed)
        told = truth(incident)
        told["ingested"] = _arrived(incident)
        score.add(seed, question.ask(MemoryWorkbench(incident), told), question.want(told))
    return score


def on_stores(env: Any, name: str, seeds: Iterable[int], folder: Path) -> Score:
    """Make incident ``name`` happen on an embedded AWS, seed by seed, and ask the workbench about each."""
    from pik.workbench.workbench import connect

    question = QUESTIONS[name]
    score = Score(name, question.asked)
    for seed in seeds:
        told = simulate(env, name, seed, path=folder / f"{name}-{seed}.json")
        score.add(seed, question.ask(connect(env.name), told), question.want(told))
    return score


def healthy_days(env: Any, seeds: Iterable[int], folder: Path) -> Score:
    """Let two healthy weeks happen for each seed, and ask whether the stores agree on each of their days."""
    from pik.workbench.workbench import connect

    score = Score("healthy", "wb.reconcile, each day")
    for seed in seeds:
        told = simulate(env, "healthy", seed, path=folder / f"healthy-{seed}.json")
        for day in range(1, 15):
            window = {"start": f"2013-01-{day:02d}", "end": f"2013-01-{day + 1:02d}"}
            score.add(seed, disagreements(connect(env.name), {**told, **window}), set())
    return score


@contextmanager
def embedded() -> Iterator[Any]:
    """An embedded AWS of our own with all three phases deployed."""
    from pik import local
    from pik.environments import environment
    from pik.rollout.deploy import deploy

    before = os.environ.get(local.STATE_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="pik-detection-") as folder:
        os.environ[local.STATE_VARIABLE] = folder
        try:
            with local.embedded(Path(folder)):
                env = environment("local")
                deploy(env, "processor")
                yield env
        finally:
            if before is None:
                del os.environ[local.STATE_VARIABLE]
            else:
                os.environ[local.STATE_VARIABLE] = before


def measure(seeds: int, say: Callable[[str], None], *, stores: bool = True) -> list[Score]:
    """Ask about every incident, ``seeds`` seeds each, and about healthy streams."""
    scores = []
    for name in (name for name in IN_MEMORY if name in QUESTIONS):
        scores.append(in_memory(name, name, range(seeds)))
        healthy = in_memory(name, "healthy", range(seeds))
        say(f"{name}: {_line(scores[-1])}; healthy: {_line(healthy)}")
        scores.append(healthy)
    if not stores:
        return scores
    with embedded() as env, tempfile.TemporaryDirectory() as folder:
        for name in (name for name in QUESTIONS if name not in IN_MEMORY):
            scores.append(on_stores(env, name, range(seeds), Path(folder)))
            say(f"{name}: {_line(scores[-1])}")
        scores.append(healthy_days(env, range(2), Path(folder)))
        say(f"healthy stores: {_line(scores[-1])}")
    return scores


def markdown(scores: list[Score], seeds: int, started: str) -> str:
    """Return the table, and every answer that was not right."""
    lines = [
        f"Measured {started}, seeds 0 to {seeds - 1}.",
        "",
        "| stream | asked | streams | answers exactly right | named rightly | wrongly | missed | precision | recall |",
        "|" + " --- |" * 9,
    ]
    for score in scores:
        cells = [score.incident, f"`{score.asked}`", score.streams, score.exact, score.right]
        cells += [len(score.wrong), len(score.missed), _rate(score.precision), _rate(score.recall)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    faults = [
        f"- {score.incident} {seed} ({score.asked}): {kind} {what}"
        for score in scores
        for kind, pairs in (("wrongly named", score.wrong), ("missed", score.missed))
        for seed, what in pairs
    ]
    return (
        "\n".join([*lines, "", *(["What was not right:", "", *faults] if faults else ["Every answer was right."])])
        + "\n"
    )


def document(text: str, path: Path = DOCS) -> None:
    """Replace the generated section of docs/incidents.md."""
    head, rest = path.read_text(encoding="utf-8").split(BEGIN, 1)
    path.write_text(f"{head}{BEGIN}\n{text}{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main() -> int:
    """Measure, print, keep the figures, renew the document; exit code 1 when something was not right."""
    parser = argparse.ArgumentParser(prog="python -m bench.detection", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--memory", action="store_true", help="only what needs no embedded AWS; nothing is written")
    options = parser.parse_args()
    started = time.strftime("%Y-%m-%d", time.gmtime())
    scores = measure(options.seeds, print, stores=not options.memory)
    text = markdown(scores, options.seeds, started)
    print(text)
    if not options.memory:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps([asdict(score) for score in scores], indent=1) + "\n", encoding="utf-8")
        document(text)
    return int(any(score.wrong or score.missed for score in scores))


def _arrived(incident: Any) -> list[str]:
    """When the arrivals came, half-open."""
    from pik.events import format_time

    return [format_time(incident.arrivals[0].at), format_time(incident.arrivals[-1].at + timedelta(microseconds=1))]


def _line(score: Score) -> str:
    return f"{score.exact} of {score.streams} exactly right"


def _rate(value: float) -> str:
    return "1.0" if value == 1 else f"{value:.3f}"


if __name__ == "__main__":
    raise SystemExit(main())

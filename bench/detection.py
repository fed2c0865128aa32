"""``python -m bench.detection``: does the workbench name exactly what the simulator hid, and nothing where all is well?

Each incident happens on an embedded AWS, through the API, and the matching notebook is run headless as its runbook;
what it records as found is compared with the truth. The detectors of gaps, late data and duplicates are also run in
memory (:class:`pik.incidents.memory.MemoryWorkbench`), over many more streams, on seeds that no threshold was chosen
with. What was found and what the truth says are both sets of texts (a window, an event id with what is wrong with it, a
message's id), so right and wrong are counted the same way.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench import report
from bench.embedded import embedded
from pik.incidents import make, simulate
from pik.incidents.ground_truth import truth
from pik.incidents.memory import MemoryWorkbench

RESULTS = Path(__file__).parent / "results" / "detection.json"
DOCS = Path(__file__).parent.parent / "docs" / "incidents.md"
SEEDS = range(20)
UNSEEN = range(200, 300)  # the thresholds were chosen with lower ones
MOST_MESSAGES = 1000
Told = dict[str, Any]
Found = list[dict[str, Any]]
Named = set[str]


@dataclass(frozen=True)
class Question:
    """How one incident is looked for: the runbook and its parameters, what its findings name, and what they should.

    ``ask`` puts the same question to a workbench, where that needs nothing but arrivals.
    """

    runbook: str
    parameters: Callable[[Told], dict[str, str]]
    named: Callable[[Found], Named]
    want: Callable[[Told], Named]
    ask: Callable[[Any, Told], Found] | None = None


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


def stream(told: Told) -> dict[str, str]:
    """The stream and its window of event time."""
    return {"source": told["source"], **window(told)}


def window(told: Told) -> dict[str, str]:
    """The window of event time."""
    return {"start": told["start"], "end": told["end"]}


def arrivals(told: Told) -> dict[str, Any]:
    """The stream and the window in which it came."""
    start, end = told["ingested"]
    return {"source": told["source"], "start": start, "end": end}


def event_ids(told: Told) -> Named:
    """What is wanted where events are named by their ids."""
    return set(told["event_ids"])


def of_class(name: str) -> Callable[[Told], Named]:
    """What is wanted where each event has the same thing wrong with it."""
    return lambda told: {f"{event_id} {name}" for event_id in told.get("event_ids", ())}


def without_rows(told: Told) -> Named:
    """What removed rows are called: by which of the two tables lacks them."""
    name = {"events": "missing_metadata", "dedupe": "missing_dedupe"}.get("+".join(told["removed"]), "orphan_raw")
    return of_class(name)(told)


def silence(told: Told) -> Named:
    """The window between the last event before and the first one after."""
    return {" ".join(told["silence"])} if "silence" in told else set()


def _windows(found: Found) -> Named:
    return {f"{item['start']} {item['end']}" for item in found}


def _lags(found: Found) -> Named:
    return {f"{event_id} {item['kind']}" for item in found for event_id in item["event_ids"]}


def _repeated(found: Found) -> Named:
    return {event_id for item in found for event_id in item["event_ids"]}


def _disagreements(found: Found) -> Named:
    return {f"{item.get('event_id') or item['where']} {item['class']}" for item in found}


def _gaps(wb: Any, told: Told) -> Found:
    from pik.workbench.detect.gaps import gaps

    return gaps(wb, told["source"], start=told["start"], end=told["end"]).found


def _lateness(wb: Any, told: Told) -> Found:
    from pik.workbench.detect.lateness import lateness

    return lateness(wb, told["source"], start=told["start"], end=told["end"]).found


def _duplicates(wb: Any, told: Told) -> Found:
    from pik.workbench.detect.duplicates import duplicates

    return duplicates(wb, **arrivals(told)).found


def _stores(want: Callable[[Told], Named]) -> Question:
    return Question("stores-reconciliation", window, _disagreements, want)


QUESTIONS: dict[str, Question] = {
    "dropped-window": Question("missing-window", stream, _windows, silence, _gaps),
    "late-batch": Question("late-data", stream, _lags, of_class("late"), _lateness),
    "clock-skew": Question("late-data", stream, _lags, of_class("clock ahead"), _lateness),
    "duplicate-storm": Question("duplicate-storm", arrivals, _repeated, event_ids, _duplicates),
    "conflicting-keys": Question(
        "conflicting-payloads", arrivals, lambda found: {item["event_id"] for item in found}, event_ids
    ),
    "raw-deleted": _stores(of_class("dangling_metadata")),
    "raw-altered": _stores(of_class("hash_mismatch")),
    "metadata-removed": _stores(without_rows),
    "poison": Question(
        "queue-and-dlq",
        lambda _: {"most": str(MOST_MESSAGES), "live": "true"},  # the log also names those of earlier seeds
        lambda found: {f"{item['message_id']} {item['code']}" for item in found},
        lambda told: {f"{m['message_id']} {m['code']}" for m in told["messages"]},
    ),
    "half-replay": _stores(lambda told: {f"replay {told['replay_id']} half_replay"}),
}
IN_MEMORY = tuple(name for name, question in QUESTIONS.items() if question.ask)
# What is asked about a stream with nothing wrong in it: about one of two weeks, and about one that comes in now.
HEALTHY = {
    "healthy": ("dropped-window", "late-batch", "duplicate-storm", "conflicting-keys", "raw-deleted", "poison"),
    "healthy-live": ("late-batch", "duplicate-storm", "conflicting-keys"),
}


def in_memory(name: str, stream_name: str, seeds: Iterable[int]) -> Score:
    """Ask the question of incident ``name`` about a stream (the incident's own, or a healthy one), in memory."""
    question = QUESTIONS[name]
    assert question.ask  # noqa: S101 - IN_MEMORY
    score = Score(stream_name, f"{question.runbook}, in memory")
    for seed in seeds:
        incident = make(stream_name, seed)
        told = truth(incident) | {"ingested": _arrived(incident)}
        score.add(seed, question.named(question.ask(MemoryWorkbench(incident), told)), question.want(told))
    return score


def by_notebook(env: Any, name: str, seeds: Iterable[int], folder: Path) -> Score:
    """Make incident ``name`` happen on an embedded AWS, seed by seed, and run the matching notebook about each."""
    question = QUESTIONS[name]
    score = Score(name, question.runbook)
    for seed in seeds:
        _empty_dead_letters(env)
        told = simulate(env, name, seed, path=folder / f"{name}-{seed}.json")
        _processed(env, len(told.get("messages", ())))
        score.add(seed, question.named(found_by(env, question, told, folder)), question.want(told))
    return score


def healthy(env: Any, stream_name: str, seeds: Iterable[int], folder: Path) -> list[Score]:
    """Let a healthy stream come in, seed by seed, and run every notebook that could name something."""
    questions = [QUESTIONS[name] for name in HEALTHY[stream_name]]
    scores = [Score(stream_name, question.runbook) for question in questions]
    _empty_dead_letters(env)
    for seed in seeds:
        told = simulate(env, stream_name, seed, path=folder / f"{stream_name}-{seed}.json")
        for question, score in zip(questions, scores, strict=True):
            score.add(seed, question.named(found_by(env, question, told, folder)), set())
    return scores


def found_by(env: Any, question: Question, told: Told, folder: Path) -> Found:
    """Run the notebook headless and return what it recorded as found."""
    from pik import runbooks

    done = runbooks.run(question.runbook, env.name, question.parameters(told), runs_dir=folder / "runs")
    (step,) = done.steps
    if step.result is None or done.verdict not in ("passed", "failed"):
        raise RuntimeError(f"{question.runbook} did not answer about {told['source']}: {step.headline}")
    found: Found = step.result.facts["found"]
    return found


def _empty_dead_letters(env: Any) -> None:
    env.client("sqs").purge_queue(QueueUrl=env.outputs()["DeadLetterQueueUrl"])


def _processed(env: Any, wanted: int, patience: float = 30) -> None:
    """Wait until the processor has moved as many messages to the dead-letter queue."""
    from pik.aws.queues import messages

    url, deadline = env.outputs()["DeadLetterQueueUrl"], time.monotonic() + patience
    while messages(env, url) < wanted and time.monotonic() < deadline:
        time.sleep(0.5)


def measure(
    seeds: Iterable[int],
    unseen: Iterable[int],
    say: Callable[[str], None],
    *,
    names: Collection[str] = (),
    notebooks: bool = True,
) -> list[Score]:
    """Ask about every incident, or those named, and healthy streams; in memory with the seeds ``unseen``."""
    scores: list[Score] = []

    def add(*more: Score) -> None:
        scores.extend(more)
        for score in more:
            say(f"{score.incident} ({score.asked}): {score.exact} of {score.streams} exactly right")

    with tempfile.TemporaryDirectory() as folder:
        for name in (name for name in QUESTIONS if notebooks and (not names or name in names)):
            with embedded() as env:  # one for each: comparing all stores takes longer the more is in them
                add(by_notebook(env, name, seeds, Path(folder)))
        for name in (name for name in HEALTHY if notebooks and (not names or name in names)):
            with embedded() as env:
                add(*healthy(env, name, seeds, Path(folder)))
    for name in (name for name in IN_MEMORY if not names or name in names):
        add(in_memory(name, name, unseen), in_memory(name, "healthy", unseen))
    return scores


def markdown(scores: list[Score], started: str) -> str:
    """Return the table, and every answer that was not right."""
    lines = [
        f"Measured {started}: notebooks with seeds {_span(SEEDS)}, in memory with seeds {_span(UNSEEN)}.",
        "",
        "| stream | investigation | streams | exact | found rightly | found wrongly | missed | precision | recall |",
        "|" + " --- |" * 9,
    ]
    for score in scores:
        cells = [score.incident, score.asked, score.streams, score.exact, score.right]
        cells += [len(score.wrong), len(score.missed), _rate(score.precision), _rate(score.recall)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    faults = [
        f"- {score.incident} {seed} ({score.asked}): {kind} {what}"
        for score in scores
        for kind, pairs in (("wrongly named", score.wrong), ("missed", score.missed))
        for seed, what in pairs
    ]
    return "\n".join([*lines, "", *(["Not exact:", "", *faults] if faults else ["Every answer was right."])]) + "\n"


def merged(scores: list[Score]) -> list[Score]:
    """Return the figures that are kept, with those measured now in their place."""
    kept = [Score(**item) for item in json.loads(RESULTS.read_text(encoding="utf-8"))] if RESULTS.exists() else []
    now = {(score.incident, score.asked): score for score in scores}
    renewed = [now.pop((score.incident, score.asked), score) for score in kept]
    return [*renewed, *now.values()]


def smoke(say: Callable[[str], None]) -> None:
    """See that it works: one incident by its notebook, and one stream of each kind in memory. Nothing is written."""
    scores = measure(SEEDS[:1], UNSEEN[:1], say, names=[next(iter(IN_MEMORY))])
    if not scores or any(not score.streams for score in scores):
        raise RuntimeError(f"not every question was asked: {scores}")


def main() -> int:
    """Measure, print, keep the figures, renew the document; exit code 1 when something was not right."""
    parser = argparse.ArgumentParser(prog="python -m bench.detection", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these incidents; the other figures are kept as they are")
    parser.add_argument("--memory", action="store_true", help="only what needs no embedded AWS; nothing is written")
    options = parser.parse_args()
    started = time.strftime("%Y-%m-%d", time.gmtime())
    say = lambda text: print(text, flush=True)  # noqa: E731
    scores = measure(SEEDS, UNSEEN, say, names=options.names, notebooks=not options.memory)
    if options.names and not options.memory:
        scores = merged(scores)
    text = markdown(scores, started)
    print(text)
    if not options.memory:
        RESULTS.write_text(json.dumps([asdict(score) for score in scores], indent=1) + "\n", encoding="utf-8")
        report.renew(DOCS, "detection", text)
    return int(any(score.wrong or score.missed for score in scores))


def _arrived(incident: Any) -> list[str]:
    """When the arrivals came, half-open."""
    from pik.events import format_time

    return [format_time(incident.arrivals[0].at), format_time(incident.arrivals[-1].at + timedelta(microseconds=1))]


def _span(seeds: range) -> str:
    return f"{seeds[0]} to {seeds[-1]}"


def _rate(value: float) -> str:
    return "1.0" if value == 1 else f"{value:.3f}"


if __name__ == "__main__":
    raise SystemExit(main())

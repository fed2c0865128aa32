"""The canary: a new processor is limited to two at once and watched, and rolled back when something is wrong.

A canary always has an event to process: a probe event is ingested and replayed first, so that an empty queue is not
taken for a working processor. Each fact is read where it appears first: failures from the log lines (metrics come
minutes later), counts and states from the aggregates table, messages from the queues' attributes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from itertools import takewhile
from typing import Any

from pik import clock
from pik.aws.exchange import exchange, repeated
from pik.aws.queues import SETTLE_SECONDS, queue_counts, settling
from pik.aws.reading import Row, StoreReader
from pik.aws.retry import patiently
from pik.aws.stack import Say, silent
from pik.environments import Environment
from pik.errors import AwsError
from pik.results import Verdict
from pik.rollout.checks.probe import Probe
from pik.rollout.checks.processor import ProcessorChecks
from pik.rollout.checks.replaying import EntityWindow, Group, predict, read_raws, replay_all, select
from pik.rollout.checks.trials import TrialPrediction
from pik.rollout.deploy.status import queue as queue_status

PREFIX = "canary-"
# What lines of failures hold: our own say ERROR; the Lambda runtime says that too when code raises, and has other words
# when it is the runtime that ends: a timeout, too little memory, a process that was killed.
# https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
_FAILURES = ("ERROR", "Task timed out", "Runtime.OutOfMemory", "Runtime.ExitError", "Runtime exited")
_REQUEST = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


@dataclass(frozen=True)
class Limits:
    """How a canary is judged.

    Attributes:
        least: seconds it is watched at the least; log lines may come that late.
        settle: seconds for which the queue must have been seen empty; SQS's counts may be that old.
        patience: seconds after which it is judged by what there is.
        every: seconds between two looks.
        enough: messages that are enough to go by, when more are waiting.
        failing: share of messages that may fail (and be tried again), such as by a throttle.
        fewest: invocations with a failure below which a share says nothing: two run at once, and a busy moment of AWS
            makes every message of both fail.
    """

    least: float = 120.0
    settle: float = SETTLE_SECONDS
    patience: float = 900.0
    every: float = 10.0
    enough: int = 1000
    failing: float = 0.05
    fewest: int = 3

    @classmethod
    def of(cls, environment: Environment) -> Limits:
        """The usual ones; on the embedded AWS nothing comes late."""
        if not environment.embedded:
            return cls()
        late = clock.lateness(environment)
        least, patience = max(3.0, cls.least * late), max(90.0, cls.patience * late)
        return cls(least=least, settle=settling(environment), patience=patience, every=0.5)


@dataclass(frozen=True)
class Sample:
    """One look: messages that wait, new dead letters since the start, counted events, failures, wrong aggregates.

    ``failed``: messages that failed at least once; ``invocations``: those in which they failed.
    """

    seconds: float
    waiting: int
    in_flight: int
    oldest_seconds: float | None
    dead: int
    counted: int
    failed: int
    invocations: int
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        oldest = f", oldest {self.oldest_seconds:.0f} s" if self.oldest_seconds else ""
        wrong = f", {len(self.wrong)} aggregates WRONG" if self.wrong else ""
        return (
            f"canary {self.seconds:.0f} s  {self.counted} counted, {self.failed} failed, {self.dead} dead letters, "
            f"{self.waiting + self.in_flight} in the queue{oldest}{wrong}"
        )


@dataclass(frozen=True)
class CanaryOutcome:
    """How a canary came out, and what was seen."""

    verdict: Verdict
    sentence: str
    expected: int
    samples: tuple[Sample, ...] = field(repr=False, default=())

    @property
    def passed(self) -> bool:
        """Whether the processor may go on."""
        return self.verdict is Verdict.PASSED

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-able; of many samples the first, the last and some between."""
        return {
            "verdict": str(self.verdict),
            "sentence": self.sentence,
            "expected": self.expected,
            "samples": [asdict(sample) for sample in _some(self.samples)],
        }


def judge(samples: Sequence[Sample], expected: int, limits: Limits) -> tuple[Verdict, str] | None:
    """Return the verdict and its sentence as soon as there is one, None while it must be watched on. Pure."""
    last = samples[-1]
    fault = _fault(last, limits)
    if fault:
        return Verdict.FAILED, fault
    done = last.counted >= min(expected, limits.enough) or _drained(samples, limits.settle)
    if last.counted and done and last.seconds >= limits.least:
        return Verdict.PASSED, f"{last.counted} of {_messages(expected)} counted as predicted, {last.failed} failed"
    if last.seconds < limits.patience or _still_getting_there(samples, limits):
        return None
    return _out_of_patience(last, expected)


def _still_getting_there(samples: Sequence[Sample], limits: Limits) -> bool:
    """Whether some messages failed, fewer than may, and others are counted all the while: a busy AWS, or a fault.

    What failed comes back after the queue's visibility timeout and tells which of the two, so it is watched on, for
    three times the patience at most.
    """
    last = samples[-1]
    recent = last.seconds - max(limits.settle, 5 * limits.every)
    then = next((sample for sample in reversed(samples) if sample.seconds <= recent), samples[0])
    return bool(last.failed) and then.counted < last.counted and last.seconds < 3 * limits.patience


def _drained(samples: Sequence[Sample], settle: float) -> bool:
    """Whether the queue has been seen empty, without a break, for as long as its counts may be old."""
    empty = list(takewhile(lambda sample: not sample.waiting + sample.in_flight, reversed(samples)))
    return bool(empty) and empty[0].seconds - empty[-1].seconds >= settle


def _fault(last: Sample, limits: Limits) -> str:
    if last.wrong:
        return f"{len(last.wrong)} aggregates are not as predicted: {last.wrong[0]}"
    if last.dead:
        return f"{_messages(last.dead)} moved to the dead-letter queue"
    handled = last.counted + last.failed
    if last.invocations >= limits.fewest and last.failed > limits.failing * handled:
        return f"{last.failed} of {_messages(handled)} failed, in {last.invocations} invocations"
    return ""


def _out_of_patience(last: Sample, expected: int) -> tuple[Verdict, str]:
    after, left = f"after {last.seconds:.0f} s", _messages(last.waiting + last.in_flight)
    if last.failed:
        return Verdict.FAILED, f"{last.failed} failed and {last.counted} of {expected} are counted {after}"
    if last.counted:
        return Verdict.PASSED, f"{last.counted} of {_messages(expected)} counted as predicted {after}, {left} to go"
    return Verdict.FAILED, f"nothing was counted {after}, {left} in the queue"


class Canary:
    """Prepare it before the processor is switched on, :meth:`watch` it after.

    >>> canary = Canary(environment("staging"))                       # doctest: +SKIP
    >>> canary.watch(print).passed                                    # doctest: +SKIP
    """

    def __init__(self, environment: Environment, prediction: TrialPrediction, limits: Limits | None = None) -> None:
        self.environment = environment
        self.limits = limits or Limits.of(environment)
        self.stores = StoreReader(environment)
        self.prediction = self._with_probe(prediction)
        self.before = self._counts()
        self.dead_before = self.stores.dead_letters()
        self.expected = sum(
            max(0, count - self.before.get(group, 0)) for group, (_, count) in self.prediction.aggregates.items()
        )
        self.since = clock.now(environment) - timedelta(seconds=2)

    def watch(self, on_progress: Say | None = None) -> CanaryOutcome:
        """Look until it can be judged; call ``on_progress`` with a sentence whenever something moved."""
        say, began, samples, reported = on_progress or silent, time.monotonic(), list[Sample](), ""
        while True:
            samples.append(patiently(self.environment, lambda: self.look(time.monotonic() - began), say=say))
            sample = str(samples[-1])
            if sample.partition("s  ")[2] != reported:
                say(sample)
                reported = sample.partition("s  ")[2]
            judged = judge(samples, self.expected, self.limits)
            if judged:
                return CanaryOutcome(*judged, self.expected, tuple(samples))
            time.sleep(self.limits.every)

    def look(self, seconds: float) -> Sample:
        """Look once at everything that could be wrong."""
        outputs = self.stores.outputs
        counts = queue_counts(self.environment, outputs["QueueUrl"])
        found = self.stores.versions(self.prediction.aggregates)
        lines = self._lines()
        failures = list(_failures(lines))
        return Sample(
            seconds=round(seconds, 1),
            waiting=counts["ApproximateNumberOfMessages"],
            in_flight=counts["ApproximateNumberOfMessagesNotVisible"],
            oldest_seconds=queue_status(self.environment, outputs["QueueUrl"]).oldest_seconds,
            # The log tells at once, the queue's count up to a minute later, but of all the time.
            dead=max(len(set(_set_aside(lines))), self.stores.dead_letters() - self.dead_before),
            counted=sum(self._counts(found).values()) - sum(self.before.values()),
            failed=len({what for what, _ in failures}),
            invocations=len({invocation for _, invocation in failures}),
            wrong=tuple(_wrong(self.prediction, found)),
        )

    def _counts(self, found: dict[Group, Row | None] | None = None) -> dict[Group, int]:
        there = found if found is not None else self.stores.versions(self.prediction.aggregates)
        return {group: row["input_count"] for group, row in there.items() if row}

    def _lines(self) -> list[str]:
        """The processor's log lines of failures since the start."""
        return [line for text in _FAILURES for line in self.stores.log_lines("ProcessorLogGroup", text, self.since)]

    def _with_probe(self, prediction: TrialPrediction) -> TrialPrediction:
        """Ingest and replay a probe event, and predict its outcome."""
        probe = Probe()
        answer = repeated(lambda: exchange(self.environment, self.stores.outputs["IngestUrl"], probe.body(1)))
        if answer.status != 200:
            raise AwsError(
                f"{self.environment.name}: the canary's probe was not accepted",
                reason=f"ingest answered {answer.summary}",
                next_step=f"pik run verify-ingest --env {self.environment.name}",
            )
        day = probe.event_time[:10]
        chosen = select(self.stores, probe.entity_id, f"{day}T00:00:00.000000Z", "9999-12-31T00:00:00.000000Z")
        (sent,) = replay_all(self.environment, [chosen], prefix=PREFIX, parts=1)
        return joined(prediction, {sent.replay_id: chosen}, self.stores)


def joined(prediction: TrialPrediction, more: dict[str, EntityWindow], stores: StoreReader) -> TrialPrediction:
    """Return a prediction to which other replays are added."""
    raws = read_raws(stores, [row for selection in more.values() for row in selection.rows])
    return TrialPrediction(
        replays={**prediction.replays, **more},
        raws=type(raws)({**prediction.raws.events, **raws.events}, {**prediction.raws.problems, **raws.problems}),
        waiting=prediction.waiting + sum(len(selection.rows) for selection in more.values()),
        aggregates={**prediction.aggregates, **predict(prediction.aggregator, raws, more)},
        aggregator=prediction.aggregator,
    )


def _wrong(prediction: TrialPrediction, found: dict[Group, Row | None]) -> Iterator[str]:
    """Versions that say something else than predicted; one that counts too little yet is not wrong."""
    for group, (state, count) in prediction.aggregates.items():
        row = found.get(group)
        if row is None or row["input_count"] < count:
            continue
        if row["input_count"] > count:
            yield f"{' · '.join(group)} counts {row['input_count']} of {count}"
        elif row["state"] != json.loads(json.dumps(state)) and group not in prediction.unsure:
            yield f"{' · '.join(group)} has another state"


def _set_aside(lines: Iterable[str]) -> Iterator[str]:
    """The messages that log lines name as moved to the dead-letter queue."""
    for line in lines:
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("message") == "set aside":
                yield str(entry.get("message_id"))


def _failures(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What failed and in which invocation: the message that a line names; the invocation itself where it names none."""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            # The Lambda runtime's own, of a crash or a timeout: several lines speak of one invocation.
            request = _REQUEST.search(line)
            invocation = request[0] if request else line
            yield invocation, invocation
            continue
        if isinstance(entry, dict) and entry.get("level") == "ERROR" and entry.get("message") != "set aside":
            invocation = str(entry.get("function_request_id") or line)
            yield str(entry.get("message_id") or invocation), invocation


def _some(samples: tuple[Sample, ...], most: int = 12) -> tuple[Sample, ...]:
    step = -(-len(samples) // most) or 1
    return (*samples[:-1:step], *samples[-1:])


def _messages(count: int) -> str:
    return f"{count:,} message" if count == 1 else f"{count:,} messages"


def predict_trial(environment: Environment, on_progress: Say | None = None) -> TrialPrediction:
    """Return what the processor must write for the last replays of a rollout, from the raw objects."""
    (on_progress or silent)("predicting the aggregates from the raw objects")
    return ProcessorChecks(environment).predict()

"""A world for one history: the small AWS, the shipped functions in place of Lambda's, virtual clocks."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

from pik import events
from pik.pipeline import aws, backoff, http, ingest, parts, processor, replay, selection
from pik.pipeline.http import Request
from tests.sim import connection, delivering
from tests.sim.aws.dynamodb import DynamoDB
from tests.sim.aws.lambda_ import Lambda
from tests.sim.aws.s3 import S3
from tests.sim.aws.sqs import SQS, Message
from tests.sim.client import ATTEMPTS, KINDS, Client, Faults
from tests.sim.scheduler import Scheduler, Violation
from tests.stores import SETTINGS

EPOCH = datetime(2025, 6, 1, tzinfo=UTC)
STATUSES = {events.ACCEPTED, events.DUPLICATE, events.CONFLICT, events.REJECTED}
# As in template.yaml.
VISIBILITY = 190.0
API_SECONDS = 29.0  # after which API Gateway answers 504, and Lambda ends the function
PROCESSOR_SECONDS = 30.0
MOST_MESSAGES = 12  # of a batch
_PARSED = lru_cache(10_000)(events.parse_instant)  # a history asks for the same few times again and again
COUNT_SECONDS = 60.0  # by which SQS's counts are late, at most


@dataclass
class Ack:
    """An answer that a caller has seen."""

    body: bytes
    status: int
    answer: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    came: str = ""  # when the object that it names came; another one may take its place when its retention is over


@dataclass
class World:
    """Everything of one history."""

    seed: int
    rate: float = 0.1
    without: frozenset[str] = frozenset()
    acks: list[Ack] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.scheduler = Scheduler(self.chance)
        self._calls = 150 + int(self.chance.random() * 250)
        kinds = tuple(kind for kind in KINDS if self.chance.random() < 0.5)
        self.faults = Faults(self.rate, self._calls, kinds, self.without)
        self.s3, self.sqs = S3(), SQS(self.chance, lambda: self.scheduler.now)
        self.dynamodb = DynamoDB(page=lambda: 1 + int(self.chance.random() * 4))
        # Three failures in a row are seldom; one in a row that botocore does not repeat stands for them.
        attempts = 1 if self.chance.random() < 0.25 else ATTEMPTS
        self.clients = {
            name: Client(name, backend, self.scheduler, self.faults, attempts)
            for name, backend in (("s3", self.s3), ("dynamodb", self.dynamodb), ("sqs", self.sqs))
        }
        self.sqs.late = lambda: COUNT_SECONDS * self.chance.random() if self.chance.random() < 0.5 else 0.0
        self.sqs.refused = lambda: self.goes_wrong("entry", 3 * self.rate)
        self._requests = 0
        self.metrics, self.counted = Counter[str](), Counter[str]()  # events by what became of them
        self.mapping = Lambda(self.chance, lambda: self.scheduler.now, PROCESSOR_SECONDS)
        self.processing, self.stopped = 0, False
        self.settings = SETTINGS
        if self.chance.random() < 0.15:  # a queue that is soon tired of a message
            self.sqs.max_receives = 3
            self.settings = replace(SETTINGS, max_receive_count=3)

    def patient(self) -> None:
        """Have the queue keep a message for as many receives as it usually does."""
        self.settings, self.sqs.max_receives = SETTINGS, SETTINGS.max_receive_count

    def stop(self) -> None:
        """A rollback says that the queue is no longer consumed. Raises Violation when it is."""
        self.stopped = True
        if self.processing or self.mapping.consumes:
            raise Violation("messages are processed after consumption has ended")

    def goes_wrong(self, what: str, rate: float) -> bool:
        """Decide whether something other than a call goes wrong."""
        wrong = not self.faults.over and self.chance.random() < rate
        return wrong and self.faults.happens(f"{what} {self.faults.made}")

    def trouble_again(self) -> None:
        """Have calls go wrong again, after a time of quiet."""
        self.faults.calls = self.faults.made + self._calls

    # --- what the functions see -----------------------------------------------------------------------------------

    def clock(self) -> str:
        """The time now as the clock of the task that runs has it, in the kit's format."""
        skew = self.scheduler.current.skew if self.scheduler.current else 0.0
        return events.format_time(self.time() + timedelta(seconds=skew))

    def time(self) -> datetime:
        """The time now as AWS's clock has it."""
        return EPOCH + timedelta(seconds=self.scheduler.now)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put this world where the functions look for AWS, the time, sleep and chance."""
        silent: Any = SimpleNamespace(
            **dict.fromkeys(("info", "warning", "error", "exception"), lambda *_, **__: None),
            add_metric=self._count,
        )
        replaced: list[tuple[Any, str, Any]] = [
            (aws, "client", self.clients.__getitem__),
            (events, "now", self.clock),
            (events, "parse_instant", _PARSED),
            (backoff, "time", SimpleNamespace(sleep=self.scheduler.pause)),
            (backoff, "random", self.chance),
            (parts, "uuid4", lambda: SimpleNamespace(hex=f"{self.chance.getrandbits(128):032x}")),
            (selection, "uuid4", lambda: SimpleNamespace(hex=f"{self.chance.getrandbits(128):032x}")),
            *connection.replaced(self),
            *delivering.replaced(self),
        ]
        for module in (ingest, replay, processor):
            replaced += [(module, "logger", silent), (module, "metrics", silent)]
        before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
        try:
            for module, name, value in replaced:
                setattr(module, name, value)
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)
            connection.forget(self)

    def _count(self, name: str, _: str, value: float) -> None:
        """Take a metric."""
        if name.upper() in STATUSES:
            self.metrics[name.upper()] += int(value)

    # --- the APIs ---------------------------------------------------------------------------------------------------

    def post(
        self, function: str, body: bytes, headers: dict[str, str] | None = None, *, dry_run: bool = False
    ) -> Ack | None:
        """Send a request to an API and return what comes back; None when no answer does."""
        self._requests += 1
        headers, query = headers or {"content-type": "application/json"}, {"dry_run": ["true"]} if dry_run else {}
        # A caller may choose the request's id: the header x-amzn-RequestId.
        name = f"r{self._requests}" if self.chance.random() < 0.95 else "chosen"
        request = Request(body, headers, query, name, "arn:x/sim")
        name = f"{function} {request.request_id}"
        work = partial(self._invoke, function, request)
        # A connection may break while the function goes on, and API Gateway's time begins before the function's.
        patience = API_SECONDS * (self.chance.random() if self.goes_wrong("connection", self.rate / 3) else 1)
        skew = 2 * self.chance.random() - 1  # the clocks of two functions agree to about a second
        invocation = self.scheduler.call(name, work, patience, API_SECONDS, only_reads=dry_run, skew=skew)
        lost = self.goes_wrong("answer", self.rate / 3)
        if not invocation.done or invocation.killed or lost:
            self.scheduler.note(name, "no answer")
            return None
        answer = json.loads(invocation.result["body"])
        kept = self.s3.stored.get(answer.get("s3_key") or "")
        came = kept.metadata["ingest-time"] if kept else ""
        ack = Ack(body, invocation.result["statusCode"], answer, invocation.result["headers"], came)
        self.scheduler.note(name, "", f"{ack.status} {answer.get('status') or answer.get('code') or ''}")
        if not dry_run:
            self.acks.append(ack)
        return ack

    def _invoke(self, function: str, request: Request) -> dict[str, Any]:
        logger: Any = ingest.logger
        if function == "ingest":
            answer = http.guarded(request, lambda: ingest.ingest(request, SETTINGS), logger, logger)
            if not request.query:  # a dry run is no event
                self.counted.update({json.loads(answer["body"]).get("status")} & STATUSES)
            return answer
        ends = self.scheduler.now + self.chance.random() * 5
        work = lambda: replay.replay(request, SETTINGS, lambda: self.scheduler.now < ends)  # noqa: E731
        return http.guarded(request, work, logger, logger)

    # --- the event source mapping -------------------------------------------------------------------------------------

    def consume(self) -> None:
        """Receive a batch, have the processor count it, and delete what it has dealt with."""
        batch = self.sqs.receive("queue", 1 + int(self.chance.random() ** 2 * MOST_MESSAGES), VISIBILITY)
        if not batch:
            return
        if self.stopped:
            raise Violation("a message is received after consumption has ended")
        self.processing += 1
        handles = {message.id: message.handle for message in batch}
        name = f"processor {' '.join(handles)}"
        event = {"Records": [_record(message) for message in batch]}
        # Seldom its time is nearly over before all is done.
        ends = self.scheduler.now + PROCESSOR_SECONDS
        if self.chance.random() < 0.2:
            ends = self.scheduler.now + processor.RESERVE + 2 * self.chance.random()
        left = lambda: ends - self.scheduler.now  # noqa: E731
        work = lambda: processor.process_batch(event, self.settings, left)  # noqa: E731
        invocation = self.scheduler.call(name, work, PROCESSOR_SECONDS, PROCESSOR_SECONDS)
        self.processing -= 1
        if not invocation.done or invocation.killed:
            self.scheduler.note(name, "no answer", "the messages return")
            return
        failed = {one["itemIdentifier"] for one in invocation.result["batchItemFailures"]}
        for identifier in handles.keys() - failed:
            self.sqs.delete("queue", handles[identifier])


def _record(message: Message) -> dict[str, Any]:
    """A message as Lambda hands it to the processor."""
    about = {"ApproximateReceiveCount": str(message.receives)}
    return {"messageId": message.id, "body": message.body, "attributes": about}

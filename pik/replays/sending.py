"""A run's parts are sent, by one process: as fast as it may, until all are sent or somebody stops it."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from pik.aws.exchange import ATTEMPTS, Exchange, tried
from pik.aws.queues import messages
from pik.errors import AwsError, PikError, Refused
from pik.replays.runs import ReplayRun

if TYPE_CHECKING:
    from pik.aws.connection import Connection

LOOK = 5.0  # seconds between looks at the queues
DEPLOY = "deploy it without DryRun, then run the plan"
_MOST = 250  # messages of a request, when there is a rate
_CALLS = 4  # requests a second, at most (ReplayRateLimit is 5): above 1,000 messages a second, requests get larger
Progress = Callable[[str], None]


@dataclass
class Sending:
    """One process that has a run's parts sent. ``why``: why it paused the run by itself; empty when it did not."""

    aws: Connection
    url: str
    run: ReplayRun
    rate: int | None
    most_waiting: int | None
    dead: int  # messages in the dead-letter queue when it began
    tell: Progress
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    sent: int = 0
    why: str = ""
    _next: float = 0.0
    _looked: float = 0.0
    _told: float = 0.0
    full: bool = False

    def part(self, number: int) -> None:
        """Have one part sent; when that fails, the others stop as well."""
        try:
            self._part(number)
        except BaseException as error:
            self.stop.set()
            if isinstance(error, Refused) and self.run.sent + self.sent:  # what is refused sends nothing
                raise AwsError(error.message, reason=error.reason, next_step=error.next_step) from error
            raise

    def _part(self, number: int) -> None:
        """Ask for one part, request by request."""
        failures = 0
        while not self.stop.is_set():
            most = self._turn()
            if self.stop.is_set():
                return
            limit = {"limit": most} if most else {}
            asked = request(self.aws, self.url, self.run.replay_id, "send", part=number, **limit)
            self._count(asked)
            if asked.status == 200 and asked["done"]:
                return
            if asked["code"] == "not_running":
                self.stop.set()
            elif asked["code"] == "busy":
                time.sleep(min(float(asked["wait"] or 1), LOOK))
            elif asked.answered and asked.status != 200:
                raise refusal(self.aws, self.run.replay_id, asked)
            if asked["code"] != "busy":  # that says nothing of whether it will go well
                failures = 0 if asked.answered else failures + 1
            if failures == ATTEMPTS:
                reason = asked.summary
                raise AwsError(f"{self.run.replay_id}: the replay API failed {failures} times in a row", reason=reason)
            if failures:
                time.sleep(random.uniform(0.1, 0.5) * failures)  # noqa: S311 - jitter, not a secret

    def _count(self, asked: Exchange) -> None:
        with self.lock:
            self.sent += int(asked["sent"] or 0)
            if asked.status == 200 and asked["rate"]:
                self.rate = int(asked["rate"])  # somebody may have changed it
            now = time.monotonic()
            if now - self._told >= LOOK:
                self._told = now
                self.tell(f"{self.run.sent + self.sent:,} of {self.run.messages:,} messages sent")

    def _turn(self) -> int | None:
        """Wait until more may be sent; return how many messages, or None when there is no limit."""
        self.look()
        while self.full and not self.stop.is_set():
            time.sleep(LOOK)
            self.look()
        with self.lock:
            if self.rate is None:
                return None
            most = max(min(self.rate, _MOST), self.rate // _CALLS)
            at = max(self._next, time.monotonic())
            self._next = at + most / self.rate
        time.sleep(max(0.0, at - time.monotonic()))
        return most

    def look(self) -> None:
        """Look at the queues now and then: whether too many messages wait, and whether there are more dead letters."""
        with self.lock:
            if time.monotonic() - self._looked < LOOK:
                return
            self._looked = time.monotonic()
        with suppress(PikError, ClientError, BotoCoreError):  # a look that fails is made again
            self._look()

    def _look(self) -> None:
        dead = messages(self.aws.environment, self.aws.outputs["DeadLetterQueueUrl"])
        if dead > self.dead:
            self.why = f"the dead-letter queue grew from {self.dead:,} to {dead:,} messages"
            self.stop.set()
        if self.most_waiting is not None:
            waiting = messages(self.aws.environment, self.aws.outputs["QueueUrl"])
            if waiting > self.most_waiting:
                self.tell(
                    f"{waiting:,} messages wait in the queue: nothing is sent until they are {self.most_waiting:,}"
                )
            self.full = waiting > self.most_waiting


def request(aws: Connection, url: str, name: str, action: str, **about: Any) -> Exchange:
    """Ask something of a run, once. Raise Refused in dry-run mode."""
    body = json.dumps({"action": action, "replay_id": name, **about}).encode()
    asked = tried(aws.environment, url, body)
    if asked.status == 200 and asked["dry_run"]:
        raise Refused(f"{aws.environment.name} is in dry-run mode: nothing was sent", next_step=DEPLOY)
    return asked


def ask(aws: Connection, url: str, name: str, action: str, **about: Any) -> Exchange:
    """Ask until there is an answer. Raise Refused or AwsError when it is not what was asked for."""
    for attempt in range(ATTEMPTS):
        asked = request(aws, url, name, action, **about)
        if asked.answered:
            break
        time.sleep(random.uniform(0.1, 0.5) * (attempt + 1))  # noqa: S311 - jitter, not a secret
    if not asked.answered:
        raise AwsError(f"{name}: the replay API did not answer {ATTEMPTS} times", reason=asked.summary)
    if asked.status != 200:
        raise refusal(aws, name, asked)
    return asked


def refusal(aws: Connection, name: str, asked: Exchange) -> PikError:
    """Return the error that an answer stands for."""
    what, code = str(asked["error"] or asked.summary), str(asked["code"] or "")
    if code == "replay_id_taken":
        return Refused(f"{name} stands for another replay: {what}", next_step="choose another id, or none")
    if code == "not_possible":
        return Refused(what, next_step=f"pik replay status {name} --env {aws.environment.name}")
    do_this = str(asked["do_this"] or "")
    return AwsError(f"{aws.environment.name}: the replay API refused {name}: {what}", reason=code, next_step=do_this)

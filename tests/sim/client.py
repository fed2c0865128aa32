"""The AWS client that the code under test gets: each attempt of a call may fail, lose its answer, or end the task.

botocore repeats a call itself, three attempts in all (:data:`pik.pipeline.aws.CONFIG`), also when the effect was done
and only its answer was lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from tests.sim.aws.errors import refused
from tests.sim.scheduler import Scheduler, Violation

ATTEMPTS = 3
WRITES = ("put_", "transact_", "send_", "delete_", "update_")
LATE_SECONDS = 30.0  # after which a request that was given up may still have its effect, at most
REPEATED = {
    *("InternalServerError", "InternalError", "SlowDown"),
    *("ProvisionedThroughputExceededException", "TooManyRequestsException"),
}
#: Every fault, and the calls that it can strike; None: all of them.
KINDS: dict[str, frozenset[str] | None] = {
    "fails before": None,
    "answer lost": None,
    "throttled": None,
    "killed before": None,
    "killed after": None,
    "slow": None,
    "conflict": frozenset({"put_object", "put_item", "transact_write_items"}),
    "lands late": frozenset(
        {
            *("put_object", "put_item", "transact_write_items", "send_message", "send_message_batch"),
            *("delete_message_batch", "change_message_visibility_batch"),
        }
    ),
}
_THROTTLED = {
    "s3": "SlowDown",
    "dynamodb": "ProvisionedThroughputExceededException",
    "sqs": "InternalError",
    "lambda": "TooManyRequestsException",
}


@dataclass
class Faults:
    """How often calls go wrong, until ``calls`` of them were made: then all is well, and every history has an end.

    ``kinds``: those that this history has; a few of them meet more often than all would (swarm testing: Groce et al.,
    ISSTA 2012). ``without`` names what is left out of the history (:mod:`tests.sim.shrink`); ``asked``, all that could.
    """

    rate: float
    calls: int
    kinds: tuple[str, ...] = tuple(KINDS)
    without: frozenset[str] = frozenset()
    made: int = 0
    under_way: int = 0  # requests that nobody waits for any more, and that still have their effect
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    asked: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether nothing goes wrong any more."""
        return self.made > self.calls

    def happens(self, name: str) -> bool:
        """Whether something that was decided happens: unless it is left out."""
        self.asked.append(name)
        return name not in self.without


TELLS = {"send_message_batch"}  # how often it was sent again


@dataclass
class Client:
    """One service's client."""

    service: str
    backend: Any
    scheduler: Scheduler
    faults: Faults
    attempts: int = ATTEMPTS

    def get_paginator(self, operation: str) -> Pages:
        """Return what asks for one page after the other, as botocore does."""
        return Pages(self, operation)

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda **arguments: self._call(operation, arguments)

    def _call(self, operation: str, arguments: dict[str, Any]) -> Any:
        error: Exception | None = None
        for attempt in range(self.attempts):
            self.scheduler.pause(self.scheduler.chance.random() * 0.03)
            fault = self._fault(operation)
            try:
                answer = self._attempt(operation, arguments, fault)
                # As botocore does: what was sent before may be under way still.
                return {**answer, "ResponseMetadata": {"RetryAttempts": attempt}} if operation in TELLS else answer
            except ReadTimeoutError as lost:
                error = lost
            except ClientError as failed:
                if failed.response["Error"]["Code"] not in REPEATED:
                    raise
                error = failed
        assert error is not None
        raise error

    def _fault(self, operation: str) -> str:
        """Return what goes wrong with this attempt, or nothing."""
        faults, chance = self.faults, self.scheduler.chance
        faults.made += 1
        site = f"{self.service}.{operation}"
        if faults.over or chance.random() >= faults.rate:
            faults.hits[site, ""] += 1
            return ""
        may = [kind for kind in faults.kinds if (only := KINDS[kind]) is None or operation in only]
        fault = may[int(chance.random() * len(may))] if may else ""
        if not fault or not faults.happens(f"fault {faults.made}"):
            fault = ""
        faults.hits[site, fault] += 1
        return fault

    def _attempt(self, operation: str, arguments: dict[str, Any], fault: str) -> Any:
        scheduler, name = self.scheduler, f"{self.service}.{operation}"
        if operation.startswith(WRITES) and scheduler.current and scheduler.current.only_reads:
            raise Violation(f"{scheduler.current} must only read, and calls {name}")
        if fault == "slow":
            scheduler.note(name, fault)
            scheduler.pause(5 + 40 * scheduler.chance.random())
        elif fault == "lands late":
            scheduler.note(name, fault)
            self.faults.under_way += 1
            scheduler.spawn(f"{name} under way", lambda: self._land(operation, arguments))
            raise ReadTimeoutError(endpoint_url=self.service)
        elif fault == "killed before":
            scheduler.note(name, fault, "nothing done")
            scheduler.die()
        elif fault in {"fails before", "throttled", "conflict"}:
            scheduler.note(name, fault, "nothing done")
            raise self._refusal(operation, arguments, fault)
        try:
            answer = getattr(self.backend, operation)(**arguments)
        except ClientError as error:
            scheduler.note(name, fault, error.response["Error"]["Code"])
            if fault == "answer lost":  # that it was refused is lost as well
                raise ReadTimeoutError(endpoint_url=self.service) from None
            raise
        failed = len(answer["Failed"]) if "Failed" in answer else 0
        scheduler.note(name, fault, f"done, {failed} entries refused" if failed else "done")
        if fault == "answer lost":
            raise ReadTimeoutError(endpoint_url=self.service)
        if fault == "killed after":
            scheduler.die()
        return answer

    def _land(self, operation: str, arguments: dict[str, Any]) -> None:
        """Have the effect of a request whose caller has given up, and may have repeated it."""
        self.scheduler.pause(LATE_SECONDS * self.scheduler.chance.random())
        try:
            getattr(self.backend, operation)(**arguments)
            effect = "done"
        except ClientError as error:
            effect = error.response["Error"]["Code"]
        self.faults.under_way -= 1
        self.scheduler.note(f"{self.service}.{operation}", "", effect)

    def _refusal(self, operation: str, arguments: dict[str, Any], fault: str) -> ClientError:
        if fault == "conflict" and operation == "put_object":
            return refused("ConditionalRequestConflict", operation)
        if fault == "conflict" and operation == "put_item":
            return refused("TransactionConflictException", operation)
        if operation == "transact_write_items":
            if fault == "fails before":
                return refused("InternalServerError", operation)
            code = "TransactionConflict" if fault == "conflict" else "ThrottlingError"
            reasons = ["None"] * len(arguments["TransactItems"])
            reasons[int(self.scheduler.chance.random() * len(reasons))] = code
            return refused("TransactionCanceledException", operation, reasons)
        return refused(_THROTTLED[self.service] if fault == "throttled" else "InternalServerError", operation)


@dataclass
class Pages:
    """The pages of a query or a scan."""

    client: Client
    operation: str

    def paginate(self, **arguments: Any) -> Iterator[Any]:
        """Yield each page."""
        while True:
            page = getattr(self.client, self.operation)(**arguments)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

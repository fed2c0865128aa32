"""One event to its final answer: signed, sent, and sent again while that can help."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import uuid4

import httpx

from pik import environments
from pik.aws import signed
from pik.environments import Environment
from pik.errors import AwsError
from pik.pipeline.parsing import MAX_BODY

ACCEPTED, DUPLICATE, CONFLICT, REJECTED, FAILED = "ACCEPTED", "DUPLICATE", "CONFLICT", "REJECTED", "FAILED"
NOT_SENT = "not_sent"  # the status of what is no event already here
_RETRY = {429, 500, 502, 503, 504}
# Not about this event but about us: the next one would get the same answer.
HOPELESS = {401, 403, 404}
TOO_LARGE = "too_large"  # for Lambda: it was not sent
# What an API that was just made answers, until API Gateway knows of it everywhere.
_FRESH = {"403", "404", "500"}
# A 403 with these words is IAM's, about who calls: that does not pass.
_DENIED = ("not authorized", "security token", "signature", "explicit deny")
FRESH_SECONDS = 60.0


@dataclass(frozen=True)
class Retries:
    """How often and how patiently. Delays are drawn at random below ``base * 2**n`` seconds, at most ``cap``."""

    attempts: int = 8
    base: float = 0.2
    cap: float = 10.0
    longest_retry_after: float = 60.0

    def delay(self, attempt: int, retry_after: float) -> float:
        """Seconds to wait after ``attempt`` (from 1) failed; never less than the server asked for (up to a limit)."""
        spread = random.uniform(0, min(self.cap, self.base * 2**attempt))  # noqa: S311 - jitter, not a secret
        return min(retry_after, self.longest_retry_after) + spread


@dataclass(frozen=True)
class Outcome:
    """The outcome of one event. ``status`` is an HTTP status as text, or the kind of failure (``timeout``)."""

    result: str
    status: str
    attempts: int
    seconds: float
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def hopeless(self) -> bool:
        """Whether sending more would only repeat this answer (no permission, no such API)."""
        return self.result == FAILED and self.status.isdigit() and int(self.status) in HOPELESS


class Delivery:
    """Delivers bodies to one environment's ingest API over kept-alive connections. Safe to use from many threads."""

    def __init__(
        self,
        environment: Environment,
        url: str,
        *,
        connections: int,
        dry_run: bool = False,
        retries: Retries | None = None,
        timeout: float = 35.0,  # API Gateway itself gives up after 29 s
        fresh: bool = False,
    ) -> None:
        """Prepare deliveries; ``fresh``: the API may be new, so what a new one answers is asked again for a minute."""
        self._fresh_until = time.monotonic() + (FRESH_SECONDS if fresh else 0.0)
        self._answered = float("inf")  # when it first did
        self._environment = environment
        self._url = environment.address(url) + ("?dry_run=true" if dry_run else "")
        self._retries = retries or Retries()
        self._refresh = threading.Lock()
        signed.sign(environment, "POST", self._url, b"", {})  # no credentials: say so before anything is sent
        self.stop = threading.Event()
        self._http = httpx.Client(
            trust_env=not environment.embedded,  # a proxy of the shell has no business between us and the embedded AWS
            verify=signed.tls(environment),
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0)),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def deliver(self, body: bytes) -> Outcome:
        """Send one body until it has an answer or the attempts are used up. Never raises for what the network does.

        The request id is the same over all attempts, so the pipeline can tell a retry from a second arrival.
        """
        if len(body) > MAX_BODY:  # the pipeline would keep aside what reaches it, but Lambda takes no larger request
            said = {"error": f"{len(body):,} bytes; at most {MAX_BODY:,} are taken", "code": "body_too_large"}
            return Outcome(FAILED, TOO_LARGE, 0, 0.0, said)
        headers = {"content-type": "application/json", "x-request-id": str(uuid4())}
        start = time.perf_counter()
        attempt, refreshed = 0, False
        while True:
            attempt += 1
            sent = time.monotonic()
            status, answer, retry_after = self._once(body, headers)
            result = _result(status, answer)
            if result is not None:
                self._answered = min(self._answered, time.monotonic())
                break
            if self._settles(status, answer, sent):
                attempt -= 1  # the API is not there yet: that says nothing about this event
                if self.stop.wait(self._retries.delay(4, 0.0)):
                    break
                continue
            expired = status == "403" and not refreshed and "expired" in json.dumps(answer).lower()
            refreshed = refreshed or expired
            again = expired or not status.isdigit() or int(status) in _RETRY
            if not again or attempt >= self._retries.attempts:
                break
            if expired:
                self._renew()
            elif self.stop.wait(self._retries.delay(attempt, retry_after)):
                break  # interrupted: what is not known to be stored is reported as failed
        return Outcome(result or FAILED, status, max(1, attempt), time.perf_counter() - start, answer)

    def _settles(self, status: str, answer: dict[str, Any], sent: float) -> bool:
        """Whether this may be a new API that is not known everywhere yet: it had not answered when this was sent."""
        if sent > self._answered or status not in _FRESH or time.monotonic() >= self._fresh_until:
            return False
        words = json.dumps(answer).lower()
        return not any(denied in words for denied in _DENIED)

    def _once(self, body: bytes, headers: dict[str, str]) -> tuple[str, dict[str, Any], float]:
        # Signed anew for every attempt: a signature is only good for minutes.
        sent = signed.sign(self._environment, "POST", self._url, body, headers)
        try:
            response = self._http.post(self._url, content=body, headers=sent)
        except httpx.TimeoutException as error:
            return "timeout", {"error": f"no answer in time ({type(error).__name__})"}, 0.0
        except httpx.TransportError as error:
            return "connection", {"error": f"{type(error).__name__}: {error}"}, 0.0
        return str(response.status_code), _json_object(response), _retry_after(response)

    def _renew(self) -> None:
        with self._refresh:
            try:
                self._environment = environments.environment(self._environment.name)
            except AwsError:
                return  # keep the old one; its answer says what is wrong


def _result(status: str, answer: dict[str, Any]) -> str | None:
    """Return the pipeline's verdict, or None when this is not its answer."""
    verdict = answer.get("status")
    fits = {"200": {ACCEPTED, DUPLICATE}, "409": {CONFLICT}, "400": {REJECTED}, "413": {REJECTED}}.get(status, set())
    return str(verdict) if verdict in fits else None


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"error": response.text[:500]}


def _retry_after(response: httpx.Response) -> float:
    """Seconds the server asks us to wait: a number or a date (RFC 9110, 10.2.3); 0 when it does not say."""
    text = response.headers.get("retry-after", "")
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0

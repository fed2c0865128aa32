"""One question to one of the stack's APIs and its answer, sent again where that does no harm.

::

    asked = repeated(lambda: exchange(environment, outputs["ReplayUrl"], body))
    asked.status, asked["replay_id"]
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pik.aws import signed
from pik.environments import Environment
from pik.errors import AwsError

LOST_ATTEMPTS = 4  # of a request whose answer did not come
ATTEMPTS = 20


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    sent: bytes
    status: int
    answer: dict[str, Any]

    @property
    def answered(self) -> bool:
        """Whether the API dealt with the request: 429, 5xx and no answer (0) say nothing of how it would have."""
        return self.status not in (0, HTTPStatus.TOO_MANY_REQUESTS) and self.status < HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def busy(self) -> bool:
        """Whether the API refused the request because there were too many: it is there, and throttles."""
        return self.status == HTTPStatus.TOO_MANY_REQUESTS

    @property
    def summary(self) -> str:
        """The answer in a few words, for evidence."""
        words = [str(self.status), str(self.answer.get("status") or self.answer.get("code") or "")]
        return " ".join(word for word in words if word)

    def __getitem__(self, name: str) -> Any:
        return self.answer.get(name)


def exchange(environment: Environment, url: str, body: bytes, *, dry_run: bool = False, sign: bool = True) -> Exchange:
    """Send one request to one of the stack's APIs and return both sides of it."""
    address = f"{url}{'&' if '?' in url else '?'}dry_run=true" if dry_run else url
    response = signed.request(environment, "POST", address, body, signed=sign)
    try:
        answer = response.json()
    except ValueError:
        answer = {"text": response.text}
    return Exchange(body, response.status_code, answer if isinstance(answer, dict) else {"answer": answer})


def tried(environment: Environment, url: str, body: bytes, *, dry_run: bool = False, sign: bool = True) -> Exchange:
    """Send one request as :func:`exchange` does; without an answer its status is 0."""
    try:
        return exchange(environment, url, body, dry_run=dry_run, sign=sign)
    except AwsError as error:
        return Exchange(body, 0, {"code": "no answer", "text": error.reason or error.message})


def repeated(send: Callable[[], Exchange]) -> Exchange:
    """Send a request again while the answer is 429 or 5xx; return the last exchange.

    For requests that may be sent twice: nothing was done (429), or doing it again does no harm.
    """
    for attempt in range(ATTEMPTS):
        asked = _answered(send)
        if asked.answered:
            break
        time.sleep(random.uniform(0.1, 0.5) * (1 + attempt))  # noqa: S311 - jitter, not a secret
    return asked


def _answered(send: Callable[[], Exchange]) -> Exchange:
    """Send a request that may be sent twice, again when its answer is lost on the way; the last time says why."""
    for attempt in range(LOST_ATTEMPTS - 1):
        try:
            return send()
        except AwsError:
            time.sleep(random.uniform(0.1, 0.5) * (1 + attempt))  # noqa: S311 - jitter, not a secret
    return send()

"""The habits of the realism mode around the stores in memory, so that checks can be asked under them by the hundred.

Clients of moto ask every habit before and after each call, as the embedded AWS's server does; the APIs' requests,
metrics and log lines likewise. Time passes by what is slept, and AWS's waits are compressed five times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError
from moto.core.models import botocore_stubber
from moto.sqs.models import sqs_backends

from pik import clock
from pik.emulator.realism import Realism, RealismSettings
from pik.emulator.realism.middleware import Cut
from pik.emulator.realism.wire import Answer, Call
from pik.errors import AwsError
from pik.pipeline import aws
from tests.unit.rollout_world import ACCOUNT, RolloutWorld

COMPRESS = 5.0
RATES = {  # a step makes some hundred calls here: what strikes one in a hundred would hardly be met
    "failing": {"LOST_RATE": 0.03, "FAILED_RATE": 0.03, "API_FAILED_RATE": 0.03},
    "refusing": {"THROTTLING_RATE": 0.03, "S3_RATE": 0.03, "CONFLICT_RATE": 0.05, "BATCH_RATE": 0.1},
}


class Moto:
    """What the habits need to know of the stores."""

    def queue_counts(self) -> Mapping[str, tuple[int, int, int]]:
        counts = {}
        for queue in sqs_backends[ACCOUNT]["us-east-1"].queues.values():
            shown = (queue.approximate_number_of_messages, queue.approximate_number_of_messages_not_visible)
            counts[f"{ACCOUNT}/{queue.name}"] = (*shown, queue.approximate_number_of_messages_delayed)
        return counts

    def table_keys(self, table: str) -> tuple[str, ...]:
        return ("event_id",) if table == "dedupe" else ("PK", "SK")

    def mappings(self) -> Mapping[str, dict[str, Any]]:
        return {}

    def apis(self) -> set[str]:
        return set()

    def s3_clients(self) -> Iterator[Any]:
        return iter(())


class Habits:
    """The realism mode of a seed, around a world from :meth:`strike` on."""

    def __init__(self, world: RolloutWorld, seed: int, patch: Any) -> None:
        for module, rates in RATES.items():
            for name, rate in rates.items():
                patch.setattr(f"pik.emulator.realism.{module}.{name}", rate)
        settings = RealismSettings(
            seed, COMPRESS, without=frozenset({"fresh-apis", "mapping-states", "slow-invocations"})
        )
        self.realism = Realism(settings, Moto(), time.monotonic)  # the virtual one
        self._habits = self.realism.middleware(None, lambda _: None).habits
        self._world, self._on, self._ticked = world, False, 0.0
        made = [client for client in world.environment.made.values() if hasattr(client, "meta")]
        for client in [*made, *(aws.client(service) for service in ("s3", "dynamodb", "sqs"))]:
            client.meta.events.register_first("before-send", self._send)
        self._request, self._process = world.request, world.process
        patch.setattr(world, "request", self.request)
        patch.setattr(world, "process", self.process)
        patch.setattr("pik.aws.signed.request", self.request)
        patch.setattr(clock, "lateness", lambda _: 1 / COMPRESS)
        self._delay(patch)

    def strike(self) -> None:
        """Begin."""
        self._on = True

    def end(self) -> None:
        """Strike no more."""
        self._on = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Strike nobody meanwhile."""
        on, self._on = self._on, False
        try:
            yield
        finally:
            self._on = on

    def _delay(self, patch: Any) -> None:
        logs, metrics = self.realism.late("late-logs"), self.realism.late("late-metrics")
        assert logs
        assert metrics
        for log in self._world.logs.values():
            write, add = log._write, log.add_metric
            patch.setattr(log, "_write", lambda *a, do=write, s=log.group: self._later(logs, s, lambda: do(*a)))
            patch.setattr(log, "add_metric", lambda *a, do=add, s=log.group: self._later(metrics, s, lambda: do(*a)))

    def _later(self, late: Any, subject: str, work: Callable[[], Any]) -> None:
        if self._on:
            late.put(subject, work)
        else:
            work()

    def _tick(self) -> None:
        if time.monotonic() - self._ticked > 0.2:
            self._ticked = time.monotonic()
            with self.paused():
                self.realism.tick()

    # --- the stores ---------------------------------------------------------------------------------------------------

    def _send(self, request: Any, event_name: str, **more: Any) -> Any:
        self._tick()
        if not self._on:
            return None
        call = _call(request)
        answer = self._served(call, lambda: _answer(botocore_stubber(event_name, request, **more)))
        if isinstance(answer, Cut):
            raise ConnectionClosedError(endpoint_url=request.url)
        return _response(request, answer)

    def _served(self, call: Call, serve: Callable[[], Answer]) -> Answer | Cut:
        for habit in self._habits:
            refused = habit.before(call)
            if refused is not None:
                return refused
        interested = [habit for habit in self._habits if habit.wants(call)]
        answer: Answer | Cut = serve()
        for habit in interested:
            if isinstance(answer, Answer):
                answer = habit.after(call, answer)
        return answer

    # --- the APIs and the processor -----------------------------------------------------------------------------------

    def request(self, environment: Any, method: str, url: str, body: bytes = b"", **more: Any) -> httpx.Response:
        """Take the place of the world's own."""
        if not self._on:
            return self._request(environment, method, url, body, **more)
        call = Call(method, urlsplit(url).path, {}, body, "", "api", method, "api", urlsplit(url).hostname or "")
        said: list[httpx.Response] = []

        def serve() -> Answer:
            said.append(self._request(environment, method, url, body, **more))
            return Answer(said[-1].status_code, [], said[-1].content)

        answer = self._served(call, serve)
        if isinstance(answer, Cut):
            raise AwsError("local: no answer", reason="the connection was cut")
        return httpx.Response(answer.status, content=answer.body)

    def process(self, most: int = 10) -> int:
        """Let the processor work; what a call's failure interrupts comes back, as after a visibility timeout."""
        try:
            return self._process(most)
        except (ClientError, BotoCoreError):
            self._come_back()
            return 1

    def _come_back(self) -> None:
        for queue in sqs_backends[ACCOUNT]["us-east-1"].queues.values():
            for message in queue.messages:
                message.change_visibility(0)


def _call(request: Any) -> Call:
    parts, body = urlsplit(request.url), request.body or b""
    headers = {
        name.lower().encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in request.headers.items()
    }
    path = unquote(parts.path)
    if parts.hostname and parts.hostname.endswith(".s3.amazonaws.com"):
        path = f"/{parts.hostname.partition('.')[0]}{path}"
    if hasattr(body, "read"):
        body = body.read()
        request.body.seek(0)
    scope = {
        "method": request.method,
        "path": path,
        "query_string": parts.query.encode(),
        "headers": list(headers.items()),
    }
    return Call.of(scope, body if isinstance(body, bytes) else str(body).encode())


def _answer(response: Any) -> Answer:
    headers = [(str(name).encode(), str(value).encode()) for name, value in response.headers.items()]
    return Answer(response.status_code, headers, response.content)


class _Raw:
    def __init__(self, body: bytes) -> None:
        self.body = body

    def read(self, *_: Any, **__: Any) -> bytes:
        body, self.body = self.body, b""
        return body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def _response(request: Any, answer: Answer) -> AWSResponse:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return AWSResponse(request.url, answer.status, headers, _Raw(answer.body))

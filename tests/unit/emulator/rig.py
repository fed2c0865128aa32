"""AWS's habits around an application of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import boto3
from botocore.parsers import create_parser

from pik.emulator import realism
from pik.emulator.realism import HABITS, Realism, RealismSettings
from pik.emulator.realism.wire import Answer, Call

Respond = Callable[[Call], Answer]


class FakeWorld:
    """An emulator that a test makes up."""

    def __init__(self) -> None:
        self.counts: dict[str, tuple[int, int, int]] = {}
        self.records: dict[str, dict[str, Any]] = {}
        self.api_ids: set[str] = set()
        self.s3: list[Any] = []

    def queue_counts(self) -> dict[str, tuple[int, int, int]]:
        return dict(self.counts)

    def table_keys(self, table: str) -> tuple[str, ...]:
        return ("PK", "SK") if table == "events" else ()

    def mappings(self) -> dict[str, dict[str, Any]]:
        return self.records

    def apis(self) -> set[str]:
        return set(self.api_ids)

    def s3_clients(self) -> Any:
        return iter(self.s3)


class Rig:
    """Some habits around an application that answers as the test says, on a clock that the test sets."""

    def __init__(self, *habits: str, seed: int = 1, compress: float = 1.0) -> None:
        self.now = 1000.0
        self.world = FakeWorld()
        self.settings = RealismSettings(seed, compress, frozenset(HABITS) - frozenset(habits))
        self.realism = Realism(self.settings, self.world, lambda: self.now)
        self.served: list[Call] = []
        self.respond: Respond = lambda call: ok({})
        self.cut: list[dict[str, Any]] = []
        self.app = self.realism.middleware(self._serve, self.cut.append)

    async def _serve(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        message = await receive()
        assert not message.get("more_body")
        call = Call.of(scope, message["body"])
        self.served.append(call)
        answer = self.respond(call)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    def call(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer | None:
        """Send a request; return its answer, or None where the connection was cut."""
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        try:
            asyncio.run(self.app(scope, receive, send))
        except realism.ConnectionCut:
            assert sent == []
            assert self.cut.pop() is scope
            return None
        return Answer(sent[0]["status"], sent[0]["headers"], b"".join(m.get("body", b"") for m in sent[1:]))

    def target(self, operation: str, **params: Any) -> Answer | None:
        """Send a JSON request: ``DynamoDB_20120810.PutItem`` and the like."""
        return self.call("POST", "/", {"X-Amz-Target": operation}, json.dumps(params).encode())

    def signed(self, service: str, method: str, path: str, body: bytes = b"", **headers: str) -> Answer | None:
        """Send a request that says its service in the signature only."""
        scope = f"AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host"
        return self.call(method, path, {"Authorization": scope, **headers}, body)

    def until(self, send: Callable[[], Answer | None], found: Callable[[Answer | None], bool]) -> Answer | None:
        """Send again and again until an answer is found; within 3,000 times."""
        for _ in range(3000):
            answer = send()
            if found(answer):
                return answer
        raise AssertionError("never struck")

    @property
    def struck(self) -> dict[str, int]:
        """How often each habit struck."""
        return self.realism.tally.counts()


def ok(document: Any) -> Answer:
    return Answer(200, [(b"content-type", b"application/json")], b"").with_json(document)


def refused(answer: Answer | None) -> bool:
    return answer is not None and answer.status >= 400


def parsed(service: str, operation: str, answer: Answer | None) -> dict[str, Any]:
    """Return what botocore makes of an answer."""
    assert answer is not None
    model = service_model(service)
    raw = {
        "status_code": answer.status,
        "headers": {name.decode(): value.decode() for name, value in answer.headers},
        "body": answer.body,
    }
    shape = model.operation_model(operation).output_shape
    parser = create_parser(model.resolved_protocol)
    found: dict[str, Any] = parser.parse(raw, shape)
    error = model.shape_for_error_code(found["Error"]["Code"]) if "Error" in found else None
    return {**found, **(parser.parse(raw, error) if error else {})}


@cache
def service_model(service: str) -> Any:
    """Return what botocore knows of a service."""
    return boto3.Session(region_name="us-east-1").client(service).meta.service_model


FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from pik import producer
from pik.environments import Environment
from pik.errors import UsageError
from pik.producer import Item, Retries

FAST = Retries(attempts=4, base=0.001, cap=0.002, longest_retry_after=0.3)
Answer = tuple[int, dict[str, Any], dict[str, str]]


@pytest.fixture(autouse=True)
def _no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer.sending, "_require", lambda *_: False)  # it asks AWS, which is not there


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class Stub:
    """An ingest API that answers what a test tells it to, and remembers what it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], str, bytes]] = []
        self.answer: Callable[[int, bytes], Answer] = lambda _, __: (200, {"status": "ACCEPTED"}, {})
        stub, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    stub.requests.append(({k.lower(): v for k, v in self.headers.items()}, self.path, body))
                    n = len(stub.requests)
                status, answer, headers = stub.answer(n, body)
                if status == 0:  # hang up
                    self.close_connection = True
                    return
                text = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.environment = Environment("local", "us-east-1", self.endpoint)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def send(self, events: Any, **options: Any) -> producer.Summary:
        options = {"concurrency": 4, "retries": FAST, **options}
        url = "https://abc.execute-api.us-east-1.amazonaws.com/local/ingest"
        return producer.send(events, self.environment, url=url, **options)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stub]:
    monkeypatch.setattr("pik.project.STATE", tmp_path / "state")
    # Everything local must ignore the shell's proxy.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    api = Stub()
    api.thread.start()
    yield api
    api.server.shutdown()
    api.server.server_close()
    api.thread.join()


def test_bodies_arrive_exactly_and_signed(stub: Stub) -> None:
    sent = [b'{ "a" : 1 }', b"not json \xff"]
    summary = stub.send(sent, concurrency=1)
    assert [body for _, _, body in stub.requests] == sent
    headers, path, _ = stub.requests[0]
    assert path == "/restapis/abc/local/_user_request_/ingest"
    assert "/us-east-1/execute-api/aws4_request" in headers["authorization"]
    assert "x-request-id" in headers["authorization"]  # part of what is signed
    assert (summary.total, summary.accepted, summary.safe, summary.exit_code) == (2, 2, True, 0)
    assert summary.by_status == {"200": 2}


def test_each_event_is_counted_once_under_concurrency(stub: Stub) -> None:
    summary = stub.send(({"n": n} for n in range(200)), concurrency=16)
    assert summary.total == summary.accepted == 200
    assert sorted(json.loads(body)["n"] for _, _, body in stub.requests) == list(range(200))
    assert len({headers["x-request-id"] for headers, _, _ in stub.requests}) == 200
    assert all(value is not None for value in summary.latency_ms.values())


def test_verdicts_and_exit_code(stub: Stub) -> None:
    answers: dict[bytes, Answer] = {
        b"a": (200, {"status": "ACCEPTED"}, {}),
        b"d": (200, {"status": "DUPLICATE"}, {}),
        b"c": (409, {"status": "CONFLICT", "code": "conflict", "error": "differs", "event_id": "e1"}, {}),
        b"r": (400, {"status": "REJECTED", "code": "not_json", "error": "no", "rejected_id": "r1"}, {}),
    }
    stub.answer = lambda _, body: answers[body]
    summary = stub.send([Item(7, b"a"), Item(8, b"d"), Item(9, b"c"), Item(11, b"r")])
    assert (summary.accepted, summary.duplicate, summary.conflict, summary.rejected) == (1, 1, 1, 1)
    assert summary.by_code == {"conflict": 1, "not_json": 1}
    assert [(p.number, p.id) for p in summary.problems] == [(9, "e1"), (11, "r1")]
    assert (summary.safe, summary.exit_code, summary.failed_file) == (False, 4, None)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 0])
def test_a_retry_keeps_its_request_id(stub: Stub, status: int) -> None:
    stub.answer = lambda n, _: (200, {"status": "ACCEPTED"}, {}) if n == 3 else (status, {}, {})
    summary = stub.send([b"{}"])
    assert (summary.accepted, summary.retried, len(stub.requests)) == (1, 1, 3)
    assert len({headers["x-request-id"] for headers, _, _ in stub.requests}) == 1


def test_retry_after_is_honoured_up_to_a_limit(stub: Stub) -> None:
    stub.answer = lambda n, _: (200, {"status": "ACCEPTED"}, {}) if n > 1 else (503, {}, {"Retry-After": "60"})
    summary = stub.send([b"{}"])
    assert summary.accepted == 1
    assert 0.3 <= summary.seconds < 60


def test_what_cannot_be_delivered_can_be_sent_again(stub: Stub) -> None:
    stub.answer = lambda _, body: (503, {}, {}) if b"bad" in body else (200, {"status": "ACCEPTED"}, {})
    lines = [b'{"bad": 1}', b'{"good": 1}', b'{\n "bad": 2.000000000000000001}']
    summary = stub.send(lines)
    assert (summary.failed, summary.accepted, summary.exit_code) == (2, 1, 5)
    assert summary.by_status == {"200": 1, "503": 2}
    assert summary.failed_file is not None
    kept = {item.body for item in producer.open_source(summary.failed_file)}
    assert kept == {b'{"bad": 1}', b'{  "bad": 2.000000000000000001}'}
    stub.answer = lambda _, __: (200, {"status": "DUPLICATE"}, {})
    assert stub.send(producer.open_source(summary.failed_file)).safe


def test_a_body_that_lambda_cannot_take_is_kept_aside_and_the_rest_is_sent(stub: Stub) -> None:
    stub.answer = lambda _, __: (200, {"status": "ACCEPTED"}, {})
    large = b'{"x": "' + b"a" * 4_500_000 + b'"}'
    summary = stub.send([large, b"{}"])
    assert (summary.accepted, summary.failed, summary.retried) == (1, 1, 0)
    assert summary.failed_file is not None
    assert [item.body for item in producer.open_source(summary.failed_file)] == [large]
    stub.answer = lambda _, __: (413, {"status": "REJECTED", "code": "body_too_large", "error": "too large"}, {})
    assert stub.send([b"{}"]).rejected == 1


def test_a_proxys_page_is_not_an_answer(stub: Stub) -> None:
    stub.answer = lambda _, __: (200, {"hello": "captive portal"}, {})
    summary = stub.send([b"{}"])
    assert (summary.accepted, summary.failed) == (0, 1)


def test_no_permission_stops_at_once(stub: Stub) -> None:
    stub.answer = lambda _, __: (403, {"message": "User is not authorized"}, {})
    summary = stub.send((b"{}" for _ in range(1000)), concurrency=2)
    assert len(stub.requests) < 10
    assert "not authorized" in summary.stopped
    assert summary.exit_code == 5
    assert summary.failed == summary.total


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (403, {"message": "Forbidden"}),
        (403, {"message": "Missing Authentication Token"}),
        (404, {"message": "Not Found"}),
        (500, {"message": None}),
    ],
)
def test_an_api_that_was_just_made_is_asked_again(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, status: int, answer: dict[str, Any]
) -> None:
    monkeypatch.setattr(producer.sending, "_require", lambda *_: True)
    stub.answer = lambda n, _: (200, {"status": "ACCEPTED"}, {}) if n > 20 else (status, answer, {})
    summary = stub.send(({"n": n} for n in range(30)), concurrency=2)
    assert (summary.accepted, summary.failed, summary.stopped) == (30, 0, "")


def test_a_new_api_has_a_minute_and_no_more(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer.sending, "_require", lambda *_: True)
    monkeypatch.setattr(producer.delivery, "FRESH_SECONDS", 0.3)
    stub.answer = lambda _, __: (403, {"message": "Forbidden"}, {})
    summary = stub.send(b"{}" for _ in range(1000))
    assert "Forbidden" in summary.stopped
    assert 0.2 <= summary.seconds < 5


@pytest.mark.parametrize(
    "says",
    ["User: a is not authorized to perform: execute-api:Invoke", "The request signature we calculated does not match"],
)
def test_a_new_api_that_knows_who_calls_and_says_no_is_believed(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    monkeypatch.setattr(producer.sending, "_require", lambda *_: True)
    stub.answer = lambda _, __: (403, {"Message": says}, {})
    summary = stub.send((b"{}" for _ in range(1000)), concurrency=2)
    assert len(stub.requests) < 10
    assert summary.stopped


def test_an_api_that_has_answered_is_not_new(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer.sending, "_require", lambda *_: True)
    stub.answer = lambda n, _: (200, {"status": "ACCEPTED"}, {}) if n == 1 else (403, {"message": "Forbidden"}, {})
    summary = stub.send((b"{}" for _ in range(1000)), concurrency=1)
    assert len(stub.requests) < 10
    assert summary.stopped


def test_expired_credentials_are_renewed(stub: Stub) -> None:
    stub.answer = lambda n, _: (
        (200, {"status": "ACCEPTED"}, {}) if n > 1 else (403, {"message": "The security token is expired"}, {})
    )
    fresh = Environment("local", "us-east-1", stub.endpoint)
    with patch("pik.environments.environment", return_value=fresh) as renewed:
        summary = stub.send([b"{}"])
    assert summary.accepted == 1
    renewed.assert_called_once_with("local")


def test_a_timeout_is_retried(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_once(n: int, _: bytes) -> Answer:
        if n == 1:
            time.sleep(0.5)
        return 200, {"status": "ACCEPTED" if n == 1 else "DUPLICATE"}, {}

    stub.answer = slow_once
    delivery = producer.Delivery(
        stub.environment, "https://abc.execute-api.x/local/ingest", connections=1, retries=FAST, timeout=0.2
    )
    outcome = delivery.deliver(b"{}")
    delivery.close()
    assert (outcome.result, outcome.attempts) == ("DUPLICATE", 2)


def test_nothing_listens(stub: Stub) -> None:
    stub.environment = Environment("local", "us-east-1", "http://127.0.0.1:9")
    summary = stub.send([b"{}"])
    assert (summary.by_status, summary.exit_code) == ({"connection": 1}, 5)


def test_dry_run_is_asked_for_and_reported(stub: Stub) -> None:
    stub.answer = lambda _, __: (200, {"status": "ACCEPTED", "dry_run": True}, {})
    summary = stub.send([b"{}"], dry_run=True)
    assert stub.requests[0][1].endswith("ingest?dry_run=true")
    assert (summary.dry_run, summary.safe) == (True, True)


def test_an_environment_in_dry_run_mode_is_not_safe(stub: Stub) -> None:
    stub.answer = lambda _, __: (200, {"status": "ACCEPTED", "dry_run": True}, {})
    summary = stub.send([b"{}"])
    assert (summary.dry_run, summary.safe, summary.exit_code) == (True, False, 4)


def test_memory_is_bounded(stub: Stub) -> None:
    gate = threading.Event()
    read = 0

    def events() -> Iterator[bytes]:
        nonlocal read
        for _ in range(500):
            read += 1
            yield b"{}"

    def answer(_: int, __: bytes) -> Answer:
        gate.wait()
        return 200, {"status": "ACCEPTED"}, {}

    stub.answer = answer
    most: list[int] = []

    def open_gate() -> None:
        most.append(read)
        gate.set()

    threading.Timer(0.3, open_gate).start()
    assert stub.send(events(), concurrency=4).accepted == 500
    assert most[0] <= 2 * 4 + 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_finishes_what_is_in_flight(stub: Stub, number: int) -> None:
    def answer(n: int, _: bytes) -> Answer:
        if n == 20:
            os.kill(os.getpid(), number)
        time.sleep(0.02)
        return 200, {"status": "ACCEPTED"}, {}

    stub.answer = answer
    summary = stub.send(b"{}" for _ in range(100_000))
    assert (summary.interrupted, summary.exit_code) == (True, 130)
    assert len(stub.requests) < 60
    assert summary.accepted == len(stub.requests)  # nothing that was sent is forgotten
    assert summary.total == summary.accepted + summary.failed


def test_a_second_interrupt_does_not_wait(stub: Stub) -> None:
    release, answered = threading.Event(), threading.Event()

    def answer(n: int, _: bytes) -> Answer:
        if n == 2:
            for _again in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.3)
        release.wait(60)
        answered.set()
        return 200, {"status": "ACCEPTED"}, {}

    stub.answer = answer
    summary = stub.send((b'{"n":%d}' % n for n in range(100)), concurrency=2)
    assert not answered.is_set(), "it waited for the request in flight"
    release.set()
    assert summary.interrupted
    assert summary.by_status == {"unknown": summary.total}
    assert summary.failed_file is not None
    assert len(Path(summary.failed_file).read_bytes().splitlines()) == summary.total  # can be sent again


def test_a_broken_input_still_finishes_what_was_read(stub: Stub) -> None:
    def events() -> Iterator[bytes]:
        yield b"{}"
        raise UsageError("torn", reason="file")

    with pytest.raises(UsageError) as error:
        stub.send(events())
    assert len(stub.requests) == 1
    assert "sent before: 1 events" in error.value.reason


def test_a_bug_in_the_callback_is_not_swallowed(stub: Stub) -> None:
    def bug(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stub.send((b"{}" for _ in range(50)), on_progress=bug)


def test_what_cannot_be_json_is_a_usage_error(stub: Stub) -> None:
    with pytest.raises(UsageError, match="event 1 cannot be JSON"):
        stub.send([{"x": float("nan")}])


def test_delays_grow_are_capped_and_respect_the_server() -> None:
    retries = Retries(base=1.0, cap=4.0, longest_retry_after=10.0)
    assert all(0 <= retries.delay(1, 0) <= 2 for _ in range(50))
    assert all(0 <= retries.delay(9, 0) <= 4 for _ in range(50))
    assert all(10 <= retries.delay(1, 99) <= 12 for _ in range(50))


def test_quantiles_are_measured_values() -> None:
    assert producer.quantiles([float(n) for n in range(1, 101)]) == {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    assert producer.quantiles([])["p50"] is None

"""Ingest against the stores: nothing lost, nothing overwritten, every answer says what to do."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from pik import events
from pik.pipeline import aws, ingest, stores
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from pik.pipeline.strict_json import Rejected
from tests.unit.world import World

BODY = {"source": "s", "event_type": "t", "entity_id": "e", "event_time": "2025-01-01T00:00:00Z", "payload": {"a": 1}}
Send = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def send(deployed: Settings, request_of: Callable[..., Any]) -> Send:
    """Send one request; return the status code and the answer."""

    def call(body: Any = None, headers: dict[str, str] | None = None, **query: str) -> tuple[int, dict[str, Any]]:
        request = request_of(BODY if body is None else body, headers, **query)
        with patch.object(ingest, "settings", lambda: deployed):
            found = ingest.handler(request, _context())
        return found["statusCode"], json.loads(found["body"])

    return call


def _context() -> Any:
    class Context:
        function_name = "ingest"
        memory_limit_in_mb = 128
        invoked_function_arn = "arn:aws:lambda:us-east-1:1:function:ingest"
        aws_request_id = "lambda-1"

    return Context()


def test_first_arrival_is_accepted_and_every_store_agrees(send: Send, world: World) -> None:
    sent = (
        b'{ "payload":{"a":1.0},\n "source":"s","event_type":"t","entity_id":"e","event_time":"2025-01-01T00:00:00Z"}'
    )
    code, answer = send(sent, {"X-Request-Id": "mine"})
    assert (code, answer["status"], answer["dry_run"]) == (200, "ACCEPTED", False)
    assert world.objects() == {answer["s3_key"]: sent}
    (row,), (dedupe,) = world.table("events"), world.table("dedupe")
    assert row["status"] == "ACCEPTED"
    assert row["s3_key"] == dedupe["s3_key"] == answer["s3_key"]
    assert (dedupe["pk"], dedupe["sk"]) == (row["PK"], row["SK"])
    assert row["client_request_id"] == "mine"
    assert row["producer"] == "ana"
    assert row["ingest_lag_ms"] == answer["ingest_lag_ms"]
    metadata = boto3.client("s3").head_object(Bucket="raw", Key=answer["s3_key"])["Metadata"]
    assert metadata["ingest-time"] == row["ingest_time"] == dedupe["ingest_time"]
    assert unquote(metadata["producer"]) == "arn:aws:iam::1:user/ana"


def test_every_later_arrival_is_its_own_row_and_replaces_nothing(send: Send, world: World) -> None:
    _, first = send()
    before = world.table("events"), world.table("dedupe"), world.objects()
    answers = [send(json.dumps(BODY, indent=2).encode())[1] for _ in range(2)]
    assert [answer["status"] for answer in answers] == ["DUPLICATE", "DUPLICATE"]
    assert {answer["event_id"] for answer in answers} == {first["event_id"]}
    assert world.table("events")[0] == before[0][0]
    assert [row["status"] for row in world.table("events")] == ["ACCEPTED", "DUPLICATE", "DUPLICATE"]
    assert (world.table("dedupe"), world.objects()) == before[1:]


@pytest.mark.parametrize(
    ("change", "differs"),
    [({"payload": {"a": 2}}, ["payload"]), ({"event_time": "2025-03-01T00:00:00Z"}, ["event_time"])],
)
def test_a_key_used_twice_is_a_conflict_and_both_bodies_are_kept(
    send: Send, world: World, change: dict[str, Any], differs: list[str]
) -> None:
    keyed = {**BODY, "idempotency_key": "k"}
    _, first = send(keyed)
    code, answer = send({**keyed, **change})
    assert (code, answer["status"], answer["differs"], answer["code"]) == (409, "CONFLICT", differs, "conflict")
    assert answer["event_id"] == first["event_id"]
    found = world.objects()
    assert json.loads(found[first["s3_key"]]) == keyed
    assert json.loads(found[answer["s3_key"]]) == {**keyed, **change}
    assert answer["s3_key"].startswith("conflicts/")
    assert len(found) == 2
    assert [row["status"] for row in world.table("events")] == ["ACCEPTED", "CONFLICT"]
    assert send(keyed)[1]["status"] == "DUPLICATE"


@pytest.mark.parametrize(
    "numbers",
    [
        ("1.000000000000000001", "1.000000000000000002"),
        ("1161888007138312192.0", "1161888007138312193.0"),
        ("0.1", "0.10000000000000001"),
        ("1e-400", "1e-401"),
    ],
)
@pytest.mark.parametrize("key", [{}, {"idempotency_key": "k"}])
def test_different_numbers_never_become_one_event(
    send: Send, world: World, numbers: tuple[str, str], key: dict[str, str]
) -> None:
    bodies = [json.dumps({**BODY, **key}).replace('"a": 1', f'"a": {number}').encode() for number in numbers]
    answers = [send(body)[1] for body in bodies]
    assert "DUPLICATE" not in [answer["status"] for answer in answers]
    assert set(bodies) == set(world.objects().values())  # each body is kept, stored or refused


def test_a_log_line_leaves_out_what_the_log_group_says(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(ingest.logger.registered_handler, "stream", written)
    send(json.dumps(BODY).encode())
    (line,) = map(json.loads, written.getvalue().splitlines())
    assert line["function_request_id"] == "lambda-1"
    assert not {"function_arn", "function_memory_size"} & line.keys()


def test_no_value_of_a_payload_is_logged_or_answered(send: Send, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(ingest.logger.registered_handler, "stream", written)
    code, answer = send(json.dumps({**BODY, "payload": {"card": 6304123456789012345}}).encode())
    assert (code, answer["error"]) == (400, "payload.card: a number that a double cannot hold exactly")
    key = events.rejected_key(answer["rejected_id"])
    metadata = boto3.client("s3").head_object(Bucket="raw", Key=key)["Metadata"]
    assert "number_out_of_range" in written.getvalue()
    assert "6304" not in json.dumps([answer, metadata]) + written.getvalue()


@pytest.mark.parametrize("sent", [b"\xff\x00", b"{}", b"not json"])
def test_what_is_rejected_is_kept_with_the_reason_and_found_by_its_id(send: Send, world: World, sent: bytes) -> None:
    code, answer = send(sent)
    assert (code, answer["status"]) == (400, "REJECTED")
    assert answer["error"]
    assert answer["do_this"]
    key = events.rejected_key(answer["rejected_id"])
    assert world.objects() == {key: sent}
    metadata = boto3.client("s3").head_object(Bucket="raw", Key=key)["Metadata"]
    assert metadata["code"] == answer["code"]
    assert world.table("events") == world.table("dedupe") == []
    assert send(sent)[1]["rejected_id"] == answer["rejected_id"]


def test_headers_of_a_rejected_binary_cloudevent_are_kept_beside_it(send: Send, world: World) -> None:
    _, answer = send({"a": 1}, {"ce-specversion": "1.0", "ce-id": "é" * 2000})
    key = events.rejected_key(answer["rejected_id"])
    assert json.loads(world.objects()[f"{key}.headers.json"])["ce-id"] == "é" * 2000


def test_a_request_id_that_a_caller_chose_makes_no_first_arrival(
    send: Send, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API Gateway takes a request's id from the caller's x-amzn-RequestId."""
    real = Request.of
    monkeypatch.setattr(Request, "of", lambda event: replace(real(event), request_id="chosen"))
    keyed = {**BODY, "idempotency_key": "k"}
    assert send(keyed)[1]["status"] == "ACCEPTED"
    assert send(keyed)[1]["status"] == "DUPLICATE"
    code, answer = send({**keyed, "payload": {"a": 2}})
    assert (code, answer["status"]) == (409, "CONFLICT")
    assert json.loads(world.objects()[answer["s3_key"]])["payload"] == {"a": 2}
    assert sorted(row["status"] for row in world.table("events")) == ["ACCEPTED", "CONFLICT", "DUPLICATE"]


def test_conflicts_that_differ_in_their_headers_alone_are_each_kept(send: Send, deployed: Settings) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-subject": "N1"}
    times = [f"2025-01-01T10:00:0{second}Z" for second in (0, 1, 2, 1)]
    answers = [send({"a": 1}, {**headers, "ce-time": time})[1] for time in times]
    assert [answer["status"] for answer in answers] == ["ACCEPTED"] + ["CONFLICT"] * 3
    keys = [answer["s3_key"] for answer in answers]
    assert keys[1] == keys[3]  # the same bytes and headers are kept once
    kept = [stores.Stores(deployed).read_raw(key)[0].exact_time for key in keys[:3]]
    assert [time[:19] for time in kept] == [time[:19] for time in times[:3]]


def test_rejected_bodies_that_differ_in_their_headers_alone_are_each_kept(send: Send, world: World) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "é" * 2000}
    answers = [send({"a": 1}, {**headers, "ce-subject": name})[1] for name in ("one", "two", "one")]
    keys = [f"{events.rejected_key(answer['rejected_id'])}.headers.json" for answer in answers]
    assert keys[0] == keys[2]
    assert [json.loads(world.objects()[key])["ce-subject"] for key in keys[:2]] == ["one", "two"]


def test_a_binary_cloudevent_can_be_read_again_from_its_object(send: Send, world: World, deployed: Settings) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-subject": "N%201"}
    code, answer = send({"a": 1}, {**headers, "Ce-Time": "2025-01-01T00:00:00Z"})
    assert code == 200
    event, _ = stores.Stores(deployed).read_raw(answer["s3_key"])
    assert (event.event_id, event.entity_id) == (answer["event_id"], "N 1")


def test_headers_too_large_for_metadata_are_rejected_not_lost(send: Send, world: World) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-subject": "e"}
    code, answer = send({"a": 1}, {**headers, "ce-time": "2025-01-01T00:00:00Z", "ce-traceparent": "x" * 1300})
    assert (code, answer["code"]) == (400, "headers_too_large")
    assert len(world.objects()) == 2


@pytest.mark.parametrize("by", ["request", "deployment"])
def test_a_dry_run_says_what_would_happen_and_writes_nothing(
    by: str, deployed: Settings, request_of: Callable[..., Any], send: Send, world: World
) -> None:
    def dry(body: Any) -> dict[str, Any]:
        query = {"dry_run": "true"} if by == "request" else {}
        config = replace(deployed, dry_run=by == "deployment")
        answer: dict[str, Any] = json.loads(ingest.ingest(Request.of(request_of(body, **query)), config)["body"])
        return answer

    keyed = {**BODY, "idempotency_key": "k"}
    assert (dry(keyed)["status"], dry(keyed)["dry_run"]) == ("ACCEPTED", True)
    assert dry({})["status"] == "REJECTED"
    assert dry({})["rejected_id"] is None
    assert world.objects() == {}
    assert world.table("events") == world.table("dedupe") == []
    send(keyed)
    before = world.table("events"), world.table("dedupe"), world.objects()
    assert dry(keyed)["status"] == "DUPLICATE"
    conflict = dry({**keyed, "payload": {}})
    assert (conflict["status"], "kept" in conflict["do_this"]) == ("CONFLICT", False)  # nothing is
    assert (world.table("events"), world.table("dedupe"), world.objects()) == before


@pytest.mark.parametrize(
    "query",
    [
        {"dry_run": "on"},
        {"dry_run": "y"},
        {"dry_run": "1"},
        {"dry_run": ""},
        {"DRY_RUN": "true"},
        {"dryRun": "true"},
        {"dry-run": "true"},
        {"dry_rnu": "true"},
        {"dryrun": "true", "dry_run": "true"},
    ],
)
def test_a_dry_run_that_is_not_clearly_asked_for_stores_nothing(
    send: Send, world: World, query: dict[str, str]
) -> None:
    code, answer = send(None, None, **query)
    assert (code, answer["code"]) == (400, "bad_dry_run" if "dry_run" in query and len(query) == 1 else answer["code"])
    assert "dry_run" in answer["do_this"]
    assert (world.objects(), world.table("events"), world.table("dedupe")) == ({}, [], [])


def test_every_value_of_a_parameter_counts() -> None:
    event = {"queryStringParameters": {"dry_run": "true", "x": "1"}, "multiValueQueryStringParameters": None}
    assert Request.of(event).dry_run
    with pytest.raises(Rejected, match="neither true nor false"):
        _ = Request.of({**event, "multiValueQueryStringParameters": {"dry_run": ["false", "true"]}}).dry_run


def test_a_raw_object_without_rows_is_finished_by_the_next_arrival(send: Send, world: World) -> None:
    with patch.object(stores.Stores, "index", side_effect=EndpointConnectionError(endpoint_url="x")):
        code, answer = send()
    assert (code, answer["code"]) == (503, "store_unavailable")
    assert len(world.objects()) == 1
    assert world.table("events") == []
    code, answer = send()
    assert (code, answer["status"]) == (200, "DUPLICATE")
    first, second = world.table("events")
    assert (first["status"], second["status"]) == ("ACCEPTED", "DUPLICATE")
    metadata = boto3.client("s3").head_object(Bucket="raw", Key=answer["s3_key"])["Metadata"]
    assert (first["ingest_time"], first["request_id"]) == (metadata["ingest-time"], metadata["request-id"])
    assert world.table("dedupe")[0]["request_id"] == first["request_id"]


def test_whoever_is_overtaken_while_indexing_is_still_the_first(send: Send, world: World, deployed: Settings) -> None:
    """Another arrival finds our raw object and writes our rows before we do."""
    index = stores.Stores.index

    def overtaken(self: stores.Stores, event: Any, arrival: Any, key: str) -> bool:
        assert index(self, event, arrival, key)
        return index(self, event, arrival, key)

    with patch.object(stores.Stores, "index", overtaken):
        code, answer = send()
    assert (code, answer["status"]) == (200, "ACCEPTED")
    assert len(world.table("events")) == 1


def test_whoever_finds_its_own_object_is_not_the_first_when_another_was_indexed_meanwhile(
    send: Send, world: World, deployed: Settings
) -> None:
    """The answer to our put was lost; one with the same key and another event time came before we wrote our rows."""
    keyed = {**BODY, "idempotency_key": "k"}
    index, put = stores.Stores.index, stores.Stores.put_if_absent

    def lost(self: stores.Stores, *given: Any) -> bool:
        put(self, *given)
        return put(self, *given)

    def overtaken(self: stores.Stores, event: Any, arrival: Any, key: str) -> bool:
        with patch.multiple(stores.Stores, index=index, put_if_absent=put):
            assert send({**keyed, "event_time": "2025-03-01T00:00:00Z"})[1]["status"] == "ACCEPTED"
        return index(self, event, arrival, key)

    with patch.multiple(stores.Stores, index=overtaken, put_if_absent=lost):
        code, answer = send(keyed)

    assert (code, answer["status"], answer["differs"]) == (409, "CONFLICT", ["event_time"])
    assert [row["status"] for row in world.table("events")] == ["ACCEPTED", "CONFLICT"]
    assert json.loads(world.objects()[answer["s3_key"]]) == keyed


def test_a_later_arrival_whose_row_was_written_by_a_lost_attempt_is_answered(send: Send, world: World) -> None:
    send()
    add = stores.Stores.add_arrival

    def twice(self: stores.Stores, row: dict[str, Any]) -> None:
        add(self, row)
        add(self, row)

    with patch.object(stores.Stores, "add_arrival", twice):
        assert send()[1]["status"] == "DUPLICATE"
    assert len(world.table("events")) == 2


def test_a_rejected_body_that_others_write_without_end_is_to_be_sent_again(send: Send) -> None:
    busy = patch.object(stores.Stores, "put_if_absent", side_effect=stores.Contended("rejected/x"))
    with busy:
        code, answer = send(b"{")
    assert (code, answer["code"]) == (503, "contended")


def test_a_lost_dedupe_row_is_put_back_without_touching_the_first_row(send: Send, world: World) -> None:
    send()
    before = world.table("dedupe"), world.table("events")
    boto3.client("dynamodb").delete_item(TableName="dedupe", Key=aws.to_item({"event_id": before[0][0]["event_id"]}))
    assert send()[1]["status"] == "DUPLICATE"
    assert world.table("dedupe") == before[0]
    assert world.table("events")[0] == before[1][0]


def test_a_lost_raw_object_is_restored_by_the_next_arrival(send: Send, world: World) -> None:
    _, first = send()
    boto3.client("s3").delete_object(Bucket="raw", Key=first["s3_key"])
    assert send()[1]["status"] == "DUPLICATE"
    assert json.loads(world.objects()[first["s3_key"]]) == BODY


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "AccessDeniedException", "InternalError"])
def test_a_store_that_fails_is_answered_with_503_and_a_next_step(send: Send, code: str) -> None:
    failure = ClientError({"Error": {"Code": code}}, "TransactWriteItems")
    with patch.object(stores.Stores, "index", side_effect=failure):
        status, answer = send()
    assert (status, answer["code"]) == (503, "store_unavailable")
    assert code in answer["error"]
    assert answer["do_this"]


def test_a_bug_is_answered_with_500_and_the_request_id(send: Send) -> None:
    with patch.object(stores.Stores, "index", side_effect=ZeroDivisionError):
        status, answer = send()
    assert (status, answer["code"]) == (500, "internal")
    assert answer["request_id"] in answer["do_this"]


@pytest.mark.parametrize(
    ("code", "calls", "answered"),
    [
        ("TransactionConflict", 6, ("contended", "the same event arrives many times at once")),
        ("ThrottlingError", 6, ("store_unavailable", "TransactionCanceledException (ThrottlingError)")),
        ("ValidationError", 1, ("store_unavailable", "TransactionCanceledException (ValidationError)")),
        ("AccessDenied", 1, ("store_unavailable", "TransactionCanceledException (AccessDenied)")),
    ],
)
def test_a_cancelled_transaction_is_answered_with_its_reason(
    send: Send, code: str, calls: int, answered: tuple[str, str]
) -> None:
    response = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": [{"Code": code}, {}]}
    cancelled = ClientError(response, "TransactWriteItems")
    with (
        patch.object(aws.client("dynamodb"), "transact_write_items", side_effect=cancelled) as write,
        patch("time.sleep"),
        patch.object(ingest.logger, "warning") as warned,
        patch.object(ingest.logger, "exception") as logged,
    ):
        status, answer = send()
    assert (status, write.call_count, answer["code"]) == (503, calls, answered[0])
    assert answered[1] in answer["error"]
    assert warned.called or logged.called


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError"])
def test_a_passing_conflict_between_transactions_is_retried(deployed: Settings, send: Send, code: str) -> None:
    client, calls = aws.client("dynamodb"), []
    real = client.transact_write_items

    def flaky(**request: Any) -> Any:
        calls.append(request)
        if len(calls) < 3:
            reasons = [{"Code": code}, {"Code": "None"}]
            response = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
            raise ClientError(response, "TransactWriteItems")
        return real(**request)

    with patch.object(client, "transact_write_items", flaky):
        assert send()[1]["status"] == "ACCEPTED"
    assert len(calls) == 3


def test_s3_asking_to_try_again_is_not_taken_for_a_duplicate(deployed: Settings, send: Send, world: World) -> None:
    client, calls = aws.client("s3"), []
    real = client.put_object

    def flaky(**request: Any) -> Any:
        calls.append(request)
        if len(calls) < 3:
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")
        return real(**request)

    with patch.object(client, "put_object", flaky):
        assert send()[1]["status"] == "ACCEPTED"
    assert all(call["IfNoneMatch"] == "*" for call in calls)


def test_text_bodies_of_a_gateway_without_binary_types_are_read_too() -> None:
    request = Request.of({"body": "é", "isBase64Encoded": False, "headers": None, "requestContext": None})
    assert request.body == "é".encode()

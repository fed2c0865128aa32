"""Request headers that are part of an event: kept, and read back to the same event by whatever reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pik.pipeline import replay
from pik.pipeline.headers import idempotency_key
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from pik.pipeline.strict_json import Rejected
from tests.unit.api_world import Api
from tests.unit.world import World

BODY = {"source": "s", "event_type": "t", "entity_id": "e", "event_time": "2025-01-01T00:00:00Z", "payload": {"a": 1}}


@pytest.mark.parametrize("header", ['"order-1"', "order-1"])
def test_the_header_is_the_key_of_an_event_that_has_none(header: str, api: Api, world: World) -> None:
    first = api.send(BODY, {"Idempotency-Key": header})
    assert (first["http"], first["status"]) == (200, "ACCEPTED")
    assert [json.loads(body) for body in world.objects().values()] == [BODY]  # the bytes stay as they were sent
    assert api.reads_back()[0]["idempotency_key"] == "order-1"

    again = api.send({**BODY, "idempotency_key": "order-1"})
    assert (again["status"], again["event_id"]) == ("DUPLICATE", first["event_id"])
    other = api.send({**BODY, "payload": {"a": 2}}, {"idempotency-key": "order-1"})
    assert (other["http"], other["status"], other["event_id"]) == (409, "CONFLICT", first["event_id"])
    assert api.send(BODY)["event_id"] != first["event_id"]


@pytest.mark.parametrize(
    "key", ["k" * 256, '"' * 256, "\\" * 256, "%" * 256, "a b;c,d", "{}", "%41"], ids=lambda key: key[:8]
)
def test_every_key_that_a_body_may_have_a_header_may_have(key: str, api: Api) -> None:
    quoted = '"' + key.replace("\\", r"\\").replace('"', r"\"") + '"'
    answer = api.send(BODY, {"Idempotency-Key": quoted})
    assert answer["http"] == 200, answer
    assert api.reads_back()[0]["idempotency_key"] == key
    assert api.send({**BODY, "idempotency_key": key})["status"] == "DUPLICATE"


def test_a_crash_before_the_rows_is_mended_by_whoever_comes_next(api: Api, world: World) -> None:
    first = api.send(BODY, {"Idempotency-Key": "k"})
    api.forget_rows()
    again = api.send(BODY, {"Idempotency-Key": "k"})
    assert (again["status"], again["event_id"]) == ("DUPLICATE", first["event_id"])
    assert {row["event_id"] for row in world.table("dedupe")} == {first["event_id"]}


@pytest.mark.parametrize(
    ("body", "header", "code"),
    [
        ({**BODY, "idempotency_key": "k"}, "other", "two_keys"),
        ({**BODY, "idempotency_key": {}}, "other", "two_keys"),
        (BODY, "", "bad_idempotency_key"),
        (BODY, '"a', "bad_idempotency_key"),
        (BODY, '"a";n=1', "bad_idempotency_key"),
        (BODY, r'"a\b"', "bad_idempotency_key"),
        (BODY, "a b", "bad_idempotency_key"),
        (BODY, "é", "bad_idempotency_key"),
        (BODY, ["a", "b"], "bad_idempotency_key"),
        (BODY, ['"a"', '"b"'], "bad_idempotency_key"),
        (BODY, '""', "bad_name"),
        (BODY, "k" * 257, "bad_name"),
    ],
)
def test_what_is_not_one_key_is_refused_and_kept(
    body: dict[str, Any], header: Any, code: str, api: Api, world: World
) -> None:
    answer = api.send(body, {"Idempotency-Key": header})
    assert (answer["http"], answer["status"], answer["code"]) == (400, "REJECTED", code)
    assert len(world.objects("rejected/")) == 2  # the body, and its headers beside it
    assert not world.table("dedupe")


@pytest.mark.parametrize("name", ["X-Idempotency-Key", "Idempotency_Key", "idempotencykey"])
def test_a_misspelt_header_is_not_ignored(name: str, api: Api, world: World) -> None:
    answer = api.send(BODY, {name: "k"})
    assert (answer["http"], answer["status"], answer["code"]) == (400, "REJECTED", "unknown_header")
    assert answer["do_this"] == "did you mean Idempotency-Key?"
    assert list(world.objects("rejected/").values()) == [json.dumps(BODY).encode()]


def test_the_same_key_twice_is_one_key(api: Api) -> None:
    first = api.send(BODY, {"Idempotency-Key": ["k", "k"]})
    assert api.send({**BODY, "idempotency_key": "k"}, {"Idempotency-Key": "k"})["event_id"] == first["event_id"]


def test_a_cloudevents_id_is_its_key(api: Api) -> None:
    event = {"specversion": "1.0", "id": "7", "source": "s", "type": "t", "subject": "e", "time": BODY["event_time"]}
    assert api.send({**event, "data": {}}, {"Idempotency-Key": "8"})["code"] == "two_keys"
    assert api.send({**event, "data": {}}, {"Idempotency-Key": "7"})["status"] == "ACCEPTED"


def test_a_dry_run_says_the_same(api: Api, world: World) -> None:
    assert api.send(BODY, {"Idempotency-Key": "a,b"}, dry_run="true")["code"] == "bad_idempotency_key"
    predicted = api.send(BODY, {"Idempotency-Key": "k"}, dry_run="true")
    assert not world.objects()
    assert api.send(BODY, {"Idempotency-Key": "k"})["event_id"] == predicted["event_id"]


def test_a_replay_does_not_ignore_the_header(deployed: Settings, request_of: Callable[..., Any]) -> None:
    with pytest.raises(Rejected) as caught:
        replay.replay(Request.of(request_of({}, {"Idempotency-Key": "k"})), deployed, lambda: True)
    assert (caught.value.code, "replay_id" in caught.value.do_this) == ("idempotency_key_not_taken", True)


@pytest.mark.parametrize("text", ["550e8400-e29b-41d4-a716-446655440000", "order:1/2", "{a}", "*"])
def test_keys_without_quotes_are_taken_as_they_are(text: str) -> None:
    assert idempotency_key(text) == idempotency_key(f'"{text}"') == text

"""Bodies: what is an event, and what is refused with which reason."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from pik.aws import stored
from pik.pipeline.parsing import MAX_BODY, Rejected, parse_event

BODY = {"source": "s", "event_type": "t", "entity_id": "e", "event_time": "2025-01-01T00:00:00Z", "payload": {"a": 1}}

CLOUDEVENT = json.dumps(
    {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "e", "time": BODY["event_time"]}
).encode()


def body(**changes: Any) -> bytes:
    return json.dumps({**BODY, **changes}).encode()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff\xfe", "not_utf8"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"source":"a","source":"b"}', "repeated_name"),
        (body(payload={"x": [{"y": 1}]}).replace(b'"y": 1', b'"y": 1, "y": 2'), "repeated_name"),
        (body().replace(b'"a": 1', b'"a": NaN'), "number_out_of_range"),
        (body(payload={"a": 2**53}), "number_out_of_range"),
        (body().replace(b'"a": 1', b'"a": 1e999'), "number_out_of_range"),
        (b'{"a": ' + b"1" * 5000 + b"}", "number_out_of_range"),
        (b"[" * 100_000, "too_deep"),
        (body(evnt_type="x"), "unknown_field"),
        (body(source=""), "bad_name"),
        (body(source=7), "bad_name"),
        (body(entity_id="x" * 257), "bad_name"),
        (body(idempotency_key=""), "bad_name"),
        (body().replace(b'"s"', b'"\\ud800"'), "bad_unicode"),
        (body(payload={"a": 0}).replace(b'"a"', b'"\\ud800"'), "bad_unicode"),
        (body(mapping=7), "bad_name"),
        (body(mapping="x" * 257), "bad_name"),
        (body(original=7), "bad_original"),
        (body(original="x").replace(b'"x"', b'"\\ud800"'), "bad_original"),
        (body(payload="text"), "payload_type"),
        (body(payload=None), "payload_type"),
        (body(event_time="yesterday"), "bad_time"),
        (body(event_time=1735689600), "bad_time"),
        (json.dumps({k: v for k, v in BODY.items() if k != "payload"}).encode(), "missing_field"),
        (b'{"specversion": "0.3", "id": "1"}', "cloudevents_version"),
        (b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}', "missing_field"),
    ],
)
def test_what_is_refused_and_why(sent: bytes, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_event(sent, {})
    assert caught.value.code == code
    assert caught.value.message
    assert caught.value.do_this


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (body(payload={"a": 0}).replace(b"0}", b"1.000000000000000001}"), "number_out_of_range"),
        (body(payload={"a": [[]]}).replace(b"[[]]", b"[" * 100 + b"]" * 100), "too_deep"),
        (body(source="plc\x07line-4"), "bad_name"),
        (body(event_type="a\x00"), "bad_name"),
        (body(entity_id="a\uffff"), "bad_name"),
        (body(idempotency_key="a\x9b31m"), "bad_name"),
        (body(event_time="2025-01-01T00:00:00." + "1" * 19 + "Z"), "bad_time"),
        (body(event_time="2025-01-01T24:00:00Z"), "bad_time"),
        (body(payload={"a": "x" * MAX_BODY}), "body_too_large"),
        (CLOUDEVENT.replace(b'"id": "1"', b'"id": null'), "missing_field"),
        (CLOUDEVENT.replace(b"}", b', "data": {}, "data_base64": "e30="}'), "two_payloads"),
    ],
)
def test_what_is_refused_of_a_new_arrival(sent: bytes, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_event(sent, {}, new=True)
    assert caught.value.code == code
    assert len(caught.value.message) < 200


def test_values_of_headers_that_are_not_utf8_do_not_become_one_name() -> None:
    headers = {f"ce-{name}": value for name, value in json.loads(CLOUDEVENT).items()}
    names = {parse_event(b"{}", {**headers, "ce-subject": "caf%C3%A9"}, new=True).entity_id}
    assert names == {"café"}
    for subject in ("caf%E9", "caf%E8"):
        with pytest.raises(Rejected) as caught:
            parse_event(b"{}", {**headers, "ce-subject": subject}, new=True)
        assert caught.value.code == "bad_unicode"


def test_a_refusal_names_every_foreign_field_and_no_value() -> None:
    with pytest.raises(Rejected) as caught:
        parse_event(body(**{"ip": "10.0.0.1", "x" * 4_000_000: 1}, **{f"f{n}": n for n in range(9)}), {}, new=True)
    assert caught.value.message.startswith("unknown fields 'ip', 'xxx")
    assert caught.value.message.endswith(" and 6 more")
    assert len(caught.value.message) < 200
    assert "10.0.0.1" not in caught.value.message


@given(st.binary(max_size=200))
def test_no_body_whatsoever_crashes_the_parser(sent: bytes) -> None:
    for new in (False, True):
        with contextlib.suppress(Rejected):
            parse_event(sent, {}, new=new)


@given(st.text('[]{}:,"\\0123456789.eE+-naftru ', max_size=40))
def test_no_text_that_looks_like_json_crashes_the_parser(sent: str) -> None:
    for new in (False, True):
        with contextlib.suppress(Rejected):
            parse_event(sent.encode(), {}, new=new)


def test_a_typo_is_answered_with_the_right_name() -> None:
    with pytest.raises(Rejected) as caught:
        parse_event(body(idempotencykey="k"), {})
    assert caught.value.do_this == "did you mean idempotency_key?"


def test_white_space_and_order_do_not_matter() -> None:
    other = json.dumps(dict(reversed(BODY.items())), indent=3).encode()
    assert parse_event(other, {}).event_id == parse_event(body(), {}).event_id


def test_a_time_without_offset_is_taken_as_utc_and_that_is_recorded() -> None:
    event = parse_event(body(event_time="2025-01-01T00:00:00"), {})
    assert event.assumed_utc
    assert event.event_id == parse_event(body(), {}).event_id


@pytest.mark.parametrize("mode", [to_binary, to_structured])
def test_cloudevents_of_the_reference_sdk_are_read(mode: Any) -> None:
    attributes = {"type": "flight.departed", "source": "/ua", "id": "42", "subject": "N1 4228é", "specversion": "1.0"}
    sent = CloudEvent(
        {**attributes, "time": datetime(2025, 1, 1, tzinfo=UTC), "datacontenttype": "application/json"}, {"delay": 2}
    )
    message = mode(sent, JSONFormat())
    event = parse_event(message.body, {name.lower(): value for name, value in message.headers.items()})
    assert (event.source, event.event_type, event.entity_id) == ("/ua", "flight.departed", "N1 4228é")
    assert (event.event_time, event.payload) == ("2025-01-01T00:00:00.000000Z", {"delay": 2})
    assert event.idempotency_key == "42"


def test_both_cloudevents_modes_and_our_own_form_are_one_event() -> None:
    own = parse_event(body(idempotency_key="1"), {})
    attributes = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "e"}
    structured = json.dumps({**attributes, "time": BODY["event_time"], "data": {"a": 1}}).encode()
    binary = {f"ce-{name}": value for name, value in attributes.items()} | {"ce-time": str(BODY["event_time"])}
    encoded = json.dumps({**attributes, "time": BODY["event_time"], "data_base64": "eyJhIjoxfQ=="}).encode()
    found = {
        parse_event(structured, {"content-type": "application/cloudevents+json; charset=utf-8"}).event_id,
        parse_event(b'{"a":1}', binary).event_id,
        parse_event(encoded, {}).event_id,
    }
    assert found == {own.event_id}


def test_bad_base64_is_refused() -> None:
    attributes = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "e", "time": "x"}
    with pytest.raises(Rejected) as caught:
        parse_event(json.dumps({**attributes, "data_base64": "!"}).encode(), {})
    assert caught.value.code == "bad_base64"


def test_an_origin_is_kept_and_is_no_part_of_the_identity() -> None:
    line = 'id;name\r\n1;"Gerät ""x"""\t'
    sent = body(mapping="shop@0123456789abcdef", original=line)
    event, own = parse_event(sent, {}, new=True), parse_event(body(), {}, new=True)
    assert event.mapping == "shop@0123456789abcdef"
    assert stored.original(sent) == line.encode()
    assert (event.event_id, event.payload_sha256) == (own.event_id, own.payload_sha256)
    assert (own.mapping, stored.original(body())) == (None, None)
    assert stored.original(b"{") is None

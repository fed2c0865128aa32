"""CloudEvents in every mode, with every kind of data: which event they are, and that they stay that event."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from pik.pipeline.headers import of_event
from pik.pipeline.parsing import parse_event
from pik.pipeline.rows import Arrival
from pik.pipeline.strict_json import Rejected
from tests.unit.api_world import Api
from tests.unit.ingest_world import CASES
from tests.unit.world import World

ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "e"}
EVENT = {**ATTRIBUTES, "time": "2025-01-01T00:00:00Z"}
MODE = {"content-type": "application/cloudevents+json; charset=utf-8"}
JPEG = b"\xff\xd8\xff\xe0\x00\x10"
LATIN = "Zürich".encode("latin-1")


def encoded(data: bytes) -> dict[str, str]:
    return {"data_base64": base64.b64encode(data).decode()}


# content type, data in binary mode, data in structured mode, payload
DATA: dict[str, tuple[str | None, bytes, list[dict[str, Any]], Any]] = {
    "none": (None, b"", [{}, {"data": None}, {"data_base64": None}, {"data": None, "data_base64": ""}], {}),
    "none of a type": ("text/plain", b"", [{}, {"data": ""}], {}),
    "object": ("application/json", b'{"a": 1}', [{"data": {"a": 1}}, encoded(b'{"a":1}')], {"a": 1}),
    "object, no type": (None, b'{"a": 1}', [{"data": {"a": 1}}, encoded(b'{"a":1}')], {"a": 1}),
    "array": ("application/json", b"[1]", [{"data": [1]}, encoded(b"[1]")], [1]),
    "suffix": ("application/vnd.x+json; v=1", b"[1]", [{"data": [1]}, encoded(b"[1]")], [1]),
    "number": ("application/json", b"42", [{"data": 42}, encoded(b"42")], {"value": 42}),
    "false": ("text/json", b"false", [{"data": False}, encoded(b"false")], {"value": False}),
    "JSON null": ("application/json", b"null", [{"data": None}, encoded(b"null")], {}),
    "JSON text": ("application/json", b'"{}"', [{"data": "{}"}, encoded(b'"{}"')], {"value": "{}"}),
    "text": ("text/plain", b"hello\n", [{"data": "hello\n"}, encoded(b"hello\n")], {"value": "hello\n"}),
    "quoted text": ("text/plain", b'"hello"', [{"data": '"hello"'}, encoded(b'"hello"')], {"value": '"hello"'}),
    "utf-8": ("text/plain; charset=UTF-8", "é".encode(), [{"data": "é"}, encoded("é".encode())], {"value": "é"}),
    "latin-1": ("text/plain; charset=latin-1", LATIN, [encoded(LATIN)], encoded(LATIN)),
    "ascii in latin-1": ("text/plain; charset=latin-1", b"a", [encoded(b"a")], encoded(b"a")),
    "not utf-8": ("text/plain", LATIN, [encoded(LATIN)], encoded(LATIN)),
    "xml": ("application/xml", b'<a b=""/>', [{"data": '<a b=""/>'}, encoded(b'<a b=""/>')], {"value": '<a b=""/>'}),
    "svg": ("image/svg+xml", b"<svg/>", [{"data": "<svg/>"}, encoded(b"<svg/>")], {"value": "<svg/>"}),
    "bytes": ("image/jpeg", JPEG, [encoded(JPEG)], encoded(JPEG)),
    "bytes like text": ("application/protobuf", b"\n\x02hi", [encoded(b"\n\x02hi")], encoded(b"\n\x02hi")),
    "text that is an object": ("text/plain", b'{"a": 1}', [{"data": {"a": 1}}, encoded(b'{"a": 1}')], {"a": 1}),
    "a name twice": ("text/plain", b'{"a":1,"a":2}', [encoded(b'{"a":1,"a":2}')], {"value": '{"a":1,"a":2}'}),
}  # fmt: skip


def binary_headers(content_type: str | None, **attributes: str) -> dict[str, str]:
    kind = {} if content_type is None else {"content-type": content_type}
    return kind | {f"ce-{name}": value for name, value in {**EVENT, **attributes}.items()}


@pytest.mark.parametrize("name", DATA)
def test_every_mode_comes_to_one_payload_and_stays_it(name: str) -> None:
    kind, sent, forms, payload = DATA[name]
    typed = {} if kind is None else {"datacontenttype": kind}
    requests = [(json.dumps({**EVENT, **typed, **form}).encode(), MODE) for form in forms]
    requests += [(sent, binary_headers(kind))]
    for body, headers in requests:
        arrival = Arrival.of(body, headers, ingest_time="2025-01-01T00:00:00.000000Z", request_id="r", producer="p")
        read = Arrival.from_object(arrival.to_metadata(), arrival.content_type, body).event_headers
        for event in (parse_event(body, arrival.event_headers, new=True), parse_event(body, read)):
            assert (event.payload, event.idempotency_key, event.entity_id) == (payload, "1", "e"), (body, headers)


@pytest.mark.parametrize("name", ["none", "number", "text", "bytes", "latin-1"])
def test_it_is_replayed_processed_explained_and_rebuilt_from_the_bytes_sent(name: str, api: Api, world: World) -> None:
    kind, sent, (form, *_), payload = DATA[name]
    answer = api.send(sent, {"Content-Type": kind or "application/json", **binary_headers(None)})
    assert answer["status"] == "ACCEPTED", answer
    assert list(world.objects().values()) == [sent]
    row, read = api.reads_back()
    assert (row["idempotency_key"], read) == ("1", payload)
    # The same in the other mode is the same event, with the same payload.
    typed = {} if kind is None else {"datacontenttype": kind}
    again = api.send({**EVENT, **typed, **form}, {"Content-Type": "application/cloudevents+json"})
    assert (again["status"], again["event_id"]) == ("DUPLICATE", answer["event_id"])


def test_a_content_type_that_is_not_kept_is_not_read_either(api: Api) -> None:
    answer = api.send(b"42", {"Content-Type": "application/json; x=" + "y" * 300, **binary_headers(None)})
    assert answer["status"] == "ACCEPTED"
    assert api.reads_back()[1] == encoded(b"42")


def test_without_a_subject_the_source_is_the_entity(api: Api) -> None:
    bare = {name: value for name, value in EVENT.items() if name != "subject"}
    for event in (bare, {**bare, "subject": None}):
        assert parse_event(json.dumps(event).encode(), {}, new=True).entity_id == "/s"
    assert api.send(bare, MODE)["status"] == "ACCEPTED"
    assert api.reads_back()[0]["entity_id"] == "/s"


def test_what_is_optional_may_be_null() -> None:
    sent = {**EVENT, "datacontenttype": None, "dataschema": None, "comexample": None}
    assert parse_event(json.dumps(sent).encode(), MODE, new=True).payload == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"specversion": "0.9"}, "cloudevents_version"),
        ({"specversion": ""}, "cloudevents_version"),
        ({"id": None}, "missing_field"),
        ({"id": ""}, "bad_name"),
        ({"id": 25}, "bad_name"),
        ({"id": {"a": "b"}}, "bad_attribute"),
        ({"source": ""}, "bad_name"),
        ({"type": ""}, "bad_name"),
        ({"subject": ""}, "bad_name"),
        ({"time": None}, "missing_field"),
        ({"time": "lunchtime"}, "bad_time"),
        ({"time": "2018-04-05T18:31Z"}, "bad_time"),
        ({"time": "2018-04-05T18:31:00+25:00"}, "bad_time"),
        ({"time": "2018-04-05T18:31:00+05"}, "bad_time"),
        ({"datacontenttype": "xyz"}, "bad_attribute"),
        ({"datacontenttype": ""}, "bad_attribute"),
        ({"datacontenttype": 7}, "bad_attribute"),
        ({"dataschema": ""}, "bad_attribute"),
        ({"MyExtension": "x"}, "bad_attribute"),
        ({"my.extension": "x"}, "bad_attribute"),
        ({"ext": 1.5}, "bad_attribute"),
        ({"data": "x", "data_base64": "eA=="}, "two_payloads"),
        ({"data_base64": "/9j/4AAQ"}, "not_utf8"),  # no type, so it is JSON
        ({"data_base64": "!", "datacontenttype": "image/jpeg"}, "bad_base64"),
        ({"data_base64": "WzEuMDAwMDAwMDAwMDAwMDAwMDAxXQ==", "datacontenttype": "text/plain"}, "number_out_of_range"),
        ({"data": [1.5], "ext": "x" * 9}, None),
    ],
)
def test_what_is_no_cloudevent_is_refused(change: dict[str, Any], code: str | None) -> None:
    body = json.dumps({**EVENT, **change}).encode()
    if code is None:
        parse_event(body, MODE, new=True)
        return
    with pytest.raises(Rejected) as caught:
        parse_event(body, MODE, new=True)
    assert caught.value.code == code


@pytest.mark.parametrize("missing", ["id", "source", "type", "time"])
def test_what_is_needed_is_named(missing: str) -> None:
    headers = {name: value for name, value in binary_headers("text/plain").items() if name != f"ce-{missing}"}
    with pytest.raises(Rejected) as caught:
        parse_event(b"x", headers, new=True)
    assert (caught.value.code, repr(missing) in caught.value.message) == ("missing_field", True)


@pytest.mark.parametrize("media_type", ["application/json", "application/cloudevents-batch+json; charset=utf-8"])
@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_is_refused_with_the_command_that_takes_it(media_type: str, size: int, api: Api, world: World) -> None:
    answer = api.send([{**EVENT, "id": str(number)} for number in range(size)], {"Content-Type": media_type})
    assert (answer["http"], answer["code"]) == (400, "batch")
    assert f"batch of {size}" in answer["error"]
    assert "pik ingest FILE --mapping cloudevents" in answer["do_this"]
    assert len(world.objects("rejected/")) == 1


def test_other_formats_are_named() -> None:
    with pytest.raises(Rejected) as caught:
        parse_event(b"\x00", {"content-type": "application/cloudevents+avro"}, new=True)
    assert caught.value.code == "cloudevents_format"


def test_structured_mode_may_repeat_its_attributes_in_headers(api: Api) -> None:
    headers = {"Content-Type": "application/cloudevents+json", **binary_headers(None)}
    assert api.send({**EVENT, "data": {"a": 1}}, headers)["status"] == "ACCEPTED"
    assert api.reads_back()[1] == {"a": 1}


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        ("Euro%20%E2%82%AC", "Euro €"),
        ('"Euro \\"%E2%82%AC\\""', 'Euro "€"'),
        ('"a', '"a'),
        ('"a" "b"', '"a" "b"'),
        ("%22a%22", '"a"'),
    ],
)
def test_values_of_headers_are_unquoted_and_decoded_once(header: str, subject: str) -> None:
    kept = of_event(binary_headers(None, subject=header))
    assert parse_event(b"", kept, new=True).entity_id == parse_event(b"", kept).entity_id == subject


def test_what_was_accepted_before_stays_what_it_was() -> None:
    """Objects of earlier versions: any content type, JSON within; ce-* headers beside a structured body; quotes."""
    for kind in ("text/plain", "image/jpeg", "application/cloudevents+json"):
        assert parse_event(b'{"a":1.000000000000000001}', binary_headers(kind)).payload == {"a": 1.0}
    old = {"ce-subject": '"q"', "content-type": "application/json"}
    assert parse_event(b"[1]", {**binary_headers(None), **old}).entity_id == '"q"'
    envelope = json.dumps({**EVENT, "data": 1}).encode()
    assert parse_event(envelope, binary_headers("application/cloudevents+json")).payload == json.loads(envelope)
    camel = {**EVENT, "partitionKey": 1.5, "datacontenttype": "json", "data": {"a": 1}}
    assert parse_event(json.dumps(camel).encode(), MODE).payload == {"a": 1}


@pytest.mark.parametrize("mode", [to_binary, to_structured])
@pytest.mark.parametrize(
    ("kind", "data", "payload"),
    [
        ("text/plain", "Zürich", {"value": "Zürich"}),
        ("image/jpeg", JPEG, encoded(JPEG)),
        ("application/json", 42, {"value": 42}),
        (None, None, {}),
    ],
)
def test_the_reference_sdk_is_understood(mode: Any, kind: str | None, data: Any, payload: Any) -> None:
    attributes: dict[str, Any] = {**ATTRIBUTES, "time": datetime(2025, 1, 1, tzinfo=UTC)}
    message = mode(CloudEvent(attributes | ({"datacontenttype": kind} if kind else {}), data), JSONFormat())
    headers = of_event({name.lower(): value for name, value in message.headers.items()})
    kept = {name.lower(): value for name, value in message.headers.items() if name.lower() == "content-type"}
    assert parse_event(message.body, headers | kept, new=True).payload == payload


KINDS = [
    "text/plain",
    "text/plain; charset=x",
    "image/jpeg",
    "application/json",
    "a/b+json; v=1",
    "x" * 300,
    "é/é",
    "",
    ";",
]


@given(
    st.one_of(st.binary(max_size=60), st.text('[]{}:,"\\0123456789.eE+-naftru é', max_size=60).map(str.encode)),
    st.sampled_from(KINDS),
    st.text('"\\%aé ;,\x00', max_size=6),
    st.booleans(),
)
def test_whatever_is_accepted_is_read_back_as_the_same_event(body: bytes, kind: str, odd: str, encode_it: bool) -> None:
    headers = binary_headers(kind, subject=odd or "e") | {"idempotency-key": "1"}
    if encode_it:
        form = {**EVENT, "datacontenttype": kind, "subject": odd or "e", **encoded(body)}
        body, headers = json.dumps(form).encode(), {**MODE, "idempotency-key": odd}
    arrival = Arrival.of(body, headers, ingest_time="2025-01-01T00:00:00.000000Z", request_id="r", producer="p")
    try:
        event = parse_event(body, arrival.event_headers, new=True)
        metadata = arrival.to_metadata()
    except Rejected:
        return
    read = parse_event(body, Arrival.from_object(metadata, arrival.content_type, body).event_headers)
    assert (read, read.event_id, read.payload_sha256) == (event, event.event_id, event.payload_sha256)
    assert all(value.isascii() and value.isprintable() and value == value.strip() for value in metadata.values())


def test_the_samples_sent_as_they_are(api: Api) -> None:
    answers = {}
    for line in (CASES / "cloudevents.jsonl").read_bytes().splitlines():
        answer = api.send(line)
        answers[json.loads(line)["id"]] = answer.get("code") or answer["status"]
    assert answers == {
        "ce-1": "missing_field",  # the second of that id has no time; the first was accepted
        "nodata": "ACCEPTED",
        "xml": "ACCEPTED",
        "jstr": "ACCEPTED",
        "bin": "ACCEPTED",
        "txt": "ACCEPTED",
        "num": "ACCEPTED",
        "both": "two_payloads",
        7: "bad_name",
        "es": "bad_name",
        "ls": "bad_name",  # its subject has more than 256 characters
        "v": "cloudevents_version",
        "ext": "ACCEPTED",
    }

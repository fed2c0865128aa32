"""From the bytes a producer sent to an :class:`~pik.events.Event`, or a reason why not.

Two forms are read: our own JSON object, and CloudEvents 1.0 in JSON (structured mode: the body is the envelope; binary
mode: attributes in ``ce-*`` headers), https://github.com/cloudevents/spec. JSON is read strictly (RFC 7493, I-JSON):
what two readers could understand differently is refused, because the identity of an event rests on it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NoReturn
from urllib.parse import unquote

import rfc8785

from pik.events import Event, parse_instant

MAX_NAME = 256
FIELDS = ("source", "event_type", "entity_id", "event_time", "payload", "idempotency_key")
_REQUIRED = FIELDS[:-1]
_CLOUDEVENT = {"source": "source", "type": "event_type", "subject": "entity_id", "time": "event_time"}


class Rejected(ValueError):
    """The body is not an event: ``code`` is stable, the message says why, ``do_this`` what to change."""

    def __init__(self, code: str, message: str, do_this: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.do_this = do_this


def parse_event(body: bytes, headers: Mapping[str, str]) -> Event:
    """Return the event in ``body``; ``headers`` have lower-case names. Raise Rejected.

    >>> parse_event(b'{"source":"s","event_type":"t","entity_id":"e","event_time":"2025-01-01T00:00:00Z",'
    ...             b'"payload":{}}', {}).entity_id
    'e'
    """
    document = parse_json(body)
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if "ce-specversion" in headers:
        return _event(_from_binary(document, headers))
    if content_type == "application/cloudevents+json" or (isinstance(document, dict) and "specversion" in document):
        return _event(_from_structured(document))
    if not isinstance(document, dict):
        raise Rejected("not_an_object", "the body is not a JSON object", f"send an object with {_list(_REQUIRED)}")
    for name in document:
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "put your own fields into payload"
            raise Rejected("unknown_field", f"unknown field {name!r}", hint)
    return _event(document)


def parse_json(body: bytes) -> Any:
    """Parse strict JSON: UTF-8, no repeated names, no NaN, no number that a double cannot hold. Raise Rejected."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Rejected("not_utf8", f"byte {error.start} is not UTF-8", "send JSON encoded as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise Rejected("not_json", f"not JSON: {error.msg} at {where}", "send one JSON object") from None
    except RecursionError:
        raise Rejected("too_deep", "nested too deeply", "flatten the payload") from None
    except ValueError as error:  # an integer of thousands of digits
        if isinstance(error, Rejected):
            raise
        raise Rejected("number_out_of_range", str(error), "send long numbers as strings") from None


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Rejected("repeated_name", f"the name {twice!r} appears twice in one object", "send each name once")
    return result


def _no_constant(name: str) -> NoReturn:
    raise Rejected("number_out_of_range", f"{name} is not a JSON number", "send null or a string")


def _from_structured(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise Rejected("not_an_object", "a CloudEvent is a JSON object", "see the CloudEvents JSON format")
    attributes = {name: value for name, value in document.items() if name not in {"data", "data_base64"}}
    if "data_base64" in document:
        try:
            payload = parse_json(base64.b64decode(document["data_base64"], validate=True))
        except (binascii.Error, TypeError, ValueError) as error:
            if isinstance(error, Rejected):
                raise
            raise Rejected("bad_base64", "data_base64 is not base64", "send data as JSON") from None
    else:
        payload = document.get("data")
    return _from_attributes(attributes, payload)


def _from_binary(document: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    return _from_attributes(attributes, document)


def _from_attributes(attributes: Mapping[str, Any], payload: Any) -> dict[str, Any]:
    if attributes.get("specversion") != "1.0":
        raise Rejected("cloudevents_version", f"CloudEvents {attributes.get('specversion')!r}", "send specversion 1.0")
    for name in ("id", *_CLOUDEVENT):
        if name not in attributes:
            needed = f"the kit needs id and {_list(tuple(_CLOUDEVENT))}; subject names the entity"
            raise Rejected("missing_field", f"the CloudEvent has no {name!r}", needed)
    fields = {ours: attributes[theirs] for theirs, ours in _CLOUDEVENT.items()}
    # The CloudEvents specification: source + id is unique for each distinct event. That is an idempotency key.
    return {**fields, "payload": payload, "idempotency_key": attributes["id"]}


def _event(fields: Mapping[str, Any]) -> Event:
    for name in _REQUIRED:
        if name not in fields:
            raise Rejected("missing_field", f"no field {name!r}", f"send {_list(_REQUIRED)}")
    for name in ("source", "event_type", "entity_id"):
        _check_name(name, fields[name])
    key = fields.get("idempotency_key")
    if key is not None:
        _check_name("idempotency_key", key)
    payload = fields["payload"]
    if not isinstance(payload, dict | list):
        raise Rejected("payload_type", "payload is neither an object nor an array", "wrap the value in an object")
    if not isinstance(fields["event_time"], str):
        raise Rejected("bad_time", "event_time is not a string", "send RFC 3339, such as 2025-12-28T23:59:59.5Z")
    try:
        when = parse_instant(fields["event_time"])
    except ValueError as error:
        do_this = "send RFC 3339 with an offset, such as 2025-12-28T23:59:59.5Z"
        raise Rejected("bad_time", f"event_time: {error}", do_this) from None
    names = (fields["source"], fields["event_type"], fields["entity_id"])
    event = Event(*names, when.text, when.exact, payload, key, when.assumed_utc)
    _check_canonical(event)
    return event


def _check_name(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise Rejected("bad_name", f"{name} is not a non-empty string", f"send {name} as a string")
    if len(value) > MAX_NAME:
        raise Rejected("bad_name", f"{name} has {len(value)} characters", f"use at most {MAX_NAME}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Rejected("bad_unicode", f"{name} holds half a surrogate pair", "send valid Unicode") from None


def _check_canonical(event: Event) -> None:
    try:
        _ = event.event_id
        _ = event.payload_sha256
    except (rfc8785.IntegerDomainError, rfc8785.FloatDomainError) as error:
        # RFC 8785 numbers are doubles: two long integers could become one number, and two events one event.
        raise Rejected("number_out_of_range", f"payload: {error}", "send such numbers as strings") from None
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise Rejected("bad_unicode", f"payload: {error}", "send valid Unicode") from None
    except RecursionError:
        raise Rejected("too_deep", "nested too deeply", "flatten the payload") from None


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"

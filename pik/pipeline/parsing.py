"""From the bytes a producer sent to an :class:`~pik.events.Event`, or a reason why not.

Two forms are read: our own JSON object, and CloudEvents 1.0 (:mod:`pik.pipeline.cloudevents`; structured mode: the body
is the envelope; binary mode: attributes in ``ce-*`` headers). JSON is read strictly (:mod:`pik.pipeline.strict_json`):
what two readers could understand differently is refused, because the identity of an event rests on it.

An event that was made out of somebody else's record (a line of a file, a webhook) may bring that along: ``original``,
the record's text, and ``mapping``, the name and digest of what made the event. Both are kept with the rest of the body
and are no part of the event's identity. Nothing is ever mapped here: the event is what its own fields say.

A new arrival is held to more rules (``new=True``) than a body that is stored already, because a body that was accepted
once must stay readable for as long as it is kept.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import rfc8785

from pik.events import Event, parse_instant
from pik.pipeline import cloudevents
from pik.pipeline.headers import KEY, idempotency_key, media_type
from pik.pipeline.strict_json import Rejected, is_unicode, parse_json, shown

__all__ = ["FIELDS", "MAX_BODY", "MAX_NAME", "Rejected", "parse_event", "parse_json"]

MAX_NAME = 256
# Lambda takes 6 MB a request, and API Gateway hands a binary body over in base64, which adds a third:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_BODY = 4_500_000
MAX_FRACTION = 18  # digits of a second that a new arrival may have: attoseconds
REQUIRED = ("source", "event_type", "entity_id", "event_time", "payload")
# The last two are an origin: what made the event, and out of which record.
FIELDS = (*REQUIRED, "idempotency_key", "mapping", "original")


def parse_event(body: bytes, headers: Mapping[str, str], *, new: bool = False) -> Event:
    """Return the event in ``body``; ``headers`` have lower-case names. Raise Rejected.

    Args:
        body: what was sent, or what is stored.
        headers: those that an arrival keeps (:attr:`pik.pipeline.rows.Arrival.event_headers`), of the request or of the
            stored object.
        new: hold it also to the rules for new arrivals: size, nesting, numbers that a double holds exactly, names
            without control characters, at most 18 digits of a second.

    >>> parse_event(b'{"source":"s","event_type":"t","entity_id":"e","event_time":"2025-01-01T00:00:00Z",'
    ...             b'"payload":{}}', {}).entity_id
    'e'
    """
    if new and len(body) > MAX_BODY:
        do_this = "split it, or keep the large part elsewhere and send a reference to it"
        raise Rejected("body_too_large", f"{len(body):,} bytes; at most {MAX_BODY:,} are taken", do_this, status=413)
    return _event(_with_key(_fields(body, headers, new), headers), new)


def _fields(body: bytes, headers: Mapping[str, str], new: bool) -> Mapping[str, Any]:
    """Return the event's fields by their own names, whichever form the body has."""
    if "ce-specversion" in headers:
        return cloudevents.binary(body, headers, new)
    kind = media_type(headers)
    if new:
        cloudevents.refuse_other_formats(kind)
    document = parse_json(body, new=new)
    if new:
        cloudevents.refuse_batch(document, kind)
    is_object = isinstance(document, dict)
    if kind == cloudevents.MEDIA_TYPE or (is_object and "specversion" in document):
        return cloudevents.structured(document, new)
    if not is_object:
        raise Rejected("not_an_object", "the body is not a JSON object", f"send an object with {_list(REQUIRED)}")
    refuse_unknown(document, FIELDS, "put your own fields into payload")
    _check_origin(document, new)
    return dict(document)


def _with_key(fields: Mapping[str, Any], headers: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the fields with the key of the ``Idempotency-Key`` header. A CloudEvent has its id as a key."""
    if KEY not in headers:
        return fields
    key, own = idempotency_key(headers[KEY]), fields.get("idempotency_key")
    if own is not None and own != key:
        message = "the Idempotency-Key header and the event's own key (a CloudEvent's id) differ"
        raise Rejected("two_keys", message, "send one of them, or the same in both")
    return {**fields, "idempotency_key": key}


def refuse_unknown(document: Mapping[str, Any], fields: tuple[str, ...], otherwise: str) -> None:
    """Raise Rejected when ``document`` has a field that is not in ``fields``; the message names the foreign ones."""
    foreign = [name for name in document if name not in fields]
    if not foreign:
        return
    more = f" and {len(foreign) - 5:,} more" if len(foreign) > 5 else ""
    message = f"unknown field{'s' if len(foreign) > 1 else ''} {', '.join(map(shown, foreign[:5]))}{more}"
    near = get_close_matches(foreign[0][:MAX_NAME], fields, n=1)
    raise Rejected("unknown_field", message, f"did you mean {near[0]}?" if near else otherwise)


def _event(fields: Mapping[str, Any], new: bool) -> Event:
    for name in REQUIRED:
        if name not in fields:
            raise Rejected("missing_field", f"no field {name!r}", f"send {_list(REQUIRED)}")
    for name in ("source", "event_type", "entity_id"):
        _check_name(name, fields[name], new)
    key = fields.get("idempotency_key")
    if key is not None:
        _check_name("idempotency_key", key, new)
    payload = fields["payload"]
    if not isinstance(payload, dict | list):
        raise Rejected("payload_type", "payload is neither an object nor an array", "wrap the value in an object")
    if not isinstance(fields["event_time"], str):
        raise Rejected("bad_time", "event_time is not a string", "send RFC 3339, such as 2025-12-28T23:59:59.5Z")
    try:
        when = parse_instant(fields["event_time"], most_digits=MAX_FRACTION if new else None)
    except ValueError as error:
        do_this = "send RFC 3339 with an offset, such as 2025-12-28T23:59:59.5Z"
        raise Rejected("bad_time", f"event_time: {error}", do_this) from None
    names = (fields["source"], fields["event_type"], fields["entity_id"])
    event = Event(*names, when.text, when.exact, payload, key, when.assumed_utc, fields.get("mapping"))
    _check_canonical(event)
    return event


def _check_origin(document: Mapping[str, Any], new: bool) -> None:
    if document.get("mapping") is not None:
        _check_name("mapping", document["mapping"], new)
    original = document.get("original")
    if original is not None and not (isinstance(original, str) and is_unicode(original)):
        raise Rejected("bad_original", "original is not text", "send the record's text as a string")


def _check_name(name: str, value: Any, new: bool) -> None:
    if not isinstance(value, str) or not value:
        raise Rejected("bad_name", f"{name} is not a non-empty string", f"send {name} as a string")
    if len(value) > MAX_NAME:
        raise Rejected("bad_name", f"{name} has {len(value)} characters", f"use at most {MAX_NAME}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Rejected("bad_unicode", f"{name} holds half a surrogate pair", "send valid Unicode") from None
    if new and any(_is_control(character) for character in value):
        # A terminal obeys them, XML and SVG cannot hold them, and nobody sees that two names differ in them.
        raise Rejected("bad_name", f"{name} holds a control character", "send printable text")


def _is_control(character: str) -> bool:
    """Whether it is a control character (C0, DEL, C1) or a code point that Unicode reserves as no character."""
    point = ord(character)
    return unicodedata.category(character) == "Cc" or point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF


def _check_canonical(event: Event) -> None:
    try:
        _ = event.event_id
        _ = event.payload_sha256
    except (rfc8785.IntegerDomainError, rfc8785.FloatDomainError):
        # RFC 8785 numbers are doubles: two long integers could become one number, and two events one event.
        message = "payload: a number that a double cannot hold exactly"
        raise Rejected("number_out_of_range", message, "send such numbers as strings") from None
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise Rejected("bad_unicode", "payload holds half a surrogate pair", "send valid Unicode") from None
    except RecursionError:
        raise Rejected("too_deep", "nested too deeply", "flatten the payload") from None


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"

"""CloudEvents 1.0 as events of the kit: structured mode in JSON, and binary mode. https://github.com/cloudevents/spec.

What the kit needs of one is ``id`` (the idempotency key: source and id are unique for each distinct event), ``source``,
``type`` and ``time``; the entity is the ``subject``, or else the source. Other attributes stay in the kept bytes.

A payload is an object or an array; ``data`` may be anything, so it is put into the smallest object that holds it:

=============================================  ==========================
data                                           payload
=============================================  ==========================
an object or an array                          as it is
none, or null                                  ``{}``
another JSON value, or text                    ``{"value": …}``
bytes that are neither                         ``{"data_base64": "…"}``
=============================================  ==========================

Both modes come to the same payload. Bytes that are an object or an array in JSON are read as one whatever their type
says, because they always were, and a body that was accepted once must stay the same event.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from pik.pipeline.strict_json import Rejected, parse_json, shown

MEDIA_TYPE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch"
FIELDS = {"source": "source", "type": "event_type", "subject": "entity_id", "time": "event_time"}
NEEDED = ("id", "source", "type", "time")
_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # RFC 9110, 5.6.2
DATA_TYPE = re.compile(rf"{_WORD}/{_WORD}\s*(;.*)?", re.DOTALL)
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s;"]+)', re.IGNORECASE)
_JSON = re.compile(r"[^/]+/(json|.+\+json)")
_TEXT = re.compile(r"text/.+|[^/]+/(xml|.+\+xml)")


def structured(document: Any, new: bool) -> dict[str, Any]:
    """Return the event's fields in the JSON form of a CloudEvent. Raise Rejected."""
    if not isinstance(document, dict):
        raise Rejected("not_an_object", "a CloudEvent is a JSON object", "see the CloudEvents JSON format")
    attributes = {name: value for name, value in document.items() if name not in {"data", "data_base64"}}
    data, encoded = document.get("data"), document.get("data_base64")
    if new:
        _check(attributes)
        if data is not None and encoded is not None:
            raise Rejected("two_payloads", "the CloudEvent has data and data_base64", "send one of them")
    kind = attributes.get("datacontenttype") or ""
    if encoded is not None:
        return _fields(attributes, _of_bytes(_decoded(encoded), kind, new), new)
    if isinstance(data, str) and not _is_json(kind):
        return _fields(attributes, _of_text(data), new)
    return _fields(attributes, _of_value(data), new)


def binary(body: bytes, headers: Mapping[str, str], new: bool) -> dict[str, Any]:
    """Return the event's fields in a CloudEvent whose attributes are headers and whose data are the body."""
    try:
        # Percent-encoded UTF-8 (CloudEvents HTTP binding, 3.1.3.2). Other bytes would all become the same character.
        attributes = {
            name[3:]: unquote(value, errors="strict" if new else "replace")
            for name, value in headers.items()
            if name.startswith("ce-")
        }
    except UnicodeDecodeError:
        do_this = "percent-encode the UTF-8 bytes of the value"
        raise Rejected("bad_unicode", "a ce-* header is not percent-encoded UTF-8", do_this) from None
    return _fields(attributes, _of_bytes(body, headers.get("content-type", ""), new), new)


def refuse_batch(document: Any, media_type: str) -> None:
    """Raise Rejected when it is a batch of CloudEvents: its events would share one answer and one raw object."""
    is_list = isinstance(document, list)
    if media_type.startswith(BATCH) or (is_list and any(isinstance(e, dict) and "specversion" in e for e in document)):
        size = f" of {len(document):,}" if is_list else ""
        do_this = "send each in a request of its own, or the file with:\npik ingest FILE --mapping cloudevents"
        raise Rejected("batch", f"a batch{size} of CloudEvents; the API takes one event a request", do_this)


def refuse_other_formats(media_type: str) -> None:
    """Raise Rejected for a structured CloudEvent that is not in JSON."""
    if media_type.startswith("application/cloudevents+") and media_type != MEDIA_TYPE:
        message = f"CloudEvents in the format {shown(media_type)} are not read"
        raise Rejected("cloudevents_format", message, f"send {MEDIA_TYPE}, or binary mode")


def _fields(attributes: Mapping[str, Any], payload: Any, new: bool) -> dict[str, Any]:
    if attributes.get("specversion") != "1.0":
        raise Rejected("cloudevents_version", "not a CloudEvent of specversion 1.0", "send specversion 1.0")
    for name in NEEDED:
        if name not in attributes or (new and attributes[name] is None):
            do_this = f"the kit needs {', '.join(NEEDED)}; the entity is the subject, else the source"
            raise Rejected("missing_field", f"the CloudEvent has no {name!r}", do_this)
    fields = {ours: attributes.get(theirs) for theirs, ours in FIELDS.items()}
    if fields["entity_id"] is None:
        fields["entity_id"] = fields["source"]
    # The CloudEvents specification: source + id is unique for each distinct event. That is an idempotency key.
    return {**fields, "payload": payload, "idempotency_key": attributes["id"]}


def _check(attributes: Mapping[str, Any]) -> None:
    """Raise Rejected for attributes that no CloudEvent has: in JSON anything can be written down as one."""
    for name, value in attributes.items():
        if re.fullmatch("[a-z0-9]+", name) is None:
            do_this = "use lower-case letters and digits alone, or put it into data"
            raise Rejected("bad_attribute", f"{shown(name)} is no name of a CloudEvents attribute", do_this)
        if not isinstance(value, str | int | None):
            message = f"the attribute {shown(name)} is neither text, integer, boolean nor null"
            raise Rejected("bad_attribute", message, "put it into data")
    kind = attributes.get("datacontenttype")
    if kind is not None and not (isinstance(kind, str) and DATA_TYPE.fullmatch(kind)):
        do_this = "send one such as application/json, or leave it out"
        raise Rejected("bad_attribute", "datacontenttype is not a media type", do_this)
    if attributes.get("dataschema") == "":
        raise Rejected("bad_attribute", "dataschema is empty", "send a URI, or leave it out")


def _decoded(encoded: Any) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise Rejected("bad_base64", "data_base64 is not base64", "send data as JSON") from None


def _of_value(value: Any) -> Any:
    if value is None:
        return {}
    return value if isinstance(value, dict | list) else {"value": value}


def _of_text(text: str) -> dict[str, str]:
    return {"value": text} if text else {}  # in binary mode an empty text is no data


def _of_bytes(data: bytes, content_type: Any, new: bool) -> Any:
    if not data:
        return {}
    if _is_json(content_type):
        return _of_value(parse_json(data, new=new))
    found = _container(data, new)
    if found is not None:
        return found
    if _is_text(content_type):
        try:
            return _of_text(data.decode("utf-8"))
        except UnicodeDecodeError:
            pass
    return {"data_base64": base64.b64encode(data).decode()}


def _container(data: bytes, new: bool) -> Any:
    """Return the object or array that bytes of another type are in JSON, or None; in every reading the same.

    So it is decided without the rules for new arrivals, which a new one is held to after that.
    """
    try:
        value = parse_json(data, new=False)
    except Rejected as reason:
        if reason.code == "too_deep":
            raise
        return None
    if not isinstance(value, dict | list):
        return None
    return parse_json(data, new=True) if new else value


def _is_json(content_type: Any) -> bool:
    """Whether data are JSON; so they are when nothing is said of their type."""
    kind = _media_type(content_type)
    return not kind or _JSON.fullmatch(kind) is not None


def _is_text(content_type: Any) -> bool:
    """Whether bytes are text in UTF-8; in another character set they stay bytes, and nothing is guessed."""
    charset = _CHARSET.search(content_type)
    utf8 = charset is None or charset[1].lower() in {"utf-8", "utf8", "us-ascii"}
    return utf8 and _TEXT.fullmatch(_media_type(content_type)) is not None


def _media_type(content_type: Any) -> str:
    return content_type.partition(";")[0].strip().lower() if isinstance(content_type, str) else ""

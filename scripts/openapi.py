"""The OpenAPI 3.1 document of the HTTP API, made of the handlers' own limits, grammars and fields.

``make docs`` writes it to docs/openapi.json. ``tests/unit/pipeline/test_api_docs.py`` checks it against the handlers.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pik
from pik import events
from pik.pipeline import cloudevents, headers, parsing, selection, strict_json
from scripts import api_codes
from scripts.api_codes import INGEST, REPLAY
from scripts.api_examples import BINARY, Example, examples

TARGET = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"
TITLES = {INGEST: "Take one event", REPLAY: "Send an entity's events of a window to the queue"}
ABOUT = {
    INGEST: (
        "Stores the body byte for byte, once, and then answers. It is always safe to send the same event again: the"
        " answer is DUPLICATE, and the stored event stays as it is. After 429, 5xx or a lost answer, send it again."
    ),
    REPLAY: (
        "Sends a reference for each event of an entity in [start_time, end_time). When the window has more events than"
        " one request or limit can send, the answer says complete: false and has a cursor; the next request continues"
        " with this cursor."
    ),
}
ANSWERS = {
    INGEST: {
        200: "The event is stored. ACCEPTED: it is new. DUPLICATE: it was stored before. In a dry run: what would"
        " happen.",
        400: "The body is not a valid event. Its bytes are kept, and `rejected_id` leads to them. They are not kept in"
        " a dry run, or when `dry_run` itself is wrong.",
        409: "CONFLICT: another event, with another payload or time, has this idempotency key already. This body is"
        " kept too, except in a dry run.",
        413: f"`body_too_large`: more than {parsing.MAX_BODY:,} bytes.",
        500: "An error in the kit. The event is not acknowledged.",
        503: "The event is not acknowledged; send it again.",
    },
    REPLAY: {
        200: "The answer says how many events were sent. After `complete: false`, send the same selection with this"
        " replay_id and cursor.",
        400: "The request is not a valid selection. Nothing was sent.",
        409: "The replay_id belongs to another selection. Nothing was sent.",
        500: "An error in the kit.",
        503: "Some events may have been sent, as the answer says. Send the same selection again with this"
        " replay_id and cursor.",
    },
}
FIELD_NOTES = {
    "source": "the system that sends the event",
    "event_type": "the kind of event",
    "entity_id": "the person or thing that the event is about; replays select by it",
    "event_time": "when it happened; every digit counts for the event's identity",
    "payload": "the event's data: any object or array",
    "idempotency_key": (
        "events with the same source, event_type, entity_id and key are the same event; without a key, events with the"
        " same content are"
    ),
    "mapping": "the mapping that made the event from another record, as `name@digest`; no part of the identity",
    "original": "the text of that other record; no part of the identity",
    "start_time": "the first time that is selected; at most 6 digits of a second",
    "end_time": "the first time that is no longer selected; at most 6 digits of a second",
    "limit": "the most events to send; without it, all of them",
    "cursor": "the cursor of the previous answer to the same selection",
    "include_duplicates": "send also a message for each duplicate arrival",
    "dry_run": "count the events, and send nothing",
    "replay_id": (
        "the name of this replay, for this selection only; a name of dots alone is refused. Without it, the kit makes"
        " one. The processor counts an event once for each replay_id, however often it is sent"
    ),
}
_HEX64 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_UTC = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"}
_TEXT, _FLAG, _COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}


def render() -> str:
    """Return the text of docs/openapi.json."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pipeline Investigation Kit",
            "version": pik.__version__,
            "summary": "Capture events once, and replay them on demand.",
            "description": "Each environment's stack has two APIs; its outputs IngestUrl and ReplayUrl are their"
            " addresses. Requests are signed: Signature Version 4, service execute-api. JSON is read strictly: UTF-8,"
            " no name twice in an object, no number that a double would change, at most"
            f" {strict_json.MAX_DEPTH} levels deep.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [_server()],
        "security": [{"sigv4": []}],
        "paths": {f"/{name}": {"post": _operation(name)} for name in (INGEST, REPLAY)},
        "components": {"schemas": schemas(), "securitySchemes": {"sigv4": _sigv4()}},
    }


def _server() -> dict[str, Any]:
    return {
        "url": "https://{api}.execute-api.{region}.{suffix}/{environment}",
        "variables": {
            "api": {"default": "abcde12345", "description": "the API's id: see the stack's outputs; each API has one"},
            "region": {"default": "eu-central-1"},
            "suffix": {"default": "amazonaws.com", "description": "of the AWS partition"},
            "environment": {"default": "dev"},
        },
    }


def _sigv4() -> dict[str, Any]:
    description = "AWS Signature Version 4 of the whole request, service execute-api."
    where = {"type": "apiKey", "in": "header", "name": "Authorization"}
    return {**where, "description": description, "x-amazon-apigateway-authtype": "awsSigv4"}


def _operation(name: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": TITLES[name],
        "description": ABOUT[name],
        "parameters": _parameters(name),
        "requestBody": {"required": True, "content": _content(name)},
        "responses": {str(status): _response(name, status) for status in statuses(name)},
    }


def statuses(operation: str) -> list[int]:
    """Return every status of an operation, also those that API Gateway answers by itself."""
    return sorted({*ANSWERS[operation], *api_codes.GATEWAY})


def _parameters(operation: str) -> list[dict[str, Any]]:
    dry_run = {
        "name": "dry_run",
        "in": "query",
        "description": "say what would happen, and write or send nothing; the stack's parameter `DryRun` does this for"
        " every request",
        "schema": {"type": "string", "enum": ["true", "false"]},
    }
    if operation == REPLAY:
        return [dry_run]
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "the key of an event whose body has none (draft-ietf-httpapi-idempotency-key-header): text in"
        " double quotes, or the bare key when it has no space, comma, semicolon, quote or backslash",
        "schema": {"type": "string", "pattern": f"^({headers.QUOTED.pattern}|{headers.BARE.pattern})$"},
        "example": '"order-1001-paid"',
    }
    request_id = {
        "name": "X-Request-Id",
        "in": "header",
        "description": "your own id of the request; use the same one when you send it again; kept with each arrival",
        "schema": {"type": "string"},
    }
    return [dry_run, key, request_id, *_ce_headers()]


def _ce_headers() -> list[dict[str, Any]]:
    about = "binary mode: the attribute, percent-encoded UTF-8; other attributes are kept as well"
    names = ("specversion", *cloudevents.NEEDED, "subject")
    return [
        {"name": n, "in": "header", "description": about, "schema": {"type": "string"}, "example": BINARY[n]}
        for n in (f"ce-{name}" for name in names)
    ]


def _content(operation: str) -> dict[str, Any]:
    own, event = {"$ref": "#/components/schemas/Event"}, {"$ref": "#/components/schemas/CloudEvent"}
    kinds: dict[str, dict[str, Any]] = {"application/json": {"schema": {"$ref": "#/components/schemas/Replay"}}}
    if operation == INGEST:
        kinds = {"application/json": {"schema": {"anyOf": [own, event]}}, cloudevents.MEDIA_TYPE: {"schema": event}}
        kinds["*/*"] = {"schema": {"description": "the data of a CloudEvent in binary mode; any type, or none"}}
    for one in examples():
        if one.operation == operation:
            kind = "*/*" if "ce-id" in one.headers else one.content_type
            kinds[kind].setdefault("examples", {})[one.name] = {"summary": one.summary, "value": one.body}
    return kinds


def _response(operation: str, status: int) -> dict[str, Any]:
    said = [ANSWERS[operation].get(status, ""), _of_gateway(status)]
    content = {"schema": _answer_schema(operation, status), **_shown(operation, status)}
    response: dict[str, Any] = {"description": " ".join(filter(None, said)), "content": {"application/json": content}}
    if status in {429, 503}:
        about = "seconds to wait before it is sent again"
        response["headers"] = {"Retry-After": {"description": about, "schema": {"type": "string"}}}
    return response


def _of_gateway(status: int) -> str:
    return f"Answered by API Gateway: {api_codes.GATEWAY[status]}." if status in api_codes.GATEWAY else ""


def _shown(operation: str, status: int) -> dict[str, Any]:
    found = {one.name: one for one in examples() if (one.operation, one.status) == (operation, status)}
    shown = {name: {"summary": one.summary, "value": one.answer} for name, one in found.items()}
    return {"examples": shown} if shown else {}


def _answer_schema(operation: str, status: int) -> dict[str, Any]:
    if status == 200:
        return {"$ref": f"#/components/schemas/{operation.capitalize()}Answer"}
    codes = api_codes.of(operation, status)
    if status in api_codes.GATEWAY:  # its own types of errors are many, and AWS adds to them
        return {"$ref": "#/components/schemas/Error"}
    schema: dict[str, Any] = {"allOf": [{"$ref": "#/components/schemas/Error"}]}
    schema["properties"] = {"code": {"enum": codes}}
    return schema


def schemas() -> dict[str, Any]:
    """Return the document's schemas by name."""
    fields = {**_own_fields(), **{name: {"type": ["string", "null"]} for name in ("original",)}}
    asked = _replay_fields()
    return {
        "Name": _name(),
        "Time": {"type": "string", "pattern": time_pattern(), "examples": ["2025-12-28T23:59:59.5Z"]},
        "Event": _object({name: _noted(name, fields[name]) for name in parsing.FIELDS}, parsing.REQUIRED),
        "CloudEvent": _cloudevent(),
        "Replay": _object(
            {name: _noted(name, asked[name]) for name in selection.FIELDS}, ("entity_id", "start_time", "end_time")
        ),
        "IngestAnswer": _ingest_answer(),
        "ReplayAnswer": _replay_answer(),
        "Error": _error(),
    }


def time_pattern() -> str:
    """Return the grammar of a time as a pattern of JSON Schema."""
    pattern = events.RFC3339.pattern.replace(r"\d+", rf"\d{{1,{parsing.MAX_FRACTION}}}")
    return "^" + re.sub(r"\((\\d(?:\\d|{[\d,]+})?)\)", r"\1", pattern) + "$"  # without the groups of single numbers


def _name() -> dict[str, Any]:
    plain = r"^[^\u0000-\u001f\u007f-\u009f]+$"
    about = "text without control characters; never normalised"
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": parsing.MAX_NAME,
        "pattern": plain,
        "description": about,
    }


def _own_fields() -> dict[str, dict[str, Any]]:
    name: dict[str, Any] = {"$ref": "#/components/schemas/Name"}
    optional: dict[str, Any] = {"anyOf": [name, {"type": "null"}]}
    names = dict.fromkeys(("source", "event_type", "entity_id"), name)
    time = {"$ref": "#/components/schemas/Time"}
    rest = {"payload": {"type": ["object", "array"]}, "idempotency_key": optional, "mapping": optional}
    return {**names, "event_time": time, **rest}


def _replay_fields() -> dict[str, dict[str, Any]]:
    time = {"type": "string", "pattern": time_pattern().replace(str(parsing.MAX_FRACTION), "6")}
    return {
        "entity_id": {"type": "string", "minLength": 1, "maxLength": parsing.MAX_NAME},
        "start_time": time,
        "end_time": time,
        "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": selection.MAX_LIMIT},
        "cursor": {"type": ["string", "null"], "maxLength": selection.MAX_CURSOR},
        "include_duplicates": {"type": "boolean", "default": False},
        "dry_run": {"type": "boolean", "default": False},
        "replay_id": {"type": "string", "pattern": f"^{events.REPLAY_ID.pattern}$"},
    }


def _cloudevent() -> dict[str, Any]:
    name = {"$ref": "#/components/schemas/Name"}
    attribute = {"type": ["string", "integer", "boolean", "null"]}
    ours = {"id": "the idempotency key"} | {theirs: f"the {field}" for theirs, field in cloudevents.FIELDS.items()}
    known: dict[str, Any] = {theirs: {**name, "description": about} for theirs, about in ours.items()}
    known["time"] = {"$ref": "#/components/schemas/Time", "description": ours["time"]}
    known["subject"] = {
        "anyOf": [name, {"type": "null"}],
        "description": "the entity_id; without it, the source",
    }
    data = {"description": "the payload; what is neither object nor array becomes {} (none) or {value: …}"}
    encoded = {"type": ["string", "null"], "contentEncoding": "base64", "description": "data as bytes"}
    kind = {"type": ["string", "null"], "pattern": f"^{cloudevents.DATA_TYPE.pattern}$", "description": "a media type"}
    more = {"datacontenttype": kind, "dataschema": {"type": ["string", "null"], "minLength": 1}}
    return {
        "type": "object",
        "required": ["specversion", *cloudevents.NEEDED],
        "properties": {"specversion": {"const": "1.0"}, **known, **more, "data": data, "data_base64": encoded},
        "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
        "additionalProperties": attribute,
    }


def _ingest_answer() -> dict[str, Any]:
    first = {"first_ingest_time": _UTC, "first_s3_key": _TEXT}
    fields = {
        "status": {"enum": [events.ACCEPTED, events.DUPLICATE, events.CONFLICT]},
        "event_id": _HEX64,
        "event_time": _UTC,
        "ingest_time": _UTC,
        "ingest_lag_ms": {"type": "integer", "description": "negative when the producer's clock is ahead"},
        "s3_key": _TEXT,
        "request_id": _TEXT,
        "dry_run": _FLAG,
    }
    return _object({**fields, **first}, tuple(fields))


def _replay_answer() -> dict[str, Any]:
    fields = {
        "replay_id": _TEXT,
        "entity_id": _TEXT,
        "start_time": _UTC,
        "end_time": _UTC,
        "scanned": {**_COUNT, "description": "arrivals looked at"},
        "matched": {**_COUNT, "description": "those that are to be sent"},
        "sent": {**_COUNT, "description": "those that the queue has taken"},
        "complete": _FLAG,
        "cursor": {"type": ["string", "null"]},
        "include_duplicates": _FLAG,
        "dry_run": _FLAG,
    }
    return _object(fields, tuple(fields))


def _error() -> dict[str, Any]:
    said = {"error": "what is wrong", "code": "stable; for programs", "do_this": "what to do about it"}
    properties: dict[str, Any] = {name: {"type": "string", "description": about} for name, about in said.items()}
    more = {
        "status": {"enum": [events.REJECTED, events.CONFLICT]},
        "rejected_id": {"type": ["string", "null"], "description": "finds the bytes that are kept: date and SHA-256"},
        "request_id": _TEXT,
        "dry_run": _FLAG,
        "differs": {"type": "array", "items": {"enum": ["payload", "event_time"]}},
    }
    return {"type": "object", "required": list(said), "properties": properties | more}


def _object(properties: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _noted(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "description": FIELD_NOTES[name]}


def of(operation: str) -> list[Example]:
    """Return the examples of an operation."""
    return [one for one in examples() if one.operation == operation]

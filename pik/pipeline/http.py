"""API Gateway's request and answer: the bytes as they were sent, and every answer as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """What a function needs of an API Gateway proxy event; header names are lower-case."""

    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]
    request_id: str
    caller: str

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Request:
        """Read a REST API proxy event. Bodies come in base64, because the APIs take every media type as binary."""
        text = event.get("body") or ""
        context = event.get("requestContext") or {}
        identity = context.get("identity") or {}
        return cls(
            body=base64.b64decode(text) if event.get("isBase64Encoded") else text.encode(),
            headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
            query=event.get("queryStringParameters") or {},
            request_id=context.get("requestId") or "",
            caller=identity.get("userArn") or identity.get("caller") or "",
        )

    @property
    def dry_run(self) -> bool:
        """Whether the caller asked for a dry run (``?dry_run=true``)."""
        return self.query.get("dry_run", "false").lower() in {"true", "1", "yes"}


def answer(status_code: int, body: Mapping[str, Any], **headers: str) -> dict[str, Any]:
    """Return a proxy answer with a JSON body."""
    return {
        "statusCode": status_code,
        "headers": {"Content-Type": "application/json", **headers},
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }


def error(status_code: int, code: str, message: str, do_this: str, **more: Any) -> dict[str, Any]:
    """Return an error answer: what is wrong, its stable code, and what to do."""
    return answer(status_code, {"error": message, "code": code, "do_this": do_this, **more})


def try_again(code: str, message: str, **more: Any) -> dict[str, Any]:
    """Return a 503: nothing is lost, and the same request may be sent again."""
    body = {"error": message, "code": code, "do_this": "send the same request again; it is safe", **more}
    return answer(503, body, **{"Retry-After": "1"})

"""API Gateway's request and answer: the bytes as they were sent, and every answer as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from pik.pipeline.aws import error_name
from pik.pipeline.strict_json import Rejected, shown

STORE_FAILURES = (ClientError, BotoCoreError)


@dataclass(frozen=True)
class Request:
    """What a function needs of an API Gateway proxy event; header names are lower-case."""

    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
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
            headers=_headers(event),
            query=_query(event),
            request_id=context.get("requestId") or "",
            caller=identity.get("userArn") or identity.get("caller") or "",
        )

    @property
    def dry_run(self) -> bool:
        """Whether the caller asked for a dry run (``?dry_run=true``); raise Rejected when that is not clear."""
        for name in self.query:
            if name != "dry_run" and get_close_matches(_letters(name), ["dryrun"], cutoff=0.8):
                raise Rejected("unknown_parameter", f"unknown parameter {shown(name)}", "did you mean dry_run?")
        values = {value.lower() for value in self.query.get("dry_run", ["false"])}
        if not values <= {"true", "false"} or len(values) > 1:
            raise Rejected("bad_dry_run", "dry_run is neither true nor false", "send dry_run=true, or leave it out")
        return values == {"true"}


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    """Return each header with its values joined (RFC 9110, 5.3): API Gateway's plain form has only the last of several.

    Of a header that says the same twice one is enough.
    """
    single = {name: [value] for name, value in (event.get("headers") or {}).items()}
    values: dict[str, list[str]] = {}
    for name, found in (single | (event.get("multiValueHeaders") or {})).items():
        values.setdefault(name.lower(), []).extend(found)
    return {name: ", ".join(dict.fromkeys(found)) for name, found in values.items()}


def _query(event: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return every value of each query parameter: API Gateway's plain form has only the last of several."""
    single = {name: [value] for name, value in (event.get("queryStringParameters") or {}).items()}
    return single | {
        name: list(values) for name, values in (event.get("multiValueQueryStringParameters") or {}).items()
    }


def _letters(name: str) -> str:
    return "".join(character for character in name[:64].lower() if character.isalpha())


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


def try_again(
    code: str, message: str, do_this: str = "send the same request again; it is safe", **more: Any
) -> dict[str, Any]:
    """Return a 503: nothing is lost, and the request may be sent again as ``do_this`` says."""
    body = {"error": message, "code": code, "do_this": do_this, **more}
    return answer(503, body, **{"Retry-After": "1"})


def store_unavailable(failure: Exception, logger: Logger, metrics: Metrics, **more: Any) -> dict[str, Any]:
    """Return the 503 of a store that failed or did not answer, logged and counted."""
    logger.exception("a store did not answer")
    metrics.add_metric("StoreFailures", MetricUnit.Count, 1)
    return try_again("store_unavailable", f"a store did not answer: {error_name(failure)}", **more)


def guarded(request: Request, work: Callable[[], dict[str, Any]], logger: Logger, metrics: Metrics) -> dict[str, Any]:
    """Return what ``work`` answers: what it refuses is a 400, a failing store a 503 to send again, our bug a 500."""
    metrics.add_metric("Requests", MetricUnit.Count, 1)
    try:
        return work()
    except Rejected as reason:
        return error(reason.status, reason.code, reason.message, reason.do_this)
    except STORE_FAILURES as failure:
        return store_unavailable(failure, logger, metrics, request_id=request.request_id)
    except Exception:
        logger.exception("bug")
        metrics.add_metric("Bugs", MetricUnit.Count, 1)
        do_this = f"report it with request id {request.request_id}; it is not acknowledged"
        return error(500, "internal", "an error of ours", do_this, request_id=request.request_id)

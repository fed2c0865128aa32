"""API Gateway's request and answer: the bytes as they were sent, and every answer as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from pik.pipeline.aws import error_name
from pik.pipeline.parsing import Rejected


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


def guarded(request: Request, work: Callable[[], dict[str, Any]], logger: Logger, metrics: Metrics) -> dict[str, Any]:
    """Return what ``work`` answers: what it refuses is a 400, a failing store a 503 to send again, our bug a 500."""
    metrics.add_metric("Requests", MetricUnit.Count, 1)
    try:
        return work()
    except Rejected as reason:
        return error(reason.status, reason.code, reason.message, reason.do_this)
    except (ClientError, BotoCoreError) as failure:
        logger.exception("a store did not answer")
        metrics.add_metric("StoreFailures", MetricUnit.Count, 1)
        message = f"a store did not answer: {error_name(failure)}"
        return try_again("store_unavailable", message, request_id=request.request_id)
    except Exception:
        logger.exception("bug")
        metrics.add_metric("Bugs", MetricUnit.Count, 1)
        do_this = f"report it with request id {request.request_id}; it is not acknowledged"
        return error(500, "internal", "an error of ours", do_this, request_id=request.request_id)

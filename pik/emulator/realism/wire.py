"""A request as AWS's services see it, and answers in the form that each service's protocol has for them.

See https://smithy.io/2.0/aws/protocols/ for the protocols and the reference of each service for its error codes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote

Headers = list[tuple[bytes, bytes]]

_API = re.compile(r"/restapis/([^/]+)/[^/]+/_user_request_(?:/|$)")
_SCOPE = re.compile(rb"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")
_CBOR = re.compile(r"/service/([^/]+)/operation/([^/]+)$")
_MAPPING = re.compile(r"/event-source-mappings(?:/([^/]*))?/?$")
_INVOKE = re.compile(r"/functions/([^/]+)/invocations$")
_TARGETS = {
    "DynamoDB_20120810": "dynamodb",
    "AmazonSQS": "sqs",
    "AWSStepFunctions": "states",
    "Logs_20140328": "logs",
    "GraniteServiceVersion20100801": "cloudwatch",
}
_SCOPES = {b"monitoring": "cloudwatch"}
_MAPPINGS = {
    ("POST", False): "CreateEventSourceMapping",
    ("GET", False): "ListEventSourceMappings",
    ("GET", True): "GetEventSourceMapping",
    ("PUT", True): "UpdateEventSourceMapping",
    ("DELETE", True): "DeleteEventSourceMapping",
}
_OBJECT = {"GET": "GetObject", "PUT": "PutObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """Return the body, parsed; None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def with_json(self, document: Any) -> Answer:
        """Return the answer with another body of the same kind."""
        body = json.dumps(document).encode()
        kept = [
            (name, value) for name, value in self.headers if name.lower() not in (b"content-length", b"x-amz-crc32")
        ]
        return Answer(self.status, [*kept, (b"content-length", str(len(body)).encode())], body)


@dataclass
class Call:
    """One request: which service, which of its operations, and with what.

    ``service`` is empty where it cannot be told, ``api`` for a request to a REST API; ``subject`` is the API's id, the
    mapping's id, the function's name, or nothing.
    """

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes
    query: str = ""
    service: str = ""
    operation: str = ""
    protocol: str = ""
    subject: str = ""
    notes: dict[str, Any] = field(default_factory=dict)  # what a habit remembers between before and after

    @classmethod
    def of(cls, scope: dict[str, Any], body: bytes) -> Call:
        """Return the call that an ASGI request is."""
        headers = {name.lower(): value for name, value in scope.get("headers", [])}
        query = scope.get("query_string", b"").decode("latin-1")
        call = cls(scope.get("method", "GET"), scope.get("path", "/"), headers, body, query)
        call._recognise()
        return call

    def _recognise(self) -> None:
        target = self.headers.get(b"x-amz-target", b"").decode("latin-1")
        if api := _API.match(self.path):
            self.service, self.operation, self.protocol, self.subject = "api", self.method, "api", api[1]
        elif target:
            prefix, _, self.operation = target.rpartition(".")
            self.service, self.protocol = _TARGETS.get(prefix, ""), "json"
        elif cbor := _CBOR.search(self.path):
            self.service, self.operation, self.protocol = _TARGETS.get(cbor[1], ""), cbor[2], "cbor"
        else:
            found = _SCOPE.search(self.headers.get(b"authorization", b""))
            self.service = _SCOPES.get(found[1], found[1].decode()) if found else ""
            self._recognise_by_service()

    def _recognise_by_service(self) -> None:
        if self.service == "s3":
            self.protocol, self.operation = "s3", self._s3_operation()
        elif self.service == "lambda":
            self.protocol = "rest-json"
            if found := _MAPPING.search(self.path):
                self.subject = found[1] or ""
                self.operation = _MAPPINGS.get((self.method, bool(self.subject)), "")
            elif invoked := _INVOKE.search(self.path):
                self.operation, self.subject = "Invoke", invoked[1]
            else:
                self.operation = self.method
        elif self.headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
            self.protocol = "query"
            self.operation = parse_qs(self.body[:4096].decode("latin-1")).get("Action", [""])[0]

    def _s3_operation(self) -> str:
        bucket, _, key = unquote(self.path).lstrip("/").partition("/")
        if key:
            return _OBJECT.get(self.method, "PostObject")
        return "ListObjects" if self.method == "GET" and bucket else "Bucket"

    @cached_property
    def params(self) -> dict[str, Any]:
        """The parameters of a JSON request."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def error(self, status: int, code: str, message: str, **more: Any) -> Answer:
        """Return an error as this call's protocol has it."""
        return _ERRORS.get(self.protocol, _json_error)(status, code, message, more)


def _answer(status: int, content_type: str, body: bytes, *more: tuple[bytes, bytes]) -> Answer:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), *more]
    return Answer(status, [*headers, (b"x-amzn-requestid", b"realism")], body)


def _json_error(status: int, code: str, message: str, more: dict[str, Any]) -> Answer:
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": message, "Message": message, **more}).encode()
    return _answer(status, "application/x-amz-json-1.0", body)


def _rest_json_error(status: int, code: str, message: str, more: dict[str, Any]) -> Answer:
    body = json.dumps({"Type": "User", "message": message, "Message": message, **more}).encode()
    return _answer(status, "application/json", body, (b"x-amzn-errortype", code.encode()))


def _query_error(status: int, code: str, message: str, more: dict[str, Any]) -> Answer:
    kind = "Sender" if status < 500 else "Receiver"
    error = f"<Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return _answer(status, "text/xml", f"<ErrorResponse>{error}<RequestId>realism</RequestId></ErrorResponse>".encode())


def _s3_error(status: int, code: str, message: str, more: dict[str, Any]) -> Answer:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>realism</RequestId></Error>"
    return _answer(status, "application/xml", f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'.encode())


def _api_error(status: int, code: str, message: str, more: dict[str, Any]) -> Answer:
    return _answer(
        status, "application/json", json.dumps({"message": message}).encode(), (b"x-amzn-errortype", code.encode())
    )


def _cbor_error(status: int, code: str, message: str, more: dict[str, Any]) -> Answer:
    pairs = [("__type", f"com.amazonaws.cloudwatch#{code}"), ("message", message)]
    body = bytes([0xA0 + len(pairs)]) + b"".join(_cbor_text(text) for pair in pairs for text in pair)
    return _answer(status, "application/cbor", body, (b"smithy-protocol", b"rpc-v2-cbor"))


def _cbor_text(text: str) -> bytes:
    """Encode a text as RFC 8949 has it, up to 65,535 bytes."""
    data = text.encode()
    head = bytes([0x60 + len(data)]) if len(data) < 24 else b"\x79" + len(data).to_bytes(2)
    return head + data


_ERRORS = {
    "json": _json_error,
    "rest-json": _rest_json_error,
    "query": _query_error,
    "s3": _s3_error,
    "api": _api_error,
    "cbor": _cbor_error,
}

"""The request headers that are part of an event: a binary CloudEvent's attributes, and ``Idempotency-Key``.

They are kept beside the body, so that whatever reads it later comes to the same event.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pik.pipeline.strict_json import Rejected, shown

KEY = "idempotency-key"
# A structured field string (RFC 9651, 3.3.3): printable ASCII in double quotes, in which \ is put before " and \.
QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
# Without quotes, as most clients send it: not what could be read otherwise, a list (,), parameters (;) or an escape.
BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")
_HTTP_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def of_event(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of a request's headers (lower-case names) that are part of its event.

    In structured mode the body has every attribute, and ``ce-*`` headers may only repeat it. In binary mode their
    double quotes are taken off here, once: what is kept needs no more than percent-decoding
    (https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/http-protocol-binding.md#3132-http-header-values).
    """
    structured = media_type(headers).startswith("application/cloudevents")
    kept = {
        name: _without_quotes(value) for name, value in headers.items() if name.startswith("ce-") and not structured
    }
    return kept | {name: value for name, value in headers.items() if name == KEY}


def refuse_misspelt(headers: Mapping[str, str]) -> None:
    """Raise Rejected for a header that means Idempotency-Key and is called otherwise: the key would be ignored."""
    for name in headers:
        if "idempot" in name and name != KEY:
            raise Rejected("unknown_header", f"unknown header {shown(name)}", "did you mean Idempotency-Key?")


def media_type(headers: Mapping[str, str]) -> str:
    """Return the content type without its parameters, in lower case; empty when there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def idempotency_key(value: str) -> str:
    r"""Return the key in an ``Idempotency-Key`` header. Raise Rejected.

    https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/ makes it a string in double quotes; a
    key without quotes is what most clients send, and the same key.

    >>> idempotency_key('"order-1"'), idempotency_key("order-1"), idempotency_key(r'"a \"b\""')
    ('order-1', 'order-1', 'a "b"')
    """
    if quoted := QUOTED.fullmatch(value):
        return re.sub(r"\\(.)", r"\1", quoted[1])
    if BARE.fullmatch(value):
        return value
    do_this = 'send one key of printable ASCII in double quotes, Idempotency-Key: "…", or idempotency_key in the body'
    raise Rejected("bad_idempotency_key", "the Idempotency-Key header is not one string", do_this)


def _without_quotes(value: str) -> str:
    quoted = _HTTP_QUOTED.fullmatch(value)
    return re.sub(r"(?s)\\(.)", r"\1", quoted[1]) if quoted else value

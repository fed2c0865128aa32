"""Stored events read back, however deep they are nested.

New events are nested at most 100 deep. Earlier ones could be nested nearly as deep as Python's limit on recursion lets
a Lambda function read, and below a notebook's own frames that limit is reached sooner. So it is raised for the process
when such an event is met, by what a notebook needs: to read what was accepted is safe.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pik.events import Event
from pik.pipeline.parsing import Rejected, parse_event, parse_json

T = TypeVar("T")
FRAMES = 1500


def event(body: bytes, headers: Mapping[str, str]) -> Event:
    """Return the event that a stored body is, as :func:`pik.pipeline.parsing.parse_event`; raise Rejected."""

    def parse() -> Event:
        try:
            return parse_event(body, headers)
        except Rejected as reason:
            if reason.code == "too_deep":
                raise RecursionError from reason
            raise

    try:
        return deeply(parse)
    except RecursionError as error:
        if isinstance(error.__cause__, Rejected):
            raise error.__cause__ from None
        raise


def original(body: bytes) -> bytes | None:
    """Return the record that a stored event was made from, byte for byte; None for an event that came as it is.

    >>> original(b'{"source":"s","original":"a;b"}')
    b'a;b'
    """
    try:
        document = deeply(lambda: parse_json(body, new=False))
    except Rejected:
        return None
    record = document.get("original") if isinstance(document, dict) and "specversion" not in document else None
    return record.encode("utf-8", "surrogatepass") if isinstance(record, str) else None


def text(value: Any) -> str:
    """Return a value of a payload as JSON text, characters as they are."""
    return deeply(lambda: json.dumps(value, ensure_ascii=False))


def value(text: str) -> Any:
    """Return the value that JSON text is."""
    return deeply(lambda: json.loads(text))


def deeply(work: Callable[[], T]) -> T:
    """Return ``work()``, with more frames when it needs them; raise RecursionError when those are not enough either."""
    try:
        return work()
    except RecursionError:
        if sys.getrecursionlimit() >= FRAMES:
            raise
        sys.setrecursionlimit(FRAMES)  # never lowered: another thread may be deep inside
        return work()

"""What a person may type as an event's id; what is none is refused before anything is imported or asked."""

from __future__ import annotations

import re

from pik.errors import UsageError

EVENT_ID = re.compile(r"[0-9a-f]{64}")
REJECTED_ID = re.compile(r"\d{4}-\d\d-\d\d\.[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{4,63}")


def an_id(given: str) -> str:
    """Return an event's id (64 hexadecimal digits), or a rejected body's (its day, a dot, and 64 of them), as stored.

    Raises:
        UsageError: it is neither.

    >>> an_id(" " + "AB" * 32) == "ab" * 32
    True
    """
    found = given.strip().lower()
    if EVENT_ID.fullmatch(found) or REJECTED_ID.fullmatch(found):
        return found
    part = f"it has {len(found)} of 64 digits, and no table can be asked for a part of an id"
    raise UsageError(
        f"not an event id: {found or 'nothing'}",
        reason=part
        if _PART.fullmatch(found)
        else "an id is 64 hexadecimal digits; a rejected body's is its day, a dot, and 64 of them",
        next_step="find the whole id with wb.events(entity=…, start=…, end=…) or wb.logs(text=…)",
    )

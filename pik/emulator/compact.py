"""Rows that take less memory: what rows have in common is there once.

Runs inside the emulator's process (see ``launcher.py``), so it imports nothing of ``pik``. ministack keeps an item as
its request had it: a dictionary and a text for each attribute, the attributes' names as well. But an event's row and
its dedupe row have the id, the key and the times in common, and the rows of a stream its source, type and entity. And
it keeps every transaction whole for ten minutes, to recognise it when it is sent again; a digest does that, too.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

Value = dict[str, Any]  # as DynamoDB has it: {"S": "…"}
MOST_VALUES = 10_000  # that are looked out for; then from nothing
_SCALARS = {"S", "N"}


class Shared:
    """Values of items, each kept once. Only scalars: ministack changes lists and maps in place."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], Value] = {}

    def item(self, item: dict[str, Value]) -> dict[str, Value]:
        """Return an equal item, with the names and values that others have, too."""
        return {sys.intern(name): self._value(value) for name, value in item.items()}

    def _value(self, value: Value) -> Value:
        if len(value) != 1:
            return value
        ((kind, content),) = value.items()
        if kind not in _SCALARS or not isinstance(content, str):
            return value
        if len(self._values) >= MOST_VALUES:
            self._values.clear()  # what is still common comes back with the next item
        return self._values.setdefault((kind, content), value)


class Digest:
    """Stands for a request: equal to every request that says the same."""

    __slots__ = ("_digest",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, request: Any) -> None:
        self._digest = _digest(request)

    def __eq__(self, other: object) -> bool:
        return self._digest == (other._digest if isinstance(other, Digest) else _digest(other))


def _digest(request: Any) -> bytes:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).digest()


def install(dynamodb: Any) -> None:
    """Let ministack's DynamoDB store items and transactions so."""
    shared = Shared()
    set_item, store_token, restore = dynamodb._set_item, dynamodb._txn_token_store, dynamodb._restore_state

    def set_shared(table: Any, pk: Any, sk: Any, item: dict[str, Value]) -> Any:
        return set_item(table, pk, sk, shared.item(item))

    def store_digest(token: str, entry: dict[str, Any]) -> None:
        store_token(token, {**entry, "signature": Digest(entry["signature"])})

    def restore_shared(data: Any) -> None:
        restore(data)
        for table in dynamodb._tables.all_values():
            for rows in table["items"].values():
                for sk, item in rows.items():
                    rows[sk] = shared.item(item)

    dynamodb._restore_state = restore_shared
    dynamodb._set_item = set_shared
    dynamodb._txn_token_store = store_digest

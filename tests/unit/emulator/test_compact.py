"""Rows of the embedded AWS that share what they have in common are the rows that they were."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pik.emulator import compact
from pik.emulator.compact import Digest, Shared


def row(number: int) -> dict[str, Any]:
    """A row as a request has it: no text of it is another row's."""
    item = {
        "PK": {"S": "ENTITY#e"},
        "SK": {"S": f"TS#{number}"},
        "size": {"N": "205"},
        "flag": {"BOOL": True},
        "none": {"NULL": True},
        "names": {"SS": ["a", "b"]},
        "state": {"M": {"sum": {"N": "1"}}},
        "list": {"L": [{"S": "ENTITY#e"}]},
    }
    return dict(json.loads(json.dumps(item)))


def test_an_item_is_equal_and_has_in_common_what_others_have() -> None:
    shared = Shared()
    first, second = (shared.item(row(number)) for number in (1, 2))
    assert (first, second) == (row(1), row(2))
    assert first["PK"] is second["PK"]
    assert first["size"] is second["size"]
    assert [a is b for a, b in zip(first, second, strict=True)] == [True] * len(first)


@pytest.mark.parametrize("name", ["state", "list", "names"])
def test_what_is_changed_in_place_is_nobody_elses(name: str) -> None:
    shared = Shared()
    first, second = (shared.item(row(1)) for _ in range(2))
    assert first[name] is not second[name]


def test_a_text_and_a_number_of_the_same_letters_are_two_values() -> None:
    item = Shared().item({"a": {"S": "205"}, "b": {"N": "205"}})
    assert item == {"a": {"S": "205"}, "b": {"N": "205"}}


def test_it_looks_out_for_a_limited_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "MOST_VALUES", 10)
    shared = Shared()
    assert [shared.item(row(number)) for number in range(50)] == [row(number) for number in range(50)]
    assert len(shared._values) <= 10


def test_a_transaction_sent_again_is_recognised_and_another_is_not() -> None:
    request = {"TransactItems": [{"Put": {"TableName": "t", "Item": row(1)}}]}
    digest = Digest(request)
    assert digest == json.loads(json.dumps(request))
    assert digest == Digest(request)
    assert digest != {"TransactItems": [{"Put": {"TableName": "t", "Item": row(2)}}]}
    assert digest != {}


def test_the_emulator_stores_what_it_is_given() -> None:
    stored: dict[Any, Any] = {}
    tokens: dict[str, Any] = {}
    restored: dict[str, Any] = {"items": {"p": {str(number): row(number) for number in range(3)}}}
    dynamodb = SimpleNamespace(
        _restore_state=lambda _: None,
        _tables=SimpleNamespace(all_values=lambda: [restored]),
        _set_item=lambda table, pk, sk, item: stored.setdefault((table, pk, sk), item),
        _txn_token_store=tokens.__setitem__,
    )
    compact.install(dynamodb)
    dynamodb._set_item("t", "p", "s", row(1))
    dynamodb._txn_token_store("token", {"signature": {"a": 1}, "response": {}, "sizes": {"t": [1]}})
    assert stored == {("t", "p", "s"): row(1)}
    assert tokens["token"]["signature"] == {"a": 1}
    assert (tokens["token"]["response"], tokens["token"]["sizes"]) == ({}, {"t": [1]})
    dynamodb._restore_state({})
    assert restored["items"] == {"p": {str(number): row(number) for number in range(3)}}
    assert restored["items"]["p"]["0"]["PK"] is restored["items"]["p"]["2"]["PK"]

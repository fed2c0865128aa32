"""Numbers, nesting and names of new documents: one text, one meaning; what is refused is said by its place."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pik.pipeline.strict_json import MAX_DEPTH, Rejected, parse_json


@pytest.mark.parametrize(
    "text",
    ["0", "-0", "0.0", "-0.0e7", "0.1", "1.10", "1e5", "1E+5", "100000.0", "1.7976931348623157e308", "5e-324", "0.30"],
)
def test_numbers_that_a_double_is_written_as_are_taken(text: str) -> None:
    assert parse_json(f"[{text}]".encode()) == [float(text)]


@pytest.mark.parametrize(
    "text",
    [
        "1.000000000000000001",
        "1161888007138312192.0",
        "1161888007138312193.0",
        "0.10000000000000001",
        "9007199254740993",
        "9007199254740992",
        "1e400",
        "1e-400",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "1" * 5000,
        "0." + "3" * 450_000,
    ],
)
def test_numbers_that_would_become_another_number_are_refused(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_json(f'{{"a": [1, {{"price of": {text}}}]}}'.encode())
    assert caught.value.code == "number_out_of_range"
    assert caught.value.message == "a[1].'price of': a number that a double cannot hold exactly"


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"[1.000000000000000001H]", "not_json"), (b"[1e400", "not_json"), (b'[1e400, {"a":1,"a":2}]', "repeated_name")],
)
def test_a_document_with_a_worse_fault_is_refused_for_that(body: bytes, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_json(body)
    assert caught.value.code == code


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_two_numbers_never_become_one(left: Decimal, right: Decimal) -> None:
    try:
        read = [parse_json(str(number).encode()) for number in (left, right)]
    except Rejected:
        return
    assert (read[0] == read[1]) == (left == right)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_as_usually_written_is_taken(number: float) -> None:
    assert parse_json(json.dumps(number).encode()) == number


def test_what_is_stored_is_read_by_the_rules_of_its_day() -> None:
    assert parse_json(b"[1.000000000000000001]", new=False) == [1.0]
    assert parse_json(b"[" * 500 + b"]" * 500, new=False)


def test_nesting_has_a_limit_and_brackets_in_strings_do_not_count() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert parse_json(json.dumps({"a": '[{"\\' * 500}).encode())
    for body in (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), b"[" * 1_000_000, b'{"a":' * 101 + b"1" + b"}" * 101):
        with pytest.raises(Rejected) as caught:
            parse_json(body)
        assert caught.value.code == "too_deep"


@pytest.mark.parametrize(
    "document",
    [{f"name{n}": n for n in range(100_000)}, {"x" * 4_000_000: 1}],
)
def test_a_name_given_twice_is_found_quickly_and_said_shortly(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    with pytest.raises(Rejected) as caught:
        parse_json(f"{text[:-1]},{text[1:]}".encode())
    assert caught.value.code == "repeated_name"
    assert len(caught.value.message) < 150

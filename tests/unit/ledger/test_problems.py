"""Whatever is done to a record, or to the order of records, is seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pik.errors import UsageError
from pik.ledger import Kind
from pik.ledger.entry import FIRST, Entry, link_after
from pik.ledger.problems import CLOCK, Flaw, LedgerPlace, StoredRecord, of_receipt, problems
from pik.project import ROOT
from tests.unit.ledger_world import MINUTE, PLACE, chain, entry, hashed, stored

LENGTH = 5
CHAIN = chain(LENGTH)
RECORDS = stored(CHAIN)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just([]), st.just({}))


def flaws(records: list[StoredRecord], place: LedgerPlace = PLACE) -> list[tuple[Flaw, int | None]]:
    return [(problem.flaw, problem.number) for problem in problems(place, records)]


def swapped(number: int, made: Entry | bytes | None, **more: Any) -> list[StoredRecord]:
    """The records, one of them with another content."""
    body = made.to_bytes() if isinstance(made, Entry) else made
    return [replace(r, body=body, **more) if r.number == number else r for r in RECORDS]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a JSON value holds values, at every depth."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in pairs:
        yield (*at, name)
        yield from places(inner, (*at, name))


def test_a_ledger_as_it_was_written_has_no_problem() -> None:
    assert flaws(RECORDS) == []
    assert flaws(RECORDS[::-1]) == []
    assert flaws([]) == []


@given(st.data())
def test_any_single_change_of_any_field_of_any_entry_is_seen(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, LENGTH))
    content = json.loads(CHAIN[number - 1].to_bytes())
    *way, last = data.draw(st.sampled_from(sorted(places(content), key=str)))
    inner = content
    for step in way:
        inner = inner[step]
    other = data.draw(VALUES.filter(lambda value: not same(value, inner[last])))
    inner[last] = other

    found = flaws(swapped(number, json.dumps(content).encode()))

    assert {at for _, at in found} & {number, number + 1}


def same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


@given(st.integers(1, LENGTH), st.data())
def test_any_single_byte_changed_added_or_taken_away_is_seen(number: int, data: st.DataObject) -> None:
    body = CHAIN[number - 1].to_bytes()
    at = data.draw(st.integers(0, len(body) - 1))
    put = data.draw(st.binary(max_size=1).filter(lambda byte: byte != body[at : at + 1]))
    keep = data.draw(st.booleans())

    changed = body[:at] + put + body[at + (0 if keep and put else 1) :]

    assert changed != body
    assert {Flaw.ALTERED, Flaw.UNREADABLE} & {flaw for flaw, _ in flaws(swapped(number, changed))}


@given(st.integers(1, LENGTH - 1), st.sampled_from(["by", "user", "host", "kind", "time"]))
def test_an_entry_written_anew_with_a_proper_hash_breaks_the_chain(number: int, name: str) -> None:
    forged = {"kind": CHAIN[number].kind, "time": CHAIN[number].time}.get(name, "somebody else")

    found = flaws(swapped(number, hashed(replace(CHAIN[number - 1], **{name: forged}))))  # type: ignore[arg-type]

    assert (Flaw.UNCHAINED, number + 1) in found


def test_the_newest_entry_written_anew_with_a_proper_hash_is_a_second_version_or_too_young() -> None:
    forged = hashed(replace(CHAIN[-1], by="arn:aws:iam::1:user/eve"))

    assert flaws(swapped(LENGTH, forged, versions=2)) == [(Flaw.REWRITTEN, LENGTH)]
    late = RECORDS[-1].stored + timedelta(hours=1)  # its first version was destroyed as well
    assert flaws(swapped(LENGTH, forged, stored=late)) == [(Flaw.REDATED, LENGTH)]


@pytest.mark.parametrize("number", range(1, LENGTH))
def test_a_record_removed_from_the_middle_is_missed(number: int) -> None:
    assert flaws([record for record in RECORDS if record.number != number]) == [(Flaw.MISSING, number)]


def test_many_missing_records_are_said_shortly() -> None:
    found = problems(PLACE, [StoredRecord(5000, entry(5000).to_bytes(), RECORDS[0].stored + 4999 * MINUTE)])

    assert [problem.number for problem in found] == [*range(1, 11), None]
    assert "4989 more before entry 5000" in str(found[-1])


def test_records_removed_from_the_end_are_missed_by_who_has_a_receipt() -> None:
    left = CHAIN[:-2]

    assert flaws(stored(left)) == []
    for receipt in (CHAIN[-1].receipt, str(CHAIN[-1]), f"{LENGTH}:{CHAIN[-1].hash[:16]}"):
        assert of_receipt(CHAIN, receipt) == ()
        assert [(p.flaw, p.number) for p in of_receipt(left, receipt)] == [(Flaw.RECEIPT, LENGTH)]


def test_a_ledger_written_again_from_some_entry_on_is_not_the_receipts() -> None:
    forged = chain(1)
    for number in range(2, LENGTH + 1):
        forged.append(entry(number, forged[-1].hash))

    assert flaws(stored(forged)) == []  # what the newest records alone cannot show
    (problem,) = of_receipt(forged, CHAIN[-1].receipt)
    assert "written again" in str(problem)


@pytest.mark.parametrize("receipt", ["", "118", "118:", "118:9f3c2a", "last", "118:" + "g" * 64])
def test_what_is_too_short_to_prove_anything_is_no_receipt(receipt: str) -> None:
    with pytest.raises(UsageError, match="not a receipt"):
        of_receipt(CHAIN, receipt)


@pytest.mark.parametrize("name", ["environment", "stack", "account"])
def test_a_record_copied_from_elsewhere_is_seen(name: str) -> None:
    assert flaws(RECORDS, replace(PLACE, **{name: "other"})) == [(Flaw.MISPLACED, n) for n in range(1, LENGTH + 1)]


def test_a_record_under_another_number_is_seen() -> None:
    found = flaws(swapped(3, CHAIN[1]))

    assert (Flaw.MISPLACED, 3) in found
    assert (Flaw.UNCHAINED, 3) in found


def test_deletions_and_versions_are_seen() -> None:
    assert flaws(swapped(2, None, markers=1)) == [(Flaw.DELETED, 2)]
    assert flaws(swapped(2, CHAIN[1], markers=1)) == [(Flaw.DELETED, 2)]
    assert flaws(swapped(2, CHAIN[1], versions=3)) == [(Flaw.REWRITTEN, 2)]
    assert flaws(swapped(2, None)) == [(Flaw.MISSING, 2)]


def test_times_that_cannot_be_are_seen_and_what_clocks_do_is_not() -> None:
    def at(offset: timedelta, stored: timedelta) -> list[tuple[Flaw, int | None]]:
        first = entry(1)
        second = hashed(replace(entry(2), time=entry(1 + int(offset / MINUTE)).time, previous=first.hash))
        when = RECORDS[0].stored + stored
        return flaws([StoredRecord(1, first.to_bytes(), RECORDS[0].stored), StoredRecord(2, second.to_bytes(), when)])

    assert at(-CLOCK, timedelta()) == []
    assert at(2 * CLOCK, CLOCK) == []
    assert at(-2 * CLOCK - MINUTE, -CLOCK - MINUTE) == [(Flaw.BACKWARDS, 2)]
    assert at(timedelta(), CLOCK + MINUTE) == [(Flaw.REDATED, 2)]


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"\xff", b"[1]", b"[" * 100_000, b'{"number": 1e999}', CHAIN[1].to_bytes().replace(b"deploy", b"d")],
)
def test_what_cannot_be_read_is_said_and_what_follows_stays_a_chain(body: bytes) -> None:
    assert (Flaw.UNREADABLE, 2) in flaws(swapped(2, body))


def test_the_ledger_goes_on_after_an_unreadable_record() -> None:
    after = entry(2, link_after(b"garbage"))
    records = [StoredRecord(1, b"garbage", RECORDS[0].stored), *stored([after])]

    assert flaws(records) == [(Flaw.UNREADABLE, 1)]
    assert flaws([replace(records[0], body=b"other garbage"), records[1]]) == [
        (Flaw.UNREADABLE, 1),
        (Flaw.UNCHAINED, 2),
    ]


def test_the_first_entry_follows_nothing() -> None:
    assert flaws(stored([entry(1, "a" * 64)])) == [(Flaw.UNCHAINED, 1)]
    assert flaws(stored([entry(1, FIRST)])) == []


def test_each_problem_names_the_entry_and_what_it_means() -> None:
    (problem, *_) = problems(PLACE, swapped(4, b"x"))

    assert str(problem).startswith("entry 4: it cannot be read")
    assert problem.flaw.meaning in str(problem)
    assert problem.as_dict()["entry"] == 4
    assert all(flaw.meaning for flaw in Flaw)


def test_the_documentation_says_what_each_kind_and_each_problem_means() -> None:
    page = (ROOT / "docs" / "ledger.md").read_text()

    assert [kind for kind in Kind if f"| `{kind}` | {kind.meaning} |" not in page] == []
    assert [flaw for flaw in Flaw if f"| `{flaw}` | {flaw.meaning} |" not in page] == []

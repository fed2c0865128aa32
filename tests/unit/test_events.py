"""Identity, times and keys."""

from __future__ import annotations

import doctest
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pik import events
from pik.events import Event
from pik.pipeline import parsing

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001


def event(**changes: object) -> Event:
    time = "2025-12-28T23:59:59.000000Z"
    return replace(Event("UA", "flight.departed", "N14228", time, time, {"delay": 2}), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [events, parsing])
def test_examples_in_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


@given(moments, moments)
def test_text_order_is_time_order(left: datetime, right: datetime) -> None:
    assert (events.format_time(left) < events.format_time(right)) == (left < right)


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_offsets_name_the_same_instant(moment: datetime, minutes: int) -> None:
    there = moment.astimezone(timezone(timedelta(minutes=minutes))).isoformat()
    assert events.parse_instant(there).text == events.format_time(moment)


@pytest.mark.parametrize(
    ("text", "normal", "exact"),
    [
        ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00.000000Z", "2025-01-01T00:00:00.000000Z"),
        ("2025-01-01t00:00:00.5z", "2025-01-01T00:00:00.500000Z", "2025-01-01T00:00:00.500000Z"),
        ("2025-01-01 00:00:00.123456700", "2025-01-01T00:00:00.123456Z", "2025-01-01T00:00:00.1234567Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_times_are_fixed_width_and_keep_every_digit(text: str, normal: str, exact: str) -> None:
    found = events.parse_instant(text)
    assert (found.text, found.exact) == (normal, exact)
    assert found.assumed_utc == (text[-1] not in "zZ")


@pytest.mark.parametrize(
    "text",
    ["", "now", "2025-01-01", "2025-01-01T10:15Z", "2025-02-30T00:00:00Z", "2025-01-01T00:00:60Z", "1735689600"],
)
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        events.parse_instant(text)


@pytest.mark.parametrize(
    "text",
    ["2025-01-01T00:00:00+24:00", "0001-01-01T00:00:00+01:00", "2025-01-01T00:00:00Z\n", "٢٠٢٥-01-01T00:00:00Z"],
)
def test_what_only_looks_like_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        events.parse_instant(text)


@given(names, names)
def test_names_never_share_an_encoding(left: str, right: str) -> None:
    assume(left != right)
    assert events.encode(left) != events.encode(right)


@given(names)
def test_encoded_names_stay_in_their_place(name: str) -> None:
    encoded = events.encode(name)
    assert encoded.isascii()
    assert not set(encoded) & set("#/|=\\ \n")
    assert len(encoded) <= events.ENCODED_LIMIT


@given(names, names, names)
def test_keys_fit_what_s3_and_dynamodb_allow(source: str, event_type: str, entity: str) -> None:
    one = event(source=source, event_type=event_type, entity_id=entity)
    assert len(events.raw_key(one)) <= 1024
    assert len(events.conflict_key(one, "0" * 64)) <= 1024
    assert len(events.source_pk(source, event_type, one.date, 3)) <= 2048
    assert len(events.arrival_sk(events.event_sk(one), one.event_time, entity)) <= 1024


@given(names, names, names, names)
def test_moving_a_border_between_names_changes_the_identity(a: str, b: str, c: str, d: str) -> None:
    assume((a, b) != (c, d))
    assert event(source=a, event_type=b).event_id != event(source=c, event_type=d).event_id


def test_joined_names_that_look_the_same_are_different_events() -> None:
    assert event(source="a|b", event_type="c").event_id != event(source="a", event_type="b|c").event_id
    assert events.raw_key(event(source="a|b")) != events.raw_key(event(source="a/b"))


def test_identity_rests_on_the_facts_or_on_the_key() -> None:
    first = event()
    assert event(payload={"delay": 2.0}).event_id == first.event_id  # the same number in canonical JSON
    assert event(payload={"delay": 3}).event_id != first.event_id
    assert event(exact_time="2025-12-28T23:59:59.0000001Z").event_id != first.event_id
    keyed = event(idempotency_key="k")
    assert keyed.event_id != first.event_id
    assert event(idempotency_key="k", payload={"delay": 3}).event_id == keyed.event_id
    assert event(idempotency_key="k2").event_id != keyed.event_id


def test_identity_never_changes_between_versions() -> None:
    """Spelled out by hand: a change here would make every stored event a stranger."""
    payload = hashlib.sha256(b'{"delay":2}').hexdigest()
    facts = f'["UA","flight.departed","N14228","2025-12-28T23:59:59.000000Z","{payload}"]'
    assert event().event_id == hashlib.sha256(f'["pik:event:1",{facts}]'.encode()).hexdigest()
    keyed = b'["pik:event:1",["UA","flight.departed","N14228","k"]]'
    assert event(idempotency_key="k").event_id == hashlib.sha256(keyed).hexdigest()


@given(st.integers(-(3 * 10**14), 3 * 10**14), st.integers(-(3 * 10**14), 3 * 10**14))
def test_lag_keys_sort_like_lags(left: int, right: int) -> None:
    assert (events.lag_sk(left) < events.lag_sk(right)) == (left < right)


def test_lag_is_negative_when_the_producers_clock_is_ahead() -> None:
    assert events.lag_ms("2025-01-01T00:00:01.000000Z", "2025-01-01T00:00:00.999500Z") == -1
    assert events.lag_ms("2025-01-01T00:00:00.000000Z", "2025-01-01T00:00:01.500000Z") == 1500


def test_rejected_ids_find_their_key_and_nothing_else_does() -> None:
    identifier = events.rejected_id("2025-01-01T00:00:00.000000Z", "ab" * 32)
    assert events.rejected_key(identifier) == f"rejected/ingest_date=2025-01-01/{'ab' * 32}.bin"
    with pytest.raises(ValueError, match="rejected id"):
        events.rejected_key("../../raw/secret")


def test_shards_spread() -> None:
    found = {events.shard_of(str(number)) for number in range(200)}
    assert found == set(events.shards())

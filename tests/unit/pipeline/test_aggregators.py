"""Every registered aggregator is a commutative monoid, and its sums are exact."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from functools import reduce
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pik.errors import UsageError
from pik.events import Event
from pik.pipeline import aggregates, aggregators
from pik.pipeline.aggregators import AGGREGATORS, aggregator, fold

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53) + 1, 2**53 - 1)
values = numbers | st.text(max_size=3) | st.none() | st.booleans()
payloads = st.dictionaries(st.sampled_from("abc"), values) | st.lists(values, max_size=2)
fractions = st.integers(0, 10**9 - 1)


def _event(entity: str, kind: str, payload: Any, fraction: int) -> Event:
    exact = f"2025-01-01T00:00:00.{fraction:09d}".rstrip("0").ljust(26, "0") + "Z"
    return Event("s", kind, entity, exact[:26] + "Z", exact, payload)


one_event = st.builds(_event, st.just("e"), st.sampled_from(["t", "u"]), payloads, fractions)


@pytest.mark.parametrize("name", AGGREGATORS)
@given(one=one_event, two=one_event, three=one_event)
def test_order_and_grouping_change_nothing(name: str, one: Event, two: Event, three: Event) -> None:
    chosen = aggregator(name)
    a, b, c = (chosen.lift(event) for event in (one, two, three))
    assert chosen.combine(a, b) == chosen.combine(b, a)
    assert chosen.combine(chosen.combine(a, b), c) == chosen.combine(a, chosen.combine(b, c))
    assert json.loads(json.dumps(chosen.combine(a, b))) == chosen.combine(a, b)


named = st.dictionaries(st.text("abcde", min_size=1, max_size=2), st.integers(0, 9), max_size=9)


@given(st.lists(named, min_size=1, max_size=12), st.randoms())
def test_which_names_are_kept_does_not_depend_on_order_or_grouping(payloads: list[Any], chance: random.Random) -> None:
    chosen = aggregator("daily-summary")
    with patch.object(aggregators, "MOST_NAMES", 7):
        parts = [chosen.lift(_event("e", "t", payload, n)) for n, payload in enumerate(payloads)]
        in_order = reduce(chosen.combine, parts)
        while len(parts) > 1:
            chance.shuffle(parts)
            parts.append(chosen.combine(parts.pop(), parts.pop()))
    assert parts[0] == in_order
    names = sorted({name for payload in payloads for name in payload})
    assert sorted(in_order["numbers"]) == names[:7]
    assert in_order.get("names_left_out", False) == (len(names) > 7)
    assert in_order["count"] == len(payloads)
    for name in names[:7]:
        assert in_order["numbers"][name]["sum"] == str(sum(payload.get(name, 0) for payload in payloads))


def test_a_summary_of_ever_new_names_stays_small() -> None:
    many = [_event("e", f"t{n}", {f"{'n' * 200}{n}-{m}": m for m in range(300)} | {"x" * 300: 1}, n) for n in range(30)]
    ((state, count),) = fold("daily-summary", many).values()
    assert (count, state["names_left_out"]) == (30, True)
    assert len(json.dumps(state)) < aggregates.MAX_STATE


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_sums_are_exact_also_where_floats_are_not(floats: list[float]) -> None:
    made = [_event("e", "t", {"x": value}, position) for position, value in enumerate(floats)]
    chosen = aggregator("daily-summary")
    total = reduce(chosen.combine, map(chosen.lift, made))["numbers"]["x"]
    assert Fraction(total["sum"]) == sum(Fraction(repr(value)) for value in floats)
    assert (float(total["min"]), float(total["max"])) == (min(floats), max(floats))
    assert total["count"] == len(floats)


def test_summary_says_what_happened() -> None:
    made = [_event("e", "t", {"delay": 2, "ok": True, "to": "IAH"}, 5), _event("e", "u", {"delay": -0.5}, 6)]
    ((state, count),) = fold("daily-summary", made).values()
    assert count == state["count"] == 2
    assert state["by_type"] == {"t": 1, "u": 1}
    assert state["numbers"] == {"delay": {"count": 2, "sum": "1.5", "min": "-0.5", "max": "2"}}
    assert (state["first"], state["last"]) == (made[0].exact_time, made[1].exact_time)


def test_times_of_different_precision_compare_by_time() -> None:
    chosen = aggregator("daily-summary")
    early, late = _event("e", "t", {}, 0), _event("e", "t", {}, 1)
    assert chosen.combine(chosen.lift(late), chosen.lift(early))["first"] == early.exact_time


@given(st.lists(one_event, max_size=8), st.randoms(use_true_random=False))
def test_fold_counts_each_event_once_in_any_order(made: list[Event], chance: random.Random) -> None:
    shuffled = made + chance.choices(made, k=len(made)) if made else []
    chance.shuffle(shuffled)
    assert fold("daily-summary", shuffled) == fold("daily-summary", made)
    assert sum(count for _, count in fold("daily-summary", shuffled).values()) == len({e.event_id for e in made})


def test_an_unknown_aggregator_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        aggregator("dayly")
    assert "daily-summary" in caught.value.next_step

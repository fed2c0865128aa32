"""What three stores can disagree on, on made-up snapshots."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pik.events import raw_key
from pik.pipeline.parsing import parse_event
from pik.pipeline.rows import Arrival, arrival_row
from pik.replays.records import Replay
from pik.workbench.consistency import reconcile
from pik.workbench.consistency.reconcile import REMEDIES, disagreements
from pik.workbench.consistency.snapshot import Row, Snapshot, StoredObject, key_id

EVENT = {
    "source": "s",
    "event_type": "t",
    "entity_id": "N1",
    "event_time": "2013-01-01T10:00:00Z",
    "payload": {"delay": 4},
}


def kept() -> StoredObject:
    body = json.dumps(EVENT).encode()
    arrival = Arrival.of(body, {}, ingest_time="2026-11-23T10:00:00.000000Z", request_id="r-1", producer="ana")
    event = parse_event(body, arrival.event_headers)
    key = raw_key(event)
    return StoredObject(key, hashlib.sha256(body).hexdigest(), event, arrival)


def snapshot(*, raw: bool = True, row: bool = True, dedupe: bool = True, later: str = "", **change: Any) -> Snapshot:
    one = kept()
    assert one.event is not None
    assert one.arrival is not None
    first_dedupe, first = one.rows(365)
    again = replace(one.arrival, request_id="r-2", ingest_time="2026-11-23T10:00:05.000000Z")
    until = first_dedupe["expires_at"]
    rows = [first | change] if row else []
    rows += [arrival_row(one.event, again, 365, later, "conflicts/x.json", first_dedupe, until)] if later else []
    return Snapshot(365, {one.key: one} if raw else {}, {}, rows, {one.event_id: first_dedupe} if dedupe else {})


@pytest.mark.parametrize(
    ("seen", "kinds"),
    [
        (snapshot(), []),
        (snapshot(later="DUPLICATE"), []),
        (snapshot(expires_at=1), []),  # the retention may have been changed since
        (snapshot(row=False, dedupe=False), ["orphan_raw"]),
        (snapshot(row=False), ["missing_metadata"]),
        (snapshot(dedupe=False), ["missing_dedupe"]),
        (snapshot(raw=False), ["dangling_metadata"]),
        (snapshot(raw=False, dedupe=False), ["dangling_metadata"]),
        (snapshot(raw=False, row=False), ["dangling_dedupe"]),
        (snapshot(raw=False, row=False, dedupe=False, later="DUPLICATE"), ["orphan_arrival"]),
        (snapshot(later="CONFLICT"), ["conflict_unkept"]),
        (snapshot(source="other"), ["row_mismatch"]),
    ],
)
def test_each_disagreement_has_its_class_and_a_remedy(seen: Snapshot, kinds: list[str]) -> None:
    found = list(disagreements(seen))
    assert [row["class"] for row in found] == kinds
    assert all(row["event_id"] == kept().event_id and row["remedy"] == REMEDIES[row["class"]] for row in found)


def test_altered_bytes_are_one_disagreement_whatever_the_rows_say() -> None:
    seen = snapshot()
    bad = {key: replace(one, problem="its bytes differ") for key, one in seen.raw.items()}
    assert [row["class"] for row in disagreements(replace(seen, raw=bad))] == ["hash_mismatch"]
    assert [row["class"] for row in disagreements(replace(seen, raw=bad, rows=[], dedupe={}))] == ["hash_mismatch"]


def test_a_second_object_of_an_event_is_a_stray() -> None:
    seen = snapshot()
    (one,) = seen.raw.values()
    other = replace(one, key=one.key.replace("hour=10", "hour=11"))
    (found,) = disagreements(replace(seen, raw={one.key: one, other.key: other}))
    assert (found["class"], found["where"]) == ("stray", other.key)
    assert key_id(other.key) == one.event_id


@pytest.mark.parametrize(
    ("counted", "fine"), [(("a", "b"), True), (("a", "other"), False), (("a", "gone"), True), (("a",), False)]
)
def test_a_version_may_count_more_than_its_replay_recorded_when_the_replay_selects_it(
    counted: tuple[str, ...], fine: bool
) -> None:
    """A request that is repeated also sends what arrived meanwhile, and only one of the two is recorded.

    ``gone``: the retention of the event is over, and its row was deleted.
    """
    times = {"a": "2025-01-01T12", "b": "2025-01-01T13", "other": "2025-01-01T20"}

    class Stores:
        def under(self, *_: str) -> list[Row]:
            return [{"event_id": name} for name in counted]

        def arrivals(self, *_: str) -> list[Row]:
            return [{"event_id": n, "status": "ACCEPTED", "event_time": time} for n, time in times.items()]

    aws: Any = SimpleNamespace(stores=Stores())
    head = {"entity_id": "e", "start_time": "2025-01-01", "end_time": "2025-01-01T18"}
    assert reconcile._is_selected(aws, Replay("rp-1", head, {}), "2025-01-01", 2) is fine

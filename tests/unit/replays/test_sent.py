"""Which events a replay sent is known afterwards, whatever arrived in its window before, meanwhile and since."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pik import events
from pik.replays.records import Replay
from pik.replays.sent import sent

FAR = events.epoch("2030-01-01T00:00:00Z")


@dataclass(frozen=True)
class Arrived:
    """A row: when the event happened, when it came in, and when its row could be read; seconds."""

    happened: int
    came: int
    visible: int
    status: str = events.ACCEPTED


def moment(seconds: int) -> str:
    day, rest = divmod(seconds, 86_400)
    return f"2026-01-{day + 1:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.000000Z"


def row(number: int, one: Arrived) -> dict[str, Any]:
    happened = moment(one.happened)
    return {
        "SK": f"TS#{happened}#EID#{number:04d}",
        "event_id": f"{number:04d}",
        "event_time": happened,
        "ingest_time": moment(one.came),
        "expires_at": FAR,
        "status": one.status,
    }


def replayed(history: list[Arrived], reads: list[int], duplicates: bool = False) -> tuple[Replay, set[str]]:
    """What the replay function records and sends when its requests read at these moments, each half of what is left."""
    rows = sorted(((row(n, one), one) for n, one in enumerate(history)), key=lambda pair: pair[0]["SK"])
    wanted = {events.ACCEPTED, events.DUPLICATE} if duplicates else {events.ACCEPTED}
    pages, truth, at, begin = {}, set[str](), "START", ""
    for number, read in enumerate(reads):
        last = number == len(reads) - 1
        there = [r for r, one in rows if one.visible <= read and r["SK"] > begin and r["status"] in wanted]
        part = there if last else there[: (len(there) + 1) // 2]
        days = Counter(r["event_time"][:10] for r in part if r["status"] == events.ACCEPTED)
        after = part[-1]["SK"] if part else begin
        pages[at] = {"next": after, "complete": last, "days": dict(days), "finished": moment(read), "sent": len(part)}
        truth |= {r["event_id"] for r in part}
        if after == begin and not last:
            break
        at, begin = after, after
    head = {"entity_id": "e", "include_duplicates": duplicates}
    return Replay("r", head, pages), truth


def found(replay: Replay, history: list[Arrived]) -> set[str]:
    rows = sorted((row(n, one) for n, one in enumerate(history)), key=lambda r: str(r["SK"]))
    return {str(r["event_id"]) for r in sent(replay, rows).rows}


TIMES = st.integers(0, 3 * 86_400)
AT_ONCE = st.builds(
    lambda happened, came, status: Arrived(happened, came, came, status),
    TIMES,
    TIMES,
    st.sampled_from([events.ACCEPTED, events.DUPLICATE, events.CONFLICT]),
)


@given(st.lists(AT_ONCE, max_size=40), st.lists(TIMES, min_size=1, max_size=3).map(sorted), st.booleans())
def test_what_was_sent_is_what_had_come_when_each_request_read(
    history: list[Arrived], reads: list[int], duplicates: bool
) -> None:
    replay, truth = replayed(history, reads, duplicates)
    assert found(replay, history) == truth


SLOWLY = st.builds(lambda happened, came, took: Arrived(happened, came, came + took), TIMES, TIMES, st.integers(0, 60))


@given(st.lists(SLOWLY, max_size=40), st.lists(TIMES, min_size=1, max_size=3).map(sorted))
def test_an_arrival_that_was_being_written_makes_its_day_unsure_and_the_number_stays_right(
    history: list[Arrived], reads: list[int]
) -> None:
    replay, truth = replayed(history, reads)
    rows = sorted((row(n, one) for n, one in enumerate(history)), key=lambda r: str(r["SK"]))
    told = sent(replay, rows)
    assert len(told.rows) == len(truth)
    wrong = {str(r["event_id"]) for r in told.rows} ^ truth
    assert {r["event_time"][:10] for r in rows if r["event_id"] in wrong} <= told.unsure


def test_what_came_since_is_not_told_as_sent() -> None:
    history = [Arrived(10, 20, 20), Arrived(30, 40, 40)]
    replay, truth = replayed(history, [100])
    since = [*history, Arrived(15, 200, 200), Arrived(35, 90, 110)]  # late, and one that was being written
    assert found(replay, since) == truth == {"0000", "0001"}


def test_an_event_of_a_function_whose_clock_is_ahead_was_sent_all_the_same() -> None:
    """It came, by its own clock, a second after the request that counted it had ended; another one came much later."""
    history = [Arrived(0, 1, 1), Arrived(10, 6, 4), Arrived(20, 90, 90)]
    replay, truth = replayed(history, [5])
    answer = sent(replay, [row(number, one) for number, one in enumerate(history)])
    assert {one["event_id"] for one in answer.rows} == truth == {"0000", "0001"}
    assert answer.unsure == {"2026-01-01"}

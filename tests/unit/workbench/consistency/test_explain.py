"""An explanation's text, HTML, JSON and frame; what it tells is tested on a real stack."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from pik import events
from pik.errors import UsageError
from pik.frames import TIMELINE
from pik.ids import an_id
from pik.replays.records import Replay
from pik.workbench.consistency.explain import _Found
from pik.workbench.consistency.explanation import Explanation, Line
from pik.workbench.consistency.timeline import _problems, _replayed

LINES = (
    Line("2026-11-23T10:17:04.120000Z", "received", "by <script>alert(1)</script>", "events table", ok=True),
    Line("", "now", "in no queue", "queues"),
)
TOLD = Explanation("ab", "event ab  <b>UA</b>", True, LINES, ("a note",), ("a problem",))


def test_text_has_a_line_for_each_entry_problem_and_note() -> None:
    assert TOLD.to_text().splitlines() == [
        "event ab  <b>UA</b>",
        "  2026-11-23 10:17:04.120  ✓ received  by <script>alert(1)</script>  [events table]",
        "  now                        now       in no queue  [queues]",
        "  problem  a problem",
        "  note     a note",
    ]
    assert repr(TOLD) == TOLD.to_text()


def test_the_answer_comes_first() -> None:
    told = replace(TOLD, became="accepted <then>, kept intact, never replayed")
    assert told.to_text().splitlines()[:2] == ["event ab  <b>UA</b>", "  accepted <then>, kept intact, never replayed"]
    html = told.to_html()
    assert html.index("accepted &lt;then&gt;") < html.index("event ab")


def test_html_shows_values_as_text() -> None:
    html = TOLD._repr_mimebundle_()["text/html"]
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html


def test_json_and_frame_hold_the_same_lines() -> None:
    assert [line["what"] for line in json.loads(json.dumps(TOLD.to_dict()))["lines"]] == ["received", "now"]
    assert list(TOLD.frame.columns) == TIMELINE.names
    assert TOLD.frame["time"].isna().tolist() == [False, True]
    assert list(Explanation("ab", "never", False).frame.columns) == TIMELINE.names


@pytest.mark.parametrize(("asked", "why"), [("90fdc0d0", "8 of 64 digits"), ("N14228", "64 hexadecimal digits")])
def test_what_is_no_id_is_said_with_what_to_do(asked: str, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        an_id(asked)
    assert why in refused.value.reason
    assert "wb.events" in refused.value.next_step


def test_it_needs_no_library_that_takes_a_second_to_load() -> None:
    """``pik explain`` is read at the terminal: frames and requests to APIs load theirs."""
    heavy = "{'pandas', 'pyarrow', 'httpx'}"
    modules = "pik.cli, pik.workbench.consistency.explain, pik.workbench.consistency.timeline"
    code = f"import sys, {modules}; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- what is wrong with an event, and what is not ---------------------------------------------------------------------

SK = f"TS#2025-01-01T10:00:00.000000Z#EID#{'a' * 64}"
DAY = "2025-01-01"


def found(*, counted: int, finished: str = "2025-01-02T00:00:00.000000Z", expires: int = 2**40) -> _Found:
    """An event that is not counted in a version of ``counted`` events, whose replay sent two."""
    row: dict[str, Any] = {
        "status": "ACCEPTED",
        "event_id": "a" * 64,
        "SK": SK,
        "sk": SK,
        "ingest_time": "2025-01-01T10:00:01.000000Z",
    }
    row |= {"expires_at": expires, "s3_key": "raw/a", "size_bytes": 1, "ingest_lag_ms": 1000}
    page = {"complete": True, "next": "TS$", "finished": finished, "days": {DAY: 2}, "sent": 2}
    head = {"start_time": "2025-01-01T00", "end_time": "2025-01-02T00", "created": finished, "requested_by": "ana"}
    version = {"SK": events.version_sk("rp"), "day": DAY, "input_count": counted, "entity_id": "e", "replay_id": "rp"}
    return _Found(
        dedupe={"sk": SK, "expires_at": expires},
        rows=[row],
        replays={"rp": Replay("rp", head, {"START": page})},
        aggregates=[version],
        settled="2025-01-03T00:00:00.000000Z",
    )


def test_an_event_that_was_sent_and_is_nowhere_is_a_problem_once_the_count_knows_of_it() -> None:
    lost = "a replay sent it, nothing waits in the queue"
    assert any(lost in one for one in _problems(found(counted=1), "a" * 64))
    young = found(counted=1, finished="2025-01-03T00:00:01.000000Z")
    assert not any(lost in one for one in _problems(young, "a" * 64))


def test_an_event_whose_row_was_written_after_a_replay_had_passed_was_not_sent() -> None:
    """The version counts all that was sent, and not this one, although it came before."""
    assert not any("a replay sent it" in one for one in _problems(found(counted=2), "a" * 64))
    (line,) = [line for line in _replayed(found(counted=2), "a" * 64) if line.what == "replay"]
    assert "not sent: its row was written later" in line.detail


def test_what_is_deleted_because_its_retention_is_over_is_no_loss() -> None:
    kept, over = found(counted=2), found(counted=2, expires=1_700_000_000)
    assert any("raw object is gone" in one for one in _problems(kept, "a" * 64))
    assert list(_problems(over, "a" * 64)) == []

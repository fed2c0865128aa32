"""An explanation's text, HTML, JSON and frame; what it tells is tested on a real stack."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from pik.errors import UsageError
from pik.frames import TIMELINE
from pik.ids import an_id
from pik.workbench.consistency.explanation import Explanation, Line

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

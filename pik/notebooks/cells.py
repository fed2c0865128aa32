"""One value as a person reads it, in a table of a notebook or of a report: times in UTC, durations, short ids."""

from __future__ import annotations

import math
import re
from datetime import datetime
from html import escape
from typing import Any

from pik.text import printable
from pik.workbench.times import span

ID_SHOWN = 12  # characters of a digest that are shown; the tooltip has all of them
_LONG_ID = 40
_LONG_SENTENCE = 160
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OFFSET_MS = 10**15  # keeps negative durations in order, as text
# A click copies the id and opens the notebook that takes it. JupyterLab runs the command of a link in the output of a
# cell that was run here: https://jupyterlab.readthedocs.io/en/stable/user/commands.html
_OPENS = """data-commandlinker-command='docmanager:open'
data-commandlinker-args='{"path": "investigate/explain_event.ipynb"}'""".replace("\n", " ")


def cell_text(value: Any, column: str = "") -> str:
    """Return a value as a table shows it; ``column`` tells what a number is.

    >>> cell_text(None), cell_text(1234567), cell_text(0.5), cell_text(True), cell_text(25861581, "lag_ms")
    ('', '1,234,567', '0.5', 'yes', '7.2 h')
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(value) if (ms := milliseconds(value, column)) is None else span(ms)
    if isinstance(value, list | tuple | set):
        return ", ".join(cell_text(item) for item in value)
    return time_text(value) if isinstance(value, datetime) else printable(str(value))


def milliseconds(value: Any, column: str) -> int | None:
    """Return a duration in milliseconds, where the name of its column says that it is one."""
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        return None
    if column.endswith("_ms"):
        return round(value)
    return round(value * 1000) if column in ("seconds", "duration") or column.endswith(("_seconds", "_s")) else None


def heading(column: str) -> str:
    """Return the name of a column as a table shows it: a duration is shown with its unit, so the name has none.

    >>> heading("median_lag_ms"), heading("event_id")
    ('median_lag', 'event_id')
    """
    return column.removesuffix("_ms")


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "" if math.isnan(value) else f"{value:,.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def time_text(moment: datetime) -> str:
    """Return a UTC time without the digits that say nothing."""
    text = moment.strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{moment.microsecond // 1000:03d}Z" if moment.microsecond else f"{text}Z"


def shortened(text: str) -> str:
    """Return what is shown of a text that would push the rest of a table out of sight; short ones are whole.

    >>> shortened("ab" * 32), shortened("UA")
    ('abababababab…', 'UA')
    """
    if _DIGEST.fullmatch(text):
        return f"{text[:ID_SHOWN]}…"
    too_long = len(text) > (_LONG_SENTENCE if " " in text else _LONG_ID)
    return f"{text[:16]}…{text[-12:]}" if too_long else text


def plain_cell(value: Any, column: str) -> str:
    """Return a cell of a plain table: what is shortened has the whole in its tooltip."""
    text = cell_text(value, column)
    shown = shortened(text)
    whole = f' title="{escape(text)}"' if shown != text else ""
    align = "right" if isinstance(value, int | float) and not isinstance(value, bool) else "left"
    return f'<td style="text-align:{align}"{whole}>{escape(shown)}</td>'


def live_cell(value: Any, column: str) -> str:
    """Return the content of a cell that is sorted and searched in the browser.

    What is left out is in the cell, hidden, so that a search for a whole id finds it, and durations sort by length.
    """
    text = cell_text(value, column)
    if (ms := milliseconds(value, column)) is not None:
        return f'<span class="pik-rest">{ms + _OFFSET_MS:016d}</span>{escape(text)}'
    if not _DIGEST.fullmatch(text):
        shown = text if " " in text else shortened(text)  # a sentence is broken into lines instead
        rest = f'<span class="pik-rest">{escape(text)}</span>'
        return escape(text) if shown == text else f'<span title="{escape(text)}">{escape(shown)}{rest}</span>'
    shown = f'{text[:ID_SHOWN]}…<span class="pik-rest">{text}</span>'
    if column != "event_id":
        return f'<code class="pik-id" title="{text}">{shown}</code>'
    copies = f"navigator.clipboard.writeText('{text}')"
    tooltip = f"{text}: a click copies it and opens explain_event; or pik explain {text}"
    return f'<a href="#" class="pik-id" title="{tooltip}" onclick="{copies}" {_OPENS}>{shown}</a>'

"""What the investigation notebooks show besides charts: the banner and tables.

Interactively a table is an itables table: sorted, searched and paged in the browser, its library embedded once with the
banner, nothing loaded from elsewhere. In a run nobody clicks, and scripts are taken out of the report anyway: there a
table is plain HTML, long ones cut with a word about the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from pik.runbooks.headless import headless
from pik.text import printable

if TYPE_CHECKING:
    import pandas as pd

    from pik.environments import Environment
    from pik.rollout.banner import Banner

MOST_ROWS = 100  # of a plain table, so that a report stays small
MOST_CLICKABLE = 2_000  # of one in the browser, so that it stays quick
_LONG_ID = 40
_LONG_SENTENCE = 160
_PLACEHOLDER = "let dt_args = {};"
_LINK = re.compile(r"<a href=https?://[^>]*>(.*?)</a>", re.DOTALL)  # to the library's help pages


def banner(environment: Environment) -> Banner:
    """Return where the notebook is at work; interactively, make its tables clickable as well."""
    from pik.rollout.banner import banner as where

    if not headless():
        _clickable()
    return where(environment)


def _clickable() -> None:
    """Embed the tables' library; each time, because a notebook opened again has lost the output that had it."""
    from itables import init_notebook_mode

    init_notebook_mode(all_interactive=False, connected=False)


@dataclass(frozen=True)
class Table:
    """A frame as a notebook shows it: times in UTC, ids short enough to read, the whole value in the tooltip.

    ``empty`` is what is said when there are no rows.

    Example:
        >>> Table(frame, "no arrival came late")                       # doctest: +SKIP
    """

    frame: pd.DataFrame
    empty: str = "no rows"
    caption: str = ""

    def __repr__(self) -> str:
        return printable(self.frame.to_string(max_rows=20) if len(self.frame) else self.empty, "\n")

    def _repr_html_(self) -> str:
        if not len(self.frame):
            return f"<p><em>{_escaped(self.empty)}</em></p>"
        return self.plain() if headless() else self.interactive()

    def interactive(self) -> str:
        """Return the table for a browser; without scripts its first rows are still there.

        itables escapes cells and column names. It takes the caption for HTML, so the caption is escaped here.
        """
        from itables import to_html_datatable

        texts = self.texts().head(MOST_CLICKABLE)
        if any(_PLACEHOLDER in text for text in (self.caption, *_texts(texts))):
            return self.plain()  # itables fills its template in by this text and would refuse
        html = to_html_datatable(
            texts,
            caption=_escaped(self._caption) or None,
            connected=False,
            showIndex=False,
            classes="display compact",
            allow_html=False,
            columnDefs=[{"className": "dt-left", "targets": "_all"}],
            lengthMenu=[10, 25, 100],
            style="width:auto;margin-left:0",
            display_logo_when_loading=False,
            maxBytes=0,  # no limit but that on rows
        )
        return _LINK.sub(r"\1", str(html))

    @property
    def _caption(self) -> str:
        left = len(self.frame) - MOST_CLICKABLE
        return (
            f"{self.caption} (the first {MOST_CLICKABLE:,} of {len(self.frame):,} rows)" if left > 0 else self.caption
        )

    def texts(self) -> pd.DataFrame:
        """Return the frame with every value as a person reads it; numbers stay numbers."""
        import pandas as pd

        shown = {}
        for position, name in enumerate(self.frame.columns):
            column = self.frame.iloc[:, position]
            numeric = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
            shown[printable(str(name))] = column.round(2) if numeric else [cell_text(value) for value in column]
        return pd.DataFrame(shown)

    def plain(self) -> str:
        """Return the table as plain HTML, cut after :data:`MOST_ROWS` rows."""
        rows = self.frame.head(MOST_ROWS)
        head = "".join(f'<th style="text-align:left">{_escaped(str(name))}</th>' for name in rows.columns)
        body = "".join(
            "<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows.itertuples(index=False, name=None)
        )
        left = len(self.frame) - len(rows)
        more = f"<p><em>… and {left:,} more rows</em></p>" if left else ""
        caption = f"<caption>{_escaped(self.caption)}</caption>" if self.caption else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _texts(frame: pd.DataFrame) -> Iterator[str]:
    yield from map(str, frame.columns)
    for name in frame.columns:
        yield from (value for value in frame[name] if isinstance(value, str))


def cell_text(value: Any) -> str:
    """Return a value as a table shows it.

    >>> cell_text(None), cell_text(1234567), cell_text(0.5), cell_text(True)
    ('', '1,234,567', '0.5', 'yes')
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, list | tuple | set):
        return ", ".join(cell_text(item) for item in value)
    return time_text(value) if isinstance(value, datetime) else printable(str(value))


def _escaped(text: str) -> str:
    return escape(printable(text))


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "" if math.isnan(value) else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def time_text(moment: datetime) -> str:
    """Return a UTC time without the digits that say nothing."""
    text = moment.strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{moment.microsecond // 1000:03d}Z" if moment.microsecond else f"{text}Z"


def _cell(value: Any) -> str:
    text = cell_text(value)
    align = "right" if isinstance(value, int | float) and not isinstance(value, bool) else "left"
    too_long = len(text) > (_LONG_SENTENCE if " " in text else _LONG_ID)
    shown = f"{escape(text[:16])}…{escape(text[-12:])}" if too_long else escape(text)
    whole = f' title="{escape(text)}"' if too_long else ""
    return f'<td style="text-align:{align}"{whole}>{shown}</td>'

"""What the investigation notebooks show besides charts: the banner and tables.

Interactively a table is an itables table: sorted, searched and paged in the browser, its library embedded once with the
banner, nothing loaded from elsewhere. In a run nobody clicks, and scripts are taken out of the report anyway: there a
table is plain HTML, long ones cut with a word about the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from pik.headless import headless
from pik.notebooks.cells import cell_text, heading, live_cell, plain_cell, shortened
from pik.text import printable

if TYPE_CHECKING:
    import pandas as pd

    from pik.environments import Environment
    from pik.notebooks.banner import Banner

MOST_ROWS = 100  # of a plain table, so that a report stays small
MOST_CLICKABLE = 2_000  # of one in the browser, so that it stays quick
_WORDY = 24  # characters of a text that may be broken into lines
_PLACEHOLDER = "let dt_args = {};"
_LINK = re.compile(r"<a href=https?://[^>]*>(.*?)</a>", re.DOTALL)  # to the library's help pages


def banner(environment: Environment) -> Banner:
    """Return where the notebook is at work; interactively, make its tables clickable as well."""
    from pik.notebooks.banner import banner as where

    return shown(where(environment))


def shown(banner: Banner) -> Banner:
    """Return the banner; interactively, make the notebook's tables clickable as well."""
    if not headless():
        _clickable()
    return banner


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

        itables takes names, cells and the caption for HTML here, so all of them are escaped before.
        """
        from itables import to_html_datatable

        cells = self.cells()
        if any(_PLACEHOLDER in text for text in (self.caption, *_texts(cells))):
            return self.plain()  # itables fills its template in by this text and would refuse
        html = to_html_datatable(
            cells,
            caption=_escaped(self._caption) or None,
            connected=False,
            showIndex=False,
            classes="display compact",
            allow_html=True,
            columnDefs=self._columns(),
            lengthMenu=[10, 25, 100],
            style="width:auto;margin-left:0",
            display_logo_when_loading=False,
            maxBytes=0,  # no limit but that on rows
        )
        return '<div class="pik-table">' + _LINK.sub(r"\1", str(html)) + "</div>"

    @property
    def _caption(self) -> str:
        left = len(self.frame) - MOST_CLICKABLE
        return (
            f"{self.caption} (the first {MOST_CLICKABLE:,} of {len(self.frame):,} rows)" if left > 0 else self.caption
        )

    def cells(self) -> pd.DataFrame:
        """Return the frame as HTML: every value as a person reads it, escaped."""
        import pandas as pd

        names = [str(name) for name in self.frame.columns]
        rows = self.frame.head(MOST_CLICKABLE).itertuples(index=False, name=None)
        return pd.DataFrame(
            [list(map(live_cell, row, names)) for row in rows], columns=[_escaped(heading(name)) for name in names]
        )

    def _columns(self) -> list[dict[str, Any]]:
        """How columns are laid out: numbers to the right, sentences in several lines, all else in one."""
        import pandas as pd

        kinds: dict[str, list[int]] = {"dt-right": [], "dt-left pik-words": [], "dt-left": []}
        for position in range(len(self.frame.columns)):
            column = self.frame.iloc[:, position]
            numeric = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
            wordy = not numeric and any(len(shortened(cell_text(value))) > _WORDY for value in column.head(MOST_ROWS))
            kinds["dt-right" if numeric else "dt-left pik-words" if wordy else "dt-left"].append(position)
        return [{"className": name, "targets": columns} for name, columns in kinds.items() if columns]

    def plain(self) -> str:
        """Return the table as plain HTML, cut after :data:`MOST_ROWS` rows."""
        rows = self.frame.head(MOST_ROWS)
        names = [str(name) for name in rows.columns]
        head = "".join(f'<th style="text-align:left">{_escaped(heading(name))}</th>' for name in names)
        body = "".join(
            "<tr>" + "".join(map(plain_cell, row, names)) + "</tr>" for row in rows.itertuples(index=False, name=None)
        )
        left = len(self.frame) - len(rows)
        more = f"<p><em>… and {left:,} more rows</em></p>" if left else ""
        caption = f"<caption>{_escaped(self.caption)}</caption>" if self.caption else ""
        table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div class="pik-table" style="overflow:auto;max-width:100%">{table}</div>{more}'


def _texts(frame: pd.DataFrame) -> Iterator[str]:
    yield from map(str, frame.columns)
    for row in frame.itertuples(index=False, name=None):
        yield from row


def _escaped(text: str) -> str:
    return escape(printable(text))

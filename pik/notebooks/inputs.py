"""Inputs of a notebook: environment, entity, window, status. For input only; what is used is echoed as HTML.

A saved widget shows nothing when the notebook is opened elsewhere, hence the echo. Interactively the values last chosen
are remembered until the parameters cell is changed, so that running all cells again keeps them. In a run there are no
widgets and no memory: the parameters are what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

from pik import config
from pik.headless import headless
from pik.text import printable

STATUSES = ("any", "ACCEPTED", "DUPLICATE", "CONFLICT")
FIXED = ("env", "status")
CHOSEN = ("source", "event_type", "entity", "event_id", "day")  # from what there is, or typed
_FIELD = 22  # characters that are seen of a field
_TIME = "%Y-%m-%dT%H:%M:%SZ"
Values = dict[str, Any]
# JupyterLab runs the command of a button in the output of a cell that was run here, and of no other, without asking:
# https://jupyterlab.readthedocs.io/en/stable/user/commands.html#commands-list
_RUN = (
    '<button type="button" class="jp-mod-styled jp-mod-accept" data-commandlinker-command="notebook:run-all-cells" '
    'title="runs all cells again with what is chosen; elsewhere than in JupyterLab: Run All">Run</button>'
)


@dataclass
class ChosenInputs:
    """What was chosen in this kernel, by notebook, and which parameters it was chosen over."""

    chosen: dict[str, tuple[Values, Values]] = field(default_factory=dict)

    def recall(self, notebook: str, parameters: Values) -> Values:
        """Return the values to start with: those last chosen, unless the parameters are others now."""
        before, chosen = self.chosen.get(notebook, (None, None))
        if headless() or before != parameters or chosen is None:
            return dict(parameters)
        return dict(chosen)

    def keep(self, notebook: str, parameters: Values, chosen: Values) -> None:
        """Remember what was chosen."""
        self.chosen[notebook] = (dict(parameters), dict(chosen))


MEMORY = ChosenInputs()


class Inputs:
    """The values a notebook works with; shown as widgets with an echo, or as the echo alone.

    Example:
        >>> inputs = Inputs("late data", {"env": "local", "source": "UA"}, memory=ChosenInputs())
        >>> inputs.source
        'UA'
    """

    def __init__(
        self,
        notebook: str,
        parameters: Mapping[str, Any],
        *,
        meanings: Mapping[str, str] | None = None,
        where: Callable[[str], str] | None = None,
        choices: Callable[[str, Values], Sequence[str]] | None = None,
        memory: ChosenInputs = MEMORY,
    ) -> None:
        self._notebook = notebook
        self._parameters = dict(parameters)
        self._meanings = dict(meanings or {})
        self._where = where  # makes the banner (HTML) of an environment that is not the banner's above
        self._choices = choices  # what a field may hold, beside the other values
        self._boxes: dict[str, Any] = {}
        self._memory = memory
        self.values = memory.recall(notebook, self._parameters)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        return ", ".join(f"{name} = {_as_text(value)}" for name, value in self.values.items())

    def choose(self, name: str, value: Any) -> None:
        """Set one value, as a widget does."""
        self.values[name] = value
        self._memory.keep(self._notebook, self._parameters, self.values)

    def echo(self) -> str:
        """Return the values used, as HTML: in a line those that were given, folded all of them with their meanings."""
        pairs = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'><code>{escape(_as_text(value))}</code></td>"
            f"<td style='text-align:left'>{escape(self._meanings.get(name, ''))}</td></tr>"
            for name, value in self.values.items()
        )
        given = [f"{name} {_as_text(value)}" for name, value in self.values.items() if name != "env" and value]
        summary = escape(" · ".join(given) or "the defaults")
        moved = self._where and self.values.get("env") != self._parameters.get("env")
        banner = self._where(self.values["env"]) if moved and self._where else ""
        run = "" if headless() else _RUN
        return (
            f'{banner}<div class="pik-asked">{run}<details><summary>what this notebook looks at: '
            f"{summary}</summary><table><tbody>{pairs}</tbody></table></details></div>"
        )

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        if headless():
            display(HTML(self.echo()))
            return
        display(self.form())
        self._shown = display(HTML(self.echo()), display_id=True)

    def form(self) -> Any:
        """Return the widgets, side by side as far as there is room; changing one changes the value and its echo.

        A text field offers what there is (sources, types, days, entities) and takes anything else as well.
        """
        import ipywidgets

        self._boxes = {}
        for name, value in self.values.items():
            box = _widget(name, value, self._meanings.get(name, ""))
            box.observe(lambda change, name=name: self._changed(name, change["new"]), names="value")
            self._boxes[name] = box
        self._offer()
        parts = [*self._boxes.values(), *([self._last_day()] if {"start", "end"} <= self.values.keys() else [])]
        return ipywidgets.HBox(parts, layout=ipywidgets.Layout(flex_flow="row wrap", width="100%"))

    def _offer(self) -> None:
        """Fill in what may be chosen."""
        for name, box in self._boxes.items():
            if hasattr(box, "options") and name not in FIXED and self._choices:
                box.options = tuple(self._choices(name, self.values))

    def _last_day(self) -> Any:
        """A button for the window of the last 24 hours."""
        import ipywidgets

        button = ipywidgets.Button(description="last 24 h", tooltip="start and end: the 24 hours until now (UTC)")

        def choose(_: Any) -> None:
            now = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
            self._boxes["start"].value = f"{now - timedelta(days=1):{_TIME}}"
            self._boxes["end"].value = f"{now:{_TIME}}"

        button.on_click(choose)
        return button

    def _changed(self, name: str, value: Any) -> None:
        from IPython.display import HTML

        self.choose(name, value)
        if name in ("env", "source"):
            self._offer()
        shown = self.__dict__.get("_shown")
        if shown is not None:
            shown.update(HTML(self.echo()))


def _widget(name: str, value: Any, meaning: str) -> Any:
    import ipywidgets

    shared = {
        "description": name,
        "tooltip": meaning,
        "style": {"description_width": "80px"},
        "layout": ipywidgets.Layout(width="270px"),  # three side by side on a screen of 1280 pixels
    }
    if name in FIXED:
        options = config.names() if name == "env" else STATUSES
        return ipywidgets.Dropdown(options=options, value=value, **shared)
    if name in CHOSEN:
        return ipywidgets.Combobox(value=str(value), placeholder=_hint(meaning), continuous_update=False, **shared)
    if isinstance(value, bool):
        return ipywidgets.Checkbox(value=value, **shared)
    if isinstance(value, int):
        return ipywidgets.IntText(value=value, continuous_update=False, **shared)
    if isinstance(value, float):
        return ipywidgets.FloatText(value=value, continuous_update=False, **shared)
    return ipywidgets.Text(value=str(value), placeholder=_hint(meaning), continuous_update=False, **shared)


def _hint(meaning: str) -> str:
    """What an empty field stands for, where that fits into it; the tooltip has the whole meaning.

    >>> _hint("source of the events; empty: UA on local"), _hint("id of the event")
    ('UA on local', '')
    """
    default = meaning.partition("empty: ")[2]
    return default if len(default) <= _FIELD else ""


def _as_text(value: Any) -> str:
    return "(default)" if value == "" else f"{value:g}" if isinstance(value, float) else printable(str(value))

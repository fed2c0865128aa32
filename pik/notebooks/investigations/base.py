"""What every investigation has: an environment and its banner, inputs, a window, answers looked up once, a result."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pik import events, project
from pik.environments import Environment, environment
from pik.errors import PikError, UsageError
from pik.notebooks import findings
from pik.notebooks.banner import Banner
from pik.notebooks.choices import Choices
from pik.notebooks.findings import Finding
from pik.notebooks.inputs import Inputs
from pik.notebooks.parameters_cell import assignments
from pik.notebooks.tables import banner
from pik.results import StepResult, Verdict
from pik.workbench import times
from pik.workbench.workbench import Workbench, connect

T = TypeVar("T")
Window = tuple[str, str]
_NAMED = 5  # events that an advised command names
SAMPLE_DAY, SAMPLE_SOURCE = "2013-01-01", "UA"  # of the data set that comes with the kit


class Investigation:
    """One notebook's questions. Subclasses say their ``title``, and answer in :meth:`findings`.

    ``notebook``: its path below ``notebooks/``, where its parameters cell says what each input means.
    """

    title: ClassVar[str]
    notebook: ClassVar[str]

    def __init__(self, env: str, **parameters: Any) -> None:
        environment(env)  # a wrong name is said here, not in the third cell
        self.inputs = Inputs(
            self.title,
            {"env": env, **parameters},
            meanings=_meanings(project.NOTEBOOKS / self.notebook),
            where=self._where,
            choices=Choices(connect, lambda env: SAMPLE_SOURCE if env == "local" else "").of,
        )
        self._answers: dict[str, Any] = {}

    @property
    def environment(self) -> Environment:
        """The environment asked for."""
        return environment(self.inputs.env)

    @property
    def banner(self) -> Banner:
        """Where this is, and what looking does there."""
        return replace(banner(self.environment), touches=self.touches)

    @property
    def touches(self) -> str:
        """What looking changes in AWS, in words; empty: nothing."""
        return ""

    def _where(self, name: str) -> str:
        """The banner (HTML) of another environment than the first one's."""
        try:
            return replace(banner(environment(name)), touches=self.touches)._repr_html_()
        except PikError as error:
            return f"<p><strong>{escape(error.message)}</strong> <code>{escape(error.next_step)}</code></p>"

    def _ipython_display_(self) -> None:
        """Show where this is and what is looked at; the findings come next."""
        from IPython.display import display

        display(self.banner, self.inputs)

    @property
    def wb(self) -> Workbench:
        """The workbench on that environment."""
        return self.once("workbench", lambda: connect(self.inputs.env))

    def once(self, name: str, look: Callable[[], T]) -> T:
        """Return ``look()``, looked up once for the same inputs, so that all cells speak of the same."""
        key = f"{name} {self.inputs!r}"
        if key not in self._answers:
            self._answers[key] = look()
        found: T = self._answers[key]
        return found

    @property
    def day(self) -> str:
        """The UTC day asked for."""
        given = self.inputs.day
        if given:
            return times.day(given)
        return SAMPLE_DAY if self.environment.name == "local" else datetime.now(UTC).date().isoformat()

    @property
    def window(self) -> Window:
        """The half-open window asked for, in event time: ``start`` to ``end``, else the day."""
        day = self.day
        return self._between(times.moment(day), times.moment(times.next_day(day)))

    def _between(self, start: str, end: str) -> Window:
        """Return the window given by the inputs ``start`` and ``end``; what is empty there is as given here."""
        start = times.moment(self.inputs.start, "start") if self.inputs.start else start
        end = times.moment(self.inputs.end, "end") if self.inputs.end else end
        if start >= end:
            raise UsageError(f"the window is empty: {start} to {end}", next_step="give a start before the end")
        return start, end

    @property
    def source(self) -> str:
        """The source asked for."""
        if not self.inputs.source and self.environment.name != "local":
            raise UsageError("which source?", reason="a stream is one source's", next_step="-p source=NAME")
        return self.inputs.source or SAMPLE_SOURCE

    @property
    def event_type(self) -> str | None:
        """The event type asked for, or None for every type."""
        return self.inputs.event_type or None

    @property
    def stream(self) -> str:
        """The stream in words."""
        return f"{self.source} · {self.event_type}" if self.event_type else self.source

    @property
    def span(self) -> str:
        """The window in words."""
        start, end = self.window
        whole = times.count_days(start, end) == 1 and end == times.moment(times.next_day(start[:10]))
        return f"on {start[:10]}" if whole else f"from {short_time(start)} to {short_time(end)}"

    def nothing_yet(self, question: str, what: str) -> Finding:
        """Say that there is nothing to look at, and how to get something."""
        return findings.nothing_yet(question, what, self.environment.name)

    def findings(self) -> list[Finding]:
        """Answer the investigation's questions."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        return {}

    def result(self) -> StepResult:
        """Return the findings, typed."""
        return findings.result(self.title, self.findings(), self.facts())

    @cached_property
    def commands(self) -> Commands:
        """What to open next, in this environment."""
        return Commands(self)


class Commands:
    """The commands that open another notebook where this one stands."""

    def __init__(self, asking: Investigation) -> None:
        self._asking = asking

    def run(self, runbook: str, **parameters: str) -> str:
        """Return the command that runs another investigation."""
        given = "".join(f" -p {shlex.quote(f'{name}={value}')}" for name, value in parameters.items() if value)
        return f"pik run {runbook} --env {self._asking.environment.name}{given}"

    def replay(self, *words: str) -> str:
        """Return a command of ``pik replay``."""
        return " ".join(["pik replay", *map(shlex.quote, words), "--env", self._asking.environment.name])

    def replay_day(self, entity: str, day: str) -> str:
        """Return the command that plans a replay of an entity's day, which may be anything that a row says."""
        try:
            end = times.next_day(day)
        except ValueError:
            end = "NEXT_DAY"
        return self.replay("plan", "--entity", entity, "--start", day, "--end", end)

    def replay_days(self, event_ids: Sequence[str]) -> str:
        """Return the command that plans a replay of the days of some events; it names the first few of them."""
        some = [word for name in event_ids[:_NAMED] for word in ("--event", name)]
        more = len(event_ids) - _NAMED
        said = f"\nof the first {_NAMED}; of the other {more:,} as well: wb.replay.plan(event_ids)" if more > 0 else ""
        return f"{self.replay('plan', *some)}{said}"

    def explain(self, event_id: str) -> str:
        """Return the command that explains one event."""
        return self.run("explain-event", event_id=event_id)


def verdict(found: object) -> Verdict:
    """Return failed when something was found, passed when not."""
    return Verdict.FAILED if found else Verdict.PASSED


def plural(count: int, noun: str) -> str:
    """Return ``1 event`` or ``1,234 events``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _meanings(notebook: Path) -> dict[str, str]:
    """What each parameter means, as its cell says; nothing where the notebook was moved or is being rewritten."""
    try:
        return {name: one.comment for name, one in assignments(notebook).items()}
    except UsageError:
        return {}


def short_time(moment: str) -> str:
    """Return a time of the kit without the digits that say nothing."""
    return moment.replace(".000000Z", "Z").replace(":00Z", "Z").replace("T", " ")


class ByArrival(Investigation):
    """An investigation whose window is one of ingest time: what came, whenever it says that it happened."""

    @property
    def window(self) -> Window:
        """The half-open window asked for, in ingest time; by default the last 24 hours."""
        now = self.once("now", lambda: datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1))
        end = times.moment(self.inputs.end, "end") if self.inputs.end else times.moment(now)
        before = events.parse_time(end) - timedelta(days=1)
        return self._between(times.moment(before), end)

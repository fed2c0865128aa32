"""What a step of a runbook found: checks with their evidence, typed, and able to render itself.

A notebook ends with a :class:`StepResult` as its last expression. Jupyter shows its HTML; the runner reads the same
object back from the executed notebook under the media type :data:`RESULT_MEDIA_TYPE`. Nothing is parsed from text.
"""

from __future__ import annotations

from enum import StrEnum
from html import escape
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

RESULT_MEDIA_TYPE = "application/vnd.pik.step+json"


class Verdict(StrEnum):
    """The answer of a check. No data is ``inconclusive``, never ``passed``."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Evidence(BaseModel):
    """One fact a verdict rests on: what was looked at (``label``), and what was there (``value``).

    ``payload`` marks a value that is, or quotes, an event's payload: always folded, and left out by ``--no-payloads``.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    value: str
    payload: bool = False


class Check(BaseModel):
    """One line of a checklist.

    ``blocking`` checks stop the runbook unless they passed; advisory ones are only shown.
    ``remedy`` says what to do about a verdict other than passed.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    verdict: Verdict
    sentence: str
    evidence: tuple[Evidence, ...] = ()
    remedy: str = ""
    blocking: bool = True

    @property
    def stops(self) -> bool:
        """Whether this check closes the gate."""
        return self.blocking and self.verdict is not Verdict.PASSED


class StepResult(BaseModel):
    """What one step did and found.

    ``headline``: the one line a person reads first. ``facts``: figures for the summary, JSON-able.
    ``changes``: one sentence for each thing changed in the environment; ``undo``: the command that takes them back.
    """

    title: str
    headline: str
    checks: tuple[Check, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)
    changes: tuple[str, ...] = ()
    undo: str = ""

    @field_validator("facts", mode="before")
    @classmethod
    def _from_pairs(cls, value: Any) -> Any:
        return dict(value) if isinstance(value, list) else value

    @property
    def verdict(self) -> Verdict:
        """Worst verdict of the blocking checks; inconclusive when there is none."""
        verdicts = {check.verdict for check in self.checks if check.blocking}
        if Verdict.FAILED in verdicts:
            return Verdict.FAILED
        return Verdict.PASSED if verdicts == {Verdict.PASSED} else Verdict.INCONCLUSIVE

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Let Jupyter show the checklist and the runner read the object (see IPython's display protocol)."""
        # Notebooks are written with sorted keys; as pairs, the facts stay in the order that their author chose.
        data = self.model_dump(mode="json")
        data["facts"] = list(data["facts"].items())
        return {
            RESULT_MEDIA_TYPE: data,
            "text/html": self.to_html(),
            "text/plain": self.to_text(),
        }

    def to_text(self) -> str:
        """Return the checklist as plain text, one check a line."""
        mark = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.INCONCLUSIVE: "?"}
        lines = [f"{self.title}: {self.headline}"]
        lines += [f"  {mark[c.verdict]} {c.name}: {c.sentence}" for c in self.checks]
        return "\n".join(lines)

    def to_html(self) -> str:
        """Return the checklist as an HTML fragment; every value is escaped, so payloads are text, never markup."""
        rows = "".join(_check_row(check) for check in self.checks)
        changes = "".join(f"<li>{escape(change)}</li>" for change in self.changes)
        undo = f"<p>Undo: <code>{escape(self.undo)}</code></p>" if self.undo else ""
        return (
            f'<section class="pik-step"><h3>{escape(self.title)}: {escape(self.headline)}</h3>'
            f'<table class="pik-checks"><thead><tr><th>verdict</th><th>check</th><th>what was found</th>'
            f"<th>evidence</th></tr></thead><tbody>{rows}</tbody></table>"
            + (f"<p>Changed:</p><ul>{changes}</ul>" if changes else "")
            + undo
            + "</section>"
        )


def _check_row(check: Check) -> str:
    evidence = "".join(
        f"<dt>{escape(item.label)}</dt><dd><code>{escape(item.value)}</code></dd>" for item in check.evidence
    )
    remedy = f"<br><em>do this: {escape(check.remedy)}</em>" if check.remedy and check.stops else ""
    advisory = "" if check.blocking else " (advisory)"
    return (
        f'<tr class="pik-{check.verdict}"><td>{check.verdict}{advisory}</td><td>{escape(check.name)}</td>'
        f"<td>{escape(check.sentence)}{remedy}</td><td><dl>{evidence}</dl></td></tr>"
    )

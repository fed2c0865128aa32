"""What a step of a runbook found: checks with their evidence, typed, and able to render itself.

A notebook ends with a :class:`StepResult` as its last expression. Jupyter shows its HTML; the runner reads the same
object back from the executed notebook under the media type :data:`RESULT_MEDIA_TYPE`. Nothing is parsed from text.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from html import escape as escape_html
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pik.text import printable

RESULT_MEDIA_TYPE = "application/vnd.pik.step+json"
_SHA256 = "^[0-9a-f]{64}$"


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
    ``remedy`` says what to do about a verdict other than passed, ``investigate`` is the command that looks into it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    verdict: Verdict
    sentence: str
    evidence: tuple[Evidence, ...] = ()
    remedy: str = ""
    investigate: str = ""
    blocking: bool = True

    @property
    def stops(self) -> bool:
        """Whether this check closes the gate."""
        return self.blocking and self.verdict is not Verdict.PASSED


class Proof(BaseModel):
    """What exactly a step's checks are about: a phase, and the digests of what was deployed while they ran.

    A result that has one is recorded in the environment's ledger as a verification, whatever its verdict. ``template``
    and ``code`` are those of :func:`pik.aws.stack.digests`, ``parameters`` is the SHA-256 of the stack's parameters
    as canonical JSON (:func:`pik.events.sha256_json`).
    """

    model_config = ConfigDict(frozen=True)

    phase: str
    template: str = Field(pattern=_SHA256)
    code: str = Field(pattern=_SHA256)
    parameters: str = Field(pattern=_SHA256)


class StepResult(BaseModel):
    """What one step did and found.

    ``headline``: the one line a person reads first. ``facts``: figures for the summary, JSON-able.
    ``changes``: one sentence for each thing changed in the environment; ``undo``: the command that takes them back.
    ``proof``: what was proven, for steps whose checks open a gate; others have none and are not recorded.
    """

    title: str
    headline: str
    checks: tuple[Check, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)
    changes: tuple[str, ...] = ()
    undo: str = ""
    proof: Proof | None = None

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
        lines = [f"{self.title}: {self.headline}"]
        lines += [f"  {_MARKS[c.verdict]} {c.name}: {c.sentence}" for c in self.checks]
        return "\n".join(map(printable, lines))

    def to_html(self) -> str:
        """Return the checklist as an HTML fragment; every value is escaped, so payloads are text, never markup."""
        rows = "".join(_check_row(check) for check in self.checks)
        changes = "".join(f"<li>{escape(change)}</li>" for change in self.changes)
        undo = f"<p>undo with <code>{escape(self.undo)}</code></p>" if self.undo else ""
        return (
            f'<section class="pik-step"><style>{RESULT_STYLE}</style>'
            f'<h3><span class="pik-{self.verdict}">{_MARKS[self.verdict]}</span> {escape(self.title)}: '
            f"{escape(self.headline)}</h3>"
            f'<table class="pik-checks"><thead><tr><th>verdict</th><th>check</th><th>what was found</th>'
            f"<th>evidence</th></tr></thead><tbody>{rows}</tbody></table>"
            + (f"<p>changed</p><ul>{changes}</ul>" if changes else "")
            + undo
            + "</section>"
        )


_MARKS = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.INCONCLUSIVE: "?"}
_FOLD_ABOVE = 240
# Colours that read on light and dark; everything else is JupyterLab's own.
RESULT_STYLE = (
    ".pik-step .pik-passed{color:#2b9a66}.pik-step .pik-failed{color:#d9483b}.pik-step .pik-inconclusive{color:#b7791f}"
    ".pik-step table.pik-checks{border-collapse:collapse;table-layout:auto;width:100%;font-size:13px}"
    ".pik-step .pik-checks td,.pik-step .pik-checks th{text-align:left;vertical-align:top;padding:4px 10px 4px 0;"
    "white-space:normal;background:none}"
    ".pik-step .pik-checks tbody tr{border-top:1px solid rgba(128,128,128,.3);background:none}"
    ".pik-step .pik-checks td:last-child{min-width:24ch}"
    ".pik-step td:first-child{white-space:nowrap;font-weight:600}"
    ".pik-step dl{display:grid;grid-template-columns:max-content 1fr;gap:0 10px;margin:0}"
    ".pik-step dt{opacity:.7;font-weight:400}.pik-step dd{margin:0;overflow-wrap:anywhere}"
    ".pik-step pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}"
)


def escape(text: str) -> str:
    """Return text for an HTML page; line ends and tabs stay, for what is folded."""
    return escape_html(printable(text, "\n\t"))


def _evidence(item: Evidence) -> str:
    value = escape(item.value)
    if not item.payload and len(item.value) <= _FOLD_ABOVE:
        return f"<dt>{escape(item.label)}</dt><dd><code>{value}</code></dd>"
    kind = ' class="pik-payload"' if item.payload else ""
    return (
        f"<dt>{escape(item.label)}</dt><dd><details{kind}><summary>{len(item.value):,} characters</summary>"
        f"<pre>{value}</pre></details></dd>"
    )


def _check_row(check: Check) -> str:
    evidence = "".join(_evidence(item) for item in check.evidence)
    remedy = f"<br><em>do this: {escape(check.remedy)}</em>" if check.remedy and check.stops else ""
    remedy += f"<br><em>look: <code>{escape(check.investigate)}</code></em>" if check.investigate else ""
    advisory = "" if check.blocking else " (advisory)"
    return (
        f'<tr><td class="pik-{check.verdict}">{_MARKS[check.verdict]} {check.verdict}{advisory}</td>'
        f"<td>{escape(check.name)}</td><td>{escape(check.sentence)}{remedy}</td><td><dl>{evidence}</dl></td></tr>"
    )


def words(value: object) -> str:
    """Return a value as a person writes it: bodies as text, lists and mappings without brackets and quotes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)

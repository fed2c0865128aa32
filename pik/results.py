"""What a step of a runbook found: checks with their evidence, typed, and able to render itself.

A notebook ends with a :class:`StepResult` as its last expression. Jupyter shows its HTML; the runner reads the same
object back from the executed notebook under the media type :data:`RESULT_MEDIA_TYPE`. Nothing is parsed from text.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pik.markup import render
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
    ``remedy`` says what to do about a verdict other than passed, a command on a line of its own; ``investigate`` is the
    command that looks into it.
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
        """Return the result as an HTML fragment, the answer first: verdict, findings, what to do; then the evidence.

        Every value is escaped, so payloads are text, never markup.
        """
        return render(
            "result.html",
            keep="\n\t",  # of what is folded
            result=self,
            findings=_findings(self),
            style=RESULT_STYLE,
            mark=_MARKS,
            fold=_FOLD_ABOVE,
        )


_MARKS = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.INCONCLUSIVE: "?"}
# How findings are ordered: what closes the gate, what stays open, what is only shown, what is well.
_ORDER = {
    (Verdict.FAILED, True): 0,
    (Verdict.INCONCLUSIVE, True): 1,
    (Verdict.FAILED, False): 2,
    (Verdict.INCONCLUSIVE, False): 3,
    (Verdict.PASSED, True): 4,
    (Verdict.PASSED, False): 4,
}
_FOLD_ABOVE = 240
RESULT_STYLE = (Path(__file__).parent / "data" / "notebook.css").read_text("utf-8")


def _findings(result: StepResult) -> list[tuple[Check, bool, list[str]]]:
    """The checks, those that stop first: whether the line is said, and what to do, the same advice once."""
    found, before = [], ""
    for check in sorted(result.checks, key=lambda check: _ORDER[check.verdict, check.blocking]):
        verbose = len(result.checks) > 1 or check.sentence.rstrip(".") != result.headline  # else the headline says it
        advice = []
        if check.remedy and check.stops and check.remedy != before:
            advice, before = check.remedy.split("\n"), check.remedy
        if verbose or advice or check.investigate:
            found.append((check, verbose, advice))
    return found


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

"""What an investigation found: each finding one sentence, its evidence, and what to open next; and all of them typed.

A finding is a check of a :class:`~pik.results.StepResult`: passed when there is nothing to find, failed when there is,
inconclusive when there was nothing to look at. ``facts["found"]`` of the result names exactly what was found, for
programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pik.results import Check, Evidence, StepResult, Verdict, words

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 5  # rows of a frame that stand as evidence; all of them are in the table above
FOUND = "found"


@dataclass(frozen=True)
class Finding:
    """One finding of an investigation.

    Attributes:
        verdict: passed: looked, nothing found; failed: found; inconclusive: nothing to look at.
        sentence: the finding, in one sentence.
        evidence: a frame (its first rows are quoted), or named facts.
        remedy: the notebook or command to open next.
        question: what was asked, in a few words.
        found: what exactly was found: windows, entities, ids; JSON-able.
        blocking: whether it decides the notebook's verdict, or is only shown.

    Example:
        >>> Finding(Verdict.PASSED, "UA was never silent on 2013-01-01", {"windows": 0}).check().verdict.value
        'passed'
    """

    verdict: Verdict
    sentence: str
    evidence: pd.DataFrame | Mapping[str, Any] | None = None
    remedy: str = ""
    question: str = ""
    found: Sequence[Mapping[str, Any]] = ()
    blocking: bool = True

    def check(self) -> Check:
        """Return it as a line of a checklist."""
        return Check(
            name=self.question or "finding",
            verdict=self.verdict,
            sentence=self.sentence,
            evidence=tuple(_evidence(self.evidence)),
            remedy=self.remedy,
            blocking=self.blocking,
        )


def nothing_yet(question: str, what: str, environment: str) -> Finding:
    """Say that there is nothing to look at, and how to get something."""
    sample = "flights:2013-01-01" if environment == "local" else "FILE.jsonl"
    return Finding(
        Verdict.INCONCLUSIVE,
        f"There is nothing yet: {what}.",
        remedy=f"pik ingest {sample} --env {environment}\nor choose another window; then run this again",
        question=question,
    )


def result(title: str, findings: Iterable[Finding], facts: Mapping[str, Any] | None = None) -> StepResult:
    """Return the findings as a notebook's typed result.

    Args:
        title: the investigation.
        findings: in the order in which they are shown.
        facts: figures for the summary; ``found`` and ``findings`` are added.
    """
    shown = tuple(findings)
    bad = [finding for finding in shown if finding.verdict is Verdict.FAILED]
    unknown = [finding for finding in shown if finding.verdict is Verdict.INCONCLUSIVE and finding.blocking]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        headline = f"{bad[0].sentence.rstrip('.')}{more}"
    elif unknown:
        headline = unknown[0].sentence.rstrip(".")
    else:
        first = next((finding for finding in shown if finding.verdict is Verdict.PASSED), None)
        headline = first.sentence.rstrip(".") if first else "nothing could be judged"
    return StepResult(
        title=title,
        headline=headline,
        checks=tuple(finding.check() for finding in shown),
        facts={
            **(facts or {}),
            "findings": len(bad),
            FOUND: [dict(item) for finding in bad for item in finding.found],
        },
    )


def _evidence(evidence: pd.DataFrame | Mapping[str, Any] | None) -> list[Evidence]:
    if evidence is None:
        return []
    if isinstance(evidence, Mapping):
        return [_fact(str(name), value) for name, value in evidence.items()]
    rows = evidence.head(SHOWN).to_dict("records")
    shown = [Evidence(label=f"row {number}", value=_row(row)) for number, row in enumerate(rows, 1)]
    left = len(evidence) - len(rows)
    return shown + ([Evidence(label="more", value=f"{left:,} more rows in the table above")] if left > 0 else [])


def _fact(name: str, value: Any) -> Evidence:
    """A named figure: thousands separated; a duration as people say it, and named without its unit."""
    from pik.notebooks.cells import cell_text, heading

    if not isinstance(value, int | float) or isinstance(value, bool):
        return Evidence(label=name, value=words(value))
    return Evidence(label=heading(name).replace("_", " "), value=cell_text(value, name))


def _row(row: Mapping[Any, Any]) -> str:
    from pik.notebooks.cells import cell_text, heading

    return " · ".join(
        f"{heading(str(name))} {text}" for name, value in row.items() if (text := cell_text(value, str(name)))
    )

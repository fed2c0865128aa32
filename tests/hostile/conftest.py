"""One deployed stack for all hostile cases, and the table of what was tried and answered."""

from __future__ import annotations

import os
from collections import Counter, defaultdict

import pytest

from tests.hostile import published

EVERYTHING = os.environ.get("PIK_HOSTILE") == "all"
ANSWERS: dict[str, Counter[str]] = defaultdict(Counter)


def record(area: str, answer: object) -> None:
    """Count one answer for the table."""
    ANSWERS[area][str(answer)] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print cases x answers."""
    if not ANSWERS:
        return
    terminalreporter.section("hostile cases and their answers")
    for area, answers in ANSWERS.items():
        said = "  ".join(f"{answer}: {count}" for answer, count in sorted(answers.items()))
        terminalreporter.write_line(f"{area:24} {answers.total():6}   {said}")
    if not published.json_texts():
        terminalreporter.write_line(
            "the published JSON suite and naughty strings were not tried: make hostile fetches them"
        )
    elif not EVERYTHING:
        terminalreporter.write_line("a tenth of the published inputs was tried; all of them: make hostile")

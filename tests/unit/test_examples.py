"""The examples in docstrings are run, except those that need what a unit test has not."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

from pik.project import ROOT

EXAMPLE = re.compile(r"^ *>>> (.*)", re.MULTILINE)
SKIPPED = "# doctest: +SKIP"
# An example that is not run talks to an environment that is deployed, starts or asks the embedded AWS, or sends.
DEPLOYED = re.compile(
    r"\bwb\b|\b(environment|env|ledger|entry|canary|connect|doctor|summary)\b|\"local\""
    r"|\b(running|running_endpoint|up|embedded)\("
)
OTHERWISE = {
    "demo_state().name": "its answer depends on PIK_LOCAL_STATE",
    'Table(frame, "no arrival came late")': "it is shown by a notebook",
    "gaps.gaps(MemoryWorkbench(incident), incident.source, start=…, end=…)": "it takes seconds",
}


def examples(path: Path) -> list[str]:
    return EXAMPLE.findall(path.read_text())


FILES = {path: found for path in sorted((ROOT / "pik").rglob("*.py")) if (found := examples(path))}
RUN = [path for path, found in FILES.items() if any(SKIPPED not in line for line in found)]


@pytest.mark.parametrize("path", RUN, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_are_right(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted
    assert outcome.failed == 0


def test_an_example_is_left_out_only_for_a_reason() -> None:
    left_out = {line.partition(SKIPPED)[0].strip() for found in FILES.values() for line in found if SKIPPED in line}
    unexplained = {line for line in left_out if not DEPLOYED.search(line)}
    assert unexplained == set(OTHERWISE)

"""Write docs/checks.md: every check of a rollout, as :mod:`pik.rollout.checks.catalog` defines it."""

from __future__ import annotations

from pathlib import Path

from pik.rollout.checks.catalog import STEPS, Spec, of_step
from pik.text import is_command
from tests.unit.planted_defects import DEFECTS, WITHOUT

TARGET = Path(__file__).resolve().parent.parent / "docs" / "checks.md"
HEAD = """\
# Checks

`make docs` generates this page from `pik/rollout/checks/catalog.py`. `pik checks` shows the same list.

A check has one of three verdicts: **passed**, **failed**, or **inconclusive** (there was nothing to look at, or it
could not be looked at). A *blocking* check keeps the gate closed unless it passes; an *advisory* one is only shown.
Some blocking checks become advisory when they are inconclusive:

- "messages resolve to raw objects", when messages have used half of their receives, so that none may be inspected;
- "every store is untouched", when a store could not be read;
- "aggregates are still readable", when no aggregate was ever written;
- "the queue's messages are kept", when the queue was empty or holds fewer messages than before (in a rehearsal,
  `pik run rollout -p rehearse_rollback=true`, this check stays blocking).

The check "every event sent is safe" is asked only when the run sends events.

When a check does not pass, its result says what to do, and which runbook investigates the fault. Logs, metrics and the
counts of a queue come late on AWS. A check waits for them for its *patience*, or longer with `-p patience=SECONDS`. On
the embedded AWS they come at once, unless its realism mode is on.
"""
PROVEN = """\
## Proof that each check can fail

For each check, a test plants a defect and runs all checks of the step. Exactly this check must fail, and the checks
in the column "fails too", which look at the same fault. Without a defect all checks must pass. When something never
arrives, the check is *inconclusive*, which closes the gate as well. The tests run the functions of the pipeline
in memory, on imitated stores (`tests/unit/planted_defects.py`).

`tests/unit/rollout/checks/test_checks_can_fail_late.py` repeats these tests with the delays and errors of AWS: the
stores then answer as in the realism mode, with errors several times as often. No other check may fail, no check may
pass in spite of its defect, and without a defect no check may fail. `PIK_SEEDS=0,1,2,3,4` repeats these tests with
these random seeds.
"""
TITLES = {"ingest": "Phase 1: ingest", "replay": "Phase 2: replay", "processor": "Phase 3: processor"}


def rows(spec: Spec) -> str:
    """Return one check as a row of a table."""
    kind = "blocking" if spec.blocking else "advisory"
    wait = f"{spec.patience:.0f} s" if spec.patience else ""
    look = f"`{spec.investigate}`" if spec.investigate else ""
    cells = (spec.name, spec.question, kind, wait, _advice(spec.remedy.format(env="E")), look)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _advice(remedy: str) -> str:
    """What to do, a line each, a command as one."""
    return "<br>".join(f"`{line}`" if is_command(line) else line for line in remedy.split("\n"))


def render() -> str:
    """Return the text of docs/checks.md."""
    head = "| check | asks | kind | patience | when it does not pass | runbook |\n|---|---|---|---|---|---|\n"
    parts = [HEAD]
    for step in STEPS:
        table = "\n".join(rows(spec) for spec in of_step(step))
        parts.append(f"## {TITLES.get(step, 'Rollback')}\n\n{head}{table}\n")
    parts.append(PROVEN)
    parts += [f"### {TITLES.get(step, 'Rollback')}\n\n{proven(step)}\n" for step in STEPS]
    return "\n".join(parts)


def proven(step: str) -> str:
    """Return the table of the defects that the checks of a step notice."""
    lines = ["| check | planted defect | verdict | fails too |", "|---|---|---|---|"]
    for spec in of_step(step):
        planted = [one for one in DEFECTS if (one.step, one.check) == (step, spec.name)]
        lines += [f"| {one.check} | {one.what} | {one.verdict} | {', '.join(one.also)} |" for one in planted]
        if (step, spec.name) in WITHOUT:
            lines.append(f"| {spec.name} | none: {WITHOUT[step, spec.name]} | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    TARGET.write_text(render())

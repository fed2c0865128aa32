"""Every way in which a notebook can fail: what the run says of it, that no kernel is left, and that a resume works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from pik import project, runbooks
from pik.errors import UsageError
from pik.results import Check, StepResult, Verdict
from pik.runbooks import execute, export
from pik.runbooks.notebook import read
from tests.notebooks.lab import RESULT, Lab, result

GOOD = StepResult(title="t", headline="h", checks=(Check(name="c", verdict=Verdict.PASSED, sentence="s"),))


@pytest.fixture(autouse=True)
def _no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "to_html", lambda *_, **__: None)  # has its own tests; half a second each


class Way(NamedTuple):
    cells: tuple[str, ...]
    state: str
    exit_code: int
    says: str
    extra: str = ""


REFUSED = "from pik.errors import Refused\nraise Refused('not now', reason='too late', next_step='pik status')"
AWS = "from botocore.exceptions import EndpointConnectionError as E\nraise E(endpoint_url='http://x')"
WAYS = {
    "raises": Way(("1 / 0",), "failed", 1, "ZeroDivisionError: division by zero"),
    "raises after its result": Way((RESULT, "1 / 0"), "failed", 1, "ZeroDivisionError"),
    "refuses": Way((REFUSED,), "failed", 3, "not now"),
    "cannot reach AWS": Way((AWS,), "failed", 5, "EndpointConnectionError"),
    "leaves": Way(("import sys\nsys.exit(3)", RESULT), "failed", 1, "SystemExit: 3"),
    "is not Python": Way(("1 +",), "failed", 1, "SyntaxError"),
    "loses its kernel": Way(("import os\nos._exit(9)", RESULT), "failed", 1, "kernel died"),
    "hangs": Way(
        ("import subprocess\nsubprocess.run(['sleep', '600'])",), "failed", 1, "stopped after 2 s", ", timeout: 2"
    ),
    "has no result": Way(("1 + 1",), "inconclusive", 4, "without a result"),
    "has two results": Way((RESULT, RESULT), "failed", 1, "2 results"),
    "has a bad result": Way(
        ("display({'application/vnd.pik.step+json': {'title': 1}}, raw=True)",),
        "failed",
        1,
        "not one that this version",
    ),
    "proves nothing": Way(
        ("from pik.results import StepResult\nStepResult(title='t', headline='h')",), "inconclusive", 4, "h"
    ),
    "fails a check": Way((result("failed"),), "failed", 4, "as found"),
    "does not know": Way((result("inconclusive"),), "inconclusive", 4, "as found"),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_failing_step_stops_the_run_with_its_reason_and_a_repaired_one_resumes(
    lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = WAYS[name]
    lab.notebook("trouble", *way.cells)
    lab.notebook("after", RESULT)
    lab.runbook("trouble", "after", extra=way.extra)

    run = lab.run()

    assert (run.verdict, run.exit_code) == (way.state, way.exit_code)
    assert way.says in run.steps[0].headline
    assert [step.state for step in run.steps] == [way.state, "planned"]
    assert way.says.split(":")[0] in run.report.read_text()
    assert runbooks.Run.read(run.path) == run
    assert "--resume" in run.next_step

    lab.notebook("trouble", RESULT)
    monkeypatch.setattr(execute, "execute", lambda *_, **__: GOOD)  # that it really runs again: test_runs.py
    again = runbooks.resume(run.path)

    assert (again.verdict, again.exit_code) == ("passed", 0)
    assert [step.attempts for step in again.steps] == [2, 1]
    assert again.next_step == ""


def test_in_a_notebook_an_error_is_a_sentence_a_reason_and_a_next_step(lab: Lab) -> None:
    lab.notebook("refuses", REFUSED)
    lab.runbook("refuses")

    run = lab.run()

    cells = read(run.path / str(run.steps[0].executed)).cells
    (said,) = (o.traceback for cell in cells for o in cell.get("outputs", []) if o.output_type == "error")
    assert said == ["Refused: not now", "  because  too late", "  do this  pik status"]


def test_a_hanging_step_takes_what_it_started_down_with_it(lab: Lab) -> None:
    note = lab.root / "pid"
    lab.notebook(
        "hangs",
        "import subprocess\np = subprocess.Popen(['sleep', '600'])",
        f"open({str(note)!r}, 'w').write(str(p.pid))\np.wait()",
    )
    lab.runbook("hangs", extra=", timeout: 2.5")

    lab.run()

    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_an_advisory_failure_is_shown_but_stops_nothing(lab: Lab) -> None:
    lab.notebook("advises", result("failed", blocking=False))
    lab.runbook("advises")

    run = lab.run()

    assert run.verdict == "passed"
    assert "so it is" in run.report.read_text()


def test_a_flood_of_output_is_cut_and_the_step_goes_on(lab: Lab) -> None:
    lab.notebook("floods", "for i in range(120): print('x' * 100_000)", RESULT)
    lab.runbook("floods")

    run = lab.run()

    assert run.verdict == "passed"
    executed = run.path / str(run.steps[0].executed)
    assert 1_900_000 < executed.stat().st_size < 2_200_000
    assert "the rest is left out" in executed.read_text()
    assert run.report.stat().st_size < 200_000


def test_a_remedy_is_the_next_step(lab: Lab) -> None:
    lab.notebook("fails", result("failed", remedy="pik status"))
    lab.runbook("fails")

    assert lab.run().next_step.startswith("pik status\npik run --resume ")


def test_a_traceback_has_no_colours_and_no_locals(lab: Lab) -> None:
    lab.notebook("fails", "hidden = 'kept ' + 'aside'\n1 / 0")
    lab.runbook("fails")

    error = lab.run().steps[0].error

    assert error is not None
    assert "ZeroDivisionError" in error.traceback
    assert "\x1b" not in error.traceback
    assert "kept aside" not in error.traceback
    assert error.cell == 3  # after the parameters cell and the injected one


def broken(path: Path) -> None:
    path.write_bytes(b"\xff\xfe not text")


def no_notebook(path: Path) -> None:
    path.write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (Path.unlink, "no such notebook"),
        (broken, "not UTF-8"),
        (no_notebook, "cannot read notebook"),
        (lambda path: path.write_text("not json"), "cannot read notebook"),
    ],
)
def test_an_unreadable_notebook_is_found_before_anything_runs(lab: Lab, spoil: object, says: str) -> None:
    lab.notebook("fine", RESULT)
    spoil(lab.notebook("spoilt", RESULT))  # type: ignore[operator]
    lab.runbook("fine", "spoilt")

    with pytest.raises(UsageError) as caught:
        lab.run()

    assert says in f"{caught.value} {caught.value.reason}"
    assert list(project.RUNS.iterdir()) == []


def test_a_notebook_without_parameters_cell_is_refused_before_anything_runs(lab: Lab) -> None:
    lab.notebook("untagged", RESULT, tags=())
    lab.runbook("untagged")

    with pytest.raises(UsageError, match="no cell tagged parameters"):
        lab.run()


def test_a_parameter_that_the_notebook_does_not_take_is_refused_before_anything_runs(lab: Lab) -> None:
    lab.notebook("fine", RESULT)
    lab.runbook("fine", extra=", parameters: {wrod: x}")

    with pytest.raises(UsageError, match="wrod; did you mean word"):
        lab.run()


def test_a_process_whose_kernel_cannot_start_ends_with_the_reason(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
import nbformat
from pik.runbooks import execute
execute._scratch_root = lambda: {str(_too_long(tmp_path))!r}  # no room for the kernel's sockets
nbformat.write(nbformat.v4.new_notebook(), "{tmp_path}/one.ipynb")
execute.execute(Path("{tmp_path}/one.ipynb"), Path("{tmp_path}/two.ipynb"), {{}})
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert "NotebookFailed: the notebook's kernel did not start" in ended.stderr


def _too_long(folder: Path) -> Path:
    found = folder / ("t" * 100)
    found.mkdir()
    return found

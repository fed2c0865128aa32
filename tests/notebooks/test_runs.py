"""What a run does when its notebooks behave: parameters, order, record, report, resume, interruption, payloads."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pik import runbooks
from pik.errors import Refused, UsageError
from pik.runbooks.record import lock
from tests.notebooks.lab import NBFORMAT, RESULT, Lab, result
from tests.notebooks.offline import active_parts

SHOWS = """
from IPython.display import HTML, SVG, Javascript, display
display(HTML('<p onclick="evil()">table</p><script src="https://cdn.example/x.js"></script><img src="http://x/y.png">'))
display(SVG('<svg xmlns="http://www.w3.org/2000/svg"><script>evil()</script><rect width="9" height="9"/></svg>'))
display(Javascript('evil()'))
"""


def test_a_run_leaves_everything_that_a_colleague_needs(lab: Lab) -> None:
    lab.notebook("one", SHOWS, "print('word is', word)", RESULT)
    lab.notebook("two", RESULT)
    lab.runbook("one", extra=", parameters: {word: '<{{ word }}>'}")
    with (lab.root / "runbooks" / "trial.yaml").open("a") as file:
        file.write("  - {id: two, title: two, notebook: two.ipynb, when: more}\n")
    news: list[runbooks.Progress] = []

    run = lab.run(parameters={"word": "<b>hi</b>"}, on_progress=news.append)

    assert run.verdict == "passed"
    assert [step.state for step in run.steps] == ["passed", "skipped"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-trial-local", run.path.name)
    assert [f"{n.cell}/{n.cells}" for n in news if n.cell] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    record = json.loads((run.path / "run.json").read_text())
    assert record["parameters"] == {"env": "local", "word": "<b>hi</b>", "more": False}
    assert record["steps"][0]["parameters"] == {"env": "local", "word": "<<b>hi</b>>"}
    assert record["exit_code"] == 0
    source, executed = lab.root / "notebooks" / "one.ipynb", run.path / "notebooks" / "01-one.ipynb"
    assert record["steps"][0]["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert record["steps"][0]["executed_sha256"] == hashlib.sha256(executed.read_bytes()).hexdigest()
    assert "word is <<b>hi</b>>" in executed.read_text()
    for page in (run.report, run.path / "notebooks" / "01-one.html", run.path.parent / "index.html"):
        assert active_parts(page) == []
        assert "<b>hi</b>" not in page.read_text()
    assert "<svg" in run.report.read_text()
    assert run.path.name in (run.path.parent / "index.html").read_text()


def test_a_step_runs_in_this_python_and_knows_that_it_is_headless(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("meddled = True")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "nothing"))
    probe = "import sys\nfrom pik.runbooks import headless\nprint(sys.executable, headless(), 'meddled' in globals())"
    lab.notebook("one", probe, RESULT)
    lab.runbook("one")

    run = lab.run()

    assert f"{sys.executable} True False" in (run.path / "notebooks" / "01-one.ipynb").read_text()
    assert not runbooks.headless()


def test_a_long_path_of_temporary_files_leaves_room_for_the_kernels_sockets(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("t" * 100)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    lab.notebook("one", RESULT)
    lab.runbook("one")

    assert lab.run().verdict == "passed"


def test_a_resume_keeps_what_passed_and_the_parameters(lab: Lab) -> None:
    lab.notebook("one", RESULT)
    lab.notebook("two", result("failed"))
    lab.runbook("one", "two", extra=", parameters: {word: '{{ word }}'}")
    run = lab.run(parameters={"word": "mine"})
    first = (run.path / "notebooks" / "01-one.ipynb").read_bytes()

    lab.notebook("two", "print(word)", RESULT)
    again = runbooks.resume(run.path)

    assert again.verdict == "passed"
    assert (run.path / "notebooks" / "01-one.ipynb").read_bytes() == first
    assert "mine" in (run.path / "notebooks" / "02-two.ipynb").read_text()
    assert len(again.resumed) == 1
    with pytest.raises(Refused, match="nothing left to do"):
        runbooks.resume(run.path)


def test_a_resume_is_refused_when_what_had_passed_has_changed(lab: Lab) -> None:
    lab.notebook("one", RESULT)
    lab.notebook("two", result("failed"))
    lab.runbook("one", "two")
    run = lab.run()
    before = (run.path / "run.json").read_bytes()

    lab.notebook("one", "pass", RESULT)
    lab.notebook("two", RESULT)
    (lab.root / "template.yaml").write_text("another")

    with pytest.raises(Refused, match=r"notebook one\.ipynb, template\.yaml changed"):
        runbooks.resume(run.path)
    assert (run.path / "run.json").read_bytes() == before
    assert runbooks.resume(run.path, force=True).verdict == "passed"


def test_two_processes_cannot_work_in_one_run(lab: Lab) -> None:
    lab.notebook("one", result("failed"))
    lab.runbook("one")
    run = lab.run()

    with lock(run.path), pytest.raises(Refused, match="another process"):
        runbooks.resume(run.path)


def test_payloads_can_be_left_out_of_everything_that_is_kept(lab: Lab) -> None:
    path = lab.notebook(
        "one",
        "print('sec' + 'ret-1')",
        "from IPython.display import HTML\nHTML('<pre class=\"pik-payload\">sec' + 'ret-2</pre>')",
        "from pik.results import *\n"
        "StepResult(title='t', headline='h', checks=[Check(name='c', verdict='passed', sentence='s',"
        " evidence=[Evidence(label='l', value='sec' + 'ret-3', payload=True)])])",
    )
    notebook = NBFORMAT.read(path, as_version=4)
    notebook.cells[2].metadata["tags"] = ["payload"]
    NBFORMAT.write(notebook, path)
    lab.runbook("one")

    kept, bare = lab.run(), lab.run(payloads=False)

    for number in (1, 2, 3):
        assert f"secret-{number}" in kept.report.read_text()
    for file in bare.path.rglob("*"):
        assert not file.is_file() or "secret-" not in file.read_text(), file
    assert bare.verdict == "passed"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_run_leaves_no_kernel_and_can_be_resumed(lab: Lab, number: signal.Signals, code: int) -> None:
    note = lab.root / "pid"
    lab.notebook("one", RESULT)
    lab.notebook("two", f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)", RESULT)
    lab.runbook("one", "two")
    with subprocess.Popen(lab.command(), cwd=Path(__file__).parents[2]) as process:
        try:
            _wait_until(lambda: note.is_file() and note.read_text() != "")
            process.send_signal(number)
            assert process.wait(timeout=120) == code
        finally:
            process.kill()
    _wait_until(lambda: not _alive(int(note.read_text())))

    (folder,) = (path.parent for path in (lab.root / "runs").glob("*/run.json"))
    run = runbooks.Run.read(folder)
    assert run.verdict == "interrupted"
    assert [step.state for step in run.steps] == ["passed", "interrupted"]
    assert run.exit_code == 130

    if number is signal.SIGKILL:
        lab.notebook("two", RESULT)
        assert runbooks.resume(folder).verdict == "passed"


def test_children_of_a_kernel_are_left_alone_while_it_ends(lab: Lab) -> None:
    """A cell that is interrupted may need them to end in order; ipykernel ends them first, and waits half a minute."""
    note = lab.root / "ended"
    lab.notebook(
        "one",
        "import subprocess\n"
        f"script = \"trap 'echo asked >> {note}; exit' TERM; echo ready > {note}; while :; do sleep 0.1; done\"\n"
        "child = subprocess.Popen(['sh', '-c', script])",
        f"import time\nfrom pathlib import Path\nwhile not Path({str(note)!r}).is_file(): time.sleep(0.05)",
        RESULT,
    )
    lab.runbook("one")

    assert lab.run().verdict == "passed"

    assert note.read_text() == "ready\n"


def test_a_step_that_is_interrupted_may_roll_back_what_it_began(lab: Lab) -> None:
    """A canary's rollback takes longer than the five seconds after which Jupyter kills a kernel."""
    note, undone = lab.root / "began", lab.root / "undone"
    lab.notebook(
        "one",
        f"""
import time
from pathlib import Path
try:
    Path({str(note)!r}).write_text("begun")
    time.sleep(600)
finally:
    time.sleep(7)
    Path({str(undone)!r}).write_text("undone")
""",
        RESULT,
    )
    lab.runbook("one")
    command = subprocess.Popen(lab.command(), cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    with command as process:
        try:
            _wait_until(note.is_file)
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130
    assert undone.is_file()
    assert printed == "ending\n"


def test_a_run_is_found_by_name_start_path_and_last(lab: Lab) -> None:
    lab.notebook("one", RESULT)
    lab.runbook("one")
    run = lab.run()

    assert {runbooks.find(name) for name in (run.id, run.id[:12], str(run.path), "last")} == {run.path}
    with pytest.raises(UsageError, match="no such run"):
        runbooks.find("2001")


def _wait_until(true: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

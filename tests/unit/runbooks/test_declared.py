"""A parameter is declared once: in the notebook's parameters cell, from which a runbook takes it."""

from __future__ import annotations

import json
import re
from html import escape
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pik import project
from pik.cli import run as command
from pik.errors import UsageError
from pik.ledger.kinds import Kind
from pik.notebooks.inputs import STATUSES
from pik.notebooks.investigations.late import LateData
from pik.runbooks import catalog, load
from pik.runbooks.declared import declared
from pik.runbooks.parameters import Parameter, parse

CELL = """
env = "local"  # environment: where
entity = ""  # only this one; empty: every one
most: int = 25  # how many # of them
below = -0.5
live = False  # receive [bold]
day = ""  # date: UTC day; empty: today
start = "2013-01-01T00:00:00Z"  # datetime: begin
events = None  # events: what to send
to = "replay"  # one of: replay | ingest; replay: processor off; ingest: replay off as well
label = "a # b"
"""


def write(folder: Path, cell: str, name: str = "one", tag: str = "parameters") -> Path:
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# One"},
        {"cell_type": "code", "id": "b", "metadata": {"tags": [tag]}, "source": cell.strip().splitlines(True)}
        | {"outputs": [], "execution_count": None},
    ]
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runbooks and notebooks of a test's own; with the notebook ``one``."""
    monkeypatch.setattr(project, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(project, "RUNBOOKS", tmp_path)
    write(tmp_path, CELL)
    return tmp_path


def book(folder: Path, rest: str) -> Path:
    path = folder / "trial.yaml"
    path.write_text(f"name: trial\ntitle: A trial\n{rest}")
    return path


ONE = "notebook: one.ipynb"
TWO = """
steps:
  - {id: one, title: One, notebook: one.ipynb, passes: [most]}
  - {id: two, title: Two, notebook: two.ipynb, passes: [most]}
"""


def test_a_cell_gives_name_type_default_and_help(folder: Path) -> None:
    found = declared(folder / "one.ipynb")

    assert {name: (one.type, one.default, one.description) for name, one in found.items()} == {
        "env": ("environment", "local", "where"),
        "entity": ("string", None, "only this one; empty: every one"),
        "most": ("integer", 25, "how many # of them"),
        "below": ("number", -0.5, ""),
        "live": ("boolean", False, "receive [bold]"),
        "day": ("date", None, "UTC day; empty: today"),
        "start": ("datetime", "2013-01-01T00:00:00Z", "begin"),
        "events": ("events", None, "what to send"),
        "to": ("choice", "replay", "replay: processor off; ingest: replay off as well"),
        "label": ("string", "a # b", ""),
    }
    assert found["to"].choices == ("replay", "ingest")
    assert not any(one.required for one in found.values())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('day = ""  # dat: UTC day', "'dat', which names no type; did you mean date?"),
        ('to = "a"  # oneof: a|b', "'oneof', which names no type; did you mean one of?"),
        ('to = "a"  # one off: a|b', "'one off', which names no type; did you mean one of?"),
        ('to = "a"  # one of a|b', "after 'one of' stands a colon"),
        ('to = "a"  # one of: a', "names no choices"),
        ('to = "a"  # one of: a|a; twice the same', "names no choices"),
        ('to = "a"  # one of: a, b; where to', "names no choices"),
        ('to = "a"  # one of: a||b; where to', "names no choices"),
        ('to = "c"  # one of: a|b; where to', "'c' is not one of a, b"),
        ('day = "soon"  # date: UTC day', "'soon' is not a date"),
        ("day = 3  # date: UTC day", "'date:' is for text, and its default is of type integer"),
        ("most = [1]  # how many", "neither text nor a number"),
        ("most = int('3')", "neither text nor a number"),
        ("most: int  # how many", "neither text nor a number"),
        ("note = 'AKIA" + "ABCDEFGHIJKLMNOP'", "an AWS access key id"),
    ],
)
def test_a_malformed_line_is_refused_and_names_file_cell_and_line(folder: Path, line: str, says: str) -> None:
    path = write(folder, f'env = "local"\n{line}')

    with pytest.raises(UsageError) as caught:
        load(book(folder, ONE))

    assert "one.ipynb" in str(caught.value)
    assert caught.value.reason.startswith("parameters cell, line 2: ")
    assert says in caught.value.reason
    assert str(path) in caught.value.next_step
    assert isinstance(catalog(folder)[0], UsageError)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no such notebook"),
        ("{", "cannot read notebook"),
        ("[]", "cannot read notebook"),
        ('{"worksheets": []}', "cannot read notebook"),
        ('{"cells": ' + "[" * 20_000, "cannot read notebook"),
        ('{"cells": []}', "no cell tagged parameters"),
        ('{"cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "a ="}]}', "is not Python"),
        (
            '{"cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "a\\u0000"}]}',
            "is not Python",
        ),
    ],
)
def test_a_notebook_that_declares_nothing_is_refused(folder: Path, text: str | None, says: str) -> None:
    (folder / "one.ipynb").unlink()
    if text is not None:
        (folder / "one.ipynb").write_text(text)

    with pytest.raises(UsageError) as caught:
        load(book(folder, ONE))

    assert says in f"{caught.value} {caught.value.reason}"


def test_a_runbook_of_one_notebook_takes_whatever_that_declares(folder: Path) -> None:
    trial = load(book(folder, ONE))

    assert trial.parameters == {**declared(folder / "one.ipynb"), "env": Parameter(type="environment")}
    assert [(step.id, step.title, step.notebook) for step in trial.steps] == [("trial", "A trial", "one.ipynb")]
    values = parse(trial.parameters, "dev", {"most": "3", "day": "2013-01-02"})
    assert values["most"] == 3
    assert "entity" not in values
    assert trial.steps[0].resolve(values) == values  # what has no value is left to the notebook
    with pytest.raises(UsageError, match="no such parameter: mst; did you mean most"):
        parse(trial.parameters, "dev", {"mst": "3"})
    with pytest.raises(UsageError, match="did you mean replay"):
        parse(trial.parameters, "dev", {"to": "reply"})


def test_a_step_passes_on_what_it_names_and_what_it_fixes_nobody_can_give(folder: Path) -> None:
    step = "steps:\n  - {id: one, title: One, notebook: one.ipynb, parameters: {live: true}, passes: %s}"

    some = load(book(folder, step % "[most]"))
    assert list(some.parameters) == ["env", "most"]
    assert some.steps[0].resolve({"env": "dev", "most": 3}) == {"env": "dev", "live": True, "most": 3}
    assert "live" not in load(book(folder, step % "all")).parameters
    for names, says in (("[mst]", "takes no parameter mst; did you mean most"), ("[live]", "live is passed on, and")):
        with pytest.raises(UsageError) as caught:
            load(book(folder, step % names))
        assert says in f"{caught.value} {caught.value.reason}"


def test_what_two_notebooks_declare_otherwise_the_runbook_declares(folder: Path) -> None:
    write(folder, 'env = "local"\nmost = 25  # another sentence', "two")
    assert load(book(folder, TWO)).parameters["most"].description == "how many # of them"

    write(folder, 'env = "local"\nmost = 60', "two")
    with pytest.raises(UsageError) as caught:
        load(book(folder, TWO))
    assert "step two: another step's notebook declares most otherwise; declare it here" in caught.value.reason

    trial = load(book(folder, "parameters:\n  most: {type: number, default: 300}" + TWO))
    assert parse(trial.parameters, "dev", {}) == {"env": "dev", "most": 300.0}


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        (ONE + TWO, "a notebook and steps"),
        ("notbook: one.ipynb", "notbook: no such key; did you mean notebook"),
        ("notebook: ../one.ipynb", "below the notebooks folder"),
    ],
)
def test_a_mistake_in_the_short_form_is_named(folder: Path, rest: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(book(folder, rest))

    assert says in caught.value.reason


def test_a_notebooks_parameter_that_promises_a_secret_is_refused(folder: Path) -> None:
    write(folder, 'env = "local"\napi_key = ""')

    with pytest.raises(UsageError, match="api_key is refused"):
        load(book(folder, ONE))


def test_the_help_shows_what_the_cell_says(folder: Path) -> None:
    book(folder, ONE)
    app = typer.Typer()
    command.register(app)

    shown = CliRunner().invoke(app, ["trial", "--describe"], env={"COLUMNS": "200"}).stdout

    lines = [line.split() for line in shown.splitlines()]
    assert ["-p", "most=", "integer", "default", "25", "how", "many", "#", "of", "them"] in lines
    assert ["-p", "day=", "date", "optional", "UTC", "day;", "empty:", "today"] in lines
    assert any(line[-2:] == ["receive", "[bold]"] for line in lines)
    assert any(line[:5] == ["-p", "to=", "replay|ingest", "default", "replay"] for line in lines)


INVESTIGATIONS = [project.NOTEBOOKS / "start.ipynb", *sorted((project.NOTEBOOKS / "investigate").glob("*.ipynb"))]


@pytest.mark.parametrize("path", INVESTIGATIONS, ids=lambda path: path.stem)
def test_the_inputs_of_an_investigation_mean_what_its_notebook_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    code = ["".join(one["source"]) for one in json.loads(path.read_bytes())["cells"] if one["cell_type"] == "code"]
    imported = re.match(r"from (pik\.notebooks\.investigations\.\w+) import (\w+)\n", code[1])
    assert imported
    asks = getattr(import_module(imported[1]), imported[2])
    cell = declared(path)

    given = {name: "" if one.default is None else one.default for name, one in cell.items()} | {"env": "dev"}
    shown = asks(**given).inputs.echo()

    assert project.NOTEBOOKS / asks.notebook == path
    assert all(escape(one.description) in shown for one in cell.values())


def test_an_investigation_runs_without_its_notebooks_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setattr(project, "NOTEBOOKS", tmp_path)

    assert "source" in LateData("dev", source="UA").inputs.echo()


def test_statuses_to_choose_are_those_of_the_cell() -> None:
    assert declared(project.NOTEBOOKS / "investigate" / "late_data.ipynb")["status"].choices == STATUSES


def test_every_notebook_of_the_project_declares_its_parameters() -> None:
    for path in project.NOTEBOOKS.rglob("*.ipynb"):
        if ".ipynb_checkpoints" not in path.parts:
            assert declared(path)["env"].type == "environment"
    kinds = declared(project.NOTEBOOKS / "investigate" / "ledger.ipynb")["kind"].choices
    assert set(kinds) == set(Kind)

"""Runbooks from YAML: strict, with every reference resolved when they are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pik import project
from pik.errors import UsageError
from pik.runbooks import catalog, load
from pik.runbooks.notebook import check_step

GOOD = """
name: good
title: A good one
parameters:
  env: {type: environment}
  limit: {type: integer, default: 3}
  day: {type: date, default: 2013-01-01}
  note: {type: string, default: null}
  more: {type: boolean, default: false}
steps:
  - id: one
    title: One
    notebook: rollout/one.ipynb
    parameters: {limit: "{{ limit }}", label: "at most {{limit}}", note: "{{ note }}", fixed: 7}
  - {id: two, title: Two, notebook: two.ipynb, when: more, timeout: 30}
"""


def write(folder: Path, text: str, name: str = "good") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def test_a_reference_keeps_its_type_alone_and_becomes_text_among_text(tmp_path: Path) -> None:
    book = load(write(tmp_path, GOOD))

    assert book.steps[0].resolve({"env": "dev", "limit": 3, "more": False}) == {
        "env": "dev",
        "limit": 3,
        "label": "at most 3",
        "fixed": 7,  # note has no value: the notebook's own default holds
    }
    assert book.parameters["day"].default == "2013-01-01"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("title: A good one", "titel: A good one", "titel: no such key; did you mean title"),
        ("timeout: 30", "timout: 30", "timout: no such key; did you mean timeout"),
        ("default: 3", "defalt: 3", "defalt: no such key; did you mean default"),
        ("type: integer", "type: int", "parameters.limit.type"),
        ("default: 3", "default: three", "not a whole number"),
        ("{{ limit }}", "{{ limt }}", "no such parameter: limt; did you mean limit"),
        ("when: more", "when: mor", "no such parameter: mor; did you mean more"),
        ("when: more", "when: limit", "is not a boolean parameter"),
        ("id: two", "id: one", "the same id"),
        ("two.ipynb", "../two.ipynb", "below the notebooks folder"),
        ("two.ipynb", "two.py", "below the notebooks folder"),
        ("fixed: 7", "api_key: x", "its name says that it holds a secret"),
        ("fixed: 7", "fixed: AKIA" + "ABCDEFGHIJKLMNOP", "an AWS access key id"),
        ("name: good", "name: good\nname: again", "stands here twice"),
        ("timeout: 30", "timeout: 0", "greater than 0"),
        ("limit: {type: integer, default: 3}", "limit: {type: choice}", "choices"),
        ("name: good", "name: [", "cannot use runbook"),
        ("name: good", "path: /x", "path: no such key"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))

    with pytest.raises(UsageError) as caught:
        load(path)

    assert says in f"{caught.value} {caught.value.reason}"


def test_an_unknown_runbook_suggests_the_right_one(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "rollout")

    with pytest.raises(UsageError, match="did you mean rollout") as caught:
        load("rolout", folder=tmp_path)

    assert caught.value.exit_code == 2


def test_a_broken_runbook_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a")
    write(tmp_path, "steps: 3", "b")

    good, broken = catalog(tmp_path)

    assert not isinstance(good, UsageError)
    assert isinstance(broken, UsageError)


@pytest.mark.parametrize("path", sorted(project.RUNBOOKS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_runbook_of_the_project_fits_its_notebooks(path: Path) -> None:
    book = load(path)

    assert book.name == path.stem
    for step in book.steps:
        check_step(step, project.NOTEBOOKS)


def test_listing_runbooks_loads_no_notebook_library() -> None:
    script = (
        "import sys; from pik import runbooks; runbooks.catalog();"
        "heavy = {'papermill', 'nbformat', 'nbconvert', 'IPython', 'boto3', 'pandas', 'jinja2'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")

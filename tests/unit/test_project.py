"""The project's own promises about itself: locks in step, light imports, documents that match the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pik.project import ROOT
from scripts import cases_docs, checks_docs, cli_docs, environment_yml

LOCKS = {path.stem: path for path in (ROOT / "requirements").glob("*.lock")}
HEAVY = {"pandas", "pyarrow", "jupyterlab", "papermill", "nbformat", "IPython", "altair", "ipywidgets"}


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("statement", ["import pik", "import pik.cli", "import pik.pipeline.ingest"])
def test_imports_pull_in_no_notebook_library(statement: str) -> None:
    assert modules_after(statement) & HEAVY == set()


def test_import_pik_does_not_even_need_boto3() -> None:
    assert "boto3" not in modules_after("import pik")


def test_the_lock_files_satisfy_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for wanted, lock in (
        (project["project"]["dependencies"], "workbench"),
        (project["dependency-groups"]["dev"], "dev"),
    ):
        versions = environment_yml.locked(lock)
        needed = [Requirement(line) for line in wanted]
        assert [str(r) for r in needed if not r.specifier.contains(versions.get(r.name.lower(), "0"))] == []


def test_what_only_tests_need_is_not_in_the_workbench() -> None:
    tools = {"pytest", "mypy", "ruff", "moto", "playwright", "hypothesis"}
    assert tools & environment_yml.locked().keys() == set()
    assert tools <= environment_yml.locked("dev").keys()


def test_the_test_tools_change_no_version_of_the_workbench() -> None:
    workbench, dev = environment_yml.locked(), environment_yml.locked("dev")
    assert {name for name in workbench.keys() & dev.keys() if workbench[name] != dev[name]} == set()


def test_environment_yml_is_what_the_lock_says() -> None:
    assert (ROOT / "environment.yml").read_text() == environment_yml.render(), "run: make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    entries = re.findall(r"^[A-Za-z0-9._-]+==.*(?:\n .*)*", LOCKS[name].read_text(), re.MULTILINE)
    assert entries
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_emulator_and_the_sam_cli_are_the_versions_that_were_tried() -> None:
    assert "ministack==1.5.33" in LOCKS["emulator"].read_text()
    assert "aws-sam-cli==1.170.0" in LOCKS["sam"].read_text()


def test_make_help_shows_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE)) - {"help"}
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in shown.splitlines() if line.strip().startswith("make ")} >= targets


def test_the_command_reference_is_what_the_commands_say() -> None:
    assert cli_docs.TARGET.read_text() == cli_docs.render(), "run: make docs"
    assert checks_docs.TARGET.read_text() == checks_docs.render(), "run: make docs"


def test_the_page_of_cases_is_what_ingest_answers() -> None:
    assert {path.name for path in cases_docs.CASES.iterdir()} == set(cases_docs.FILES)
    assert cases_docs.TARGET.read_text() == cases_docs.render(), "run: make docs"


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_no_file_names_a_package_registrys_host() -> None:
    hosts = ["py" + "pi.org", "files.python" + "hosted", "registry.npm" + "js", "deb.deb" + "ian"]
    found = subprocess.run(
        ["git", "grep", "-lE", "|".join(hosts)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_the_workbench_imports_nothing_that_only_tests_have() -> None:
    only_tests = environment_yml.locked("dev").keys() - environment_yml.locked().keys()
    there = packages_distributions()
    foreign = {
        (str(path.relative_to(ROOT)), name)
        for path in [*(ROOT / "pik").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
        for name in imported(path)
        if {d.lower().replace("_", "-") for d in there.get(name, [])} & only_tests
    }
    assert foreign == set()


def imported(path: Path) -> set[str]:
    """The packages that a source file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found

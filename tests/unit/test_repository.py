"""What stands around the code: licence, rules, workflow and hooks name only what there is."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pik.project import ROOT
from scripts import environment_yml

PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", ".github/pull_request_template.md")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text()


def test_the_licence_is_the_one_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "LICENSE").read_text()
    assert project["license"] == "MIT"
    assert text.startswith("MIT License\n\nCopyright (c) 2026 The pik authors\n")


@pytest.mark.parametrize("page", PAGES)
def test_pages_beside_the_readme_name_targets_and_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    assert set(re.findall(r"\bmake ([a-z][a-z-]+)\b(?= |`|\n)", "\n".join(code(text)))) <= TARGETS


def code(text: str) -> list[str]:
    """What a page shows as code: lines set in, and words between backquotes."""
    return re.findall(r"^ {4}.*|`[^`\n]+`", text, re.MULTILINE)


def test_every_action_of_the_workflow_is_pinned_to_a_commit() -> None:
    uses = re.findall(r"uses: *(.*)", WORKFLOW)
    assert uses
    assert [line for line in uses if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v[\d.]+", line)] == []


def test_the_workflow_runs_targets_that_exist_and_may_only_read() -> None:
    workflow: dict[str, Any] = yaml.safe_load(WORKFLOW)
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [shlex.split(step["run"].replace("${{ matrix.target }}", "TARGET")) for step in steps if "run" in step]
    assert {command[0] for command in commands} == {"make"}
    targets = {*workflow["jobs"]["check"]["strategy"]["matrix"]["target"], *(command[1] for command in commands)}
    assert targets - {"TARGET"} <= TARGETS
    assert {"lint", "demo", "test"} <= targets


def test_the_workflow_tries_the_pythons_that_the_package_names() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    named = {line.rpartition(" ")[2] for line in classifiers if "Python ::" in line}
    assert set(re.findall(r"\"(3\.\d+)\"", WORKFLOW)) == named


def test_the_hooks_run_tools_of_the_lock_and_download_nothing() -> None:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    tools = {hook["entry"].split()[0] for hook in repos[0]["hooks"]}
    assert {Path(tool).name for tool in tools} <= environment_yml.locked("dev").keys()
    assert {str(Path(tool).parent) for tool in tools} == {".venv/bin"}


def test_the_templates_of_issues_can_be_read() -> None:
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        assert path.name == "config.yml" or {"name", "description", "body"} <= form.keys()

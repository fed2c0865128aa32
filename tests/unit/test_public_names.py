"""What people call: which names there are, and that ``help()`` says of each argument what it means."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Callable
from typing import Any

import pytest

import pik
import pik.emulator
import pik.ledger
import pik.runbooks
import pik.workbench
from pik import environments, errors
from pik.project import ROOT
from pik.workbench import Workbench
from pik.workbench.queues import DeadLetters, Queue
from pik.workbench.replaying import Replaying

# Changing a line here changes what people's notebooks and scripts may call: say so in CHANGELOG.md.
EXPORTED = {
    pik: {"__version__", "connect"},
    pik.workbench: {"Workbench", "connect"},
}
METHODS = {
    Workbench: {
        *("aggregate_diff", "aggregates", "dlq", "duplicates", "events", "explain", "gaps", "lateness", "ledger"),
        *(
            "logs",
            "metrics",
            "objects",
            "queue",
            "raw",
            "reconcile",
            "replay",
            "replays",
            "search_gaps",
            "sources",
            "sql",
        ),
        "stores",
    },
    Queue: {"peek"},
    DeadLetters: {"peek", "redrive"},
    Replaying: {"cancel", "local", "pace", "pause", "plan", "result", "resume", "run", "status"},
}
ERRORS = {"AwsError", "CheckFailed", "NotDeployed", "PikError", "Refused", "UsageError"}


def public(of: type) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


def callables() -> list[Callable[..., Any]]:
    found = [getattr(of, name) for of, names in METHODS.items() for name in sorted(names)]
    functions = [one for one in found if inspect.isfunction(one)]
    return [pik.connect, pik.workbench.connect, environments.environment, environments.Environment.client, *functions]


CALLABLES = callables()


def test_the_exported_names_are_these() -> None:
    assert {module: set(module.__all__) for module in EXPORTED} == EXPORTED
    assert {of: public(of) for of in METHODS} == METHODS
    assert {name for name, one in vars(errors).items() if inspect.isclass(one)} == ERRORS


@pytest.mark.parametrize("called", CALLABLES, ids=lambda called: called.__qualname__)
def test_help_says_what_each_argument_means_and_which_errors_there_are(called: Callable[..., Any]) -> None:
    text = pydoc.plain(pydoc.render_doc(called))
    arguments = text.partition("Args:")[2].partition("\n\n")[0]
    names = [name for name in inspect.signature(called).parameters if name != "self"]
    assert [
        name for name in names if not re.search(rf"^ +\**{name}: \w|^ +\**{name}: ``", arguments, re.MULTILINE)
    ] == []
    assert "Raises:" in text or called.__qualname__ == "Environment.client"


@pytest.mark.parametrize("called", CALLABLES, ids=lambda called: called.__qualname__)
def test_arguments_are_named_one_by_one(called: Callable[..., Any]) -> None:
    kinds = {parameter.kind for parameter in inspect.signature(called).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds or called.__qualname__ == "Environment.client"


def test_the_page_of_the_python_api_has_them_all() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    named = set(re.findall(r"auto(?:class|function|exception):: ([\w.]+)", page))
    assert {f"pik.errors.{name}" for name in ERRORS} <= named
    assert {"pik.connect", "pik.workbench.Workbench", "pik.environments.environment"} <= named
    for name in named:
        module, _, last = name.rpartition(".")
        assert hasattr(pydoc.locate(module), last), name

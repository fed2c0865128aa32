"""The real parts: an embedded AWS of its own for each test file, and the project's own stack deployed on it by ``sam``.

Never the developer's instance: the state directory is temporary and ``PIK_LOCAL_STATE`` points to it, also for every
subprocess. A file's tests share their instance and see what the others did; files do not, so their order is free.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from pik import emulator
from pik.environments import Environment, environment

NEED_THE_STACK = [Path(__file__).parent / name for name in ("stack", "faults", "hostile")]
Deploy = Callable[[str], dict[str, str]]


def pytest_configure() -> None:
    """Have Ctrl-C work also in a shell's background job, which starts with SIGINT ignored: tests send it. Be in UTC.

    The tests know nothing of a developer's own AWS configuration, which may name a profile that is missing.
    """
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # the clients of thirty stacks keep more than 1024 open
    if 0 <= few < 10_240:
        resource.setrlimit(resource.RLIMIT_NOFILE, (10_240 if most < 0 else min(most, 10_240), most))
    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_CA_BUNDLE"]:
        del os.environ[name]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _read_service_models_once()
    os.environ["TZ"] = "UTC"  # sentences say the local time as well, where it is another
    time.tzset()


def _read_service_models_once() -> None:
    """Parse each of botocore's service models once in a process; each new session, one per test, would do it again."""
    load, models = JSONFileLoader.load_file, dict[str, Any]()

    def remembered(self: JSONFileLoader, file_path: str) -> Any:
        if file_path not in models:
            models[file_path] = load(self, file_path)
        return models[file_path]

    JSONFileLoader.load_file = remembered


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in these directories needs the embedded AWS."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in NEED_THE_STACK):
            item.add_marker(pytest.mark.stack)


@pytest.fixture(scope="module")
def embedded_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The environment ``local`` on an embedded AWS that lives as long as the file's tests."""
    state = tmp_path_factory.mktemp("embedded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(emulator.STATE_VARIABLE, str(state))
        patch.setenv(emulator.OWNER_VARIABLE, str(os.getpid()))  # also for what a test starts anew
        with emulator.embedded(state):
            yield environment("local")


@pytest.fixture(scope="module")
def deployed(embedded_env: Environment) -> Deploy:
    """``deployed("replay")`` brings the file's stack to (at least) a phase and returns its outputs.

    A stack only ever goes up here: tests of a later phase find the earlier ones' resources, and a test that rolls back
    deploys what it needs itself afterwards.
    """
    from pik.rollout.deploy.deploy import deploy

    order = ("ingest", "replay", "processor")

    def bring(phase: str) -> dict[str, str]:
        outputs = _outputs(embedded_env)
        if "Phase" not in outputs or order.index(outputs["Phase"]) < order.index(phase):
            deploy(embedded_env, phase)
            outputs = embedded_env.outputs()
        return outputs

    return bring


def _outputs(env: Environment) -> dict[str, str]:
    from pik.errors import NotDeployed

    try:
        return env.outputs()
    except NotDeployed:
        return {}

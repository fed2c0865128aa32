"""An embedded AWS of a benchmark's own: temporary, whatever else runs on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pik.environments import Environment


@contextmanager
def embedded(phase: str = "processor") -> Iterator[Environment]:
    """Start it, deploy up to a phase, and take it down again."""
    from pik import emulator
    from pik.environments import environment
    from pik.rollout.deploy.deploy import deploy

    before = os.environ.get(emulator.STATE_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="pik-bench-") as folder:
        os.environ[emulator.STATE_VARIABLE] = folder
        try:
            with emulator.embedded(Path(folder)):
                env = environment("local")
                deploy(env, phase)
                yield env
        finally:
            if before is None:
                del os.environ[emulator.STATE_VARIABLE]
            else:
                os.environ[emulator.STATE_VARIABLE] = before


def handler_variables(env: Environment, functions: Sequence[str]) -> dict[str, str]:
    """Return the environment of a process that runs the handlers of functions with their deployed settings."""
    found = dict[str, str]()
    for name in functions:
        configuration = env.client("lambda").get_function_configuration(FunctionName=name)
        found |= configuration["Environment"]["Variables"]
    return {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": str(env.endpoint),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": env.region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "*",
        **found,
    }

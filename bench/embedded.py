"""An embedded AWS of a benchmark's own: temporary, whatever else runs on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pik.environments import Environment


@contextmanager
def embedded(phase: str = "processor") -> Iterator[Environment]:
    """Start it, deploy up to a phase, and take it down again."""
    from pik import local
    from pik.environments import environment
    from pik.rollout.deploy import deploy

    before = os.environ.get(local.STATE_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="pik-bench-") as folder:
        os.environ[local.STATE_VARIABLE] = folder
        try:
            with local.embedded(Path(folder)):
                env = environment("local")
                deploy(env, phase)
                yield env
        finally:
            if before is None:
                del os.environ[local.STATE_VARIABLE]
            else:
                os.environ[local.STATE_VARIABLE] = before

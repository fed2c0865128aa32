"""Pipeline Investigation Kit: roll out, observe, replay and explain an event capture-and-replay pipeline on AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pik.workbench import Workbench

__all__ = ["__version__", "connect"]
__version__ = "0.1.0"


def connect(env: str = "local") -> Workbench:
    """Return the workbench of an environment, connected: ``wb = pik.connect("dev")``; then ``help(wb)``.

    Args:
        env: its name: ``local`` (the embedded AWS), or one of pik.toml such as ``dev``.

    Raises:
        pik.errors.UsageError: there is no such environment, or pik.toml is wrong.
        pik.errors.Refused: what answers is not that environment.
        pik.errors.NotDeployed: it has no stack yet.
        pik.errors.AwsError: there are no credentials, the embedded AWS does not run, or AWS refused or did not answer.
    """
    from pik.workbench import connect as connected

    return connected(env)

"""Every error this package raises on purpose, and the exit code each one means.

::

    PikError                     something the person in front of it can act on
    ├── UsageError        2      wrong input: an option, a parameter, a file, a name
    ├── Refused           3      allowed in principle, not now; nothing was changed
    ├── CheckFailed       4      a check ran and its answer is no (or not known)
    └── AwsError          5      AWS or the network refused or did not answer
        └── NotDeployed   5      the environment has no stack (yet)

Anything else that escapes is a bug of ours: exit code 1, and the only case in which a traceback is shown.
"""

from __future__ import annotations

from pik.text import advice, printable


class PikError(Exception):
    """A sentence (what), an optional reason (why) and a next step (what to do now).

    Args:
        message: the sentence; also the error's text.
        reason: why; empty when the sentence says it.
        next_step: what to do now, most often a command. A command has a line of its own, words about it another.

    >>> str(UsageError("no such runbook: rolout", next_step="pik run --list"))
    'no such runbook: rolout'
    """

    exit_code = 1

    def __init__(self, message: str, *, reason: str = "", next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.next_step = next_step

    def _render_traceback_(self) -> list[str]:
        """Let IPython show the sentence, the reason and the next step instead of a traceback."""
        lines = [f"{type(self).__name__}: {self.message}"]
        lines += [f"  because  {self.reason}"] if self.reason else []
        lines += [advice("  do this  ", self.next_step)] if self.next_step else []
        return [printable(line, "\n") for line in lines]

    def as_dict(self) -> dict[str, str | int]:
        """Return the error as one JSON-able object, as ``--json`` prints it."""
        return {
            "error": self.message,
            "reason": self.reason,
            "do_this": self.next_step,
            "exit_code": self.exit_code,
        }


class UsageError(PikError):
    """Wrong input; nothing was attempted."""

    exit_code = 2


class Refused(PikError):
    """Not now, and nothing was changed."""

    exit_code = 3


class CheckFailed(PikError):
    """A check ran and did not pass."""

    exit_code = 4


class AwsError(PikError):
    """AWS, the embedded AWS or the network refused, or did not answer."""

    exit_code = 5


class NotDeployed(AwsError):
    """The environment has no stack."""

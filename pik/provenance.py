"""Where, by whom and from what a run is made: gathered before anything runs; a report without it proves little."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version

from pik import project
from pik.errors import AwsError


@dataclass(frozen=True)
class Where:
    """Where a run goes, and as whom: ``caller`` is the ARN that AWS knows."""

    environment: str
    stack: str
    region: str
    account: str
    endpoint: str | None = None
    caller: str = ""


@dataclass(frozen=True)
class Git:
    """The checkout a run comes from; ``dirty`` when it holds uncommitted changes."""

    commit: str
    dirty: bool


def locate(env: str) -> Where:
    """Return the account, region and stack that ``env`` means; raise AwsError when it cannot be reached."""
    from botocore.exceptions import BotoCoreError, ClientError

    from pik.environments import environment

    place = environment(env)
    try:
        caller = place.client("sts", connect_timeout=5, read_timeout=10).get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise AwsError(
            f"{env}: AWS does not say whose account this is",
            reason=str(error),
            next_step="check the credentials and the region in this shell (aws sts get-caller-identity)",
        ) from None
    return Where(
        environment=env,
        stack=place.stack,
        region=place.region,
        account=caller["Account"],
        endpoint=place.endpoint,
        caller=caller.get("Arn", ""),
    )


def user() -> str:
    """Return the name of the OS user; a number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def host() -> str:
    """Return this machine's name."""
    return platform.node()


def versions() -> dict[str, str]:
    """Return the versions that shape what a run does."""
    packages = {
        "pik": "pipeline-investigation-kit",
        "papermill": "papermill",
        "ipykernel": "ipykernel",
        "boto3": "boto3",
    }
    return {
        **{name: version(package) for name, package in packages.items()},
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
    }


def git() -> Git | None:
    """Return the checkout's commit; None when this is no checkout."""
    commit = _git("rev-parse", "HEAD")
    return Git(commit=commit, dirty=bool(_git("status", "--porcelain"))) if commit else None


def digests() -> dict[str, str]:
    """Return the digests of what a run relies on besides its runbook and notebooks."""
    if not project.TEMPLATE.is_file():
        return {}
    return {project.TEMPLATE.name: hashlib.sha256(project.TEMPLATE.read_bytes()).hexdigest()}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(project.ROOT), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

"""Drives the real ``sam`` command: builds once per state of the sources, deploys, and reads what it says.

Builds go below ``.aws-sam/pik/<digest of the sources>/``, so that two deploys at once never overwrite each other's
artifacts and a raw ``sam build`` (``.aws-sam/build/``) is left alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pik import project
from pik.aws.artifact import Digests, digests
from pik.aws.stack import Say
from pik.aws.template import parse
from pik.config import BUILT_IN
from pik.environments import Environment
from pik.errors import AwsError, Refused
from pik.events import sha256_json

KEPT_BUILDS = 3
# What the artifact and the template are made of; nothing else makes a new build necessary.
SOURCES = (
    "template.yaml",
    "samconfig.toml",
    "requirements/lambda.lock",
    "pik/Makefile",
    "scripts/build_lambda.py",
    "pik/__init__.py",
    "pik/errors.py",
    "pik/events.py",
    "pik/text.py",
    "pik/pipeline/**/*.py",
)


@dataclass(frozen=True)
class Build:
    """One build of the template and the code; ``fresh`` when it was made now rather than found."""

    folder: Path
    digest: str
    fresh: bool

    @property
    def template(self) -> Path:
        """The built template."""
        return self.folder / "template.yaml"

    def document(self) -> dict[str, Any]:
        """Return the built template, parsed."""
        return parse(self.template.read_text(encoding="utf-8"))

    def digests(self) -> Digests:
        """Return the digests that what is deployed will have once this build is."""
        return digests(self.document(), self.folder)


def command() -> str:
    """Return the ``sam`` to run: the kit's own, else the one on PATH."""
    if project.SAM.exists():
        return str(project.SAM)
    found = shutil.which("sam")
    if found:
        return found
    raise AwsError("the SAM CLI is not installed", reason=f"not at {project.SAM}, not on PATH", next_step="make setup")


def builds() -> Path:
    """Return the directory that builds are kept in."""
    return project.ROOT / ".aws-sam" / "pik"


def sources_digest(root: Path | None = None) -> str:
    """Return one digest over every file the build is made of; ``root``: another checkout than this one."""
    root = root or project.ROOT
    digest = hashlib.sha256()
    files = {path for pattern in SOURCES for path in root.glob(pattern) if path.is_file()}
    for path in sorted(files):
        digest.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def build(environment: Environment, log: Path, say: Say) -> Build:
    """Run ``sam build`` unless these very sources are built already."""
    digest = sources_digest()
    folder = builds() / digest[:16]
    with _locked(builds()):
        if (folder / "template.yaml").exists():
            os.utime(folder)
            return Build(folder, digest, fresh=False)
        say("sam build")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        code = run(
            environment,
            ["build", "--template-file", str(project.TEMPLATE), "--build-dir", str(unfinished)],
            log,
        )
        if code != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise AwsError("sam build failed", reason=last_error(log), next_step=f"read {log} (nothing was deployed)")
        unfinished.rename(folder)
        _prune()
    return Build(folder, digest, fresh=True)


def _prune() -> None:
    kept = [path for path in builds().iterdir() if path.is_dir()]
    for old in sorted(kept, key=lambda path: path.stat().st_mtime)[:-KEPT_BUILDS]:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def deploy_arguments(
    environment: Environment, built: Build, parameters: Mapping[str, str], tags: Mapping[str, str] | None = None
) -> list[str]:
    """Return the arguments of ``sam deploy``. Parameters not named here keep the value they have on the stack.

    ``tags``: those that the stack has, which an update without them would take away.
    """
    arguments = ["deploy", "--template-file", str(built.template), "--config-env", section(environment)]
    if project.SAMCONFIG.exists():
        arguments += ["--config-file", str(project.SAMCONFIG)]
    arguments += ["--stack-name", environment.stack, "--region", environment.region]
    arguments += ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"]
    # What is given here replaces what samconfig.toml says of tags, so that is given again.
    given = {**(tags or {}), **configured_tags(environment)}
    own = {name: value for name, value in given.items() if not name.startswith("aws:")}  # CloudFormation's are its own
    # Also where samconfig.toml has no such section: the guard and every cost report go by this tag.
    own["pik:environment"] = environment.name
    arguments += ["--tags", *(f'"{name}"="{value}"' for name, value in own.items())]
    # In quotes: sam takes a value apart at its spaces, and loses one that is empty.
    quoted = {key: '"{}"'.format(value.replace('"', r"\"")) for key, value in sorted(parameters.items())}
    overrides = [f"ParameterKey={key},ParameterValue={value}" for key, value in quoted.items()]
    return [*arguments, "--parameter-overrides", *overrides]


def section(environment: Environment) -> str:
    """Return the name of the section of samconfig.toml that holds for an environment.

    One of the user's own needs none: ``default`` holds for it then, and what that says of the stack's name and of the
    parameter and the tag of the environment is overruled by a deploy.
    """
    if environment.name in BUILT_IN or not project.SAMCONFIG.exists():
        return environment.name
    found = tomllib.loads(project.SAMCONFIG.read_text(encoding="utf-8"))
    return environment.name if environment.name in found else "default"


def configured_parameters(environment: Environment) -> dict[str, str]:
    """Return the ``parameter_overrides`` that samconfig.toml has for the environment: what a new stack starts with."""
    return _configured(environment, "parameter_overrides")


def configured_tags(environment: Environment) -> dict[str, str]:
    """Return the tags that samconfig.toml has for the environment's stack: a company's own stand there."""
    return _configured(environment, "tags")


def _configured(environment: Environment, name: str) -> dict[str, str]:
    """The pairs ``NAME=VALUE`` of one setting of ``sam deploy``: a list, or words as a shell takes them apart."""
    if not project.SAMCONFIG.exists():
        return {}
    config = tomllib.loads(project.SAMCONFIG.read_text(encoding="utf-8"))
    given = config.get(section(environment), {}).get("deploy", {}).get("parameters", {}).get(name, [])
    pairs = shlex.split(given) if isinstance(given, str) else [str(item) for item in given]
    return {key.strip("\"'"): value.strip("\"'") for key, _, value in (pair.partition("=") for pair in pairs)}


def run(environment: Environment, arguments: list[str], log: Path, tick: Callable[[], None] | None = None) -> int:
    """Run ``sam`` with its output in ``log``; call ``tick`` while it works; return its exit code.

    On Ctrl-C (or any exception from ``tick``) sam is ended before the exception goes on: no child is left behind.
    """
    # sam leaves a temporary directory behind for everything that it uploads: it gets one that goes with it.
    scratched = tempfile.TemporaryDirectory(prefix="pik-sam-")
    with scratched as scratch, log.open("ab") as output, _alone(environment, arguments[0]) as held:
        output.write(f"$ sam {' '.join(arguments)}\n".encode())
        output.flush()
        child = subprocess.Popen(
            [command(), *arguments],
            cwd=project.ROOT,
            env=_subprocess_env(environment) | {"TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us, and we end it in order
            pass_fds=[held.fileno()],
        )
        try:
            return _wait(child, tick, 0.5 if environment.embedded else 2.0)
        finally:
            _end(child)


@contextmanager
def _alone(environment: Environment, command: str) -> Iterator[IO[str]]:
    """Hold the lock of the environment's stack on this computer; raise Refused when a sam that was left behind has it.

    A command that is killed leaves its sam at work. It inherits the lock, and has it until it ends.
    """
    folder = project.STATE / "sam"
    folder.mkdir(parents=True, exist_ok=True)
    # Two embedded AWSs can have a stack of the same name; a build is the checkout's, whatever it is for.
    place = sha256_json([environment.endpoint or environment.config.account, environment.region])[:12]
    name = f"{environment.stack}-{place}-{command}" if command == "deploy" else command
    with (folder / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if command == "deploy" else 0))
        except BlockingIOError:
            raise Refused(
                f"{environment.name}: a sam deploy of {environment.stack} is at work on this computer",
                reason="another command runs, or was killed and left it behind: it ends by itself",
                next_step=f"the same again when it has ended; meanwhile:\npik status --env {environment.name}",
            ) from None
        yield handle


def _wait(child: subprocess.Popen[bytes], tick: Callable[[], None] | None, every: float) -> int:
    while True:
        try:
            return child.wait(timeout=every)
        except subprocess.TimeoutExpired:
            if tick:
                tick()


def _end(child: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        os.killpg(child.pid, number)
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue


def _subprocess_env(environment: Environment) -> dict[str, str]:
    settings = project.STATE / "sam"
    settings.mkdir(parents=True, exist_ok=True)
    # sam asks the package index for a newer version once a week and holds up the command meanwhile.
    (settings / "metadata.json").write_text(json.dumps({"lastVersionCheck": time.time(), "telemetryEnabled": False}))
    return {
        # A throttled call in the middle of a deploy ends sam, so its clients try for longer than the usual five times
        # within seconds: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
        "AWS_RETRY_MODE": "standard",
        "AWS_MAX_ATTEMPTS": "10",
        **environment.subprocess_env(),
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(settings),
        "PYTHONWARNINGS": "ignore",
    }


_ERROR = re.compile(r"^(?:Error|Build Failed|Exception)\b:?[ \t]*(.*)$", re.MULTILINE)


def last_error(log: Path) -> str:
    """Return the sentence with which sam gave up, or its last line, from a log."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
    text = text.rpartition("$ sam ")[2]  # only the last command
    found = [match.group(1).strip() or match.group(0) for match in _ERROR.finditer(text)]
    lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
    return found[-1] if found else (lines[-1] if lines else "sam said nothing")

"""``pik lab``: JupyterLab on the notebooks, with the embedded AWS running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pik.cli.local import StateOption, demo_hint, describe_realism

_STOP_SECONDS = 15.0


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("lab")(lab)


def lab(
    port: Annotated[
        int, typer.Option(min=1024, max=65535, help="First port to try; the next free one is taken.")
    ] = 8888,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser window.")] = True,
    folder: Annotated[
        Path | None,
        typer.Option(help="Another folder of notebooks, such as a copy to work in.", show_default="notebooks/"),
    ] = None,
    state: StateOption = None,
) -> None:
    """Open the notebooks in JupyterLab. On 127.0.0.1 with a token; Ctrl-C stops it, and what it started."""
    from pik import emulator, errors, project

    notebooks = folder or project.NOTEBOOKS
    if not notebooks.is_dir():
        raise errors.UsageError(
            f"no such folder: {notebooks}", next_step="--folder takes a folder that exists; without it: notebooks/"
        )
    signal.signal(signal.SIGTERM, _interrupt)
    info = emulator.up(state, owner=os.getpid())
    os.environ[emulator.STATE_VARIABLE] = info.state_dir  # the kernels work on the same
    typer.echo(f"✓ embedded AWS on 127.0.0.1:{info.port}" + (" (ran already)" if info.already_running else ""))
    if state is None and (hint := demo_hint("lab")):
        typer.echo(hint)
    try:
        code = _serve(_command(port, browser, notebooks))
    finally:
        if not info.already_running:
            emulator.down(info.state_dir)
            lines = ["✓ embedded AWS stopped, state saved", *describe_realism(emulator.last_realism(info.state_dir))]
            typer.echo("\n".join(lines))
    raise typer.Exit(code if code > 0 else 0)


def _command(port: int, browser: bool, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={folder.resolve()}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--LabApp.default_url=/lab/tree/start.ipynb"]
    # Nothing is asked of the world: no news, no look for updates (see labconfig/), no list of extensions.
    command += ["--LabApp.news_url=None", "--LabApp.extension_manager=readonly"]
    command += ["--allow-root"] if os.geteuid() == 0 else []  # in a container; it hears this machine only, with a token
    return command + ([] if browser else ["--no-browser"])


def _serve(command: list[str]) -> int:
    """Run the server until it ends or we are told to; it never outlives us, not even when we are killed."""
    from pik import project

    settings = str(project.ROOT / "pik" / "data" / "jupyter")
    paths = [settings, *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    server = subprocess.Popen(command, env=os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(paths)})
    guard = _guard(server.pid)
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()  # Ctrl-C a second time is Jupyter's "yes"; the first one already reached it
        return 0
    finally:
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        guard.kill()  # before its input ends: it would take that for our death
        guard.communicate()


def _guard(server: int) -> subprocess.Popen[bytes]:
    """Start a process that ends the server once we are gone: its input ends with us."""
    script = 'trap \'\' HUP INT TERM; read -r _; kill -TERM "$1"; sleep "$2"; kill -KILL "$1"'
    seconds = f"{_STOP_SECONDS:.0f}"
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", str(server), seconds],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt

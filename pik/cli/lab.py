"""``pik lab``: JupyterLab on the notebooks, with the embedded AWS running."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("lab")(lab)


def lab(
    port: Annotated[int, typer.Option(help="First port to try; the next free one is taken.")] = 8888,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser window.")] = True,
) -> None:
    """Open JupyterLab on notebooks/, on 127.0.0.1 with a token. Ctrl-C stops it, and what it started."""
    from pik import local, project

    info = local.up(owner=os.getpid())
    typer.echo(f"✓ embedded AWS on 127.0.0.1:{info.port}" + (" (ran already)" if info.already_running else ""))
    command = [sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={project.NOTEBOOKS}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += [] if browser else ["--no-browser"]
    server = subprocess.Popen(command)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        server.terminate()  # Ctrl-C a second time is Jupyter's "yes"; the first one already reached it
        code = server.wait()
    finally:
        if not info.already_running:
            local.down()
            typer.echo("✓ embedded AWS stopped, state saved")
    raise typer.Exit(code if code > 0 else 0)

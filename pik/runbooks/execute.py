"""Execute one notebook with papermill in a kernel that is always stopped, and read back what it found."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellTimeoutError
from pydantic import ValidationError
from zmq import ZMQError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # entry point look-ups of papermill's own
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

from pik.headless import HEADLESS
from pik.results import RESULT_MEDIA_TYPE, StepResult
from pik.runbooks.kernel import ERROR_MEDIA_TYPE
from pik.runbooks.notebook import read
from pik.runbooks.record import State, StepError

STREAM_LIMIT = 2_000_000
ENDING_SECONDS = 900.0  # for an interrupted cell, such as one that rolls a canary back, before it is asked to end
_SOON = 2.0  # seconds that most interrupted cells need at most
_SCRATCH = "pik-kernel-"  # then the process id of its run
_SOCKET_LIMIT = 103  # bytes of a socket's path: 104 with its NUL on macOS and the BSDs, 108 on Linux (sys/un.h)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

OnCell = Callable[[int, int], None]


class NotebookFailed(Exception):
    """A notebook ended without a usable result; ``state`` says what that makes of its step."""

    def __init__(self, error: StepError, state: State = State.FAILED) -> None:
        super().__init__(error.message)
        self.error = error
        self.state = state


class _Kernel(AsyncKernelManager):
    """A kernel manager that needs no kernelspec on disk, no port, and keeps what its kernel says off the terminal."""

    def __init__(self, scratch: str, on_ending: Callable[[], None]) -> None:
        # Half of the time passes before the kernel is asked to end, the other half before it is killed.
        super().__init__(
            connection_file=f"{scratch}/kernel.json",
            transport="ipc",
            ip=f"{scratch}/kernel",
            shutdown_wait_time=2 * ENDING_SECONDS,
        )
        self.log_file = Path(scratch) / "kernel.log"
        self.on_ending = on_ending

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:  # type: ignore[override]
        """Interrupt the cell and wait for its end; say so when that takes a while. nbclient calls it for Ctrl-C."""
        slow = threading.Timer(_SOON, self.on_ending)
        slow.start()
        try:
            await super().shutdown_kernel(now=now, restart=restart)
        finally:
            slow.cancel()

    def last_words(self) -> str:
        """Return the end of what the kernel process wrote, such as a crash's stack."""
        return self.log_file.read_text("utf-8", "replace")[-2000:].strip()

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "pik.runbooks.kernel", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python", language="python")


@dataclass
class _Session:
    """What one execution hands through papermill to its client."""

    manager: _Kernel
    on_cell: OnCell
    deadline: float | None

    def remaining(self, _cell: Any) -> float | None:
        """Seconds that the next cell may take; papermill knows only a limit per cell."""
        return None if self.deadline is None else max(0.1, self.deadline - time.monotonic())


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client, with a limit on what a cell may print."""

    printed: tuple[int, int] = (-1, 0)

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Drop what a cell prints past the limit, and say so once: a runaway loop must not fill the disk."""
        if msg["msg_type"] != "stream":
            return super().process_message(msg, cell, cell_index)
        before = self.printed[1] if self.printed[0] == cell_index else 0
        self.printed = (cell_index, before + len(msg["content"]["text"]))
        if before > STREAM_LIMIT:
            return None
        if self.printed[1] > STREAM_LIMIT:
            kept = msg["content"]["text"][: STREAM_LIMIT - before]
            msg["content"]["text"] = f"{kept}\n… the rest is left out: more than {STREAM_LIMIT:,} characters\n"
        return super().process_message(msg, cell, cell_index)


class _Engine(NBClientEngine):  # type: ignore[misc]
    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
        session: _Session = options["session"]
        code = [index for index, cell in enumerate(nb_man.nb.cells) if cell.cell_type == "code"]

        def started(cell: Any, cell_index: int) -> None:
            if cell_index in code:
                session.on_cell(code.index(cell_index) + 1, len(code))

        _Client(
            nb_man,
            km=session.manager,
            kernel_name=kernel_name,
            timeout_func=session.remaining,
            iopub_timeout=60,
            on_cell_start=started,
        ).execute(cleanup_kc=True)


papermill_engines.register("pik", _Engine)


def execute(
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    *,
    timeout: float | None = None,
    on_cell: OnCell = lambda cell, cells: None,
    on_ending: Callable[[], None] = lambda: None,
) -> StepResult:
    """Execute ``source`` into ``target`` (saved after every cell) and return the result it ends with.

    ``on_cell(n, total)`` is called as code cell n starts. ``on_ending()`` is called when a cell that was interrupted
    needs a while to end, such as for the rollback of a canary. Raises NotebookFailed when the notebook raises, runs
    longer than ``timeout`` seconds, loses its kernel or has no single result. Whatever happens, the kernel and what it
    started in its process group are gone afterwards.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    target.touch(mode=0o600)  # papermill writes over it; it can hold payloads
    with _kernel(source.parent, on_ending) as manager:
        try:
            execute_notebook(
                _literal(source),
                _literal(target),
                parameters,
                engine_name="pik",
                kernel_name="python3",
                language="python",
                progress_bar=False,
                session=_Session(manager, on_cell, deadline),
            )
        except PapermillExecutionError as error:
            raise NotebookFailed(_raised(target, error)) from None
        except CellTimeoutError:
            raise NotebookFailed(_timed_out(timeout)) from None
        except RuntimeError as error:  # DeadKernelError, or a kernel that did not start
            raise NotebookFailed(_died(str(error), manager.last_words())) from None
    return find_result(target)


def find_result(target: Path) -> StepResult:
    """Return the one StepResult in an executed notebook; raise NotebookFailed when there is none, or more than one."""
    found = list(_outputs(read(target), RESULT_MEDIA_TYPE))
    if not found:
        raise NotebookFailed(
            StepError(
                name="NoResult",
                message="the notebook ended without a result: nothing was proven",
                do_this="end it with a pik.results.StepResult as the last expression",
                exit_code=4,
            ),
            State.INCONCLUSIVE,
        )
    if len(found) > 1:
        raise NotebookFailed(
            StepError(
                name="TwoResults",
                message=f"the notebook has {len(found)} results; which one counts is not known",
                do_this="keep the last expression's StepResult only",
            )
        )
    try:
        return StepResult.model_validate(found[0])
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise NotebookFailed(
            StepError(
                name="BadResult",
                message="the notebook's result is not one that this version understands",
                reason=f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}",
                do_this="build it with pik.results.StepResult",
            )
        ) from None


@contextmanager
def _kernel(folder: Path, on_ending: Callable[[], None]) -> Iterator[_Kernel]:
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{os.getpid()}-", dir=_scratch_root()) as scratch:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONSTARTUP"}
        environment |= {HEADLESS: "1", "IPYTHONDIR": scratch, "PYTHONUNBUFFERED": "1"}
        manager = _Kernel(scratch, on_ending)
        try:
            try:
                with manager.log_file.open("wb") as log:
                    run_sync(manager.start_kernel)(cwd=str(folder), env=environment, stdout=log, stderr=log)
            except (OSError, ZMQError) as error:
                raise NotebookFailed(_not_started(error)) from None
            yield manager
        finally:
            _stop(manager)


def _scratch_root() -> str:
    """The folder of temporary files, or /tmp where that one's path leaves no room for the kernel's sockets."""
    usual = tempfile.gettempdir()
    socket = f"{usual}/{_SCRATCH}{os.getpid()}-12345678/kernel-5"
    return usual if len(os.fsencode(socket)) <= _SOCKET_LIMIT else "/tmp"  # noqa: S108 - a folder of its own is made in it


def _sweep() -> None:
    """Remove the scratch folders of runs that were killed."""
    for folder in Path(_scratch_root()).glob(f"{_SCRATCH}*-*"):
        owner = folder.name.removeprefix(_SCRATCH).partition("-")[0]
        if re.fullmatch("[0-9]{1,7}", owner) and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _stop(manager: _Kernel) -> None:
    # First politely (an interrupt lets a cell end what it started), then everything in its process group. A second
    # Ctrl-C does not wait for the first part.
    group = getattr(manager.provisioner, "pgid", None)
    try:
        if run_sync(manager.is_alive)():
            run_sync(manager.shutdown_kernel)()
    finally:
        if group:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        manager.context.destroy(linger=0)  # a start that failed left a socket open: this process would wait for it


def _raised(target: Path, error: PapermillExecutionError) -> StepError:
    notebook = read(target)
    errors = list(_outputs(notebook, ERROR_MEDIA_TYPE))
    trace = _ANSI.sub("", "\n".join(error.traceback))
    cell = error.exec_count
    if not errors:  # SystemExit, SyntaxError, KeyboardInterrupt: raised past the kernel's handler
        message = f"{error.ename}: {error.evalue}" if error.evalue else str(error.ename)
        return StepError(name=error.ename, message=message, cell=cell, traceback=trace)
    ours = dict(errors[-1])
    return StepError(
        name=str(ours["name"]),
        message=str(ours["error"]),
        reason=str(ours["reason"]),
        do_this=str(ours["do_this"]),
        exit_code=int(ours["exit_code"]),
        cell=cell,
        traceback=trace if ours["exit_code"] == 1 else "",
    )


def _timed_out(timeout: float | None) -> StepError:
    return StepError(
        name="Timeout",
        message=f"the step was stopped after {timeout:g} s",
        reason="its timeout in the runbook",
        do_this="see in the executed notebook how far it got; raise the step's timeout if it only needs longer",
    )


def _not_started(error: Exception) -> StepError:
    return StepError(
        name="KernelNotStarted",
        message="the notebook's kernel did not start",
        reason=str(error),
        do_this="see that there are free memory, processes and disk; a TMPDIR with a short path; then run it again",
    )


def _died(reason: str, last_words: str) -> StepError:
    return StepError(
        name="KernelDied",
        message="the notebook's kernel died",
        reason="it was killed, crashed, or ran out of memory" if reason == "Kernel died" else reason,
        do_this="see in the executed notebook which cell it was in",
        traceback=last_words,
    )


def _outputs(notebook: Any, media_type: str) -> Iterator[Any]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if media_type in output.get("data", {}):
                yield output.data[media_type]


def _literal(path: Path) -> str:
    return str(path).replace("{", "{{").replace("}", "}}")  # papermill formats paths

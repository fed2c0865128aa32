"""The kernel a headless step runs in: this very Python, nobody's start-up files, errors as data.

Started by :mod:`pik.runbooks.execute` as ``python -m pik.runbooks.kernel -f <connection file>``. No kernelspec needs to
be installed, and IPYTHONDIR is an empty scratch folder, so a user's own IPython set-up cannot change what a run does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType
from typing import Any

from pik.errors import AwsError, PikError

ERROR_MEDIA_TYPE = "application/vnd.pik.error+json"
_NETWORK_LIBRARIES = ("botocore", "boto3", "urllib3", "httpx", "httpcore")


def describe(error: BaseException) -> dict[str, str | int]:
    """Return an exception as :meth:`pik.errors.PikError.as_dict` does, with its ``name``; never with locals."""
    if isinstance(error, PikError):
        return {"name": type(error).__name__, **error.as_dict()}
    from_network = type(error).__module__.split(".")[0] in _NETWORK_LIBRARIES
    return {
        "name": type(error).__name__,
        "error": f"{type(error).__name__}: {error}",
        "reason": "AWS or the network refused a call" if from_network else "",
        "do_this": "",
        "exit_code": AwsError.exit_code if from_network else PikError.exit_code,
    }


def _on_error(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    traceback: TracebackType | None,
    tb_offset: int | None = None,
) -> None:
    from IPython.display import display

    display({ERROR_MEDIA_TYPE: describe(error)}, raw=True)
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)


def guard() -> subprocess.Popen[bytes]:
    """Start the process that ends this one's process group once the pipe to it closes: when it dies.

    A kernel ends when its run is killed, and would leave behind what it had started.
    """
    arguments = ["/bin/sh", "-c", "trap '' HUP INT TERM; read -r _; kill -KILL 0"]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """Run the kernel until it is told to stop or its parent is gone."""
    kept = guard() if os.getpgid(0) == os.getpid() else None  # a group of its own, as the runner starts it
    from ipykernel.ipkernel import IPythonKernel
    from ipykernel.kernelapp import IPKernelApp

    class Kernel(IPythonKernel):
        async def _progressively_terminate_all_children(self) -> None:
            """Leave them alone: a cell that is rolling back may need them, and the guard ends them all afterwards.

            ipykernel ends them when it is told to stop, and waits up to 28 seconds for one that ignores it, as the
            guard does, or that nobody waits for.
            """

    app: Any = IPKernelApp.instance(kernel_class=Kernel)
    app.initialize([*sys.argv[1:], "--HistoryManager.hist_file=:memory:", "--InteractiveShell.colors=nocolor"])
    app.shell.set_custom_exc((Exception,), _on_error)
    app.start()
    # It was told to stop. ipykernel's own end may wait half a minute for one of its threads.
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream:
            stream.flush()
    del kept
    os._exit(0)


if __name__ == "__main__":
    main()

"""The kernel a headless step runs in: this very Python, nobody's start-up files, errors as data.

Started by :mod:`pik.runbooks.execute` as ``python -m pik.runbooks.kernel -f <connection file>``. No kernelspec needs to
be installed, and IPYTHONDIR is an empty scratch folder, so a user's own IPython set-up cannot change what a run does.
"""

from __future__ import annotations

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


def main() -> None:
    """Run the kernel until it is told to stop or its parent is gone."""
    from ipykernel.kernelapp import IPKernelApp

    app: Any = IPKernelApp.instance()
    app.initialize([*sys.argv[1:], "--HistoryManager.hist_file=:memory:", "--InteractiveShell.colors=nocolor"])
    app.shell.set_custom_exc((Exception,), _on_error)
    app.start()


if __name__ == "__main__":
    main()

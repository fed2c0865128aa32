"""What JupyterLab saves: the kit's own notebooks without outputs, so that the checkout stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pik import project


def leave_outputs_out(model: dict[str, Any], path: str, contents_manager: Any, **_: Any) -> None:
    """Take outputs, and what else running a notebook leaves in it, out of a notebook of the kit before it is saved.

    They can hold payloads, and are one ``git add`` away from being published. A notebook in another folder (``pik lab
    --folder COPY``) is saved with everything. A hook of Jupyter's:
    https://jupyter-server.readthedocs.io/en/latest/developers/savehooks.html

    >>> leave_outputs_out({"type": "file"}, "notes.txt", None)
    """
    if model.get("type") != "notebook" or not model.get("content"):
        return
    root = Path(contents_manager.root_dir).resolve()
    if root != project.NOTEBOOKS.resolve():
        return
    notebook = model["content"]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        for name in ("execution", "papermill"):
            cell.get("metadata", {}).pop(name, None)
    # The kernel that ran it, its version, the state of widgets: what was in the file stays.
    there = root / path.lstrip("/")
    if there.is_file():
        notebook["metadata"] = json.loads(there.read_text(encoding="utf-8"))["metadata"]

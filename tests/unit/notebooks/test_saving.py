"""Using the lab leaves the checkout as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader

from pik import project

Manager = Callable[[Path], Any]
SETTINGS = project.ROOT / "pik" / "data" / "jupyter"


@pytest.fixture
def notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kit's notebooks, in a copy that is taken for the checkout's."""
    folder = tmp_path / "notebooks"
    shutil.copytree(project.NOTEBOOKS, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    monkeypatch.setattr(project, "NOTEBOOKS", folder)
    return folder


@pytest.fixture
def manager() -> Iterator[Manager]:
    """Jupyter's own manager of a folder's files, with the settings of ``pik lab``."""
    opened: list[LargeFileManager] = []

    def manage(folder: Path) -> Any:
        settings: Config = JSONFileConfigLoader("jupyter_server_config.json", path=str(SETTINGS)).load_config()
        opened.append(LargeFileManager(root_dir=str(folder), config=settings))
        return opened[-1]

    yield manage
    for one in opened:
        one.notary.store.close()  # its database: nobody else closes it


def run_and_save(files: Any, path: str) -> None:
    """Open a notebook, leave in it what running leaves, save it."""
    opened = files.get(path)
    book = opened["content"]
    for number, cell in enumerate(book["cells"]):
        if cell["cell_type"] == "code":
            cell["execution_count"] = number + 1
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "a payload"}]
            cell["metadata"]["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
            cell["metadata"].pop("trusted", None)
    book["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
    book["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    files.save({"type": "notebook", "format": "json", "content": book}, path)


def test_running_and_saving_every_notebook_changes_no_byte(notebooks: Path, manager: Manager) -> None:
    files = manager(notebooks)
    for path in sorted(notebooks.rglob("*.ipynb")):
        before = path.read_bytes()
        run_and_save(files, str(path.relative_to(notebooks)))
        assert path.read_bytes() == before, path.name


def test_what_somebody_wrote_is_saved(notebooks: Path, manager: Manager) -> None:
    files = manager(notebooks)
    opened = files.get("start.ipynb")
    opened["content"]["cells"][-1]["source"] = "# mine"
    files.save({"type": "notebook", "format": "json", "content": opened["content"]}, "start.ipynb")
    saved = json.loads((notebooks / "start.ipynb").read_text())
    assert "# mine" in "".join(saved["cells"][-1]["source"])


def test_a_notebook_of_ones_own_keeps_its_outputs(notebooks: Path, manager: Manager, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(notebooks / "start.ipynb", own)
    run_and_save(manager(own), "start.ipynb")
    assert "a payload" in (own / "start.ipynb").read_text()

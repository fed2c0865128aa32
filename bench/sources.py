"""Another version of the sources, deployed from: the checkout itself is never edited."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from pik import project
from pik.rollout.plan.sam import SOURCES

LIBRARIES = Path(".aws-sam") / "pik-libraries"  # what the artifact's libraries are kept in, once for each lock


@contextmanager
def edited(folder: Path, edit: Callable[[Path], object]) -> Iterator[Path]:
    """Copy what a build is made of to ``folder``, edit it there, and build and deploy from it meanwhile."""
    for pattern in SOURCES:
        for path in project.ROOT.glob(pattern):
            target = folder / path.relative_to(project.ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    (project.ROOT / LIBRARIES).mkdir(parents=True, exist_ok=True)
    (folder / LIBRARIES).parent.mkdir(parents=True, exist_ok=True)
    (folder / LIBRARIES).symlink_to(project.ROOT / LIBRARIES)
    edit(folder)
    with (
        patch.object(project, "ROOT", folder),
        patch.object(project, "TEMPLATE", folder / "template.yaml"),
        patch.object(project, "SAMCONFIG", folder / "samconfig.toml"),
    ):
        yield folder


def replaced(folder: Path, name: str, before: str, after: str) -> None:
    """Replace the only occurrence of a text in a file of ``folder``."""
    path = folder / name
    text = path.read_text(encoding="utf-8")
    if text.count(before) != 1:
        raise ValueError(f"{name} has the text {text.count(before)} times: {before}")
    path.write_text(text.replace(before, after), encoding="utf-8")

"""Fault tests need the embedded AWS with the project's stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack.conftest import deployed, embedded_env

__all__ = ["deployed", "embedded_env"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory needs the embedded AWS."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.stack)

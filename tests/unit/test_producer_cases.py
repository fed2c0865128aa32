"""Files as people have them: what ``pik ingest FILE`` answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pik.pipeline.settings import Settings
from tests.unit.ingest_world import CASES, Ingest, ingest_world


@pytest.fixture
def pik(
    monkeypatch: pytest.MonkeyPatch, deployed: Settings, request_of: Callable[..., Any], tmp_path: Path
) -> Iterator[Ingest]:
    with ingest_world(monkeypatch, deployed, request_of, tmp_path / "state") as world:
        yield world


@pytest.mark.parametrize(
    ("name", "accepted", "codes"),
    [
        ("UPPER.JSONL", 1, {}),
        ("bom.jsonl", 3, {}),
        ("nan_line.jsonl", 3, {"number_out_of_range": 1}),
        ("csv_overflow.csv", 3, {"number_out_of_range": 1}),
        ("csv_deep.csv", 2, {"payload_type": 1}),
        ("csv_blank_rows.csv", 1, {}),
        ("jsonl_repeated_name.jsonl", 0, {"repeated_name": 1}),
        ("wei_amounts.jsonl", 0, {"number_out_of_range": 6}),
        ("long_japanese_names.jsonl", 1, {}),
        ("control_char_source.jsonl", 0, {"bad_name": 1}),
        ("depth_976.jsonl", 0, {"too_deep": 1}),
        ("max_date.jsonl", 1, {}),
    ],
)
def test_a_bad_line_costs_itself_alone(pik: Ingest, name: str, accepted: int, codes: dict[str, int]) -> None:
    summary = pik.json(CASES / name)
    assert (summary["accepted"], summary["by_code"]) == (accepted, codes)
    assert summary["rejected"] == sum(codes.values())
    assert (summary["rejects_file"] is None) == (not codes)


def test_a_column_that_would_be_dropped_is_refused(pik: Ingest) -> None:
    result = pik.run(CASES / "csv_key_column_misspelt.csv")
    assert "idempotencyKey" in str(result.exception)
    assert not pik.bodies

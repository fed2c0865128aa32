from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import detection
from pik.environments import Environment
from pik.errors import Refused
from pik.simulate import NAMES, simulate
from pik.workbench.workbench import connect
from tests.conftest import Deploy

SEEDS = (101, 102)


@pytest.mark.slow
@pytest.mark.parametrize("name", detection.QUESTIONS)
def test_the_workbench_names_exactly_what_was_hidden(
    name: str, embedded_env: Environment, deployed: Deploy, tmp_path: Path
) -> None:
    deployed("processor")
    score = detection.on_stores(embedded_env, name, SEEDS, tmp_path)
    assert (score.wrong, score.missed) == ([], [])
    assert score.streams == len(SEEDS)
    assert score.right >= len(SEEDS)  # there was something to find


def test_every_incident_is_looked_for() -> None:
    assert set(detection.QUESTIONS) == set(NAMES) - {"healthy", "healthy-live"}


@pytest.mark.slow
def test_on_a_healthy_stream_nothing_is_found(embedded_env: Environment, deployed: Deploy, tmp_path: Path) -> None:
    deployed("processor")
    told = simulate(embedded_env, "healthy", 101, path=tmp_path / "healthy.json")
    live = simulate(embedded_env, "healthy-live", 101, path=tmp_path / "live.json")
    wb = connect("local")
    day = {**told, "start": "2013-01-02", "end": "2013-01-03"}
    assert detection.silent_windows(wb, told) == set()
    assert detection.disagreements(wb, day) == set()
    for stream in (told, live):
        assert detection.odd_lags(wb, stream) == set()
        assert detection.storms(wb, stream) == set()
        assert detection.conflicts(wb, stream) == set()


def test_the_truth_is_kept_aside_and_an_incident_happens_once(
    embedded_env: Environment, deployed: Deploy, tmp_path: Path
) -> None:
    deployed("processor")
    path = tmp_path / "below" / "truth.json"
    told = simulate(embedded_env, "raw-deleted", 103, path=path)
    assert json.loads(path.read_text()) == told
    bucket = embedded_env.outputs()["RawBucket"]
    raw = embedded_env.client("s3").list_objects_v2(Bucket=bucket, Prefix=told["s3_keys"][0])
    assert raw["KeyCount"] == 0
    with pytest.raises(Refused, match="has happened in local already"):
        simulate(embedded_env, "raw-deleted", 103, path=path)

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import detection
from pik.environments import Environment
from pik.errors import Refused
from pik.incidents import NAMES, simulate
from tests.conftest import Deploy

SEEDS = (101, 102)


@pytest.mark.slow
@pytest.mark.parametrize("name", detection.QUESTIONS)
def test_the_matching_notebook_names_exactly_what_was_hidden(
    name: str, embedded_env: Environment, deployed: Deploy, tmp_path: Path
) -> None:
    deployed("processor")
    score = detection.by_notebook(embedded_env, name, SEEDS, tmp_path)
    assert (score.wrong, score.missed) == ([], [])
    assert score.streams == len(SEEDS)
    assert score.right >= len(SEEDS)  # there was something to find


def test_every_incident_is_looked_for() -> None:
    assert set(detection.QUESTIONS) == set(NAMES) - {"healthy", "healthy-live"}
    assert set(detection.HEALTHY) == {"healthy", "healthy-live"}


@pytest.mark.slow
@pytest.mark.parametrize("stream", detection.HEALTHY)
def test_on_a_healthy_stream_no_notebook_finds_anything(
    stream: str, embedded_env: Environment, deployed: Deploy, tmp_path: Path
) -> None:
    deployed("processor")
    for score in detection.healthy(embedded_env, stream, SEEDS[:1], tmp_path):
        assert (score.asked, score.wrong) == (score.asked, [])
        assert score.streams == 1


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

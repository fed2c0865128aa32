"""Seeded histories of the shipped functions over a small AWS: the promises hold, and break when the code does."""

from __future__ import annotations

import inspect
import os
from datetime import UTC, datetime

import pytest

from pik.project import ROOT
from tests.sim import model, mutants
from tests.sim.__main__ import applies, chunk, rate
from tests.sim.client import KINDS
from tests.sim.episode import play
from tests.sim.mutants import Mutant

OFTEN = 1500  # calls without a fault: then each fault is expected fifteen times or more
EPISODES = int(os.environ.get("PIK_SIM_EPISODES", "2000"))


def test_no_history_breaks_a_promise() -> None:
    """Other seeds each day; the failure names the seed, and ``python -m tests.sim --story SEED`` tells its history."""
    first = int(f"{datetime.now(UTC):%Y%m%d}") * 1_000_000
    total = chunk(first, EPISODES)
    assert total.broken == []
    often = {site for (site, kind), hits in total.hits.items() if not kind and hits > OFTEN}
    missed = [(site, kind) for site in often for kind in KINDS if applies(site, kind) and not total.hits[site, kind]]
    assert len(often) > 8 or EPISODES < 2000
    assert missed == []  # every call that is made often met every fault that it can meet


def test_a_seed_gives_the_same_history_again() -> None:
    for seed in range(20):
        first, second = play(seed, rate(seed)), play(seed, rate(seed))
        assert (first.digest, first.history) == (second.digest, second.history)
    assert len({play(seed, rate(seed)).digest for seed in range(20)}) > 15


def test_each_check_stands_for_a_sentence_of_the_architecture() -> None:
    promised = " ".join((ROOT / "docs" / "architecture.md").read_text().split())
    lines = [line.strip() for line in inspect.getsource(model).splitlines()]
    quoted = [line[2:] for line in lines if line.startswith("> ")]
    assert len(quoted) > 12
    assert [one for one in quoted if one not in promised] == []


@pytest.mark.slow
@pytest.mark.parametrize("mutant", mutants.named(), ids=lambda mutant: mutant.name)
def test_a_fault_put_into_the_code_is_caught(mutant: Mutant) -> None:
    (caught,) = mutants.catch(mutant, [0])
    assert caught.episodes is not None

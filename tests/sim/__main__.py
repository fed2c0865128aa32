"""Play seeded histories: ``python -m tests.sim --episodes 10000 --seed 0``; or one, as a story: ``--story SEED``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pik.project import ROOT
from tests.sim.client import KINDS
from tests.sim.episode import Outcome, play
from tests.sim.shrink import shrunk

CHUNK = 200  # histories that a process plays at a time
RATES = (0.0, 0.02, 0.1, 0.25)  # of the calls that go wrong, in turns
Hits = Counter[tuple[str, str]]


@dataclass
class Total:
    """What many histories came to. ``broken``: seed and violations of those that kept no promise."""

    episodes: int = 0
    calls: int = 0
    hits: Hits = field(default_factory=Counter)
    broken: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def add(self, other: Total) -> None:
        """Add what other histories came to."""
        self.episodes += other.episodes
        self.calls += other.calls
        self.hits += other.hits
        self.broken += other.broken

    def to_json(self) -> str:
        """Return it as a line of a file."""
        hits = [[*key, count] for key, count in self.hits.items()]
        return json.dumps({"episodes": self.episodes, "calls": self.calls, "hits": hits, "broken": self.broken})

    @classmethod
    def from_json(cls, line: str) -> Total:
        """Read it back."""
        found = json.loads(line)
        hits: Hits = Counter({(site, kind): count for site, kind, count in found["hits"]})
        broken = [(seed, tuple(violations)) for seed, violations in found["broken"]]
        return cls(found["episodes"], found["calls"], hits, broken)


def rate(seed: int) -> float:
    """Return the share of calls that go wrong in a seed's history."""
    return RATES[seed % len(RATES)]


def chunk(first: int, count: int) -> Total:
    """Play ``count`` histories from a seed on."""
    total = Total()
    for seed in range(first, first + count):
        outcome = play(seed, rate(seed))
        total.add(Total(1, outcome.calls, outcome.hits, [(seed, outcome.violations)] if outcome.violations else []))
    return total


def table(total: Total) -> str:
    """Return which call met which fault how often."""
    kinds = ["", *KINDS]
    lines = [f"{'call':<36}" + "".join(f"{kind or 'none':>15}" for kind in kinds)]
    for site in sorted({site for site, _ in total.hits}):
        hits = (f"{total.hits[site, kind]:>15,}" if not kind or applies(site, kind) else f"{'-':>15}" for kind in kinds)
        lines.append(f"{site:<36}" + "".join(hits))
    return "\n".join(lines)


def applies(site: str, kind: str) -> bool:
    """Whether a fault can strike a call."""
    only = KINDS[kind]
    return only is None or site.partition(".")[2] in only


def code() -> str:
    """Return a digest of all code that decides a history."""
    files = sorted(file for top in ("pik", "tests/sim") for file in (ROOT / top).rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def played(seed: int, episodes: int, size: int, keep: Path | None) -> Iterator[Total]:
    """Play histories on all cores and yield what came of them, in parts; ``keep``: a file of the parts, to go on from.

    The file's name has the seed and a digest of the code, so that nothing is taken over from other histories.
    """
    starts = list(range(seed, seed + episodes, size))
    file = keep / f"{code()}-{seed}-{size}.jsonl" if keep else None
    parts = _whole_lines(file) if file and file.exists() else []
    yield from (Total.from_json(line) for line in parts[: len(starts)])
    counts = [min(size, seed + episodes - start) for start in starts]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        try:
            for part in pool.map(chunk, starts[len(parts) :], counts[len(parts) :]):
                if file and part.episodes == size:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with file.open("a") as kept:
                        kept.write(part.to_json() + "\n")
                yield part
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _whole_lines(file: Path) -> list[str]:
    """Return the lines of a file, and take away what was being written when it was left."""
    text = file.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return whole.splitlines()


def tell(outcome: Outcome) -> int:
    """Print a history; 1 when it broke a promise."""
    print("\n".join(outcome.story()))  # noqa: T201
    return bool(outcome.violations)


def main() -> int:
    """Play the histories and say what was broken; exit code 1 when something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what was played there, and go on from it")
    parser.add_argument("--stop", action="store_true", help="stop at the first history that breaks a promise")
    parser.add_argument("--story", type=int, metavar="SEED", help="play this one and tell it")
    parser.add_argument("--shrink", type=int, metavar="SEED", help="tell the shortest history that breaks the same")
    options = parser.parse_args()
    if options.shrink is not None:
        return tell(shrunk(options.shrink, rate(options.shrink)))
    if options.story is not None:
        return tell(play(options.story, rate(options.story)))
    total, began = Total(), time.monotonic()
    for part in played(options.seed, options.episodes, CHUNK // 4 if options.stop else CHUNK, options.keep):
        total.add(part)
        if sys.stderr.isatty():
            print(f"\r{total.episodes:,} of {options.episodes:,}", end="", file=sys.stderr)  # noqa: T201
        if options.stop and total.broken:
            break
    seconds = time.monotonic() - began
    print(table(total))  # noqa: T201
    print(  # noqa: T201
        f"{total.episodes:,} histories, {total.calls:,} AWS calls, {len(total.broken)} broke a promise; "
        f"{seconds:.0f} s, {total.episodes / seconds:.0f} a second"
    )
    for seed, found in total.broken[:10]:
        print(f"seed {seed}: {'; '.join(found[:3])}\n  python -m tests.sim --shrink {seed}")  # noqa: T201
    return bool(total.broken)


if __name__ == "__main__":
    sys.exit(main())

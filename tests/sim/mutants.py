"""Faults put into the code, and whether histories find them: ``python -m tests.sim.mutants --automatic 40``.

``mutants.toml`` has those that somebody thought of. The automatic ones change one operator, condition, number, return
value or call somewhere in the code that histories run.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pik.project import ROOT

EPISODES = 4000  # after so many a mutant has survived
SECONDS = 1800.0  # a fault can make a loop that never ends
FILES = [f"pipeline/{name}.py" for name in ("ingest", "stores", "rows", "replay", "selection", "queue", "processor")]
FILES += ["pipeline/aggregates.py", "events.py", "aws/batch.py", "replays/records.py", "replays/sent.py"]
FILES += ["replays/outstanding.py", "workbench/redriving.py", "workbench/consistency/reindex.py"]
_COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
_COMPARED |= {ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}


@dataclass(frozen=True)
class Mutant:
    """A file of the package with one fault in it."""

    name: str
    file: str
    text: str


@dataclass(frozen=True)
class Caught:
    """After how many histories a mutant was caught, and what it broke; None: it survived them all."""

    episodes: int | None
    violation: str = ""


def named() -> list[Mutant]:
    """Return the mutants of ``mutants.toml``."""
    found = []
    for one in tomllib.loads((Path(__file__).parent / "mutants.toml").read_text())["mutant"]:
        text = (ROOT / "pik" / one["file"]).read_text()
        assert text.count(one["old"]) == 1, one["name"]
        found.append(Mutant(one["name"], one["file"], text.replace(one["old"], one["new"])))
    return found


def automatic(count: int, seed: int) -> list[Mutant]:
    """Return ``count`` mutants, drawn by lot from all places of :data:`FILES` that histories reach."""
    reached = _reached()
    places = [(file, place) for file in FILES for place in _places(file, reached)]
    return [_mutated(*one) for one in random.Random(seed).sample(places, min(count, len(places)))]


def catch(mutant: Mutant, starts: list[int], most: int = EPISODES) -> list[Caught]:
    """Play histories with a mutant, from each start on, until one breaks a promise."""
    try:
        done = _run({mutant.file: mutant.text}, _PLAY, json.dumps(starts), str(most))
    except subprocess.TimeoutExpired:
        return [Caught(1, "it does not end")] * len(starts)
    if done.returncode:  # it does not even start
        return [Caught(1, done.stderr.strip().rpartition("\n")[2])] * len(starts)
    return [Caught(*one) for one in json.loads(done.stdout)]


def _run(texts: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a copy of the package in which some files have another text."""
    with tempfile.TemporaryDirectory(prefix="pik-mutant-") as folder:
        top = Path(folder)
        shutil.copytree(ROOT / "pik", top / "pik", ignore=shutil.ignore_patterns("__pycache__"))
        (top / "tests").symlink_to(ROOT / "tests")
        for file, text in texts.items():
            (top / "pik" / file).write_text(text)
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        whole = [sys.executable, "-P", "-c", *command]
        return subprocess.run(
            whole, cwd=top, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
        )


_PLAY = """
import json, sys
from tests.sim.__main__ import rate
from tests.sim.episode import play

def first(start, most):
    for number in range(most):
        found = play(start + number, rate(start + number)).violations
        if found:
            return number + 1, found[0]
    return None, ""

print(json.dumps([first(start, int(sys.argv[2])) for start in json.loads(sys.argv[1])]))
"""


_REACH = """
import builtins, json
builtins.pik_reached = set()
from tests.sim.__main__ import chunk
chunk(0, 400)
print(json.dumps(sorted(builtins.pik_reached)))
"""


def _reached() -> set[tuple[str, int]]:
    """Return file and line of each statement that histories run."""
    texts = {}
    for file in FILES:
        tree = ast.parse((ROOT / "pik" / file).read_text())
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            _mark(file, function)
        texts[file] = ast.unparse(ast.fix_missing_locations(tree))
    done = _run(texts, _REACH)
    done.check_returncode()
    return {(file, line) for file, line in json.loads(done.stdout)}


def _mark(file: str, node: ast.AST) -> None:
    """Have each statement of a function say that it is reached."""
    for name in ("body", "orelse", "finalbody", "handlers"):
        inner = getattr(node, name, None)
        if not isinstance(inner, list):
            continue
        for one in inner:
            if not isinstance(one, ast.FunctionDef | ast.ClassDef):
                _mark(file, one)
        if name != "handlers":
            marks = [ast.parse(f"pik_reached.add(({file!r}, {one.lineno}))").body[0] for one in inner]
            setattr(node, name, [each for pair in zip(marks, inner, strict=True) for each in pair])


def _places(file: str, reached: set[tuple[str, int]]) -> Iterator[int]:
    tree = ast.parse((ROOT / "pik" / file).read_text())
    above = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for place, (node, _) in enumerate(_sites(tree)):
        statement = node
        while not isinstance(statement, ast.stmt):
            statement = above[id(statement)]
        if (file, statement.lineno) in reached:
            yield place


def _sites(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield what can be changed, and how the change is called."""
    hints = {id(node) for one in ast.walk(tree) for hint in _hints(one) for node in ast.walk(hint)}
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED:
            yield node, "compares the other way"
        elif isinstance(node, ast.BoolOp):
            yield node, "and / or exchanged"
        elif isinstance(node, ast.If):
            yield node, "condition reversed"
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, "True / False exchanged"
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            yield node, "number one larger"
        elif isinstance(node, ast.Return) and node.value and not isinstance(node.value, ast.Constant):
            yield node, "returns None"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node, "call left out"


def _hints(node: ast.AST) -> Iterator[ast.AST]:
    for name in ("annotation", "returns"):
        if hint := getattr(node, name, None):
            yield hint


def _mutated(file: str, place: int) -> Mutant:
    text = (ROOT / "pik" / file).read_text()
    tree = ast.parse(text)
    node, what = list(_sites(tree))[place]
    line = text.splitlines()[node.lineno - 1].strip()  # type: ignore[attr-defined]
    match node:
        case ast.Compare():
            node.ops = [_COMPARED[type(node.ops[0])]()]
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.If():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value)):
            node.value = value + 1
        case ast.Return() | ast.Expr():
            node.value = ast.Constant(None)
    return Mutant(f"{what}: `{line[:80]}`", file, ast.unparse(ast.fix_missing_locations(tree)))


def main() -> int:
    """Print a table of mutants, as Markdown; 1 when one survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("--automatic", type=int, default=0, metavar="N", help="draw so many instead of the named ones")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--ranges", type=int, default=5, help="seed ranges that each one is tried with")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="histories of a range")
    options = parser.parse_args()
    mutants = automatic(options.automatic, options.seed) if options.automatic else named()
    starts = [1_000_000 * number for number in range(options.ranges)]
    survived = 0
    print("| file | fault | histories (median, most) | breaks |\n|---|---|---|---|")  # noqa: T201
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda mutant: catch(mutant, starts, options.episodes), mutants)
        for mutant, caught in zip(mutants, results, strict=True):
            after = [one.episodes or options.episodes + 1 for one in caught]
            missed = sum(one.episodes is None for one in caught)
            survived += missed == len(caught)
            broke = next((one.violation for one in caught if one.violation), "")[:80].replace("|", "/")
            count = "**survived**" if missed == len(caught) else f"{median(after):,.0f}, {max(after):,}"
            print(f"| {mutant.file} | {mutant.name.replace('|', '/')} | {count} | {broke} |", flush=True)  # noqa: T201
    return survived > 0


if __name__ == "__main__":
    sys.exit(main())

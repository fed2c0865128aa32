"""``python -m bench [NAME …] [--quick]``: run benchmarks, show them, keep the figures, and renew docs/bench.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

from bench import callers, counting, detection, explain, ingest, memory, plans, reading, report, rollback
from pik.errors import PikError

# A benchmark: quick or not, and a way to say where it is; returns its measurements.
BENCHES: dict[str, Callable[..., dict[str, Any]]] = {
    "ingest": ingest.run,
    "callers": callers.run,
    "reading": reading.run,
    "explain": explain.run,
    "memory": memory.run,
    "rollback": rollback.run,
    "counting": counting.run,
}
# What has a page of its own and is run by itself (python -m bench.plans); a quick run only sees that it works.
SMOKE: dict[str, Callable[[Callable[[str], None]], None]] = {"plans": plans.smoke, "detection": detection.smoke}


def main() -> int:
    """Run what the command line names; everything by default."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(BENCHES)}")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"a smoke run, also of {' and '.join(SMOKE)}: few events, no page and no figure is changed",
    )
    options = parser.parse_args()
    there = [*BENCHES, *(SMOKE if options.quick else ())]
    if unknown := set(options.names) - set(there):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are: {', '.join(there)}")
    progress = Console(stderr=True, highlight=False)
    try:
        for name in options.names or there:
            _run(name, quick=options.quick, say=lambda line: progress.print(line, markup=False))
    except PikError as error:
        progress.print(f"{error.message}\n  {error.reason}\n  do this  {error.next_step}", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _run(name: str, *, quick: bool, say: Callable[[str], None]) -> None:
    out = Console(highlight=False)
    say(name)
    if name in SMOKE:
        SMOKE[name](say)
        return
    result = BENCHES[name](quick=quick, say=say)
    report.show(result, out)
    out.print(f"figures {report.save(result)}", markup=False)
    if not quick:
        report.document(result)
        out.print(f"written {report.DOCS}", markup=False)


if __name__ == "__main__":
    sys.exit(main())

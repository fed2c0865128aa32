"""``python -m bench [NAME …] [--quick]``: run benchmarks, show them, keep the figures, and renew docs/bench.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

from bench import ingest, reading, report, rollback
from pik.errors import PikError

# A benchmark: quick or not, and a way to say where it is; returns its measurements.
BENCHES: dict[str, Callable[..., dict[str, Any]]] = {
    "ingest": ingest.run,
    "reading": reading.run,
    "rollback": rollback.run,
}


def main() -> int:
    """Run what the command line names; everything by default."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few events, docs/bench.md stays as it is")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are: {', '.join(BENCHES)}")
    progress, out = Console(stderr=True, highlight=False), Console(highlight=False)
    try:
        for name in options.names or BENCHES:
            result = BENCHES[name](quick=options.quick, say=lambda line: progress.print(line, markup=False))
            report.show(result, out)
            out.print(f"figures {report.save(result)}", markup=False)
            if not options.quick:
                report.document(result)
                out.print(f"written {report.DOCS}", markup=False)
    except PikError as error:
        progress.print(f"{error.message}\n  {error.reason}\n  do this  {error.next_step}", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

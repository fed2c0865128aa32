"""How a result is shown: on the terminal, as a file, and as a generated section of docs/bench.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import prices
from pik import project

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs" / "bench.md"
Rows = list[list[str]]


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], Rows]]:
    """Return what is shown, as (title, columns, rows): the benchmark's own tables, or those of ingest."""
    if "tables" in result:
        return [(title, columns, rows) for title, columns, rows in result["tables"]]
    return [
        ("Speed (medians of the rounds; ratio = project ÷ naive, with its range)", _SPEED, _speed_rows(result)),
        ("AWS calls and units (observed)", _across(result), _usage_rows(result)),
        ("Dollars per million events", ["", *_across(result)[1:]], _dollar_rows(result)),
        ("The process dies right after a write, and the producer retries", _CRASH, _crash_rows(result)),
    ]


def show(result: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    for title, columns, rows in tables(result):
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def save(result: dict[str, Any]) -> Path:
    """Write the whole result and return its path: below bench/results, or in the scratch space for a smoke run."""
    folder = project.STATE / "bench" if result["quick"] else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['bench']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def document(result: dict[str, Any], path: Path = DOCS) -> None:
    """Replace the generated section of docs/bench.md."""
    renew(path, result["bench"], markdown(result))


def marks(name: str) -> tuple[str, str]:
    """Return what a generated section stands between."""
    return f"<!-- {name}: generated -->", f"<!-- {name}: end -->"


def renew(path: Path, name: str, section: str) -> None:
    """Replace what stands between the marks of a name; the text around it is written by hand."""
    begin, end = marks(name)
    head, rest = path.read_text(encoding="utf-8").split(begin, 1)
    path.write_text(f"{head}{begin}\n{section}{end}{rest.split(end, 1)[1]}", encoding="utf-8")


def markdown(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    if "tables" in result:
        return "\n".join([f"{result['note']}\n", *(_markdown_table(c, r) for _, c, r in tables(result))])
    plan = result["plan"]
    events = ", ".join(f"{count} at concurrency {n}" for n, count in plan["events"].items())
    parts = [
        f"Measured {result['started']} on {result['machine']}, load average {result['load_average']} before; "
        f"{plan['rounds']} rounds of {events}; functions of {result['memory_mb']} MB.\n"
    ]
    for title, columns, rows in tables(result):
        parts.append(f"### {title}\n\n" + _markdown_table(columns, rows))
    parts.append("### Prices\n\n" + _markdown_table(_PRICE, _price_rows()))
    parts.append(f"Region {prices.REGION}, first tier, no free tier. Not included: {prices.NOT_INCLUDED}.\n")
    return "\n".join(parts)


_SPEED = ["concurrency", "arrival", "", "events/s", "p50 ms", "p99 ms"]
_FIGURES = (
    ("DynamoDB write units", "write_units", "g"),
    ("DynamoDB read units", "read_units", "g"),
    ("S3 PUT", "s3_puts", "g"),
    ("S3 GET", "s3_gets", "g"),
    ("billed ms, of the embedded AWS", "billed_ms", ".1f"),
    ("log bytes", "log_bytes", ",.0f"),
)
_CRASH = ["", "dies after", "the retry is answered", "event found with its bytes"]
_PRICE = ["what", "US dollars", "AWS's page", "read at", "on"]


def _speed_rows(result: dict[str, Any]) -> Rows:
    rows: Rows = []
    for entry in result["speed"]:
        for name, figures in entry["medians"].items():
            rows.append(
                [str(entry["concurrency"]), entry["kind"], name, *(f"{value:,.1f}" for value in figures.values())]
            )
        ratios = [
            f"{ratio:.2f} ({low:.2f}–{high:.2f})"
            for ratio, (low, high) in zip(entry["ratio"].values(), entry["ratio_range"].values(), strict=True)
        ]
        rows.append(["", "", "ratio", *ratios])
    return rows


def _across(result: dict[str, Any]) -> list[str]:
    return ["per event", *(f"{cost['kind']}, {cost['target']}" for cost in result["cost"])]


def _usage_rows(result: dict[str, Any]) -> Rows:
    costs = result["cost"]
    calls = sorted({name for cost in costs for name in cost["calls"]})
    rows = [[name.replace(":", " "), *(f"{cost['calls'].get(name, 0):g}" for cost in costs)] for name in calls]
    rows.insert(0, ["AWS calls", *(f"{cost['calls_per_event']:g}" for cost in costs)])
    for label, figure, form in _FIGURES:
        rows.append([label, *(format(cost[figure], form) for cost in costs)])
    return rows


def _dollar_rows(result: dict[str, Any]) -> Rows:
    costs = result["cost"]
    services = costs[0]["dollars_per_million"]
    rows = [[service, *(f"{cost['dollars_per_million'][service]:.2f}" for cost in costs)] for service in services]
    return [*rows, ["total", *(f"{cost['total']:.2f}" for cost in costs)]]


def _crash_rows(result: dict[str, Any]) -> Rows:
    return [
        [name, crash["died_after"], crash["retry_answers"], "yes" if crash["event_found"] else "NO: lost"]
        for name, crashes in result["crashes"].items()
        for crash in crashes
    ]


def _price_rows() -> Rows:
    return [[p.unit, f"{p.dollars:.10f}".rstrip("0"), p.page, p.read_at, p.read] for p in prices.ALL]


def _markdown_table(columns: list[str], rows: Rows) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"

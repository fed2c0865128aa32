"""Write docs/cases.md: what `pik ingest` answers to each file in tests/cases/. The commands themselves are run."""

from __future__ import annotations

import json
import os
from pathlib import Path

from typer.testing import CliRunner

from pik.cli import app
from pik.errors import PikError

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "tests" / "cases"
TARGET = ROOT / "docs" / "cases.md"
WIDTH = 320
# What is in a file, and the mapping that takes it, if it needs one.
FILES = {
    "bom.jsonl": ("a byte order mark before the first event", ""),
    "UPPER.JSONL": ("a file name in capitals", ""),
    "gharchive_hour.json.gz": ("GitHub events, gzip; named `.json`, with one event a line", "github-archive"),
    "github_deliveries.json": ("GitHub webhook deliveries, a JSON array", "github"),
    "stripe.jsonl": ("Stripe events", "stripe"),
    "eventbridge.jsonl": ("Amazon EventBridge events", "eventbridge"),
    "s3_notification.jsonl": ("Amazon S3 event notifications", "s3"),
    "segment.jsonl": ("Segment calls", "segment"),
    "snowplow.jsonl": ("Snowplow enriched events", "snowplow"),
    "otel_log.jsonl": ("OpenTelemetry logs, OTLP JSON", "otlp-logs"),
    "cloudevents.jsonl": ("CloudEvents, some with text, with bytes or without data", "cloudevents"),
    "cloudevents_batch.jsonl": ("a batch of CloudEvents", "cloudevents"),
    "csv_blank_rows.csv": ("blank rows", ""),
    "csv_overflow.csv": ("in one cell, a number that a double does not hold exactly", ""),
    "csv_deep.csv": ("a cell with JSON that is nested too deeply", ""),
    "csv_key_column_misspelt.csv": ("a column called `idempotencyKey`", ""),
    "jsonl_repeated_name.jsonl": ("a name that appears twice in one object", ""),
    "nan_line.jsonl": ("`NaN` in one line, which is not JSON", ""),
    "wei_amounts.jsonl": ("amounts with more digits than a double holds", ""),
    "max_date.jsonl": ("an event in the last second of the year 9999", ""),
    "depth_976.jsonl": ("a payload with 976 levels of nesting", ""),
    "control_char_source.jsonl": ("a control character in a name", ""),
    "long_japanese_names.jsonl": ("names of more than 290 encoded characters", ""),
    "orders.csv": ("semicolons, and columns with other names than an event's fields", ""),
}
HEAD = """\
# Example files, and what `pik ingest` answers

`make docs` generates this page: it runs each command, and a test compares the page with the answers. The files are in
`tests/cases/`. When records are rejected, the table gives their number and the reason of the first one; the other
records of the file are events. Each command here ends with `--dry-run --sample 999999`, so nothing was sent.
See also: [mappings](mappings.md), [which files `pik ingest` reads](producer.md).

| file | contents | options of `pik ingest FILE` | answer |
| --- | --- | --- | --- |
"""


def answer(*arguments: str) -> str:
    """Return what the command says of a file."""
    before = Path.cwd()
    os.chdir(CASES)
    try:
        ran = CliRunner().invoke(app, ["ingest", *arguments, "--dry-run", "--sample", "999999", "--json"])
    finally:
        os.chdir(before)
    if isinstance(ran.exception, PikError):
        error = ran.exception
        return f"the whole file is refused: {error.message.partition(': ')[2]}; do this: {error.next_step}"
    found = json.loads(ran.stdout.splitlines()[-1])
    said = f"{found['events']:,} {'event' if found['events'] == 1 else 'events'}"
    if not found["rejected"]:
        return said
    first = found["problems"][0]
    why = f"{first['place']}: {first['error']}; do this: {first['do_this']}"
    return f"{said}, {found['rejected']:,} rejected: {why}"


def _cell(text: str) -> str:
    """A text, perhaps of several lines, in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", "<br>")


def row(name: str, about: str, mapping: str) -> str:
    """Return one row of the table."""
    options = f"`--mapping {mapping}`" if mapping else ""
    said = answer(name, *(["--mapping", mapping] if mapping else []))
    text = said if len(said) <= WIDTH else f"{said[:WIDTH]}…"
    return f"| `{name}` | {about} | {options} | {_cell(text)} |\n"


def render() -> str:
    """Return the page."""
    rows = []
    for name, (about, mapping) in FILES.items():
        rows.append(row(name, about, ""))
        if mapping:
            rows.append(row(name, "the same file", mapping))
    return HEAD + "".join(rows)


if __name__ == "__main__":
    TARGET.write_text(render())

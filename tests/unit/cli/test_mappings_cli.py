"""``pik mapping`` and the examples of its page."""

from __future__ import annotations

import csv
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pik.cli import app
from pik.errors import UsageError
from pik.project import ROOT
from tests.unit.ingest_world import CASES

PAGE = (ROOT / "docs" / "mappings.md").read_text()
EXAMPLES = re.findall(r"```console\n\$ pik ([^\n]*)\n(.*?)```", PAGE, re.DOTALL)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error(*arguments: str | Path) -> UsageError:
    found = run(*arguments).exception
    assert isinstance(found, UsageError), found
    return found


@pytest.mark.parametrize(("command", "answer"), EXAMPLES, ids=[command[:30] for command, _ in EXAMPLES])
def test_the_pages_examples_are_what_the_commands_say(
    command: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CASES)
    assert run(*shlex.split(command)).stdout == answer


def test_the_page_names_every_built_in_mapping() -> None:
    listed = json.loads(run("mapping", "list", "--json").stdout)
    assert [one["name"] for one in listed if one["built_in"]] == re.findall(
        r"^\| `([a-z0-9-]+)` \| .* \| .* \| ", PAGE, re.M
    )


@pytest.mark.parametrize(
    ("file", "name"), [("stripe.jsonl", "stripe"), ("otel_log.jsonl", "otlp-logs"), ("segment.jsonl", "segment")]
)
def test_a_first_look_names_the_mapping_that_takes_the_records(file: str, name: str) -> None:
    told = run("ingest", CASES / file, "--dry-run", "--sample", "1")
    assert told.exit_code == 4
    assert f"the same command with --mapping {name}" in told.stdout


def test_a_mapping_is_inferred_kept_tried_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        {"uuid": f"a{n}", "kind": "login", "who": {"user id": f"u{n % 3}"}, "at": 1795600000123 + n, "qty": n}
        for n in range(9)
    ]
    path = tmp_path / "My logins (1).jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    proposed = run("mapping", "infer", path)
    assert proposed.exit_code == 0
    assert f"pik mapping test my-logins--1 '{path}'" in proposed.stdout
    (tmp_path / "pik.toml").write_text(proposed.stdout)  # as it is: what is not TOML is a comment
    monkeypatch.setenv("PIK_CONFIG", str(tmp_path / "pik.toml"))
    tried = json.loads(run("mapping", "test", "my-logins--1", path, "--sample", "1", "--json").stdout)
    assert (tried["events"], tried["rejected"], len(tried["sample"])) == (9, 0, 1)
    made = tried["sample"][0]["made"][0]
    assert (made["source"], made["event_type"], made["entity_id"]) == ("my-logins--1", "login", "u0")
    assert (made["event_time"], made["idempotency_key"]) == ("2026-11-25T09:46:40.123000Z", "a0")
    assert re.search(r"^my-logins--1 .* pik\.toml", run("mapping", "list").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ["id,when", "1,03/04/2026", "2,05/06/2026"],
            "time_format: is the day or the month first in when? one of these:",
        ),
        (["id,when", "1,soon", "2,later"], "event_time: no member is a time in most records, or its form is unclear"),
        (["name,at", "x,2026-11-20"], "entity_id: which member says whom or what it is about?"),
    ],
)
def test_what_nobody_can_tell_is_said(tmp_path: Path, rows: list[str], said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows))
    result = run("mapping", "infer", path)
    assert result.exit_code == 4
    assert f"# not known   {said}" in result.stdout


@pytest.mark.parametrize(
    ("first", "said", "lines"),
    [
        (
            "1,25/12/2026 10:00",
            "# time_format: the day comes first, as in 25/12/2026 10:00, which no other order fits",
            ['time_format = "%d/%m/%Y %H:%M"'],
        ),
        (
            "1,03/04/2026 10:00",
            "# not known   time_format: is the day or the month first in when? one of these:",
            ['# time_format = "%d/%m/%Y %H:%M"', '# time_format = "%m/%d/%Y %H:%M"'],
        ),
    ],
)
def test_what_is_pasted_carries_what_was_decided_and_what_was_not(
    tmp_path: Path, first: str, said: str, lines: list[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id,when\n{first}\n2,05/06/2026 11:00\n")
    block = run("mapping", "infer", path).stdout.partition("\n\n")[0].splitlines()

    assert block[0] == "[mappings.a]"
    assert block[block.index(said) + 1 :][: len(lines)] == lines
    assert block[block.index('source = "a"') - 1] == "# source: a, after the file; a constant"
    zone = block.index('# time_zone = "Europe/Berlin"')
    assert block[zone - 1].startswith("# time_zone: the times have none, so UTC is assumed")


def test_a_file_in_order_of_time_tells_its_dates_further_down(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{n},{1 + n // 60:02}/03/2026 10:{n % 60:02}" for n in range(1, 600)]
    path.write_text(
        "\n".join(["id,when", *rows, "600,02/03/2026 11:00", "601,13/03/2026 11:00", "602,14/03/2026 11:00"])
    )
    proposed = run("mapping", "infer", path)
    assert proposed.exit_code == 0
    assert "# time_format: the day comes first, as in 13/03/2026 11:00, which no other order fits" in proposed.stdout
    assert 'time_format = "%d/%m/%Y %H:%M"' in proposed.stdout.splitlines()


def test_a_column_that_is_not_chosen_for_its_empty_cells_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["id,when,customer", *(f"{n},2026-11-2{n},{'c' if n else ''}" for n in range(9))]))
    lines = run("mapping", "infer", path).stdout.splitlines()
    said = "customer was not chosen: it has no value in 1 of 9, which would be refused"
    assert lines[lines.index('entity_id = "id"') - 1].endswith(said)


def test_no_column_adds_a_line_to_what_is_proposed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    evil = ['order"\n[environments]\nprod id', "when"]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([evil, *([f"o-{n}\nx = 1", f"2026-11-{n:02}"] for n in range(1, 5))])
    proposed = tomllib.loads(run("mapping", "infer", path).stdout)
    assert set(proposed) == {"mappings"}
    assert proposed["mappings"]["a"]["entity_id"] == evil[0]


@pytest.mark.parametrize(("sample", "stopped"), [("1", True), ("2", True), ("3", False), ("9", False)])
def test_a_sample_says_that_the_rest_was_not_looked_at(sample: str, stopped: bool) -> None:
    asked: tuple[str | Path, ...] = (
        "ingest",
        CASES / "orders.csv",
        "--source",
        "shop",
        "--type",
        "order",
        "--entity",
        "Customer",
    )
    asked += ("--time", "Ordered at", "--time-format", "%d.%m.%Y %H:%M", "--dry-run", "--sample", sample)
    plural = "" if sample == "1" else "s"
    line = f"stopped after {sample} record{plural}: the rest was not looked at"
    assert (line in run(*asked).stdout.splitlines()) is stopped
    assert json.loads(run(*asked, "--json").stdout)["complete"] is not stopped


@pytest.mark.parametrize("name", ["stripe.jsonl", "snowplow.jsonl", "cloudevents.jsonl", "github_deliveries.json"])
def test_a_shape_that_the_kit_knows_is_not_inferred_but_named(name: str) -> None:
    assert "# these are " in run("mapping", "infer", CASES / name).stdout


def test_every_record_is_tried_and_the_bad_ones_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    stripe = (CASES / "stripe.jsonl").read_text().strip()
    path.write_text("\n".join([stripe, "{oops", stripe.replace('"created"', '"made"'), "{}"]))
    result = run("mapping", "test", "stripe", path, "--sample", "1")
    assert result.exit_code == 4
    assert "1 event, 3 rejected; nothing was sent" in result.stdout
    assert "✗ line 3: unmapped: event_time: there is no 'created'" in result.stdout
    assert "✗ line 2: not_json" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("mapping", "show", "strpe"), "no such mapping: strpe", "did you mean stripe?"),
        (("mapping", "show", "./nothing.toml"), "nothing.toml cannot be read", "pik mapping show stripe"),
        (
            ("mapping", "infer", CASES / "wei_amounts.jsonl", "--format", "csv"),
            "the first line names no columns",
            "--format",
        ),
        (("ingest", CASES / "stripe.jsonl", "--source", "x"), "options: event_type is missing", "--entity"),
        (("ingest", CASES / "stripe.jsonl", "--sample", "3"), "--sample is for a dry run", "--dry-run --sample 3"),
        (("ingest", CASES / "stripe.jsonl", "--mapping", "stripe", "--time-format", "x"), "no such time format", "iso"),
    ],
)
def test_a_mistake_says_what_to_do(arguments: tuple[Any, ...], message: str, hint: str) -> None:
    found = error(*arguments)
    assert message in found.message
    assert hint in found.next_step

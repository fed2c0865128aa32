"""Files as people have them: what ``pik ingest FILE`` answers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pik.errors import UsageError
from pik.mappings import catalog
from pik.pipeline.settings import Settings
from tests.unit.ingest_world import CASES, Ingest, ingest_world
from tests.unit.world import World


@pytest.fixture
def pik(
    monkeypatch: pytest.MonkeyPatch, deployed: Settings, request_of: Callable[..., Any], tmp_path: Path
) -> Iterator[Ingest]:
    with ingest_world(monkeypatch, deployed, request_of, tmp_path / "state") as world:
        yield world


@pytest.mark.parametrize(
    ("name", "accepted", "codes"),
    [
        ("UPPER.JSONL", 1, {}),
        ("bom.jsonl", 3, {}),
        ("nan_line.jsonl", 3, {"number_out_of_range": 1}),
        ("csv_overflow.csv", 3, {"number_out_of_range": 1}),
        ("csv_deep.csv", 2, {"too_deep": 1}),
        ("csv_blank_rows.csv", 1, {}),
        ("jsonl_repeated_name.jsonl", 0, {"repeated_name": 1}),
        ("wei_amounts.jsonl", 0, {"number_out_of_range": 6}),
        ("long_japanese_names.jsonl", 1, {}),
        ("control_char_source.jsonl", 0, {"bad_name": 1}),
        ("depth_976.jsonl", 0, {"too_deep": 1}),
        ("max_date.jsonl", 1, {}),
    ],
)
def test_a_bad_line_costs_itself_alone(pik: Ingest, name: str, accepted: int, codes: dict[str, int]) -> None:
    summary = pik.json(CASES / name)
    assert (summary["accepted"], summary["by_code"]) == (accepted, codes)
    assert summary["rejected"] == sum(codes.values())
    assert (summary["rejects_file"] is None) == (not codes)


def test_a_column_that_would_be_dropped_is_refused(pik: Ingest) -> None:
    result = pik.run(CASES / "csv_key_column_misspelt.csv")
    assert "idempotencyKey" in str(result.exception)
    assert not pik.bodies


@pytest.mark.parametrize(
    ("name", "mapping", "made"),
    [
        ("stripe.jsonl", "stripe", ["stripe · charge.succeeded · cus_9 · 2026-11-25T09:46:40.000000Z"]),
        (
            "eventbridge.jsonl",
            "eventbridge",
            ["aws.s3 · Object Created · arn:aws:s3:::bucket1 · 2026-11-12T00:00:00.000000Z"],
        ),
        ("s3_notification.jsonl", "s3", ["aws:s3 · ObjectCreated:Put · b/k · 2026-11-20T10:00:00.000000Z"]),
        ("segment.jsonl", "segment", ["segment · Order Completed · u-1 · 2026-11-20T10:00:00.000000Z"]),
        ("snowplow.jsonl", "snowplow", ["web · page_view · d-1 · 2026-11-20T10:00:01.123000Z"]),
        ("otel_log.jsonl", "otlp-logs", ["checkout · log.INFO · checkout · 2026-11-25T09:46:40.000000Z"]),
        ("cloudevents_batch.jsonl", "cloudevents", ["/ce/test · t.x · s-1 · 2026-11-20T10:00:00.000000Z"] * 2),
        (
            "gharchive_hour.json.gz",
            "github-archive",
            [f"github · PushEvent · org/repo · 2026-11-20T15:00:0{n}.000000Z" for n in range(3)],
        ),
        (
            "github_deliveries.json",
            "github",
            [
                "github · issues.opened · octocat/hello-world · 2026-11-20T10:00:00.000000Z",
                "github · push · 456 · 2026-11-20T10:00:01.000000Z",
            ],
        ),
    ],
)
def test_other_peoples_shapes_are_named_and_taken(
    pik: Ingest, world: World, name: str, mapping: str, made: list[str]
) -> None:
    before = pik.run(CASES / name)
    assert before.exit_code == 4
    assert f"do this  {catalog.find(mapping).about}: the same command with --mapping {mapping}" in before.stdout
    place = shlex.quote(str(CASES / name))
    assert f"do this       pik ingest {place} --env local --mapping {mapping}\n" in before.stdout
    assert "look first: the same with --dry-run --sample 3\n" in before.stdout
    assert not world.table("events")

    looked = pik.run(CASES / name, "--mapping", mapping, "--dry-run", "--sample", "3")
    assert looked.exit_code == 0
    assert [line.removeprefix("  ✓ ") for line in looked.stdout.splitlines() if "✓" in line] == made
    assert not world.table("events")

    first = pik.json(CASES / name, "--mapping", mapping)
    assert (first["accepted"], first["safe"]) == (len(made), True)
    again = pik.json(CASES / name, "--mapping", mapping)
    assert (again["duplicate"], again["safe"]) == (len(made), True)
    rows = world.table("events")
    shown = [f"{r['source']} · {r['event_type']} · {r['entity_id']} · {r['event_time']}" for r in rows]
    assert sorted(set(shown)) == sorted(set(made))


def test_a_cloudevent_is_the_same_event_with_the_mapping_and_without(pik: Ingest, world: World) -> None:
    own = pik.json(CASES / "cloudevents.jsonl")
    known = world.objects("raw/").keys()
    mapped = pik.json(CASES / "cloudevents.jsonl", "--mapping", "cloudevents")
    assert mapped["conflict"] == 0
    assert mapped["duplicate"] == own["accepted"] == len(known)
    assert {problem["place"]: problem["code"] for problem in mapped["problems"]} == {
        "line 2": "unmapped",  # no time
        "line 9": "unmapped",  # data and data_base64
        "line 12": "bad_name",  # a subject of more than 256 characters
        "line 13": "unmapped",  # another version
    }


def test_csv_with_any_header(pik: Ingest, world: World, tmp_path: Path) -> None:
    refused = pik.run(CASES / "orders.csv").exception
    assert isinstance(refused, UsageError)
    assert "pik mapping infer" in refused.next_step

    options = ["--source", "shop", "--type", "order.{Status}", "--entity", "Customer", "--key", "Order ID"]
    options += ["--time", "Ordered at", "--time-format", "%d.%m.%Y %H:%M", "--time-zone", "Europe/Berlin"]
    rejects = tmp_path / "rejects.jsonl"
    summary = pik.json(CASES / "orders.csv", *options, "--number", "Amount", "--rejects", rejects)
    assert (summary["accepted"], summary["rejected"], summary["by_status"]["not_sent"]) == (2, 1, 1)
    assert "delimiter semicolon" in summary["notes"][0]
    (kept,) = map(json.loads, rejects.read_text().splitlines())
    assert (kept["place"], kept["code"]) == ("line 4", "bad_time")
    assert kept["line"] == "1003;c-1;31.12.2026 25:05;x;open"
    (one, two) = world.table("events")
    assert (one["entity_id"], one["event_time"], one["event_type"]) == (
        "c-1",
        "2026-11-20T09:00:00.000000Z",
        "order.paid",
    )
    assert (two["entity_id"], two["idempotency_key"]) == ("c-2", "1002")
    bodies = [json.loads(body) for body in pik.bodies]
    assert [(body["payload"], body["original"]) for body in bodies] == [
        ({"Amount": 12.5}, "1001;c-1;20.11.2026 10:00;12.50;paid"),
        ({"Amount": 7}, "1002;c-2;20.11.2026 10:05;7;open"),
    ]

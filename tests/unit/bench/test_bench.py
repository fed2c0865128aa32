from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bench
from bench import __main__ as bench_main
from bench import callers, cost, ingest, memory, prices, report, rollback
from bench.cost import Usage
from pik.aws import guard
from pik.aws.template import parse
from pik.environments import Environment


def item(size: int) -> dict[str, dict[str, str]]:
    return {"k": {"S": "x" * (size - 1)}}


@pytest.mark.parametrize(("size", "units"), [(1024, 1), (1025, 2)])
def test_a_put_costs_a_unit_a_kilobyte_and_one_more_for_each_index(size: int, units: int) -> None:
    put = {"TableName": "t", "Item": item(size)}
    assert cost.write_units("PutItem", put, succeeded=True, indexes={}) == units
    assert cost.write_units("PutItem", put, succeeded=True, indexes={"t": 2}) == 3 * units
    assert cost.write_units("PutItem", put, succeeded=False, indexes={"t": 2}) == units


def test_a_transaction_costs_double_but_its_indexes_do_not() -> None:
    puts = [{"Put": {"TableName": name, "Item": item(500)}} for name in ("dedupe", "events")]
    assert cost.write_units("TransactWriteItems", {"TransactItems": puts}, succeeded=True, indexes={"events": 2}) == 6


def test_reads() -> None:
    assert cost.read_units("GetItem", {"ConsistentRead": True}, {"Item": item(4097)}) == 2
    assert cost.read_units("GetItem", {}, {}) == 0.5
    assert cost.read_units("PutItem", {}, {}) == 0


def test_item_sizes_count_names_and_values() -> None:
    assert cost.item_bytes({"ab": {"S": "é"}, "n": {"N": "123"}, "b": {"BOOL": True}}) == (2 + 2) + (1 + 3) + (1 + 1)


def test_dollars_add_up() -> None:
    usage = Usage(write_units=2, s3_puts=1, gb_seconds=0.005, log_bytes=1000)
    dollars = usage.dollars_per_million()
    assert dollars["DynamoDB writes"] == pytest.approx(1.25)
    assert dollars["S3 requests"] == pytest.approx(5.0)
    assert dollars["CloudWatch Logs"] == pytest.approx(0.5)
    assert sum(dollars.values()) == pytest.approx(3.5 + 0.2 + 1.25 + 5.0 + 0.5 + 0.0667, abs=0.001)


def test_every_price_says_where_it_was_read_and_when() -> None:
    for price in (*prices.ALL, *prices.KEEPING):
        assert price.page.startswith("https://aws.amazon.com/")
        assert price.read_at.startswith("https://")
        assert price.read in ("2026-11-23", "2026-11-27")
        assert price.dollars > 0


def result() -> dict[str, Any]:
    rounds = [
        {
            "target": name,
            "concurrency": 1,
            "kind": kind,
            "events_per_second": speed * (number + 1),
            "p50": 10.0,
            "p99": 20.0,
            "billed_ms": 12.0,
            "log_bytes": 1000,
        }
        for number in range(3)
        for name, speed in (("project", 50.0), ("naive", 100.0))
        for kind in ingest.KINDS
    ]
    usage = {"calls": {"s3:PutObject": 1.0}, "write_units": 2.0, "s3_puts": 1.0}
    observed = {"first": usage, "duplicate": usage, "crashes": [None]}
    names = ["project", "naive"]
    return {
        "bench": "ingest",
        "quick": True,
        "started": "2026-11-23T00:00:00+00:00",
        "machine": "2 CPUs",
        "load_average": 0.1,
        "memory_mb": 512,
        "plan": {"rounds": 3, "events": {1: 10}, "observed": 4},
        "speed": [ingest._speed(rounds, names, 1, kind) for kind in ingest.KINDS],
        "cost": [ingest._cost(name, kind, observed, rounds, 512) for kind in ingest.KINDS for name in names],
        "crashes": {
            "project": [{"died_after": "write 1", "retry_answers": "DUPLICATE", "event_found": True}],
            "naive": [{"died_after": "write 1", "retry_answers": "DUPLICATE", "event_found": False}],
        },
    }


def test_a_ratio_is_that_of_rounds_side_by_side() -> None:
    speed = result()["speed"][0]
    assert speed["medians"]["project"]["events_per_second"] == 100
    assert speed["medians"]["naive"]["events_per_second"] == 200
    assert speed["ratio"]["events_per_second"] == 0.5
    assert speed["ratio_range"]["events_per_second"] == [0.5, 0.5]


def test_the_generated_section_is_replaced_and_the_rest_kept(tmp_path: Path) -> None:
    page = tmp_path / "bench.md"
    page.write_text("before\n<!-- ingest: generated -->\nold\n<!-- ingest: end -->\nafter\n", encoding="utf-8")
    report.document(result(), page)
    report.document(result(), page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("Dollars per million") == 1
    assert "NO: lost" in text
    assert prices.WRITE_UNIT.page in text


def test_results_survive_json() -> None:
    copy = json.loads(json.dumps(result()))
    assert report.tables(copy) == report.tables(result())


def test_the_page_has_its_markers() -> None:
    text = report.DOCS.read_text(encoding="utf-8")
    assert text.index("<!-- ingest: generated -->") < text.index("<!-- ingest: end -->")


def test_what_is_sent_to_the_naive_handler_passes_the_guard() -> None:
    """The guard compares the stage of every address with the environment's name; the benchmark's own was refused."""
    text = (Path(bench.__file__).parent / "naive" / "template.yaml").read_text(encoding="utf-8")
    url = parse(text)["Outputs"]["IngestUrl"]["Value"]["Fn::Sub"]
    url = url.replace("${Api}", "abc123").replace("${AWS::Region}", "us-east-1").replace("${AWS::URLSuffix}", "x.y")
    local = Environment("local", region="us-east-1", endpoint="http://127.0.0.1:1")
    assert list(guard._of_url(local, "the address given", url, "")) == []
    assert parse(text)["Resources"]["Api"]["Properties"]["StageName"] == "local"


def test_a_quick_run_tries_every_benchmark() -> None:
    modules = {path.stem for path in Path(bench.__file__).parent.glob("*.py") if "def main" in path.read_text("utf-8")}
    # A seed of realism takes minutes: tests/stack/test_local_realism.py sees that the mode works.
    runnable = modules - {"__main__", "aged", "calls", "reading_client", "reading_server", "realism", "checkout_worker"}
    assert {*bench_main.BENCHES, *bench_main.SMOKE} >= runnable


@pytest.mark.parametrize("caller", callers.CALLERS[:3], ids=lambda one: one.name)
def test_the_rows_of_usual_callers_take_six_units(caller: callers.Caller) -> None:
    """An SSO or Lambda role's ARN, a UUID and dotted names; ten units when the row goes over a kilobyte."""
    assert callers.units(caller) == 6


def test_the_page_says_what_the_rows_and_an_idle_stack_cost() -> None:
    """Worked out, not measured: so the page must be what is worked out now."""
    result = callers.run(quick=False, say=lambda _: None)
    text = report.DOCS.read_text(encoding="utf-8")
    begin, end = report.marks("callers")
    assert text.partition(begin)[2].partition(end)[0].strip() == report.markdown(result).strip()
    idle = {row[0]: row[2] for row in callers.idle()}
    assert float(idle["total"]) == pytest.approx(sum(float(idle[name]) for name in list(idle)[:3]), abs=0.02)


def test_rollbacks_of_another_checkout_stand_beside_todays() -> None:
    measured = [
        {"code": code, "size": "many", "last_message": last, "done": 9.0, "exit": end}
        for code, last, end in (("this", 1.0, 0), ("before", 4.0, 4), ("this", 2.0, 0), ("this", 5.0, 0))
    ]
    rows = list(rollback._rows(measured))
    assert [row[:2] for row in rows] == [["this", "many"]] * 2 + [["before", "many"]] * 2
    assert rows[0][3:] == ["2.00", "1.00", "5.00", "0, 0, 0"]
    assert rows[2][3:] == ["4.00", "4.00", "4.00", "4"]


def test_what_an_event_takes_is_told_without_the_beginning() -> None:
    """While the first events are taken, workers start and libraries are loaded."""
    samples = [{"events": 0.0, "self": 1e6}, *({"events": n * 100.0, "self": 9e6 + n * 1e6} for n in range(1, 10))]
    assert memory._slope(samples) == pytest.approx(10_000)

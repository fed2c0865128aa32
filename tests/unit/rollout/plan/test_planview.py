"""How plans look: in a terminal, in a notebook, as a frame, as a step; values are shown and never interpreted."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from pik import phases
from pik.rollout.plan import planview
from pik.rollout.plan.diff import Change, PropertyChange
from pik.rollout.plan.planned import Plan
from pik.rollout.plan.prediction import Prediction, Version
from tests.unit.plan_world import PREDICTED, a_plan, rename, resource

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e[bold]&"


def hostile() -> Plan:
    """A plan with hostile text wherever a value can come from outside."""
    parts = (PropertyChange(HOSTILE, HOSTILE, None), PropertyChange("b", {HOSTILE: HOSTILE}, HOSTILE * 20, "unknown"))
    changed = Change(HOSTILE, HOSTILE, "replace", True, parts)
    version = Version(HOSTILE, "2025-01-01", HOSTILE, 1, 1)
    return replace(
        a_plan(),
        changes=(changed,),
        parameters=parts,
        outputs=parts,
        effects=(HOSTILE,),
        refusals=(HOSTILE,),
        prediction=Prediction((version,), 1, 2),
        asked={HOSTILE: HOSTILE},
    )


class Tags(HTMLParser):
    """Collects the tags of a fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)


@pytest.mark.parametrize("refused", [True, False])
def test_values_are_shown_and_never_interpreted(refused: bool) -> None:
    plan = hostile() if refused else replace(hostile(), refusals=(), stack=HOSTILE, environment=HOSTILE)
    text = plan.to_text()
    assert all(line.isprintable() for line in text.splitlines())
    assert r"<script>alert(1)</script>\x1b[31m\u202e[bold]&" in text
    tags = Tags()
    tags.feed(plan._repr_html_())
    assert "script" not in tags.seen
    assert tags.seen <= {
        "section",
        "style",
        "p",
        "br",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
        "span",
        "small",
    }
    assert plan._repr_html_().isprintable()


def test_text_tells_stores_first_and_what_replaces() -> None:
    plan = a_plan(
        phases.INGEST, phases.INGEST, lambda d: resource(d, "EventsTable")["Properties"].update(TableName="e")
    )
    lines = plan.to_text().splitlines()
    first = lines[4]
    assert first.split() == ["!", "EventsTable", "replace", "AWS::DynamoDB::Table", "DATA", "STORE"]
    assert lines[5].strip() == "TableName  (none) -> e   [replaces]"
    assert lines[-1] == f"digest  {plan.digest}   change in place 3, replace 1"


def test_what_is_not_known_is_never_called_in_place() -> None:
    plan = a_plan(phases.INGEST, phases.INGEST, lambda d: resource(d, "Dashboard")["Properties"].update(Novelty=1))
    text = plan.to_text()
    assert "Dashboard                may replace" in text
    assert "Novelty  (none) -> 1   [unknown: may replace]" in text
    assert "in place" not in text


def test_text_and_html_tell_the_rest() -> None:
    plan = replace(a_plan(), prediction=replace(PREDICTED, versions=PREDICTED.versions * 12))
    for shown in (plan.to_text(), plan._repr_html_()):
        assert "1 ingest -&gt; 2 replay" in shown or "1 ingest -> 2 replay" in shown
        assert plan.digest in shown
        assert "… and 2 more" in shown
        assert "pik deploy --env dev --phase replay" in shown
    assert repr(plan) == plan.to_text()


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (None, True, ("(none)", "true")),
        ("a", "b", ("a", "b")),
        ([1, "x"], {"b": 1, "a": None}, ('[1, "x"]', '{"a": null, "b": 1}')),
        (["a", "b"], ["b", "c", "d"], ("with a, without c, d", "with c, d, without a")),
        (["a"], ["a", "b"], ("without b", "with b")),
        (["a", "b"], ["b", "a"], ('["a", "b"]', '["b", "a"]')),
        (
            "x" * 500 + "one" + "y" * 500,
            "x" * 500 + "two" + "y" * 500,
            ("…" + "x" * 24 + "one" + "y" * 24 + "…", "…" + "x" * 24 + "two" + "y" * 24 + "…"),
        ),
        ("x" * 200, None, ("x" * 89 + "…", "(none)")),
        ("a" * 200, "a" * 300, ("…" + "a" * 24, "…" + "a" * 89 + "…")),
    ],
)
def test_long_values_are_shown_where_they_differ(before: Any, after: Any, shown: tuple[str, str]) -> None:
    assert planview.pair(PropertyChange("p", before, after)) == shown


def test_code_is_shown_as_short_digests() -> None:
    assert planview.pair(PropertyChange("code", "a" * 64, "b" * 64)) == ("aaaaaaaa…", "bbbbbbbb…")
    assert planview.pair(PropertyChange("code", None, "b" * 64)) == ("(none)", "bbbbbbbb…")


def test_the_frame_has_a_row_for_each_difference() -> None:
    frame = a_plan(phases.REPLAY, phases.INGEST).frame
    assert list(frame.columns) == ["action", "resource", "type", "store", "property", "before", "after", "replacement"]
    assert {"ReplayApi", "Dashboard"} <= set(frame["resource"])
    assert frame[frame["type"] == "parameter"]["property"].tolist() == ["EnableReplay"]
    removed = Change("R", "AWS::IAM::Role", "remove", False)
    assert len(replace(a_plan(), changes=(removed,), parameters=(), outputs=()).frame) == 1


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ({}, "pik deploy --env dev --phase replay"),
        (
            {"asked": {"DryRun": "true", "LogLevel": "a b"}},
            "pik deploy --env dev --phase replay --dry-run --set 'LogLevel=a b'",
        ),
        ({"asked": {"DryRun": "false"}}, "pik deploy --env dev --phase replay --no-dry-run"),
        ({"kind": "deployed"}, "pik promote --env dev --to replay"),
        (
            {"kind": "deployed", "previous": "replay"},
            "pik plan --env dev --phase replay --deployed --out FILE\npik deploy --plan FILE",
        ),
    ],
)
def test_the_next_command_does_what_was_planned(change: dict[str, Any], command: str) -> None:
    assert replace(a_plan(), **change).command == command


def test_only_what_differs_is_set_and_the_phase_always() -> None:
    assert a_plan().settings == {"EnableReplay": "true", "EnableProcessor": "false", "Environment": "dev"}
    assert a_plan(BatchSize="7").settings["BatchSize"] == "7"
    assert a_plan(None).settings == a_plan(None).target.parameters


def test_as_a_step_a_refused_plan_closes_the_gate_and_an_inexact_prediction_does_not() -> None:
    found = replace(a_plan(), prediction=replace(PREDICTED, waiting=9)).result()
    assert (found.verdict, found.headline) == ("passed", "add 6, change in place 3")
    assert [one.verdict for one in found.checks] == ["passed", "failed"]
    assert found.facts["next"] == "pik deploy --env dev --phase replay"
    refused = a_plan(phases.INGEST, phases.INGEST, rename).result()
    assert refused.verdict == "failed"
    assert "EventsTable (data store) would be replaced" in refused.checks[0].sentence
    assert a_plan(phases.REPLAY, phases.REPLAY).result().headline == "nothing changes"


def test_what_is_predicted_is_a_frame_also_when_nothing_is() -> None:
    assert len(a_plan().predicted) == 0
    assert list(a_plan().predicted.columns) == list(replace(a_plan(), prediction=PREDICTED).predicted.columns)

"""The comparison of plans with change sets: its edits still fit the template, and the document has what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import plans, report, sources
from pik import project
from pik.aws.evaluation import evaluate
from pik.aws.template import parse
from pik.rollout.plan import sam
from pik.rollout.plan.diff import changes

BEGIN, END = report.marks("comparison")
TEMPLATE = project.TEMPLATE.read_text(encoding="utf-8")


@pytest.mark.parametrize("edit", plans.EDITS, ids=lambda edit: edit.title)
def test_every_edit_fits_the_template_and_changes_what_it_says(edit: plans.Edit, tmp_path: Path) -> None:
    before, root = sam.sources_digest(), project.ROOT
    with sources.edited(tmp_path, edit.change):
        assert tmp_path == project.ROOT
        text = project.TEMPLATE.read_text(encoding="utf-8")
        changed = sam.sources_digest() != before
    assert root == project.ROOT
    assert changed is ("toggle" not in edit.title)
    found = changes(
        evaluate(parse(TEMPLATE), {"EnableReplay": "true"}), evaluate(parse(text), {"EnableReplay": "true"})
    )
    assert any(one.refused for one in found) is ("table" in edit.title or "bucket" in edit.title)


def test_an_edit_that_does_not_fit_any_more_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one two two")
    sources.replaced(tmp_path, "a", "one", "1")
    assert (tmp_path / "a").read_text() == "1 two two"
    for text in ("two", "three"):
        with pytest.raises(ValueError, match="has the text"):
            sources.replaced(tmp_path, "a", text, "")


def test_the_document_holds_every_comparison() -> None:
    text = plans.DOCS.read_text(encoding="utf-8")
    generated = text.split(BEGIN)[1].split(END)[0]
    for number, edit in enumerate(plans.EDITS, start=1):
        assert f"### {number}. {edit.title}\n" in generated
    assert generated.count("`sam deploy`:") == generated.count("`pik plan`:") == len(plans.EDITS)


def test_the_generated_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "plan.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    told = plans.Told("an edit", ["* Modify  A"], ["~ A", ""], ["an edit", "1", "2", ""])
    plans.document(plans.markdown([told]), path)
    text = path.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "```text\n~ A\n```" in text


def test_sams_table_is_read_from_what_it_prints() -> None:
    said = (
        "Operation  LogicalResourceId  ResourceType  Replacement\n-----\n"
        "+ Add      Queue              AWS::SQS::Queue         N/A\n"
        "* Modify   IngestApiDeployme  AWS::ApiGateway::Deplo  Conditional\n"
        "- Delete   Old                AWS::SSM::Parameter     N/A\n"
    )
    rows = plans._table(said, {"IngestApiDeployment1": ["RestApiId"]})
    assert [row.split() for row in rows[1:]] == [
        ["+", "Add", "Queue", "AWS::SQS::Queue", "N/A"],
        ["*", "Modify", "IngestApiDeployme", "AWS::ApiGateway::Deplo", "Conditional", "RestApiId"],
        ["-", "Delete", "Old", "AWS::SSM::Parameter", "N/A"],
    ]
    assert plans._table("No changes to deploy. Stack pik-local is up to date\n", {}) == [
        "No changes to deploy. Stack pik-local is up to date"
    ]

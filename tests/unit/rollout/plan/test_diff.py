"""The property-level diff of evaluated templates."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pik import project
from pik.aws.evaluation import evaluate
from pik.aws.template import Evaluated, Resource, parse
from pik.rollout.plan.diff import Change, PropertyChange, changes, outputs, same, values

DOCUMENT = parse(project.TEMPLATE.read_text(encoding="utf-8"))
ON = {"EnableReplay": "true", "EnableProcessor": "true"}
INGEST, REPLAY, PROCESSOR = (evaluate(DOCUMENT, p) for p in ({}, {"EnableReplay": "true"}, ON))


def edited(edit: Callable[[dict[str, Any]], Any], parameters: dict[str, str] | None = None) -> dict[str, Change]:
    """What an edit of the template changes, by logical id."""
    document = copy.deepcopy(DOCUMENT)
    edit(document)
    found = changes(evaluate(DOCUMENT, parameters or {}), evaluate(document, parameters or {}))
    return {one.id: one for one in found}


def only(found: dict[str, Change]) -> Change:
    assert len(found) == 1, found
    return next(iter(found.values()))


def resource(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["Resources"][name]
    return found


def test_nothing_differs_from_itself() -> None:
    assert changes(PROCESSOR, PROCESSOR) == ()
    assert outputs(PROCESSOR, PROCESSOR, ()) == ()


def test_a_new_stack_adds_everything_stores_first() -> None:
    found = changes(None, INGEST)
    assert {one.action for one in found} == {"add"}
    assert [one.id for one in found if one.store] == [one.id for one in found][: sum(one.store for one in found)]
    assert {one.id for one in found} == INGEST.resources.keys()
    assert not any(one.refused for one in found)


def test_a_toggle_is_what_it_adds_and_what_it_changes_in_place() -> None:
    found = {one.id: one for one in changes(REPLAY, PROCESSOR)}
    added = {name for name, one in found.items() if one.action == "add"}
    assert added == PROCESSOR.resources.keys() - REPLAY.resources.keys()
    assert {name for name, one in found.items() if one.action == "change"} == {
        "OperatorPolicy",
        "RolloutParameter",
        "Dashboard",
    }
    assert not any(one.store for one in found.values())
    back = {one.id: one.action for one in changes(PROCESSOR, REPLAY)}
    assert back == {name: {"add": "remove"}.get(one.action, one.action) for name, one in found.items()}


def test_an_added_statement_is_one_statement() -> None:
    policy = next(one for one in changes(REPLAY, PROCESSOR) if one.id == "OperatorPolicy")
    statement, asking = sorted(policy.properties, key=lambda one: one.path, reverse=True)
    assert asking.path.endswith("Statement[AskTheProcessor]")
    assert statement.path == "PolicyDocument.Statement[EmergencyStop]"
    assert statement.before is None
    assert statement.after["Action"] == ["lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"]


def test_a_change_of_globals_shows_on_each_resource_it_changes() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["Globals"]["Function"]["Environment"]["Variables"]["POWERTOOLS_LOG_LEVEL"] = "DEBUG"

    found = edited(edit, ON)
    assert set(found) == {"IngestFunction", "ReplayFunction", "ProcessorFunction"}
    expected = PropertyChange("Environment.Variables.POWERTOOLS_LOG_LEVEL", "INFO", "DEBUG")
    assert all((one.action, one.properties) == ("change", (expected,)) for one in found.values())


def test_code_is_shown_as_a_digest() -> None:
    def edit(document: dict[str, Any]) -> None:
        resource(document, "IngestFunction")["Properties"]["CodeUri"] = "s3://bucket/0123abcd"

    change = only(edited(edit))
    (code,) = change.properties
    assert code.path == "code"
    assert len(code.before) == len(code.after) == 64
    assert "0123abcd" not in code.after


REPLACED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a name of its own": lambda d: resource(d, "EventsTable")["Properties"].update(TableName="events"),
    "another key": lambda d: resource(d, "EventsTable")["Properties"]["KeySchema"][1].update(AttributeName="Other"),
    "keys the other way round": lambda d: resource(d, "EventsTable")["Properties"]["KeySchema"].reverse(),
    "another type of a key": lambda d: resource(d, "EventsTable")["Properties"]["AttributeDefinitions"][0].update(
        AttributeType="N"
    ),
    "an unknown property": lambda d: resource(d, "EventsTable")["Properties"].update(Novelty=True),
    "another type": lambda d: resource(d, "EventsTable").update(Type="AWS::DynamoDB::GlobalTable"),
}


@pytest.mark.parametrize("name", REPLACED)
def test_a_store_that_is_replaced_or_may_be_is_refused(name: str) -> None:
    change = edited(REPLACED[name])["EventsTable"]
    assert (change.action, change.store, change.refused) == ("replace", True, True)
    assert change.certain is (name not in ("another key", "keys the other way round", "an unknown property"))


def test_what_refers_to_something_replaced_changes_with_it() -> None:
    found = edited(lambda d: resource(d, "Queue")["Properties"].update(QueueName="mine"), ON)
    mapping = found["ProcessorMapping"]
    assert (mapping.action, mapping.certain, mapping.refused) == ("replace", True, False)
    assert mapping.properties == (
        PropertyChange("EventSourceArn", "<Queue.Arn>", "<Queue.Arn>, of the new Queue", "yes"),
    )
    # … and what refers to the mapping that is replaced only for that reason.
    assert found["OperatorPolicy"].action == "change"
    assert {"Queue", "ReplayFunction", "ReplayRole", "ProcessorRole", "ViewerPolicy"} <= found.keys()
    named = {one.path for one in outputs(PROCESSOR, PROCESSOR, tuple(found.values()))}
    assert named == {"QueueUrl", "QueueArn", "ProcessorMapping"}


def test_what_may_be_replaced_may_replace_what_refers_to_it() -> None:
    found = edited(lambda d: resource(d, "Queue")["Properties"].update(Novelty=1), ON)
    mapping = found["ProcessorMapping"]
    assert (mapping.action, mapping.certain) == ("replace", False)
    assert [one.replacement for one in mapping.properties] == ["may"]


@pytest.mark.parametrize(
    ("policy", "was", "value"),
    [
        *[("DeletionPolicy", "RetainExceptOnCreate", value) for value in (None, "Delete", "Snapshot")],
        *[("UpdateReplacePolicy", "Retain", value) for value in (None, "Delete", "RetainExceptOnCreate")],
    ],
)
def test_a_store_that_is_no_longer_retained_is_refused(policy: str, was: str, value: str | None) -> None:
    def edit(document: dict[str, Any]) -> None:
        resource(document, "RawBucket")[policy] = value
        if value is None:
            del resource(document, "RawBucket")[policy]

    change = only(edited(edit))
    assert change.properties == (PropertyChange(policy, was, value),)
    assert (change.action, change.unretained, change.refused) == ("change", (policy,), True)


@pytest.mark.parametrize("values", [("Retain", "RetainExceptOnCreate"), ("RetainExceptOnCreate", "Retain")])
def test_both_ways_to_keep_a_store_keep_its_data(values: tuple[str, str]) -> None:
    before, after = (
        Evaluated(resources={"Q": Resource("AWS::SQS::Queue", {}, {"DeletionPolicy": value})}) for value in values
    )
    (change,) = changes(before, after)
    assert (change.action, change.unretained, change.refused) == ("change", (), False)


def test_a_store_that_is_retained_from_now_on_is_not_refused() -> None:
    before = Evaluated(resources={"Q": Resource("AWS::SQS::Queue")})
    after = Evaluated(resources={"Q": Resource("AWS::SQS::Queue", {}, {"DeletionPolicy": "Retain"})})
    (change,) = changes(before, after)
    assert (change.action, change.refused) == ("change", False)


def test_a_stores_condition_and_order_are_shown_others_are_not() -> None:
    assert only(edited(lambda d: resource(d, "Queue").update(Condition="OnAws"))).properties == (
        PropertyChange("Condition", None, "OnAws"),
    )
    assert edited(lambda d: resource(d, "Dashboard").update(Condition="OnAws", DependsOn="Queue")) == {}


def test_a_removed_store_is_refused_whatever_its_policies_are() -> None:
    def edit(document: dict[str, Any]) -> None:
        document.update(json.loads(json.dumps(document).replace('DeadLetterQueue"', 'NewQueue"')))
        document.update(json.loads(json.dumps(document).replace("${DeadLetterQueue", "${NewQueue")))

    found = edited(edit)
    assert (found["DeadLetterQueue"].action, found["DeadLetterQueue"].refused) == ("remove", True)
    assert (found["NewQueue"].action, found["NewQueue"].refused) == ("add", False)


def test_lists_that_nothing_names_are_compared_as_a_whole() -> None:
    before = Evaluated(resources={"R": Resource("AWS::IAM::Role", {"ManagedPolicyArns": ["a", "b"]})})
    after = Evaluated(resources={"R": Resource("AWS::IAM::Role", {"ManagedPolicyArns": ["b", "a"]})})
    (change,) = changes(before, after)
    assert change.properties == (PropertyChange("ManagedPolicyArns", ["a", "b"], ["b", "a"]),)


@pytest.mark.parametrize(
    ("before", "after", "equal"),
    [
        (10, "10", True),
        (True, "true", True),
        (True, "True", False),
        (0, "", False),
        (None, "", False),
        ([1, {"a": False}], ["1", {"a": "false"}], True),
        ({"a": 1}, {"a": 1, "b": None}, True),
        ({"a": 1}, {"a": 1, "b": ""}, False),
        ([1], [1, 1], False),
    ],
)
def test_cloudformation_knows_text_only(before: Any, after: Any, equal: bool) -> None:
    assert same(before, after) is same(after, before) is equal


def test_values_are_compared_by_name() -> None:
    assert values({"a": "1", "b": "2"}, {"b": 2, "c": "3"}) == (
        PropertyChange("a", "1", None),
        PropertyChange("c", None, "3"),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Sid", "Id", "x"]), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["Policies", "Tags", "Novelty"]), JSON, max_size=3), JSON)
def test_a_change_is_told_exactly_when_there_is_one(properties: dict[str, Any], more: Any) -> None:
    before = Evaluated(resources={"R": Resource("AWS::IAM::Role", properties)})
    after = Evaluated(resources={"R": Resource("AWS::IAM::Role", {**properties, "Policies": more})})
    told = changes(before, after)
    assert bool(told) == (not same(properties.get("Policies"), more))
    for change in told:
        assert all(one.path.startswith("Policies") for one in change.properties)
        assert all(not same(one.before, one.after) for one in change.properties)
    assert {one.id for one in changes(after, before)} == {one.id for one in told}

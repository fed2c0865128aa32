"""What the template leaves to the account that it is deployed in: boundaries, quotas, limits of AWS's services."""

from __future__ import annotations

from datetime import date

import pytest

from tests.unit import template_tools as tools
from tests.unit.template_tools import Stack, phases

TEMPLATE = tools.load()
FULL = phases(TEMPLATE, Environment="prod")["processor"]


def test_roles_are_bounded_where_a_company_says_so() -> None:
    boundary = "arn:aws-us-gov:iam::111122223333:policy/Boundary"
    for given, expected in ((boundary, boundary), ("", None)):
        stack = phases(TEMPLATE, PermissionsBoundary=given)["processor"]
        roles = stack.of_type("AWS::IAM::Role")
        assert {role.get("PermissionsBoundary") for role in roles.values()} == {expected}
        assert len(roles) == 3


def test_concurrency_of_ingest_is_reserved_on_demand() -> None:
    for given, expected in (("0", None), ("200", "200")):
        function = Stack(TEMPLATE, {"IngestReservedConcurrency": given}).resources["IngestFunction"]["Properties"]
        assert function.get("ReservedConcurrentExecutions") == expected


def test_a_query_without_a_date_stays_below_athenas_limit() -> None:
    """At most a million partitions in one query: https://docs.aws.amazon.com/athena/latest/ug/partition-projection.html"""
    parameters = FULL.resources["RawTable"]["Properties"]["TableInput"]["Parameters"]
    first, last = map(date.fromisoformat, parameters["projection.event_date.range"].split(","))
    start, end = map(int, parameters["projection.hour.range"].split(","))
    assert ((last - first).days + 1) * (end - start + 1) <= 1_000_000
    assert first.year <= 1970
    assert last.year >= 2080


def test_processors_at_once_are_capped() -> None:
    assert TEMPLATE["Parameters"]["MaximumConcurrency"]["MaxValue"] <= 50


def test_a_message_without_an_age_is_noticed_as_well() -> None:
    """Its age is not counted once it was received three times; that the queue never empties is."""
    alarm = FULL.resources["QueueNeverEmptyAlarm"]["Properties"]
    assert (alarm["MetricName"], alarm["Statistic"]) == ("ApproximateNumberOfMessagesVisible", "Minimum")
    watched = alarm["Period"] * alarm["EvaluationPeriods"]
    assert alarm["Period"] >= 3600
    assert watched <= 7 * 86_400  # CloudWatch watches no longer
    assert watched == FULL.resources["QueueAgeAlarm"]["Properties"]["Threshold"]
    assert {stack.resources["QueueNeverEmptyAlarm"]["Type"] for stack in phases(TEMPLATE).values()}


@pytest.mark.parametrize(("given", "protected"), [("true", True), ("false", False)])
def test_deletion_protection_can_come_later(given: str, protected: bool) -> None:
    stack = Stack(TEMPLATE, {"Environment": "prod", "DeletionProtection": given})
    tables = stack.of_type("AWS::DynamoDB::Table").values()
    assert {table["DeletionProtectionEnabled"] for table in tables} == {protected}


def test_operators_have_what_the_runbooks_need_and_nothing_unused() -> None:
    actions = {
        a for where, s in tools.statements(FULL) if where == "OperatorPolicy" for a in tools.as_list(s["Action"])
    }
    assert "lambda:InvokeFunction" in actions
    asked = [s for where, s in tools.statements(FULL) if "lambda:InvokeFunction" in s["Action"]]
    assert [s["Resource"] for s in asked] == ["<ProcessorFunction.Arn>"]
    assert not [action for _, s in tools.statements(FULL) for action in s["Action"] if "MessageMoveTask" in action]

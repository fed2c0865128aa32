"""Values of stack parameters are refused before anything is built, planned or deployed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from pik import phases
from pik.aws.guard import Place
from pik.errors import UsageError
from pik.pipeline.aggregators import AGGREGATORS
from pik.rollout.plan.parameters import refuse_wrong
from tests.unit.plan_world import DEV, DOCUMENT, a_stack

planning: Any = import_module("pik.rollout.plan.plan")  # the package has a function of that name


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RetentionDays", "abc", "must be a number"),
        ("RetentionDays", "", "must be a number"),
        ("RetentionDays", "nan", "must be a number"),
        ("RetentionDays", "14", "at least 15"),
        ("RetentionDays", "3651", "at most 3650"),
        ("LogRetentionDays", "8", "one of 1, 3, 5"),
        ("LogLevel", "debug", "one of DEBUG"),
        ("AccessLogs", "yes", "one of true, false"),
        ("AlarmTopicArn", "my-topic", "must match"),
        ("Aggregator", "Daily Summary", "must match"),
        ("Aggregator", "nope", "the code at hand has daily-summary"),
    ],
)
def test_what_the_template_would_not_take_is_refused(name: str, value: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        refuse_wrong(DOCUMENT, {name: value}, asked=[name], aggregators=AGGREGATORS)
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RetentionDays", "15"),
        ("LogRetentionDays", "3653"),
        ("AlarmTopicArn", ""),
        ("AlarmTopicArn", "arn:aws-cn:sns:cn-north-1:111122223333:alarms"),
        ("Aggregator", "daily-summary"),
        ("OfAnEarlierVersion", "anything"),  # the stack has it, the template does not: CloudFormation drops it
    ],
)
def test_what_it_takes_is_not(name: str, value: str) -> None:
    refuse_wrong(DOCUMENT, {name: value}, aggregators=AGGREGATORS)


def test_a_name_that_the_template_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no parameter RetentionDay$") as refused:
        refuse_wrong(DOCUMENT, {}, asked=["RetentionDay"])
    assert refused.value.next_step == "did you mean RetentionDays?"


def test_every_default_is_taken() -> None:
    defaults = {name: str(one["Default"]) for name, one in DOCUMENT["Parameters"].items() if "Default" in one}
    refuse_wrong(DOCUMENT, defaults, aggregators=AGGREGATORS)


def made(monkeypatch: pytest.MonkeyPatch, *, deployed: bool, given: dict[str, str], **stack: str) -> None:
    """Plan as far as to the build, which there must be none of."""

    def built(*_: Any) -> Any:
        raise AssertionError("it was built")

    monkeypatch.setattr(planning, "_built", built)
    monkeypatch.setattr(planning.stack, "deployed", lambda _: DOCUMENT)
    place = Place("111122223333", "arn:ana", a_stack(phases.INGEST, **stack))
    planning.make(DEV, place, "ingest", deployed=deployed, parameters=given)


@pytest.mark.parametrize("deployed", [True, False])
def test_a_plan_refuses_before_it_builds(monkeypatch: pytest.MonkeyPatch, deployed: bool) -> None:
    for given in ({"RetentionDays": "abc"}, {"Retention": "30"}):
        with pytest.raises(UsageError):
            made(monkeypatch, deployed=deployed, given=given)


def test_the_stacks_aggregator_must_be_in_the_code_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that counts with somebody's own aggregator would get a processor that does not know it."""
    with pytest.raises(UsageError, match="Aggregator=mine: the code at hand has daily-summary"):
        made(monkeypatch, deployed=False, given={}, Aggregator="mine")

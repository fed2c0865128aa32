"""Disabling the event source mapping while other changes of it are under way, and Lambda throttles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pik.aws import event_source_mapping
from pik.environments import Environment
from pik.errors import AwsError

OUTPUTS = {"QueueArn": "q"}


class Lambda:
    """Lambda's two calls about mappings. ``script``: at each look a state, ``""`` for none, or an error's code;
    ``answers``: an error's code for each request to change it, ``""`` for yes."""

    def __init__(self, script: list[str], answers: list[str]) -> None:
        self.script, self.answers = script, answers
        self.asked: list[bool] = []

    def get_paginator(self, _: str) -> Lambda:
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        state = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if state.endswith("Exception"):
            raise ClientError({"Error": {"Code": state, "Message": "no"}}, "ListEventSourceMappings")
        return [{"EventSourceMappings": [{"UUID": "u", "State": state, "FunctionArn": "a:f"}] if state else []}]

    def update_event_source_mapping(self, **how: Any) -> None:
        self.asked.append(how["Enabled"])
        code = self.answers.pop(0) if self.answers else ""
        if code:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "UpdateEventSourceMapping")


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Lambda], Environment]:
    monkeypatch.setattr("time.sleep", lambda _: None)

    def environment(client: Lambda) -> Environment:
        monkeypatch.setattr(Environment, "client", lambda *_: client)
        return Environment("local", region="us-east-1", endpoint="http://127.0.0.1:1")

    return environment


@pytest.mark.parametrize(
    ("script", "answers", "asked"),
    [
        (["Enabled", "Enabled", "Disabling", "Disabled"], ["ResourceInUseException", ""], 2),
        (["Enabled", "Enabled", "Disabled"], ["ResourceConflictException", ""], 2),
        (["Enabled", "Enabled", "Disabled"], ["TooManyRequestsException", ""], 2),
        (["TooManyRequestsException", "Enabled", "Disabled"], [], 1),
        (["Enabled", ""], ["ResourceNotFoundException"], 1),  # it is gone, and so read by nobody
        (["Enabled", "Enabled"], ["ResourceNotFoundException"], 1),  # … although Lambda still lists it
        (["Enabled", "Disabling", "Updating", "Enabled", "Disabling", "Disabled"], [], 2),  # a deploy enabled it again
        (["Deleting", ""], [], 0),
    ],
)
def test_the_emergency_stop_does_not_give_up(
    on: Callable[[Lambda], Environment], script: list[str], answers: list[str], asked: int
) -> None:
    client = Lambda(script, answers)
    event_source_mapping.switch(on(client), OUTPUTS, on=False)
    assert client.asked == [False] * asked


def test_a_refusal_is_told_at_once(on: Callable[[Lambda], Environment]) -> None:
    client = Lambda(["Enabled"], ["AccessDeniedException"])
    with pytest.raises(AwsError, match="could not switch the event source mapping"):
        event_source_mapping.switch(on(client), OUTPUTS, on=False)
    assert client.asked == [False]


def test_what_stays_busy_is_an_error_that_names_the_state(on: Callable[[Lambda], Environment]) -> None:
    client = Lambda(["Enabled"], ["ResourceInUseException"] * 1_000_000)
    with pytest.raises(AwsError, match="is still Enabled"):
        event_source_mapping.switch(on(client), OUTPUTS, on=False, patience=0.05)


def test_a_mapping_that_is_gone_cannot_be_enabled(on: Callable[[Lambda], Environment]) -> None:
    client = Lambda(["Disabled"], ["ResourceNotFoundException"])
    with pytest.raises(AwsError):
        event_source_mapping.switch(on(client), OUTPUTS, on=True)

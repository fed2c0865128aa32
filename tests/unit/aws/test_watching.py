"""Watching AWS decides nothing: what is looked at again, and when it is given up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from pik import clock
from pik.aws import stack
from pik.aws.retry import patiently, transient
from pik.aws.stack import Follower, Stack, StackEvent, aws_errors
from pik.environments import Environment
from pik.errors import AwsError, NotDeployed
from pik.rollout.deploy.converge import converge

START = datetime(2026, 11, 27, 8, tzinfo=UTC)
LOCAL = Environment("local", region="us-east-1", endpoint="http://127.0.0.1:1")


def refused(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "DescribeStacks")


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (refused("Throttling"), True),
        (refused("TooManyRequestsException", 429), True),
        (refused("AnythingElse", 503), True),
        (EndpointConnectionError(endpoint_url="https://x"), True),
        (ReadTimeoutError(endpoint_url="https://x"), True),
        (refused("AccessDenied", 403), False),
        (refused("ValidationError"), False),
        (NoCredentialsError(), False),
        (NotDeployed("no stack"), False),
    ],
    ids=str,
)
def test_what_may_be_gone_at_the_next_look(error: Exception, passes: bool) -> None:
    assert transient(error) is passes


def test_an_error_of_ours_is_what_it_was_made_from() -> None:
    with pytest.raises(AwsError) as wrapped, aws_errors(LOCAL, "look"):
        raise refused("Throttling")
    assert transient(wrapped.value)


def test_a_look_is_taken_again_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    answers: list[Any] = [refused("Throttling"), refused("Throttling"), "there"]
    said: list[str] = []

    def look() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert patiently(LOCAL, look, say=said.append) == "there"
    assert len(said) == 1


def test_silence_ends_the_watch_and_says_that_cloudformation_goes_on() -> None:
    def look() -> str:
        raise refused("Throttling")

    with pytest.raises(AwsError, match="has not answered for 0 s") as given_up:
        patiently(LOCAL, look, silence=0)
    assert "pik status" in given_up.value.next_step


def test_what_is_no_matter_of_time_is_raised_at_once() -> None:
    asked: list[int] = []

    def look() -> str:
        asked.append(1)
        raise refused("AccessDenied", 403)

    with pytest.raises(ClientError):
        patiently(LOCAL, look)
    assert asked == [1]


def test_a_follower_only_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception from it would end sam in the middle of a deploy."""
    answers: list[Any] = [refused("Throttling"), EndpointConnectionError(endpoint_url="https://x"), []]

    def events(*_: Any) -> list[StackEvent]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    monkeypatch.setattr(stack, "events", events)
    monkeypatch.setattr(clock, "now", lambda _: datetime.now(UTC))
    said: list[str] = []
    follow = Follower(LOCAL, said.append)
    for _ in range(3):
        follow()
    assert len(said) == 1
    assert "going on" in said[0]


def test_a_follower_goes_by_awss_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A computer that is minutes ahead would see no event of its own deploy."""
    awss = datetime(2026, 11, 27, 8, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda _: awss)
    assert Follower(LOCAL, print).since == awss


@pytest.mark.parametrize("at", range(6))
def test_a_throttled_look_ends_no_update(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Of all that is asked while CloudFormation works, any one call may be throttled."""
    statuses = ["UPDATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"]
    asked: list[str] = []

    class Client:
        def __getattr__(self, name: str) -> Any:
            def call(**how: Any) -> Any:
                asked.append(name)
                if len(asked) - 1 == at:
                    raise refused("Throttling")
                return self._answer(name)

            return call

        def get_paginator(self, name: str) -> Client:
            return self

        def paginate(self, **_: Any) -> list[Any]:
            self.describe_stack_events()
            return []

        def _answer(self, name: str) -> Any:
            if name == "get_caller_identity":
                return {"ResponseMetadata": {}}
            if name == "update_stack":
                return {}
            status = statuses[0] if len(statuses) == 1 else statuses.pop(0)
            parameter = {"ParameterKey": "EnableReplay", "ParameterValue": "true"}
            one = {"StackName": "pik-local", "StackStatus": status, "CreationTime": START, "Parameters": [parameter]}
            return {"Stacks": [one]}

    env = Environment("local", region="us-east-1", endpoint="http://127.0.0.1:1")
    object.__setattr__(env, "client", lambda *_, **__: Client())
    monkeypatch.setattr("time.sleep", lambda _: None)
    before = Stack("pik-local", "UPDATE_COMPLETE", "", START, {"EnableReplay": "false"})
    assert converge(env, before, {"EnableReplay": "true"}, lambda _: None).status == "UPDATE_COMPLETE"

"""Watching AWS decides nothing: what is looked at again, and when it is given up."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from pik.environments import Environment
from pik.errors import AwsError, NotDeployed
from pik.rollout.stack import aws_errors
from pik.rollout.watching import patiently, transient

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

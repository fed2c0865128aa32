"""A rollback from every state that a stack can be in, on a CloudFormation that does what a test tells it to."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pik import phases, project
from pik.aws import stack
from pik.aws.guard import Place
from pik.aws.stack import Stack, StackEvent
from pik.environments import Environment
from pik.errors import AwsError, Refused
from pik.rollout.checks import intact
from pik.rollout.checks.intact import Comparison, SampledStore
from pik.rollout.deploy.rollback import rollback

module: Any = importlib.import_module(
    "pik.rollout.deploy.rollback"
)  # the package exports the function of the same name
OUTPUTS = {"QueueUrl": "queue", "QueueArn": "arn:queue", "DeadLetterQueueUrl": "dead"}


class Aws:
    """CloudFormation and the mapping: ``script`` is what the stack's status becomes at each look."""

    def __init__(self, status: str, *script: str, phase: phases.Phase = phases.PROCESSOR) -> None:
        self.status = status
        self.script = list(script)
        self.parameters = {**phase.parameters, "Environment": "local", "Canary": "false"}
        self.outputs = dict(OUTPUTS)
        self.mapping = "Enabled" if phase.processor else ""
        self.appears_at = ""  # the status at which a mapping turns up
        self.calls: list[str] = []
        self.cancel_refused = False
        self.update_fails = False
        self.recorded: list[str] = []

    def look(self, _: Environment) -> Stack:
        if self.script:
            self.status = self.script.pop(0)
        if self.status == self.appears_at and "switched off" not in self.calls:
            self.mapping = "Enabled"
        return self.stack()

    def stack(self) -> Stack:
        reason = "a resource is stuck" if self.status == "UPDATE_ROLLBACK_FAILED" else ""
        now = datetime.now(UTC)
        return Stack("pik-local", self.status, reason, now, dict(self.parameters), dict(self.outputs))

    def client(self, service: str, **_: Any) -> Any:
        assert service in ("cloudformation", "sts")
        return self

    def get_caller_identity(self) -> dict[str, Any]:
        return {"ResponseMetadata": {}}

    def continue_update_rollback(self, **_: str) -> None:
        self.calls.append("continue")

    def rollback_stack(self, **_: str) -> None:
        self.calls.append("rollback-stack")

    def cancel_update_stack(self, **_: str) -> None:
        self.calls.append("cancel")
        if self.cancel_refused:
            raise ClientError({"Error": {"Code": "ValidationError", "Message": "too late"}}, "CancelUpdateStack")

    def update_stack(self, Parameters: list[dict[str, Any]], **how: Any) -> None:  # noqa: N803
        assert how["UsePreviousTemplate"] is True
        self.calls.append("update")
        if self.update_fails:
            self.script = ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]
            return
        for item in Parameters:
            if "ParameterValue" in item:
                self.parameters[item["ParameterKey"]] = item["ParameterValue"]
        self.mapping = ""
        self.script = ["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"]


Prepare = Callable[[Aws], Environment]


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Prepare:
    def prepare(aws: Aws) -> Environment:
        env = dataclasses.replace(Environment("local", "us-east-1", "http://127.0.0.1:1"))
        object.__setattr__(env, "client", aws.client)

        def find(_: Any, __: Any) -> list[Any]:
            return [module.event_source_mapping.EventSourceMapping("u", aws.mapping, "f")] if aws.mapping else []

        def switch(_: Any, __: Any, *, on: bool) -> float:
            assert not on
            aws.calls.append("switched off")
            aws.mapping = "Disabled"
            return 0.1

        monkeypatch.setattr(project, "STATE", tmp_path)
        monkeypatch.setattr(module, "guard", lambda _: Place("000000000000", "arn", aws.stack()))
        monkeypatch.setattr(stack, "require", aws.look)
        monkeypatch.setattr(stack, "events", lambda *_: [_event("ReplayApi", "UPDATE_FAILED", "denied")])
        monkeypatch.setattr(module.event_source_mapping, "find", find)
        monkeypatch.setattr(module.event_source_mapping, "switch", switch)
        monkeypatch.setattr(
            intact, "stores", lambda *_: {"EventsTable": SampledStore("AWS::DynamoDB::Table", "events")}
        )
        same = (Comparison("EventsTable", "AWS::DynamoDB::Table", True, 25),)
        monkeypatch.setattr(intact, "compare", lambda *_: same)
        monkeypatch.setattr(module, "messages", lambda _, url: 7 if url == "queue" else 0)
        monkeypatch.setattr(module, "queue_counts", lambda *_: {"ApproximateNumberOfMessagesNotVisible": 0})
        monkeypatch.setattr(module.records, "caller", lambda _: "arn:ana")
        monkeypatch.setattr("time.sleep", lambda _: None)
        monkeypatch.setattr(
            module, "record", lambda _, kind, sentence, **__: aws.recorded.append(f"{kind}: {sentence}")
        )
        return env

    return prepare


def _event(resource: str, status: str, reason: str) -> StackEvent:
    return StackEvent("1", datetime.now(UTC), resource, "AWS::ApiGateway::RestApi", status, reason)


@pytest.mark.parametrize(
    ("aws", "calls"),
    [
        (Aws("UPDATE_COMPLETE"), ["switched off", "update"]),
        (Aws("UPDATE_ROLLBACK_COMPLETE"), ["switched off", "update"]),
        (
            Aws("UPDATE_ROLLBACK_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"),
            ["switched off", "continue", "update"],
        ),
        (
            Aws("UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"),
            ["switched off", "cancel", "update"],
        ),
        (  # the request to go on is accepted, and shows a little later
            Aws(
                *("UPDATE_ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED"),
                *("UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"),
            ),
            ["switched off", "continue", "update"],
        ),
        (
            Aws("UPDATE_FAILED", "UPDATE_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"),
            ["switched off", "rollback-stack", "update"],
        ),
        (Aws("IMPORT_COMPLETE"), ["switched off", "update"]),
        (Aws("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"), ["switched off", "update"]),
        (Aws("UPDATE_COMPLETE", phase=phases.REPLAY), []),
    ],
    ids=lambda value: value.status if isinstance(value, Aws) else "",
)
def test_consumption_is_stopped_first_whatever_state_the_stack_is_in(
    prepared: Prepare, aws: Aws, calls: list[str]
) -> None:
    done = rollback(prepared(aws))
    assert aws.calls == calls
    assert (done.phase, done.changed) == ("replay", "update" in calls)
    assert done.stores_intact
    assert done.queue_after == 7
    assert aws.mapping in ("", "Disabled")
    assert aws.recorded == ([f"rollback: {done.sentence}"] if calls else [])  # nothing done, nothing to record


def test_a_mapping_that_an_update_was_about_to_make_is_closed_as_soon_as_it_is_there(prepared: Prepare) -> None:
    aws = Aws("UPDATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE")
    aws.mapping, aws.cancel_refused, aws.appears_at = "", True, "UPDATE_IN_PROGRESS"
    done = rollback(prepared(aws))
    assert aws.calls == ["cancel", "switched off", "update"]
    assert done.phase == "replay"


def test_when_cloudformation_cannot_move_nothing_is_consumed_and_the_next_step_is_said(prepared: Prepare) -> None:
    aws = Aws("UPDATE_ROLLBACK_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED")
    with pytest.raises(AwsError, match="no longer consumed, but CloudFormation cannot move") as stuck:
        rollback(prepared(aws))
    assert aws.calls == ["switched off", "continue"]
    assert aws.mapping == "Disabled"
    assert "--resources-to-skip ReplayApi" in stuck.value.next_step
    assert "again, nothing is lost meanwhile:\npik rollback --env local" in stuck.value.next_step
    assert stuck.value.reason == "a resource is stuck"
    assert aws.recorded[0].startswith("rollback: not completed: ")


def test_when_the_update_fails_nothing_is_consumed_and_it_can_be_done_again(prepared: Prepare) -> None:
    aws = Aws("UPDATE_COMPLETE")
    aws.update_fails = True
    env = prepared(aws)
    with pytest.raises(
        AwsError, match="did not complete the update; the stack is UPDATE_ROLLBACK_COMPLETE; the queue is no longer"
    ) as failed:
        rollback(env)
    assert failed.value.next_step == "again, nothing is lost meanwhile:\npik rollback --env local"
    aws.update_fails, aws.script = False, []
    assert rollback(env).phase == "replay"


def test_a_stack_that_was_never_made_has_nothing_to_roll_back(prepared: Prepare) -> None:
    aws = Aws("ROLLBACK_COMPLETE")
    aws.outputs, aws.mapping = {}, ""
    with pytest.raises(Refused, match="nothing to roll back") as refused:
        rollback(prepared(aws))
    assert "delete-stack" in refused.value.next_step
    assert aws.calls == []


@pytest.mark.parametrize("status", ["CREATE_FAILED", "ROLLBACK_FAILED"])
def test_only_a_stack_that_was_never_made_is_to_be_deleted(prepared: Prepare, status: str) -> None:
    aws = Aws(status)
    aws.outputs, aws.mapping = {}, ""
    with pytest.raises(Refused) as refused:
        rollback(prepared(aws))
    assert "delete-stack" in refused.value.next_step


def test_the_rollback_goes_on_when_the_mapping_cannot_be_disabled(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudFormation removes the mapping all the same; to give up at the first step would leave everything running."""
    aws = Aws("UPDATE_COMPLETE")
    env = prepared(aws)

    def refuse(*_: Any, **__: Any) -> float:
        raise AwsError("local: could not switch the event source mapping", reason="AccessDenied")

    monkeypatch.setattr(module.event_source_mapping, "switch", refuse)
    said: list[str] = []
    done = rollback(env, on_progress=said.append)
    assert (done.phase, done.mappings_left, aws.calls) == ("replay", 0, ["update"])
    assert [line for line in said if "could not disable the event source mapping, going on" in line]


def test_what_is_still_consumed_is_never_called_stopped(prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Aws("UPDATE_COMPLETE")
    aws.update_fails = True
    env = prepared(aws)

    def refuse(*_: Any, **__: Any) -> float:
        raise AwsError("local: could not switch the event source mapping", reason="AccessDenied")

    monkeypatch.setattr(module.event_source_mapping, "switch", refuse)
    with pytest.raises(AwsError, match="MAY STILL BE CONSUMED"):
        rollback(env)


def test_stores_are_read_after_consumption_has_stopped_and_again_at_the_end(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = Aws("UPDATE_COMPLETE")
    env = prepared(aws)

    def stores(*_: Any) -> dict[str, SampledStore]:
        aws.calls.append("read")
        return {}

    def compare(*_: Any) -> tuple[Comparison, ...]:
        aws.calls.append("read again")
        return ()

    monkeypatch.setattr(intact, "stores", stores)
    monkeypatch.setattr(intact, "compare", compare)
    assert rollback(env).stores_intact is None
    assert aws.calls == ["switched off", "read", "update", "read again"]


def test_a_throttled_look_ends_no_rollback(prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Aws("UPDATE_COMPLETE")
    env = prepared(aws)
    looks = iter(range(100))

    def throttled(of: Environment) -> Stack:
        if next(looks) % 2 == 0:
            error = AwsError("local: could not read the stack", reason="Rate exceeded")
            raise error from ClientError(
                {"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}, "DescribeStacks"
            )
        return aws.look(of)

    monkeypatch.setattr(stack, "require", throttled)
    assert rollback(env).phase == "replay"


def test_on_aws_the_functions_timeout_is_waited_for_once_the_mapping_is_disabled(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS counts what is in flight about; only the timeout says that no invocation goes on."""
    aws = Aws("UPDATE_COMPLETE")
    aws.outputs["ProcessorFunction"] = "f"
    env = prepared(aws)
    object.__setattr__(env, "endpoint", None)
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)

    def client(service: str, **_: Any) -> Any:
        return Function() if service == "lambda" else aws

    class Function:
        def get_function_configuration(self, **_: str) -> dict[str, int]:
            return {"Timeout": 47}

    object.__setattr__(env, "client", client)
    rollback(env)
    assert slept[0] == 47.0

"""Which deploy is taken back: its beginning has what was there before it, whatever came of the deploy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pik.aws import stack
from pik.aws.stack import Stack
from pik.environments import Environment
from pik.errors import Refused, UsageError
from pik.ledger import Entry, Kind, Ledger
from pik.rollout.deploy.revert_deploy import _deploy, _parameters, _refuse_losses
from tests.unit.ledger_world import entry

BEFORE: dict[str, Any] = {"parameters": {}}
FIRST_DEPLOY = entry(1, state="done")  # there was no ledger before it
BEGUN = entry(2, state="begun", before=BEFORE)
DONE = entry(3, state="done", begun=2)
AGAIN = entry(4, state="begun", before=BEFORE)


def book(*entries: Entry) -> Ledger:
    return Ledger("dev", entries, ())


@pytest.mark.parametrize(
    ("entries", "number", "taken"),
    [
        ([FIRST_DEPLOY, BEGUN, DONE], 0, 2),
        ([FIRST_DEPLOY, BEGUN, DONE], 3, 2),  # the number that the deploy printed in the end
        ([FIRST_DEPLOY, BEGUN, DONE], 2, 2),
        ([FIRST_DEPLOY, BEGUN], 0, 2),  # killed: what CloudFormation made of it can be taken back
        ([FIRST_DEPLOY, BEGUN, entry(3, state="failed", begun=2, changed=True)], 0, 2),
        ([FIRST_DEPLOY, BEGUN, DONE, entry(4, kind=Kind.PROMOTION, state="done")], 0, 2),
        # One that changed nothing is not the last.
        ([FIRST_DEPLOY, BEGUN, DONE, AGAIN, entry(5, state="failed", begun=4, changed=False)], 0, 2),
        ([FIRST_DEPLOY, entry(2, before=BEFORE)], 0, 2),  # of an earlier version, which recorded the end alone
    ],
)
def test_the_deploy_that_is_taken_back(entries: list[Entry], number: int, taken: int) -> None:
    found = _deploy(book(*entries), number)
    assert found.number == taken
    assert found.predicate["before"] == BEFORE


@pytest.mark.parametrize(
    ("entries", "number", "says"),
    [
        ([FIRST_DEPLOY], 0, "is the first deploy"),
        ([], 0, "no deploy is recorded"),
        ([FIRST_DEPLOY, entry(2, kind=Kind.PROMOTION)], 2, "is no deploy"),
    ],
)
def test_what_cannot_be_taken_back_is_said(entries: list[Entry], number: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        _deploy(book(*entries), number)


def deployed(**parameters: str) -> Stack:
    return Stack("pik-dev", "UPDATE_COMPLETE", "", datetime.now(UTC), parameters)


@pytest.mark.parametrize(("then", "now", "kept"), [("30", "365", "365"), ("365", "30", "365"), ("30", "30", "30")])
def test_data_are_kept_no_shorter_than_now(then: str, now: str, kept: str) -> None:
    """Shortened, AWS would delete what is older."""
    before = {"parameters": {"RetentionDays": then, "LogRetentionDays": then, "LogLevel": "DEBUG"}}
    document: dict[str, Any] = {"Parameters": {name: {} for name in before["parameters"]}}
    found = deployed(RetentionDays=now, LogRetentionDays=now, LogLevel="INFO")
    wanted = _parameters(entry(2, state="begun", before=before), found, document)
    assert wanted == {"RetentionDays": kept, "LogRetentionDays": kept, "LogLevel": "DEBUG"}


def test_a_template_that_keeps_data_shorter_is_not_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    def template(days: int) -> dict[str, Any]:
        rule = {"Id": "old", "Status": "Enabled", "ExpirationInDays": days}
        bucket = {"Type": "AWS::S3::Bucket", "Properties": {"LifecycleConfiguration": {"Rules": [rule]}}}
        return {"Resources": {"RawBucket": {**bucket, "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}}}

    monkeypatch.setattr(stack, "deployed", lambda _: template(365))
    _refuse_losses(Environment("dev", "us-east-1"), deployed(), template(400), {}, "1")
    with pytest.raises(Refused, match="objects for 30 days instead of 365"):
        _refuse_losses(Environment("dev", "us-east-1"), deployed(), template(30), {}, "1")

"""What changes mean, in sentences: to people, to messages that wait, to data that is there, to who may do what."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from pik import project
from pik.aws.evaluation import evaluate
from pik.aws.template import STORES, Evaluated, Resource, parse
from pik.rollout.plan.access import access
from pik.rollout.plan.diff import changes
from pik.rollout.plan.effects import Situation, effects

DOCUMENT = parse(project.TEMPLATE.read_text(encoding="utf-8"))
OFF: dict[str, str] = {}
REPLAY = {"EnableReplay": "true"}
ON = {**REPLAY, "EnableProcessor": "true"}
DRY = {**ON, "DryRun": "true"}
Edit = Callable[[dict[str, Any]], Any]


def told(before: dict[str, str] | None, after: dict[str, str], edit: Edit = lambda d: d, **situation: Any) -> list[str]:
    """The effects of going from one set of parameters to another with an edited template."""
    document = copy.deepcopy(DOCUMENT)
    edit(document)
    was = None if before is None else evaluate(DOCUMENT, before)
    will = evaluate(document, after)
    return list(effects(was, will, changes(was, will), Situation(**situation)))


def resource(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["Resources"][name]["Properties"]
    return found


@pytest.mark.parametrize(
    ("before", "after", "situation", "sentence"),
    [
        (OFF, REPLAY, {}, "the replay API appears: operators can send messages to the queue"),
        (REPLAY, OFF, {"waiting": 7}, "replay is switched off: its API disappears; 7 messages stay in the queue"),
        (REPLAY, OFF, {"waiting": 0}, "replay is switched off: its API disappears; the queue is empty"),
        (REPLAY, OFF, {}, "replay is switched off: its API disappears; its messages stay in the queue"),
        (REPLAY, ON, {"waiting": 1243}, "the processor starts consuming 1,243 waiting messages"),
        (REPLAY, ON, {"waiting": 1}, "the processor starts consuming 1 waiting message"),
        (REPLAY, ON, {"waiting": 0}, "the processor starts consuming: no message waits"),
        (ON, REPLAY, {"waiting": 3}, "the processor stops consuming; 3 messages stay in the queue"),
        (
            REPLAY,
            DRY,
            {"waiting": 3},
            "the processor appears, and consumes nothing while DRY_RUN is on; 3 messages stay in the queue",
        ),
        (ON, DRY, {"waiting": 3}, "the processor stops consuming; 3 messages stay in the queue"),
        (DRY, ON, {"waiting": 3}, "the processor starts consuming 3 waiting messages"),
        (DRY, ON, {}, "DRY_RUN is off: what is accepted is written"),
        (OFF, {"DryRun": "true"}, {}, "DRY_RUN is on: requests are answered, nothing is written"),
        (ON, {**ON, "Canary": "true"}, {}, "canary: two processors at work at once, at most"),
        (
            ON,
            ON,
            {"waiting": 3, "mapping_disabled": True},
            "the event source mapping is enabled again: the processor starts consuming 3 waiting messages",
        ),
        (
            OFF,
            {"RetentionDays": "30"},
            {},
            "RawBucket (data store) keeps objects for 30 days instead of 365: older ones are deleted",
        ),
        (
            OFF,
            {"LogRetentionDays": "7"},
            {},
            "IngestLogGroup (data store) keeps log lines for 7 days instead of 90: older ones are deleted",
        ),
        (
            {"Environment": "prod"},
            {"Environment": "dev"},
            {},
            "EventsTable (data store) is no longer protected by DeletionProtectionEnabled",
        ),
        (
            {"Environment": "prod"},
            {"Environment": "dev"},
            {},
            "IngestApi is replaced: its stage is made anew, and its address changes",
        ),
    ],
)
def test_what_parameters_mean(
    before: dict[str, str], after: dict[str, str], situation: dict[str, Any], sentence: str
) -> None:
    assert sentence in told(before, after, **situation)


def test_keeping_things_longer_costs_nothing() -> None:
    assert told(OFF, {"RetentionDays": "400", "LogRetentionDays": "365"}) == []
    assert told(ON, ON, waiting=3) == []


def test_a_new_stack_is_told_in_two_sentences() -> None:
    created, appears = told(None, OFF, waiting=0)
    resources = evaluate(DOCUMENT).resources.values()
    stores = [one for one in resources if one.type in STORES]
    assert created == f"the stack is created: {len(resources)} resources, {len(stores)} of them data stores"
    assert appears == "the ingest API appears: producers can send events"


EDITS: dict[str, tuple[Edit, str]] = {
    "code": (
        lambda d: [resource(d, name).update(CodeUri="s3://b/new") for name in ("IngestFunction", "ReplayFunction")],
        "code of ingest, replay changes: ",
    ),
    "versioning": (
        lambda d: resource(d, "RawBucket")["VersioningConfiguration"].update(Status="Suspended"),
        "RawBucket (data store) is no longer protected by VersioningConfiguration",
    ),
    "recovery": (
        lambda d: resource(d, "DedupeTable").pop("PointInTimeRecoverySpecification"),
        "DedupeTable (data store) is no longer protected by PointInTimeRecoverySpecification",
    ),
    "expiry": (
        lambda d: resource(d, "EvidenceBucket")["LifecycleConfiguration"]["Rules"].append(
            {"Id": "old", "Status": "Enabled", "ExpirationInDays": 30}
        ),
        "EvidenceBucket (data store) deletes objects after 30 days",
    ),
    "index": (
        lambda d: resource(d, "EventsTable")["GlobalSecondaryIndexes"].pop(),
        "EventsTable (data store) loses the index by-ingest-time",
    ),
    "retention": (
        lambda d: resource(d, "Queue").update(MessageRetentionPeriod=3600),
        "Queue (data store) keeps messages for 3600 s instead of 1209600: older ones are deleted",
    ),
    "policy": (
        lambda d: resource(d, "ViewerPolicy").update(Description="Another."),
        "ViewerPolicy is replaced: whoever has it attached outside the stack must get the new one",
    ),
    "mapping": (
        lambda d: resource(d, "ProcessorMapping").update(Novelty=1),
        "ProcessorMapping may be replaced: the queue is not consumed between the old one and the new one",
    ),
    "parameter": (
        lambda d: resource(d, "RolloutParameter").update(Name="/pik/other"),
        "RolloutParameter is replaced: a new one is made, then the old one is deleted",
    ),
    "wider": (
        lambda d: resource(d, "ProcessorRole")["Policies"][0]["PolicyDocument"]["Statement"][4]["Action"].append(
            "dynamodb:DeleteItem"
        ),
        "IAM: ProcessorRole may now also dynamodb:DeleteItem on AggregatesTable",
    ),
    "narrower": (
        lambda d: resource(d, "IngestRole")["Policies"][0]["PolicyDocument"]["Statement"][5]["Action"].remove(
            "dynamodb:PutItem"
        ),
        "IAM: IngestRole may no longer dynamodb:PutItem on DedupeTable",
    ),
    "unguarded": (
        lambda d: resource(d, "RawBucketPolicy")["PolicyDocument"]["Statement"].pop(1),
        "IAM: everybody, by RawBucketPolicy, is no longer denied s3:DeleteObject, s3:DeleteObjectVersion on RawBucket",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_edits_mean(name: str) -> None:
    edit, sentence = EDITS[name]
    assert [one for one in told(ON, ON, edit) if one.startswith(sentence)], told(ON, ON, edit)


# --- who may do what ------------------------------------------------------------------------------------------------


def policy(*statements: dict[str, Any]) -> Evaluated:
    return Evaluated(
        resources={"P": Resource("AWS::IAM::ManagedPolicy", {"PolicyDocument": {"Statement": list(statements)}})}
    )


ALLOW = {"Effect": "Allow", "Action": ["a:One", "a:Two"], "Resource": "<Table.Arn>/index/*"}


@pytest.mark.parametrize(
    ("before", "after", "sentences"),
    [
        ([ALLOW], [ALLOW], []),
        # Said in another way, or in another order, it is the same.
        ([ALLOW], [{**ALLOW, "Action": "a:Two"}, {**ALLOW, "Action": "a:One", "Sid": "New"}], []),
        ([], [ALLOW], ["IAM: P may now also a:One, a:Two on Table/index/*"]),
        ([ALLOW], [], ["IAM: P may no longer a:One, a:Two on Table/index/*"]),
        ([], [{**ALLOW, "Effect": "Deny"}], ["IAM: P is now denied a:One, a:Two on Table/index/*"]),
        (
            [],
            [{"Effect": "Allow", "NotAction": "a:One", "NotResource": ["x", "y"]}],
            ["IAM: P may now also everything but a:One on everything but x, y"],
        ),
        (
            [ALLOW],
            [{**ALLOW, "Condition": {"Bool": {"aws:SecureTransport": "true"}}}],
            [
                'IAM: P may now also a:One, a:Two on Table/index/*, if {"Bool": {"aws:SecureTransport": "true"}}',
                "IAM: P may no longer a:One, a:Two on Table/index/*",
            ],
        ),
        (
            [],
            [{"Effect": "Allow", "Principal": {"AWS": ["x", "y"]}, "Action": "sts:AssumeRole"}],
            ["IAM: x, by P, may now also sts:AssumeRole", "IAM: y, by P, may now also sts:AssumeRole"],
        ),
        (
            [],
            [{"Effect": "Deny", "NotPrincipal": "x", "Action": "a:One", "Resource": "*"}],
            ["IAM: everybody but x, by P, is now denied a:One on *"],
        ),
    ],
)
def test_access_is_compared_by_what_it_means(before: Any, after: Any, sentences: list[str]) -> None:
    assert list(access(policy(*before), policy(*after))) == sentences


def test_a_policy_that_goes_is_told_by_what_it_denied() -> None:
    denied = {**ALLOW, "Effect": "Deny"}
    assert access(policy(ALLOW, denied), Evaluated()) == ("IAM: P is no longer denied a:One, a:Two on Table/index/*",)
    assert access(Evaluated(), policy(ALLOW)) == ()
    assert access(None, policy(ALLOW)) == ()

"""Names of stacks that everything made from them has room for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# The longest name that a service takes; CloudFormation calls a resource <stack>-<logical id>-<12 characters>, and cuts
# what is longer, so that policies for "<stack>-<logical id>*" no longer fit.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html
LONGEST: Mapping[str, int] = {
    "AWS::Serverless::Function": 64,
    "AWS::IAM::Role": 64,
    "AWS::S3::Bucket": 63,
    "AWS::SQS::Queue": 80,
    "AWS::IAM::ManagedPolicy": 128,
    "AWS::DynamoDB::Table": 255,
    "AWS::CloudWatch::Alarm": 255,
    "AWS::Logs::LogGroup": 512,
}
_ADDED = len("-") + len("-") + 12


def most(document: Mapping[str, Any]) -> int:
    """Return how many characters a stack's name may have, for what its template makes.

    >>> most({"Resources": {"ProcessorFunction": {"Type": "AWS::Serverless::Function"}}})
    33
    """
    found = ((name, LONGEST.get(resource["Type"], 1024)) for name, resource in document["Resources"].items())
    return min(longest - len(name) - _ADDED for name, longest in found)


def begins(logical_id: str, resource: Mapping[str, Any]) -> str:
    """Return what the name of a resource begins with, after the stack's name and a hyphen.

    It tells the resources of ``pik-dev`` from those of ``pik-dev-2``, which a policy for ``pik-dev-*`` would allow as
    well: logical ids begin with a capital letter and names of stacks have none, and policies tell them apart
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html). Names of buckets have
    no capital letters, and the queue has a name that the template gives it: their whole word is needed.
    The first word of a logical id is enough, and also fits what an earlier template called alike.

    >>> begins("EventsTable", {"Type": "AWS::DynamoDB::Table"}), begins("RawBucket", {"Type": "AWS::S3::Bucket"})
    ('Events', 'rawbucket-')
    """
    if resource["Type"] == "AWS::S3::Bucket":
        return f"{logical_id.lower()}-"
    given = resource.get("Properties", {}).get("QueueName")
    if given:
        text: str = given["Fn::Sub"][0]
        return text.removeprefix("${AWS::StackName}-").partition("${")[0]
    return str(re.findall("[A-Z][a-z]+", logical_id)[0])


def problem(stack: str, document: Mapping[str, Any]) -> str:
    """Return what is wrong with a stack's name, in words; empty when nothing is.

    Glue's databases and S3's buckets have no capital letters, and policies compare names exactly.
    """
    longest = most(document)
    if len(stack) > longest:
        return f"the stack's name {stack} has {len(stack)} characters, {longest} are the most: longer names are cut"
    if not re.fullmatch(r"[a-z][a-z0-9-]*", stack):
        return f"the stack's name {stack} is not of small letters, digits and hyphens, beginning with a letter"
    return ""

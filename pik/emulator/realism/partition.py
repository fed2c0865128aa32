"""The partition that the embedded AWS is in, by its region: ARNs and host names as in GovCloud, or in China.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html: each partition has ARNs of its own, and what
belongs to another one does not exist in it. ministack knows the partition ``aws`` only, so its modules are rewritten
while they are imported; then everything that it stores, compares and answers is of the partition, and no request or
answer has to be translated. The habit refuses what names another partition. Service principals
(``lambda.amazonaws.com``) and XML namespaces are the same in every partition.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any
from urllib.parse import unquote

from .dice import Tally
from .middleware import Quiet
from .wire import Answer, Call

AWS, AWS_SUFFIX = "aws", "amazonaws.com"

_ARN = re.compile(r"\barn:(aws[a-z0-9-]*):[a-z0-9-]*:[^\s\"'<>&,\\]*")
_SCOPE = re.compile(r"(?:Credential=|X-Amz-Credential=)[^/]+/\d+/([a-z0-9-]+)/[^/]+/aws4_request")
# Where the partition stands in ministack's source without an ARN around it.
_NAME = re.compile(r"(partition\s*[!=]?=\s*|\"AWS::Partition\":\s*)\"aws\"")
# And the suffix: the pseudo parameter, and host names with a region in them.
_SUFFIX = re.compile(r"(\"AWS::URLSuffix\":\s*\"|\{[^{}\s]*region[^{}\s]*\}\.)amazonaws\.com", re.IGNORECASE)
# Requests whose bodies are data of users: what an ARN in them belongs to is theirs to know.
_DATA = {
    "api": None,
    "s3": frozenset({"PutObject", "PostObject"}),
    "sqs": frozenset({"SendMessage", "SendMessageBatch"}),
    "logs": frozenset({"PutLogEvents", "FilterLogEvents"}),
    "lambda": frozenset({"Invoke"}),
    "states": frozenset({"StartExecution", "SendTaskSuccess"}),
}
_TEMPLATE = re.compile(r"(?:^|&)TemplateBody=[^&]*")
_ITEMS = re.compile(r"Item|Query|Scan|Statement|Transaction")  # of DynamoDB's operations
_CODES = {"iam": "MalformedPolicyDocument", "s3": "MalformedPolicy", "cloudformation": "ValidationError"}


@cache
def partition_of(region: str) -> tuple[str, str]:
    """Return the name of a region's partition and what its host names end in, as ``pik.partitions`` does."""
    from botocore.loaders import Loader

    for found in Loader().load_data("partitions")["partitions"]:
        if region in found["regions"] or re.match(found["regionRegex"], region):
            return found["id"], found["outputs"]["dnsSuffix"]
    return AWS, AWS_SUFFIX


def rewrite(source: str, name: str, suffix: str) -> str:
    """Return a module of ministack as it would be written in a partition.

    >>> rewrite('f"arn:aws:sqs:{get_region()}:{account}:{name}"', "aws-cn", "amazonaws.com.cn")
    'f"arn:aws-cn:sqs:{get_region()}:{account}:{name}"'
    """
    source = source.replace("arn:aws:", f"arn:{name}:")
    source = _NAME.sub(rf'\g<1>"{name}"', source)
    return _SUFFIX.sub(rf"\g<1>{suffix}", source)


class _Loader(SourceFileLoader):
    """Compiles a module as it is in a partition. The bytecode is not kept: others share the folder."""

    def __init__(self, fullname: str, path: str, partition: tuple[str, str]) -> None:
        super().__init__(fullname, path)
        self._partition = partition

    def get_code(self, fullname: str) -> Any:
        source = self.get_source(fullname) or ""
        return compile(rewrite(source, *self._partition), self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, partition: tuple[str, str]) -> None:
        self._partition = partition

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "ministack":
            return None
        found = PathFinder.find_spec(fullname, path, target)
        if found and isinstance(found.loader, SourceFileLoader):
            found.loader = _Loader(found.loader.name, found.loader.path, self._partition)
        return found


def install(region: str) -> None:
    """Let ministack, imported from now on, be in the partition of ``region``."""
    partition = partition_of(region)
    if partition != (AWS, AWS_SUFFIX):
        sys.meta_path.insert(0, _Finder(partition))


class ForeignPartition(ValueError):
    """Something names another partition."""


class PartitionHabit(Quiet):
    """Refuses what names another partition: an ARN anywhere but in users' data, or the region that a request is for.

    AWS says so in the words of each service, such as IAM's ``Partition "aws" is not valid for resource "arn:aws:…"``;
    credentials of another partition are unknown. Templates are looked at once they are evaluated
    (:meth:`check`), as CloudFormation does.
    """

    def __init__(self, tally: Tally, region: str) -> None:
        self._tally = tally
        self.name, _ = partition_of(region)

    def before(self, call: Call) -> Answer | None:
        """Refuse a request with something of another partition in it."""
        if region := self._other_region(call):
            self._tally.struck("partition")
            return call.error(403, "UnrecognizedClientException", f"{region} is not a region of {self.name}")
        for text in _texts(call):
            if arn := self.foreign(text):
                self._tally.struck("partition")
                return call.error(400, _CODES.get(call.service, "ValidationException"), self._words(arn))
        return None

    def _other_region(self, call: Call) -> str:
        signed = call.headers.get(b"authorization", b"").decode("latin-1") or unquote(call.query)
        scope = _SCOPE.search(signed)
        return scope[1] if scope and partition_of(scope[1])[0] != self.name else ""

    def foreign(self, text: str) -> str:
        """Return the first ARN of another partition in a text; empty when there is none."""
        return next((found[0] for found in _ARN.finditer(text) if found[1] != self.name), "")

    def _words(self, arn: str) -> str:
        return f'Partition "{arn.split(":")[1]}" is not valid for resource "{arn}": this is {self.name}'

    def check(self, value: Any) -> None:
        """Raise ForeignPartition when an evaluated template holds an ARN of another partition."""
        if arn := self.foreign(repr(value)):
            self._tally.struck("partition")
            raise ForeignPartition(self._words(arn))


def _texts(call: Call) -> Iterator[str]:
    """What of a request is looked at: all but users' data and templates, which are not evaluated yet."""
    yield unquote(f"{call.path}?{call.query}")
    yield unquote(" ".join(value.decode("latin-1") for value in call.headers.values()))
    operations = _DATA.get(call.service, frozenset())
    if operations is None or call.operation in operations:
        return
    if call.service == "dynamodb" and _ITEMS.search(call.operation):
        return
    body = call.body.decode("latin-1")
    if call.protocol == "query":
        body = unquote(_TEMPLATE.sub("", body))
    yield body

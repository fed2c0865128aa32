"""AWS partitions: which one a region is in, and how ARNs and addresses are written there.

ARNs of GovCloud begin with ``arn:aws-us-gov:``, those of China with ``arn:aws-cn:``, and addresses in China end in
``amazonaws.com.cn`` (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html). The facts are botocore's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from botocore.loaders import Loader


@dataclass(frozen=True)
class Partition:
    """A partition: its name in ARNs, and what AWS's host names end in."""

    name: str
    suffix: str


@cache
def partition(region: str) -> Partition:
    """Return the partition of a region; a region that botocore does not know is taken to be in ``aws``.

    >>> partition("us-gov-west-1").name, partition("cn-north-1").suffix
    ('aws-us-gov', 'amazonaws.com.cn')
    """
    for found in Loader().load_data("partitions")["partitions"]:
        if region in found["regions"] or re.match(found["regionRegex"], region):
            return Partition(found["id"], found["outputs"]["dnsSuffix"])
    return Partition("aws", "amazonaws.com")

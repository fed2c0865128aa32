"""Who is behind an ARN: two roles of one person are one person, and some sessions name nobody.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html: an assumed role's ARN ends
in the name of its session. IAM Identity Center and most companies' sign-in put the person's name there; the SDKs and
the CLI make a name up when nobody gives one, another one each time.
"""

from __future__ import annotations

import re

_SESSION = re.compile(r"arn:[^:]+:sts::\d*:(?:assumed-role/[^/]+|federated-user)/(?P<name>.+)")
_USER = re.compile(r"arn:[^:]+:iam::\d*:user/(?:.*/)?(?P<name>[^/]+)")
_MADE_UP = re.compile(
    r"(botocore-session|aws-sdk-|aws-go-sdk|aws-cli|awscli|session|i-[0-9a-f]{8})[\w.@=,+-]*|\d+", re.I
)


def person(arn: str) -> str:
    """Return who is behind a caller's ARN: the name of a user or of a session; empty when the session names nobody.

    >>> person("arn:aws:sts::111122223333:assumed-role/Approvers/ana@example.com")
    'ana@example.com'
    >>> person("arn:aws:iam::111122223333:user/team/ana")
    'ana'
    >>> person("arn:aws:sts::111122223333:assumed-role/Approvers/botocore-session-1764230000")
    ''
    """
    if user := _USER.fullmatch(arn):
        return user["name"].casefold()
    if session := _SESSION.fullmatch(arn):
        return "" if _MADE_UP.fullmatch(session["name"]) else session["name"].casefold()
    return arn


def surely_two(one: str, other: str) -> bool:
    """Return whether two ARNs are certainly those of two people.

    >>> surely_two("arn:aws:iam::1:user/ana", "arn:aws:iam::1:user/ben")
    True
    >>> surely_two("arn:aws:sts::1:assumed-role/Approvers/ana", "arn:aws:sts::1:assumed-role/Operators/ana")
    False
    """
    first, second = person(one), person(other)
    return bool(first and second and first != second)

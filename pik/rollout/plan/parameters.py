"""Are the values of stack parameters such as the template takes? Asked before anything is built, planned or deployed.

CloudFormation asks the same when a deploy is under way, and the functions ask when they start: both are too late.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from pik.errors import UsageError


def refuse_wrong(
    document: Mapping[str, Any],
    values: Mapping[str, str],
    *,
    asked: Collection[str] = (),
    aggregators: Collection[str] | None = None,
) -> None:
    """Raise UsageError for the first parameter that the template would not take.

    Args:
        document: the template, parsed.
        values: values by parameter; those that the template does not declare are left alone, unless they are asked for.
        asked: names that somebody typed: each must be one of the template's.
        aggregators: names that the code to be deployed knows; None when that cannot be told.

    >>> refuse_wrong({"Parameters": {"Days": {"Type": "Number", "MaxValue": 9}}}, {"Days": "10"})
    Traceback (most recent call last):
    pik.errors.UsageError: Days=10: at most 9
    """
    declared = document.get("Parameters", {})
    for name in asked:
        if name not in declared:
            near = get_close_matches(name, declared, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(sorted(declared))}"
            raise UsageError(f"the template has no parameter {name}", next_step=hint)
    for name, value in values.items():
        wrong = _wrong(declared[name], value) if name in declared else ""
        if not wrong and name == "Aggregator" and aggregators is not None and value not in aggregators:
            wrong = f"the code at hand has {', '.join(sorted(aggregators))} (pik/pipeline/aggregators.py)"
        if wrong:
            raise UsageError(f"{name}={value}: {wrong}", reason=str(declared[name].get("Description", "")).strip())


def _wrong(declared: Mapping[str, Any], value: str) -> str:
    """Return what is wrong with a value, or nothing."""
    allowed = [_text(one) for one in declared.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"one of {', '.join(allowed)}"
    pattern = declared.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, value):
        return str(declared.get("ConstraintDescription") or f"it must match {pattern}")
    if declared.get("Type") == "Number":
        return _wrong_number(declared, value)
    if len(value) < int(declared.get("MinLength", 0)):
        return f"at least {declared['MinLength']} characters"
    if "MaxLength" in declared and len(value) > int(declared["MaxLength"]):
        return f"at most {declared['MaxLength']} characters"
    return ""


def _wrong_number(declared: Mapping[str, Any], value: str) -> str:
    if not re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
        return "it must be a number"
    if "MinValue" in declared and float(value) < float(declared["MinValue"]):
        return f"at least {declared['MinValue']}"
    if "MaxValue" in declared and float(value) > float(declared["MaxValue"]):
        return f"at most {declared['MaxValue']}"
    return ""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

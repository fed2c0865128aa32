"""AWS's errors as botocore raises them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

_STATUS = {"InternalServerError": 500, "InternalError": 500, "SlowDown": 503, "ServiceUnavailable": 503}


def refused(code: str, operation: str, reasons: Sequence[str] = ()) -> ClientError:
    """Return the error of a call; ``reasons``: why each part of a transaction was refused, ``None`` for the others."""
    answer: dict[str, Any] = {
        "Error": {"Code": code, "Message": code},
        "ResponseMetadata": {"HTTPStatusCode": _STATUS.get(code, 400)},
    }
    if reasons:
        answer["CancellationReasons"] = [{"Code": reason} for reason in reasons]
    return ClientError(answer, operation)

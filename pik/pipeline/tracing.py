"""X-Ray traces of the handlers, in Lambda only.

The X-Ray SDK makes a botocore client of the shell's profile as soon as it is imported. The workbench imports the
handlers' modules too, and must not depend on a profile that it does not use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


def traced(handler: Handler) -> Handler:
    """Trace a Lambda handler where the template switched tracing on; elsewhere return it as it is.

    Bodies are not in the trace: answers are not captured.
    """
    off = os.environ.get("POWERTOOLS_TRACE_DISABLED", "false").lower() == "true"
    if off or "AWS_LAMBDA_FUNCTION_NAME" not in os.environ:
        return handler
    from aws_lambda_powertools import Tracer

    wrapped: Handler = Tracer().capture_lambda_handler(handler, capture_response=False)
    return wrapped

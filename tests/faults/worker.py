"""An ingest worker that dies: the real handler against the embedded AWS, killed at one point between its writes.

    python -m tests.faults.worker KILL_AT < proxy event

``KILL_AT`` counts the moments before and after each write (0: before the first, 1: after the first, …). The
worker sends itself SIGKILL there; it reaches the end, and prints the answer, when there are fewer moments.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from pik.pipeline import aws, ingest

WRITES = ("PutObject", "PutItem", "TransactWriteItems", "UpdateItem", "DeleteItem")


class Clock:
    """Counts the moments around writes and dies at the chosen one."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at
        self.moments = 0

    def tick(self, **_: Any) -> None:
        """One moment has come."""
        if self.moments == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.moments += 1


def main() -> None:
    """Handle the event on standard input, or die on the way."""
    clock = Clock(int(sys.argv[1]))
    for service in ("s3", "dynamodb"):
        events = aws.client(service).meta.events
        for operation in WRITES:
            events.register(f"before-send.{service}.{operation}", clock.tick)
            events.register(f"after-call.{service}.{operation}", clock.tick)
            # A conditional write that is refused is over as well, without "after-call" having been reached.
            events.register(f"after-call-error.{service}.{operation}", clock.tick)

    class Context:
        function_name = "ingest"
        memory_limit_in_mb = 128
        invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:ingest"
        aws_request_id = "faults"

    answer = ingest.handler(json.load(sys.stdin), Context())
    print(json.dumps({"moments": clock.moments, **answer}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

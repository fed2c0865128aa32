"""Lambda's event source mapping, as far as the kit calls it: it takes time to be enabled or disabled.

https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html: ResourceInUseException while an earlier
change is under way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.sim.aws.errors import refused

SECONDS = 8.0  # that a change takes at most; it is not documented, and seconds to a minute are seen


@dataclass
class Lambda:
    """One mapping of one queue, and the processor's time limit."""

    chance: random.Random
    now: Callable[[], float]
    timeout: float
    enabled: bool = True  # or will be, when the change is done
    changed_at: float = 0.0

    @property
    def state(self) -> str:
        """What Lambda says of the mapping."""
        if self.now() < self.changed_at:
            return "Enabling" if self.enabled else "Disabling"
        return "Enabled" if self.enabled else "Disabled"

    @property
    def consumes(self) -> bool:
        """Whether messages may be received: also while a change is under way."""
        return self.enabled or self.now() < self.changed_at

    def set(self, enabled: bool) -> None:
        """Enable or disable it at once."""
        self.enabled, self.changed_at = enabled, 0.0

    def list_event_source_mappings(self, EventSourceArn: str) -> Any:
        """Return the mappings of a queue."""
        return {"EventSourceMappings": [{"UUID": "1", "State": self.state, "FunctionArn": "arn:x:processor"}]}

    def update_event_source_mapping(self, UUID: str, Enabled: bool) -> Any:
        """Begin a change."""
        if self.now() < self.changed_at:
            raise refused("ResourceInUseException", "UpdateEventSourceMapping")
        if Enabled != self.enabled:
            self.enabled, self.changed_at = Enabled, self.now() + self.chance.random() * SECONDS
        return {}

    def get_function_configuration(self, FunctionName: str) -> Any:
        """Return the processor's time limit."""
        return {"Timeout": self.timeout}

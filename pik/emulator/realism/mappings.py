"""Event source mappings take their time, and what they started runs on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from .dice import Dice, Tally
from .middleware import Cut, Quiet
from .settings import RealismSettings
from .wire import Answer, Call

STATE_SECONDS = (5.0, 45.0)
INVOCATION_SECONDS = (1.0, 30.0)
SLOW_RATE = 0.05  # and every second one while its mapping is being disabled

Record = dict[str, Any]  # the emulator's own: what is changed in it is changed in the emulator


@dataclass
class _Transition:
    record: Record
    state: str  # the state until then
    until: float
    then: Record = field(default_factory=dict)  # what the record is to say afterwards


class MappingStates(Quiet):
    """A mapping is Creating, Enabling, Disabling, Updating or Deleting for a while, and takes no change meanwhile.

    Until it is Disabled it goes on consuming; until it is Enabled it does not begin. States:
    https://docs.aws.amazon.com/lambda/latest/api/API_GetEventSourceMapping.html, and ResourceInUseException:
    https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html. What CloudFormation does is not
    held up: it waits by itself until a mapping is stable.

    ``records`` are the emulator's mappings by UUID.
    """

    def __init__(
        self,
        settings: RealismSettings,
        dice: Dice,
        tally: Tally,
        records: Callable[[], Mapping[str, Record]],
        now: Callable[[], float],
    ) -> None:
        self._settings, self._dice, self._tally = settings, dice, tally
        self._records, self._now = records, now
        self._changing: dict[str, _Transition] = {}
        self._lock = threading.Lock()

    def disabling(self, uuid: str) -> bool:
        """Whether a mapping is being disabled or deleted at this moment."""
        changing = self._changing.get(uuid)
        return changing is not None and changing.state in ("Disabling", "Deleting")

    def tick(self) -> None:
        """End the transitions whose time has come, and those that an earlier process left."""
        now = self._now()
        with self._lock:
            for uuid, change in list(self._changing.items()):
                if change.until <= now:
                    del self._changing[uuid]
                    if change.record.get("State") == change.state:
                        change.record.update(change.then)
            for uuid, record in self._records().items():
                if uuid not in self._changing and str(record.get("State", "")).endswith("ing"):
                    record["State"] = "Enabled" if record.get("Enabled", True) else "Disabled"

    def before(self, call: Call) -> Answer | Cut | None:
        """Refuse changes of what is changing; answer for what is being deleted."""
        if call.service != "lambda" or not call.operation.endswith("EventSourceMapping"):
            return None
        changing = self._changing.get(call.subject)
        if changing is None:
            record = self._records().get(call.subject)
            call.notes["mapping"] = dict(record) if record else None
            return None
        if call.operation in ("UpdateEventSourceMapping", "DeleteEventSourceMapping"):
            self._tally.struck("mapping-states")
            return call.error(
                400, "ResourceInUseException", f"Cannot update the event source mapping: {changing.state}"
            )
        if changing.state == "Deleting" and "shown" in changing.then:
            return Answer(200, [(b"content-type", b"application/json")], b"").with_json(changing.then["shown"])
        return None

    def wants(self, call: Call) -> bool:
        """Look at every change of a mapping, and at lists."""
        changes = ("CreateEventSourceMapping", "UpdateEventSourceMapping", "DeleteEventSourceMapping")
        return call.service == "lambda" and call.operation in (*changes, "ListEventSourceMappings")

    def after(self, call: Call, answer: Answer) -> Answer | Cut:
        """Begin a transition where something was changed."""
        document = answer.json()
        if not 200 <= answer.status < 300 or not isinstance(document, dict):
            return answer
        if call.operation == "ListEventSourceMappings":
            return self._with_deleted(call, answer, document)
        state = self._begin(call, document)
        return answer.with_json({**document, "State": state}) if state else answer

    def _begin(self, call: Call, shown: Record) -> str:
        uuid, was = str(shown.get("UUID")), call.notes.get("mapping") or {}
        record = self._records().get(uuid)
        if call.operation == "DeleteEventSourceMapping":
            shown = {**shown, "State": "Deleting"}
            return self._start(uuid, {"State": "Deleting"}, "Deleting", {"shown": shown})
        if record is None:
            return ""
        before, after = was.get("Enabled", True), record.get("Enabled", True)
        final = {"Enabled": after, "State": "Enabled" if after else "Disabled"}
        if call.operation == "CreateEventSourceMapping":
            state, record["Enabled"] = "Creating", False
        elif before != after:
            state, record["Enabled"] = ("Enabling" if after else "Disabling"), before
        else:
            state = "Updating"
        record["State"] = state
        return self._start(uuid, record, state, final)

    def _start(self, uuid: str, record: Record, state: str, then: Record) -> str:
        low, high = STATE_SECONDS
        wait = low + (high - low) * self._dice.fraction("mapping-states", state)
        until = self._now() + self._settings.seconds(wait)
        with self._lock:
            self._changing[uuid] = _Transition(record, state, until, then)
        self._tally.struck("mapping-states")
        return state

    def _with_deleted(self, call: Call, answer: Answer, document: Record) -> Answer:
        asked = {name: values[0] for name, values in parse_qs(call.query).items()}
        function, source = asked.get("FunctionName", ""), asked.get("EventSourceArn", "")
        gone = [change.then["shown"] for change in self._changing.values() if "shown" in change.then]
        here = {mapping.get("UUID") for mapping in document.get("EventSourceMappings", [])}
        more = [
            mapping
            for mapping in gone
            if mapping.get("UUID") not in here
            and function.rpartition(":")[2] in mapping.get("FunctionArn", "")
            and source in ("", mapping.get("EventSourceArn"))
        ]
        if not more:
            return answer
        return answer.with_json({**document, "EventSourceMappings": [*document["EventSourceMappings"], *more]})


class SlowInvocations:
    """An invocation begun before its mapping was disabled ends when it ends, with its effects.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html: messages in flight are processed.
    """

    def __init__(self, settings: RealismSettings, dice: Dice, tally: Tally, disabling: Callable[[str], bool]) -> None:
        self._settings, self._dice, self._tally, self._disabling = settings, dice, tally, disabling

    def seconds(self, uuid: str) -> float:
        """Return how long the next batch of a mapping waits before it is worked on, its messages in flight."""
        rate = 0.5 if self._disabling(uuid) else SLOW_RATE
        if self._dice.fraction("slow-invocations", "batch") >= rate:
            return 0.0
        self._tally.struck("slow-invocations")
        low, high = INVOCATION_SECONDS
        return self._settings.seconds(low + (high - low) * self._dice.fraction("slow-invocations", "length"))

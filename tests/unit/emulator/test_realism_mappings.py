"""AWS's habits of event source mappings: states that last, changes that are refused meanwhile."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pik.emulator.realism import mappings
from pik.emulator.realism.wire import Answer, Call
from tests.unit.emulator.rig import Rig, ok, parsed

MAPPING = "/2015-03-31/event-source-mappings/"


@pytest.fixture
def mapping() -> Rig:
    """A mapping that is Enabled, and an emulator that changes it at once."""
    rig = Rig("mapping-states")
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
    rig.world.records["m"] = {"UUID": "m", "Enabled": True, "State": "Enabled", "FunctionArn": arn}

    def respond(call: Call) -> Answer:
        record = rig.world.records.get("m")
        if call.operation == "ListEventSourceMappings":
            return ok({"EventSourceMappings": list(rig.world.records.values())})
        if record is None:
            return Answer(404, [], b"{}")
        if call.operation == "UpdateEventSourceMapping" and "Enabled" in call.params:
            record.update(Enabled=call.params["Enabled"], State="Enabled" if call.params["Enabled"] else "Disabled")
        if call.operation == "DeleteEventSourceMapping":
            del rig.world.records["m"]
        return ok(record)

    rig.respond = respond
    return rig


def change(rig: Rig, method: str, **body: Any) -> Answer:
    answer = rig.signed("lambda", method, MAPPING + "m", json.dumps(body).encode())
    assert answer
    return answer


def test_a_mapping_is_disabling_for_a_while_and_consumes_meanwhile(mapping: Rig) -> None:
    answer = change(mapping, "PUT", Enabled=False)

    assert answer.json()["State"] == "Disabling"
    assert mapping.world.records["m"]["Enabled"] is True
    assert change(mapping, "GET").json()["State"] == "Disabling"
    mapping.now += mappings.STATE_SECONDS[0] - 0.1
    mapping.realism.tick()
    assert change(mapping, "GET").json()["State"] == "Disabling"
    mapping.now += mappings.STATE_SECONDS[1]
    mapping.realism.tick()
    assert mapping.world.records["m"] | {"Enabled": False, "State": "Disabled"} == mapping.world.records["m"]
    assert change(mapping, "PUT", Enabled=True).json()["State"] == "Enabling"
    assert mapping.world.records["m"]["Enabled"] is False


def test_what_is_changing_takes_no_other_change(mapping: Rig) -> None:
    change(mapping, "PUT", Enabled=False)

    for method in ("PUT", "DELETE"):
        refusal = change(mapping, method, Enabled=False)
        found = parsed("lambda", "UpdateEventSourceMapping", refusal)
        assert found["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert found["Error"]["Code"] == "ResourceInUseException"
    mapping.now += 60
    mapping.realism.tick()
    assert change(mapping, "PUT", BatchSize=5).json()["State"] == "Updating"


def test_a_mapping_is_deleting_for_a_while(mapping: Rig) -> None:
    change(mapping, "DELETE")

    assert change(mapping, "GET").json()["State"] == "Deleting"
    listed = mapping.signed("lambda", "GET", "/2015-03-31/event-source-mappings?FunctionName=f")
    assert listed
    assert [found["State"] for found in listed.json()["EventSourceMappings"]] == ["Deleting"]
    mapping.now += 60
    mapping.realism.tick()
    assert change(mapping, "GET").status == 404


def test_a_stack_update_in_the_meantime_wins(mapping: Rig) -> None:
    change(mapping, "PUT", Enabled=False)
    mapping.world.records["m"].update(Enabled=True, State="Enabled")  # CloudFormation, which goes by itself
    mapping.now += 60
    mapping.realism.tick()

    assert mapping.world.records["m"]["Enabled"] is True


def test_what_an_earlier_process_left_changing_is_settled(mapping: Rig) -> None:
    mapping.world.records["m"].update(Enabled=True, State="Disabling")

    mapping.realism.tick()

    assert mapping.world.records["m"]["State"] == "Enabled"


def test_invocations_outlive_a_mapping_that_is_being_disabled() -> None:
    rig = Rig("slow-invocations", "mapping-states")
    usual = [rig.realism.slow.seconds("m") for _ in range(200)]
    rig.realism.mappings._start("m", {"State": "Disabling"}, "Disabling", {})
    then = [rig.realism.slow.seconds("m") for _ in range(200)]

    assert sum(map(bool, usual)) < 30
    assert sum(map(bool, then)) > 60
    assert 1 <= max(then) <= 30

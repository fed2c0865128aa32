"""SQL over the raw objects: what template.yaml tells Glue and Athena fits the keys that ingest writes."""

from __future__ import annotations

import re
from string import Template

import pytest

from pik import events
from tests.unit import template_tools as tools
from tests.unit.template_tools import Stack, phases

TEMPLATE = tools.load()
FULL = phases(TEMPLATE, Environment="prod")["processor"]
TABLE = FULL.resources["RawTable"]["Properties"]["TableInput"]


def test_the_table_and_its_workgroup_are_the_same_in_every_phase() -> None:
    for name in ("QueryDatabase", "RawTable", "QueryWorkGroup"):
        assert "Condition" not in TEMPLATE["Resources"][name]
        assert len({repr(stack.resources[name]) for stack in phases(TEMPLATE, Environment="prod").values()}) == 1


@pytest.mark.parametrize("names", [("UA", "flight.departed"), ("a/b#c=d", "ü"), ("s" * 300, "t")])
def test_partitions_lie_where_ingest_writes(names: tuple[str, str]) -> None:
    event = events.Event(*names, "e", "2013-01-01T09:17:00.000000Z", "2013-01-01T09:17:00.000000Z", {})
    key = events.raw_key(event)
    parts = dict(re.findall(r"(\w+)=([^/]*)/", key))
    assert list(parts) == [column["Name"] for column in TABLE["PartitionKeys"]]
    location = Template(TABLE["Parameters"]["storage.location.template"]).substitute(parts)
    assert f"s3://<RawBucket>/{key}".startswith(location)
    assert location.startswith(TABLE["StorageDescriptor"]["Location"])


def test_every_partition_column_is_projected() -> None:
    parameters = TABLE["Parameters"]
    assert parameters["projection.enabled"] == "true"
    kinds = {column["Name"]: parameters[f"projection.{column['Name']}.type"] for column in TABLE["PartitionKeys"]}
    assert kinds == {"source": "injected", "event_type": "injected", "event_date": "date", "hour": "integer"}
    assert (parameters["projection.hour.range"], parameters["projection.hour.digits"]) == ("0,23", "2")


def test_a_query_is_limited_and_its_results_need_no_right_to_write() -> None:
    for environment, managed in (("local", False), ("dev", True)):
        stack = Stack(TEMPLATE, {"Environment": environment})
        config = stack.resources["QueryWorkGroup"]["Properties"]["WorkGroupConfiguration"]
        assert config["EnforceWorkGroupConfiguration"] is True
        assert config["BytesScannedCutoffPerQuery"] == stack.values["QueryScanLimit"]
        assert ("ManagedQueryResultsConfiguration" in config) is managed
        assert ("ResultConfiguration" in config) is not managed

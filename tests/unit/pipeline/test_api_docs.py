"""The API's documentation against its handlers: every code and status is documented, and each is answered as said."""

from __future__ import annotations

import ast
import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from pik.pipeline import cloudevents, parsing, selection
from pik.pipeline.queue import Sent
from pik.pipeline.stores import Contended, Stores
from pik.project import ROOT
from scripts import api_codes, api_docs, openapi
from scripts.api_codes import BOTH, INGEST, REPLAY, RUN
from scripts.api_examples import EVENT, VOLATILE, WINDOW, examples
from tests.unit.api_world import Api

DOCUMENT: dict[str, Any] = json.loads(openapi.TARGET.read_text())
# Which operations can raise what a module raises.
USED_BY = {
    "http": BOTH,
    "strict_json": BOTH,
    "parsing": (INGEST,),
    "cloudevents": (INGEST,),
    "headers": (INGEST,),  # unknown_header is replay's as well
    "rows": (INGEST,),
    "ingest": (INGEST,),
    "selection": (REPLAY,),
    "replay": (REPLAY,),
    "runs": (RUN,),
}
# f"bad_{name}" of the selection: texts and flags.
NAMED = {
    "selection": ("entity_id", "start_time", "end_time", "include_duplicates", "dry_run"),
    "runs": ("limit", "messages", "part", "part_lines", "rate", "windows"),
}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
CLOUDEVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": "2025-01-01T00:00:00Z"}


def checker(schema: dict[str, Any]) -> Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def response_of(operation: str, status: int) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][f"/{operation}"]["post"]["responses"][str(status)]
    return found


def check_answer(operation: str, answer: dict[str, Any]) -> None:
    """Raise when an answer is not what the document says of its status."""
    said = {name: value for name, value in answer.items() if name != "http"}
    checker(response_of(operation, answer["http"])["content"]["application/json"]["schema"]).validate(said)


def test_document_and_page_are_what_make_docs_writes() -> None:
    assert openapi.TARGET.read_text() == openapi.render(), "run: make docs"
    assert api_docs.TARGET.read_text() == api_docs.render(), "run: make docs"


def test_the_document_is_openapi() -> None:
    published = json.loads((Path(__file__).parent / "openapi_3_1_schema.json").read_text())
    Draft202012Validator(published).validate(DOCUMENT)
    references = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert references <= set(DOCUMENT["components"]["schemas"])
    for schema in [*DOCUMENT["components"]["schemas"].values(), *_schemas(DOCUMENT["paths"])]:
        Draft202012Validator.check_schema(schema)


def _schemas(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "schema" in value:
            yield value["schema"]
        for below in value.values():
            yield from _schemas(below)
    elif isinstance(value, list):
        for below in value:
            yield from _schemas(below)


def _codes_in(module: str) -> set[str]:
    tree = ast.parse((ROOT / "pik" / "pipeline" / f"{module}.py").read_text())
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"Rejected", "error", "try_again"}:
            first = node.args[1 if getattr(node.func, "id", "") == "error" else 0]
            if isinstance(first, ast.Constant):
                found.add(str(first.value))
            elif isinstance(first, ast.JoinedStr):
                assert ast.unparse(first) == "f'bad_{name}'"
                found |= {f"bad_{name}" for name in NAMED[module]}
            else:  # passed on
                assert ast.unparse(first) in {"reason.code", "code"}, ast.unparse(first)
    return found


def test_every_code_of_the_handlers_is_documented() -> None:
    for module, operations in USED_BY.items():
        for operation in operations:
            documented = {one.code for one in api_codes.CODES if operation in one.operations}
            assert _codes_in(module) - documented == set(), (module, operation)
    others = {path.stem for path in (ROOT / "pik" / "pipeline").glob("*.py")} - set(USED_BY)
    assert {module: _codes_in(module) for module in others if _codes_in(module)} == {}
    assert {one.code for one in api_codes.CODES} == set().union(*map(_codes_in, USED_BY))


def test_what_api_gateway_answers_itself_is_in_the_template() -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda *_: None)
    template = yaml.load((ROOT / "template.yaml").read_text(), Loader)  # noqa: S506
    answers = template["Globals"]["Api"]["GatewayResponses"]
    assert (
        {answers[name]["StatusCode"] for name in ("THROTTLED", "REQUEST_TOO_LARGE")}
        == {413, 429}
        < set(api_codes.GATEWAY)
    )
    assert answers["THROTTLED"]["ResponseParameters"]["Headers"] == {"Retry-After": "'1'"}
    for name, answer in answers.items():
        said = answer["ResponseTemplates"]["application/json"]
        assert re.findall(r'"(\w+)": ', said) == ["error", "code", "do_this"], name


def test_examples_are_answered_as_said(api: Api) -> None:
    cursor = ""
    for one in examples():
        body = {**one.body, "cursor": cursor} if "cursor" in one.body and isinstance(one.body, dict) else one.sent
        answer = api.post(one.operation, body, {"Content-Type": one.content_type, **one.headers})
        assert answer["http"] == one.status, (one.name, answer)
        assert {**one.answer, **_volatile(answer)} == {n: v for n, v in answer.items() if n != "http"}, one.name
        check_answer(one.operation, answer)
        check_answer(one.operation, {"http": one.status, **one.answer})
        cursor = answer.get("cursor") or cursor


def _volatile(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name in VOLATILE and value is not None}


def test_examples_are_what_the_schemas_say() -> None:
    for one in examples():
        content = DOCUMENT["paths"][f"/{one.operation}"]["post"]["requestBody"]["content"]
        kind = one.content_type if one.content_type in content else "*/*"
        assert content[kind]["examples"][one.name]["value"] == one.body
        assert checker(content[kind]["schema"]).is_valid(one.body) == (one.name != "rejected")


@dataclass(frozen=True)
class Asked:
    """A request that is refused."""

    body: Any
    headers: dict[str, Any] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)


def _binary(**more: str) -> dict[str, Any]:
    return {f"ce-{name}": value for name, value in {**CLOUDEVENT, **more}.items()}


EITHER = {
    "bad_dry_run": Asked(b"{}", query={"dry_run": "perhaps"}),
    "unknown_parameter": Asked(b"{}", query={"dryRun": "true"}),
    "unknown_header": Asked(b"{}", {"X-Idempotency-Key": "k"}),
    "not_utf8": Asked(b'"\xff"'),
    "not_json": Asked(b"{"),
    "not_an_object": Asked(b"[]"),
    "too_deep": Asked(b"[" * 101 + b"]" * 101),
    "repeated_name": Asked(b'{"a":1,"a":2}'),
    "number_out_of_range": Asked(b'{"a":1e400}'),
}
REFUSED: dict[tuple[str, str], Asked] = {
    **{(operation, code): asked for operation in BOTH for code, asked in EITHER.items()},
    (INGEST, "unknown_field"): Asked({**EVENT, "x": 1}),
    (INGEST, "bad_time"): Asked({**EVENT, "event_time": "soon"}),
    (INGEST, "missing_field"): Asked({"source": "s"}),
    (INGEST, "bad_name"): Asked({**EVENT, "source": ""}),
    (INGEST, "bad_unicode"): Asked(json.dumps(EVENT).replace("shop", "\\ud800").encode()),
    (INGEST, "payload_type"): Asked({**EVENT, "payload": 1}),
    (INGEST, "bad_original"): Asked({**EVENT, "original": 1}),
    (INGEST, "bad_idempotency_key"): Asked(EVENT, {"Idempotency-Key": "a b"}),
    (INGEST, "two_keys"): Asked(EVENT, {"Idempotency-Key": "other"}),
    (INGEST, "headers_too_large"): Asked(b"", _binary(note="x" * 1_200)),
    (INGEST, "cloudevents_version"): Asked({**CLOUDEVENT, "specversion": "0.3"}),
    (INGEST, "cloudevents_format"): Asked(b"", {"Content-Type": "application/cloudevents+avro"}),
    (INGEST, "bad_attribute"): Asked({**CLOUDEVENT, "No": 1}, STRUCTURED),
    (INGEST, "bad_base64"): Asked({**CLOUDEVENT, "data_base64": "!"}, STRUCTURED),
    (INGEST, "two_payloads"): Asked({**CLOUDEVENT, "data": 1, "data_base64": "MQ=="}, STRUCTURED),
    (INGEST, "batch"): Asked([CLOUDEVENT]),
    (INGEST, "body_too_large"): Asked(b" " * (parsing.MAX_BODY + 1)),
    (REPLAY, "unknown_field"): Asked({**WINDOW, "x": 1}),
    (REPLAY, "bad_time"): Asked({**WINDOW, "start_time": "2025-01-01T00:00:00.0000001Z"}),
    (REPLAY, "bad_entity_id"): Asked({**WINDOW, "entity_id": "x" * (parsing.MAX_NAME + 1)}),
    (REPLAY, "bad_start_time"): Asked({**WINDOW, "start_time": 1}),
    (REPLAY, "bad_end_time"): Asked({**WINDOW, "end_time": None}),
    (REPLAY, "empty_window"): Asked({**WINDOW, "end_time": WINDOW["start_time"]}),
    (REPLAY, "bad_include_duplicates"): Asked({**WINDOW, "include_duplicates": "no"}),
    (REPLAY, "bad_limit"): Asked({**WINDOW, "limit": selection.MAX_LIMIT + 1}),
    (REPLAY, "bad_replay_id"): Asked({**WINDOW, "replay_id": "a b"}),
    (REPLAY, "bad_cursor"): Asked({**WINDOW, "cursor": base64.b64encode(b"[]").decode()}),
    (REPLAY, "idempotency_key_not_taken"): Asked(WINDOW, {"Idempotency-Key": "k"}),
}
# What is no fault of the request; and 409, which the examples show.
ELSEWHERE = {"conflict", "contended", "replay_id_taken", "queue_unavailable", "store_unavailable", "internal"}


@pytest.mark.parametrize(("operation", "code"), REFUSED)
def test_each_refusal_is_given_as_documented(operation: str, code: str, api: Api) -> None:
    asked = REFUSED[operation, code]
    answer = api.post(operation, asked.body, asked.headers, **asked.query)
    (documented,) = [one for one in api_codes.CODES if one.code == code]
    assert (answer["http"], answer["code"]) == (documented.status, code), answer
    check_answer(operation, answer)
    schema = response_of(operation, answer["http"])["content"]["application/json"]["schema"]
    assert code in schema.get("properties", {}).get("code", {}).get("enum", [code])


TOLD = {"unknown_field", "missing_field", "bad_name", "payload_type", "bad_original", "cloudevents_version"}
TOLD |= {"bad_time", "bad_attribute", "bad_entity_id", "bad_start_time", "bad_end_time", "bad_limit", "bad_replay_id"}
TOLD |= {"bad_include_duplicates"}


@pytest.mark.parametrize(("operation", "code"), [pair for pair in REFUSED if pair[1] in TOLD])
def test_the_schemas_refuse_it_too(operation: str, code: str) -> None:
    content = DOCUMENT["paths"][f"/{operation}"]["post"]["requestBody"]["content"]
    assert not checker(content["application/json"]["schema"]).is_valid(REFUSED[operation, code].body)


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
def test_patterns_are_ones_of_json_schema() -> None:
    """JSON Schema's patterns are JavaScript's, with the flag u; Python takes more."""
    patterns = re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', openapi.TARGET.read_text())
    assert len(patterns) > 9
    script = f"for (const pattern of [{','.join(patterns)}]) new RegExp(pattern, 'u')"
    subprocess.run(["node", "-e", script], check=True, timeout=60)


def test_there_is_a_request_for_every_code() -> None:
    # Those of replay runs are asked for in tests/unit/replays/test_runs.py.
    wanted = {(name, one.code) for one in api_codes.CODES for name in one.operations if name != RUN}
    assert {pair for pair in wanted if pair[1] not in ELSEWHERE} == set(REFUSED)


STORE = ClientError({"Error": {"Code": "InternalServerError"}}, "GetItem")


@pytest.mark.parametrize(
    ("operation", "failure", "status", "code"),
    [
        (INGEST, STORE, 503, "store_unavailable"),
        (INGEST, ZeroDivisionError(), 500, "internal"),
        (INGEST, Contended("id"), 503, "contended"),
        (REPLAY, STORE, 503, "store_unavailable"),
        (REPLAY, ZeroDivisionError(), 500, "internal"),
    ],
)
def test_what_is_no_fault_of_the_request(
    operation: str, failure: Exception, status: int, code: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise failure

    monkeypatch.setattr(Stores, "known", fail)
    monkeypatch.setattr("pik.pipeline.replay._claim", fail)
    answer = api.post(operation, EVENT if operation == INGEST else WINDOW)
    assert (answer["http"], answer["code"]) == (status, code)
    check_answer(operation, answer)


def test_what_the_queue_does_not_take(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.send(EVENT)["http"] == 200
    monkeypatch.setattr("pik.pipeline.queue.send", lambda _, bodies: Sent(set(range(len(bodies))), False))
    answer = api.post(REPLAY, WINDOW)
    assert (answer["http"], answer["code"], answer["complete"]) == (503, "queue_unavailable", False)
    check_answer(REPLAY, answer)


def test_every_status_is_one_that_was_answered_here_or_is_api_gateways() -> None:
    answered = {(one.operation, one.status) for one in examples()}
    answered |= {(operation, one.status) for one in api_codes.CODES for operation in one.operations}
    for operation in BOTH:
        documented = {int(status) for status in DOCUMENT["paths"][f"/{operation}"]["post"]["responses"]}
        assert documented - set(api_codes.GATEWAY) == {status for name, status in answered if name == operation} - set(
            api_codes.GATEWAY
        )


@pytest.mark.parametrize(
    "time",
    ["2025-12-28T23:59:59Z", "2025-12-28t23:59:59.123456789z", "2025-12-28 23:59:59+23:59", "2025-12-28T23:59:59"],
)
@pytest.mark.parametrize("form", ["own", "cloudevent"])
def test_times_are_what_the_pattern_says(time: str, form: str, api: Api) -> None:
    body = {**EVENT, "event_time": time} if form == "own" else {**CLOUDEVENT, "time": time}
    (schema,) = [DOCUMENT["components"]["schemas"][{"own": "Event", "cloudevent": "CloudEvent"}[form]]]
    for end, right in (("", True), (" ", False), ("Z", False)):
        sent = {name: f"{value}{end}" if value == time else value for name, value in body.items()}
        right_here = right or (end == "Z" and time[-1].isdigit() and "+" not in time)
        assert checker(schema).is_valid(sent) == right_here
        assert (api.send(sent)["http"] == 200) == right_here


def test_the_document_names_every_field_and_limit() -> None:
    found = DOCUMENT["components"]["schemas"]
    assert tuple(found["Event"]["properties"]) == parsing.FIELDS
    assert tuple(found["Replay"]["properties"]) == selection.FIELDS
    assert set(found["CloudEvent"]["required"]) == {"specversion", *cloudevents.NEEDED}
    assert found["Name"]["maxLength"] == parsing.MAX_NAME
    assert found["Replay"]["properties"]["limit"]["maximum"] == selection.MAX_LIMIT

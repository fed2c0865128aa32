"""Every error code of the HTTP API: which request gets it, with which status.

``tests/unit/pipeline/test_api_docs.py`` compares this with the handlers: none is missing, and each is given as said.
"""

from __future__ import annotations

from typing import NamedTuple

INGEST, REPLAY, RUN = "ingest", "replay", "run"
BOTH = (INGEST, REPLAY)


class Code(NamedTuple):
    """One code: its status, the operations that give it, and when."""

    code: str
    status: int
    operations: tuple[str, ...]
    when: str


CODES = (
    Code("bad_dry_run", 400, BOTH, "`dry_run` is neither true nor false, or given twice with different values"),
    Code("unknown_parameter", 400, BOTH, "a query parameter looks like a misspelt `dry_run`"),
    Code("unknown_header", 400, BOTH, "a header looks like a misspelt `Idempotency-Key`"),
    Code("not_utf8", 400, BOTH, "the body is not UTF-8"),
    Code("not_json", 400, BOTH, "the body is not JSON"),
    Code("not_an_object", 400, BOTH, "the body is JSON, but not an object"),
    Code("too_deep", 400, BOTH, "objects and arrays are nested too deeply"),
    Code("repeated_name", 400, BOTH, "a name appears twice in one object; programs differ in which one they read"),
    Code("number_out_of_range", 400, BOTH, "a number is NaN, Infinity, or one that a double does not hold exactly"),
    Code("unknown_field", 400, BOTH, "a field is unknown; the answer suggests the one that was probably meant"),
    Code("bad_time", 400, BOTH, "a time does not match the pattern of times, or has too many digits of a second"),
    Code("missing_field", 400, (INGEST,), "a required field is missing"),
    Code(
        "bad_name",
        400,
        (INGEST,),
        "a name or key is not text, empty, too long, or holds a control character",
    ),
    Code("bad_unicode", 400, (INGEST,), "half a surrogate pair, or a `ce-*` header that is not percent-encoded UTF-8"),
    Code("payload_type", 400, (INGEST,), "`payload` is neither an object nor an array"),
    Code("bad_original", 400, (INGEST,), "`original` is not text"),
    Code("bad_idempotency_key", 400, (INGEST,), "the `Idempotency-Key` header is not one string"),
    Code("two_keys", 400, (INGEST,), "the `Idempotency-Key` header and the key in the body (a CloudEvent's id) differ"),
    Code("headers_too_large", 400, (INGEST,), "`ce-*` and `Idempotency-Key` headers do not fit into metadata in S3"),
    Code("cloudevents_version", 400, (INGEST,), "a CloudEvent has another version than 1.0"),
    Code("cloudevents_format", 400, (INGEST,), "a structured CloudEvent is not in JSON"),
    Code("bad_attribute", 400, (INGEST,), "the name or value of an attribute is not allowed in CloudEvents"),
    Code("bad_base64", 400, (INGEST,), "`data_base64` is not base64"),
    Code("two_payloads", 400, (INGEST,), "a CloudEvent has both `data` and `data_base64`"),
    Code("batch", 400, (INGEST,), "the body is a batch of CloudEvents; a request carries one event"),
    Code("body_too_large", 413, (INGEST,), "the body is larger than the limit above"),
    Code("conflict", 409, (INGEST,), "another event, with another payload or time, has this idempotency key already"),
    Code(
        "contended",
        503,
        (INGEST, RUN),
        "the same event, or a change of one replay run, comes many times at once; send it again",
    ),
    Code("bad_entity_id", 400, (REPLAY,), "`entity_id` is missing, or not a text of 1 to 256 characters"),
    Code("bad_start_time", 400, (REPLAY,), "`start_time` is missing, or not text"),
    Code("bad_end_time", 400, (REPLAY,), "`end_time` is missing, or not text"),
    Code("empty_window", 400, (REPLAY,), "`start_time` is not before `end_time`"),
    Code("bad_include_duplicates", 400, (REPLAY,), "`include_duplicates` is not a JSON boolean"),
    Code("bad_limit", 400, (REPLAY, RUN), "`limit` is not an integer in its range"),
    Code("bad_replay_id", 400, (REPLAY, RUN), "`replay_id` does not match its pattern, or consists of dots alone"),
    Code("bad_cursor", 400, (REPLAY,), "`cursor` does not come from an earlier answer to the same selection"),
    Code("idempotency_key_not_taken", 400, (REPLAY,), "the `Idempotency-Key` header is given; use `replay_id` instead"),
    Code("bad_action", 400, (RUN,), "`action` is none of those of [replay runs](#replay-runs)"),
    Code("bad_reason", 400, (RUN,), "`reason` is not a text of at most 1,000 characters"),
    Code("bad_part", 400, (RUN,), "`part` is missing, or not a number from 0 on"),
    Code("bad_rate", 400, (RUN,), "`rate` is not a number from 1 on"),
    Code("bad_messages", 400, (RUN,), "`messages` is missing, or not a number from 1 on"),
    Code("bad_windows", 400, (RUN,), "`windows` is missing, or not a number from 1 on"),
    Code("bad_part_lines", 400, (RUN,), "`part_lines` is missing, or not a number from 1 on"),
    Code("bad_parts", 400, (RUN,), "`parts` is not a list of hashes"),
    Code("bad_digest", 400, (RUN,), "`digest`, or one of `parts`, is not a SHA-256 in hex"),
    Code("no_such_run", 404, (RUN,), "no replay run was begun under this `replay_id`"),
    Code("no_such_part", 404, (RUN,), "the manifest has no such part"),
    Code("not_running", 409, (RUN,), "the replay run is paused or cancelled; `state` says which"),
    Code("not_possible", 409, (RUN,), "a replay run in this state cannot be changed so"),
    Code("busy", 409, (RUN,), "another request sends this part; ask again in `wait` seconds at the latest"),
    Code("manifest_changed", 409, (RUN,), "a part is missing in S3, or not what the replay run was begun with"),
    Code("replay_id_taken", 409, (REPLAY, RUN), "`replay_id` belongs to another selection"),
    Code("queue_unavailable", 503, (REPLAY, RUN), "the queue did not take some messages, after several tries"),
    Code("store_unavailable", 503, (*BOTH, RUN), "a store failed or did not answer"),
    Code("internal", 500, (*BOTH, RUN), "an error in the kit; the request is not acknowledged"),
)
# What API Gateway answers before a handler is asked: template.yaml, GatewayResponses.
GATEWAY = {
    403: (
        "no signature, a wrong or expired one, or no permission; `code` is API Gateway's type of error,"
        " such as `MISSING_AUTHENTICATION_TOKEN`, `INVALID_SIGNATURE`, `EXPIRED_TOKEN`, `ACCESS_DENIED`"
    ),
    413: "`TOO_LARGE`: more than 10 MB",
    429: "`THROTTLED`: more requests than the stack lets through",
}


def of(operation: str, status: int) -> list[str]:
    """Return the codes that an operation answers with a status."""
    return [one.code for one in CODES if operation in one.operations and one.status == status]

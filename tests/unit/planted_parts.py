"""What a defect does to a world: one function for each part that is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pik import events
from pik.pipeline import processor, queue
from pik.pipeline.aggregates import Aggregates, Contribution
from pik.pipeline.aggregators import fold
from pik.pipeline.http import Request, answer
from pik.pipeline.selection import Selection
from pik.replays import reading as replay_table
from pik.results import Check, Verdict
from pik.rollout.checks import replaying
from tests.unit.planted_steps import Plant, Run, rolled_back
from tests.unit.rollout_world import READING, RolloutWorld


def unsigned_is_let_in(run: Run) -> None:
    asked = run.world.request

    def request(environment: Any, method: str, url: str, body: bytes = b"", **more: Any) -> Any:
        if not more.get("signed", True):  # an API that lets everybody in
            return asked(environment, method, f"{url}?dry_run=true", body)
        return asked(environment, method, url, body, **more)

    run.patch.setattr("pik.aws.signed.request", request)


def ingest_answers(change: Callable[[RolloutWorld, Request, dict[str, Any]], dict[str, Any]]) -> Plant:
    """Have ingest answer something else, or do something else besides."""

    def plant(run: Run) -> None:
        def answered(function: str, request: Request) -> dict[str, Any]:
            said = run.world.really(function, request)
            return change(run.world, request, said) if function == "ingest" else said

        run.world.answer = answered

    return plant


def reformatted(world: RolloutWorld, request: Request, said: dict[str, Any]) -> dict[str, Any]:
    """Write the first probe's raw object again as a JSON library would."""
    body = json.loads(said["body"])
    if b'"number":1' in request.body and body.get("dry_run") is False:
        client, key = world.client("s3"), body["s3_key"]
        found = client.get_object(Bucket="raw", Key=key)
        plain = json.dumps(json.loads(request.body)).encode()
        client.put_object(
            Bucket="raw", Key=key, Body=plain, Metadata=found["Metadata"], ContentType=found["ContentType"]
        )
    return said


def dry_run_writes(world: RolloutWorld, request: Request, said: dict[str, Any]) -> dict[str, Any]:
    body = json.loads(said["body"])
    if body.get("dry_run"):
        world.really("ingest", replace(request, query={}))
    return said


def repeats_are_new(_: RolloutWorld, __: Request, said: dict[str, Any]) -> dict[str, Any]:
    body = json.loads(said["body"])
    return answer(said["statusCode"], {**body, "status": "ACCEPTED"}) if said["statusCode"] == 200 else said


def ingest_fails(run: Run) -> None:
    def answered(function: str, request: Request) -> dict[str, Any]:
        return answer(500, {"code": "internal"}) if function == "ingest" else run.world.really(function, request)

    run.world.answer = answered
    run.patch.setattr("pik.rollout.checks.common.ANSWERS_SECONDS", 0)


def replay_fails(run: Run) -> None:
    run.world.answer = lambda *_: answer(500, {"code": "internal"})
    run.patch.setattr("pik.rollout.checks.probe.FRESH_SECONDS", 0)
    run.patch.setattr(
        "pik.rollout.deploy.rollback_checks.common.ingest_answers", lambda _: passed("ingest still answers")
    )


def passed(name: str) -> Check:
    return Check(name=name, verdict=Verdict.PASSED, sentence="not looked at here")


def dedupe_row_points_elsewhere(run: Run) -> None:
    identity = str(run.checks.first["event_id"])
    change(run, "dedupe", {"event_id": {"S": identity}}, s3_key="raw/elsewhere.json")


def change(run: Run, table: str, key: dict[str, Any], **values: str | int) -> None:
    """Write over attributes of an item."""
    client = run.world.client("dynamodb")
    item = client.get_item(TableName=table, Key=key)["Item"]
    for name, value in values.items():
        item[name] = {"S": value} if isinstance(value, str) else {"N": str(value)}
    client.put_item(TableName=table, Item=item)


def second_arrival_is_lost(run: Run) -> None:
    (row,) = [one for one in run.world.stores.arrivals(run.checks.probe.entity_id) if one["status"] == "DUPLICATE"]
    run.world.client("dynamodb").delete_item(TableName="events", Key={"PK": {"S": row["PK"]}, "SK": {"S": row["SK"]}})


def object_is_lost(of: Callable[[Any], str]) -> Plant:
    return lambda run: run.world.client("s3").delete_object(Bucket="raw", Key=of(run.checks))


def no_log_lines(group: str) -> Plant:
    return lambda run: run.patch.setattr(run.world.logs[group], "_write", lambda *_: None)


def no_metrics(group: str) -> Plant:
    return lambda run: run.patch.setattr(run.world.logs[group], "add_metric", lambda *_: None)


def alarm_rings(run: Run) -> None:
    run.world.ring()


def one_action_more(run: Run) -> None:
    more = json.loads(json.dumps(READING))
    more["Statement"][0]["Action"].append("s3:DeleteObject")
    run.world.client("iam").put_role_policy(RoleName="pik-role", PolicyName="own", PolicyDocument=json.dumps(more))


def policy_by_hand(run: Run) -> None:
    run.world.client("iam").put_role_policy(
        RoleName="pik-role", PolicyName="by-hand", PolicyDocument=json.dumps(READING)
    )


def mapping(state: str) -> Plant:
    def plant(run: Run) -> None:
        mapping = {"UUID": "1", "State": state, "FunctionArn": "arn:aws:lambda:us-east-1:1:function:x"}
        run.world.mappings = [mapping]

    return plant


def dead_letter(run: Run) -> None:
    run.world.client("sqs").send_message(QueueUrl=run.world.config.dead_letter_queue_url, MessageBody="set aside")


def one_event_is_skipped(run: Run) -> None:
    """Have the replay leave out an event that its dry run counts."""
    (first, *_) = run.world.stores.arrivals("quiet")
    matches = Selection.matches

    def skipping(self: Selection, row: Any, epoch: int) -> bool:
        return matches(self, row, epoch) and (self.dry_run or row["event_id"] != first["event_id"])

    run.patch.setattr(Selection, "matches", skipping)


def page_is_lost(run: Run) -> None:
    record = next(one for one in replay_table.every(run.world.stores).values() if len(one.pages) > 1)
    last = record.chain[-2]["next"]
    key = {"PK": {"S": events.replay_pk(record.replay_id)}, "SK": {"S": f"PAGE#{last}"}}
    run.world.client("dynamodb").delete_item(TableName="replays", Key=key)


def messages_are_stolen(run: Run) -> None:
    """Leave two: a single one is not missed where lost answers had messages sent twice."""
    client, url = run.world.client("sqs"), run.world.config.queue_url
    while (more := run.world.stores.waiting() - 2) > 0:
        found = client.receive_message(QueueUrl=url, MaxNumberOfMessages=min(10, more))["Messages"]
        for message in found:
            client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def message_names_nothing(run: Run) -> None:
    (row, *_) = run.world.stores.arrivals("quiet")
    body = queue.message(row | {"s3_key": "raw/gone.json"}, replay_id="x", entity_id="quiet", bucket="raw")
    run.world.client("sqs").send_message(QueueUrl=run.world.config.queue_url, MessageBody=queue.dumps(body))


def raw_object_is_altered(run: Run) -> None:
    (row, *_) = run.world.stores.arrivals("quiet")
    client = run.world.client("s3")
    found = client.get_object(Bucket="raw", Key=row["s3_key"])
    body = found["Body"].read() + b" "
    more = {"Metadata": found["Metadata"], "ContentType": found["ContentType"]}
    client.put_object(Bucket="raw", Key=row["s3_key"], Body=body, **more)


def raw_object_is_gone(run: Run) -> None:
    (row, *_) = run.world.stores.arrivals("quiet")
    run.world.client("s3").delete_object(Bucket="raw", Key=row["s3_key"])


def prediction_forgets(run: Run) -> None:
    run.patch.setattr(replaying, "fold", lambda name, inputs: fold(name, list(inputs)[1:]))


def message_always_fails(run: Run) -> None:
    """Have somebody's message in the queue that the processor gives back, again and again."""
    really = run.world.count

    def count(records: list[dict[str, Any]]) -> dict[str, Any]:
        back = [{"itemIdentifier": record["messageId"]} for record in records if record["body"] == "not today"]
        answer = really([record for record in records if record["body"] != "not today"])
        return {"batchItemFailures": [*back, *answer["batchItemFailures"]]}

    run.world.count = count
    run.drain_patience = 2.0
    run.world.client("sqs").send_message(QueueUrl=run.world.config.queue_url, MessageBody="not today")


def patient_again(run: Run) -> None:
    """Be patient with what is asked after the queue did not drain."""
    run.checks.patience = run.checks.trials.asked = run.patience


def sum_is_wrong(run: Run) -> None:
    """Have the processor write another sum."""
    rows = run.world.client("dynamodb").scan(TableName="aggregates")["Items"]
    row = next(one for one in rows if "state" in one)
    state = json.loads(row["state"]["S"])
    state["count"] += 1
    change(run, "aggregates", {"PK": row["PK"], "SK": row["SK"]}, state=json.dumps(state, sort_keys=True))


def counts_twice(run: Run) -> None:
    """Have the processor know a message by its id: the same event in another message is counted again."""

    known = events.contribution_sk

    class Forgetful(Aggregates):
        def add(self, contributions: Sequence[Contribution], *more: Any) -> set[str]:
            found = set[str]()
            for one in contributions:
                name = one.message_id
                run.patch.setattr(events, "contribution_sk", lambda *about, name=name: f"{known(*about)}#{name}")
                found |= super().add([one], *more)
            return found

    run.patch.setattr(processor, "Aggregates", Forgetful)


def no_reason_is_given(run: Run) -> None:
    """Have the processor set messages aside without saying why."""
    send = run.world.client("sqs").send_message

    def set_aside(record: Any, poison: processor.Poison, config: Any) -> None:
        send(QueueUrl=config.dead_letter_queue_url, MessageBody=record.body)
        run.world.logs["processor"].add_metric("Poison", None, 1)
        run.world.logs["processor"].error("set aside", message_id=record.message_id, reason=poison.reason)

    run.patch.setattr(processor, "_set_aside", set_aside)


def dry_run_predicts_less(run: Run) -> None:
    really = run.world.asked_dry

    def asked(said: dict[str, Any]) -> dict[str, Any]:
        answered = really(said)
        return {**answered, "predicted": answered["predicted"][1:]}

    run.world.asked_dry = asked


def dry_run_consumes(run: Run) -> None:
    really = run.world.asked_dry
    run.world.asked_dry = lambda said: {**really(said), "batchItemFailures": []}


def aggregate_cannot_be_read(run: Run) -> None:
    run.patch.setattr("pik.aws.reading.StoreReader.version", lambda *_: None)


def rollback_found(**change: Any) -> Plant:
    def plant(run: Run) -> None:
        run.done = rolled_back(**change)

    return plant

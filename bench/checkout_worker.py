"""Rolls back or counts on an embedded AWS of its own, by order: ``python -P bench/checkout_worker.py`` in any checkout.

Whichever checkout's ``pik`` is installed is the one that is measured, so the code of before can be put beside today's:
what is used here is in both. An order is a line of JSON on stdin, the answer a line on stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

PIK = Path(sys.executable).with_name("pik")
TABLES = ("EventsTable", "DedupeTable")
EXPIRE_RATE = 20  # rows of each table that expire in a second: what came with 20 events a second, a retention later
BATCH = 25


def _imported(names: str | tuple[str, ...], *modules: str) -> Any:
    """Return a function or class from the first of the modules that has it, under the first of its names."""
    for module in modules:
        with suppress(ImportError):
            loaded = importlib.import_module(module)
            for name in (names,) if isinstance(names, str) else names:
                if callable(found := getattr(loaded, name, None)):
                    return found
    raise ImportError(f"{names} is in none of {', '.join(modules)}")


def _module(*names: str) -> Any:
    """Return the first of the modules that this checkout has."""
    for name in names:
        with suppress(ImportError):
            return importlib.import_module(name)
    raise ImportError(f"there is none of {', '.join(names)}")


EMULATOR = _module("pik.emulator", "pik.local")


class Worker:
    """An embedded AWS, and what may be asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env: Any = None
        self.rows = 0
        self.expiring = 0.0  # when the first of the rows expires

    def start(self) -> dict[str, Any]:
        """Start it, deploy, and send the events of a day."""
        from pik import producer
        from pik.environments import environment

        deploy = _imported("deploy", "pik.rollout.deploy.deploy", "pik.rollout.deploy")

        EMULATOR.up(self.folder, owner=os.getpid())
        self.env = environment("local")
        deploy(self.env, "processor")
        if not producer.send(producer.load("flights:2013-01-01"), self.env).safe:
            raise RuntimeError("the events were not taken: there is nothing to measure")
        return {}

    def seed(self, rows: int) -> dict[str, Any]:
        """Put rows into the saved state, as many into the events table as into the dedupe table, and start on it.

        Through the API it takes minutes for 300,000 rows. What is in memory afterwards is the same: the emulator keeps
        an item as it came in.
        """
        from pik.environments import environment

        names = {name: self.env.outputs()[name] for name in TABLES}
        EMULATOR.down(self.folder)
        self.rows, self.expiring = rows, time.time() + 60
        newest = max(path for path in (self.folder / "snapshots").glob("*") if path.name.isdigit())
        saved = json.loads((newest / "dynamodb.json").read_text())
        for table in saved["payload"]["tables"]["data"].values():
            if table["TableName"] in names.values():
                is_events = table["TableName"] == names["EventsTable"]
                for number in range(rows):
                    pk, sk, item = self._item(number, is_events=is_events)
                    table["items"].setdefault(pk, {})[sk] = item
                table["ItemCount"] += rows
        (newest / "dynamodb.json").write_text(json.dumps(saved))
        EMULATOR.up(self.folder, owner=os.getpid())
        self.env = environment("local")
        return {"rows": {name: self._count(name) for name in TABLES}}

    def _item(self, number: int, *, is_events: bool) -> tuple[str, str, dict[str, Any]]:
        """A row of about the size that ingest writes, which expires in its turn."""
        expires = {"expires_at": {"N": str(int(self.expiring + number / EXPIRE_RATE))}}
        if is_events:
            pk, sk = f"ENTITY#seed-{number % 500}", f"TS#{number:012d}"
            return pk, sk, {"PK": {"S": pk}, "SK": {"S": sk}, **expires, "x": {"S": "x" * 500}}
        pk = f"{number:064d}"
        return pk, "__no_sort__", {"event_id": {"S": pk}, **expires, "x": {"S": "x" * 450}}

    def _count(self, output: str) -> int:
        name = self.env.outputs()[output]
        return int(self.env.client("dynamodb").describe_table(TableName=name)["Table"]["ItemCount"])

    def round(self, number: int, copies: int) -> dict[str, Any]:
        """Roll back from a processor at work, once, while rows expire; return what was seen."""
        switch = _imported("switch", "pik.aws.event_source_mapping", "pik.rollout.mapping")
        deploy = _imported("deploy", "pik.rollout.deploy.deploy", "pik.rollout.deploy")

        deploy(self.env, "processor")
        switch(self.env, self.env.outputs(), on=False)
        sent = self._fill(f"bench-{number}", copies)
        switch(self.env, self.env.outputs(), on=True)
        time.sleep(1.0)  # it is in the middle of its work
        with self._expiry() as expired:
            # The interpreter keeps what it compiled, as on anybody's machine.
            shell = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            command = [PIK, "rollback", "--env", self.env.name, "--json"]
            began = time.time()
            done = subprocess.run(command, capture_output=True, text=True, env=shell, check=False)
            seconds = time.time() - began
        times, kept = self._counted(began), self._waiting()
        if not times or not kept:
            raise RuntimeError(f"not at work: {len(times)} counted, {kept} left of {sent}; {done.stderr[-1500:]}")
        return {
            "last_message": round(max(times) - began, 2),
            "done": round(seconds, 2),
            "counted": len(times),
            "kept": kept,
            "expired": expired[0],
            "exit": done.returncode,
            "said": done.stderr.strip().splitlines()[-1:],
        }

    @contextmanager
    def _expiry(self) -> Iterator[list[int]]:
        """Delete rows as soon as they have expired, as TTL does in the background, for as long as a block lasts."""
        stop, deleted = threading.Event(), [0]
        client, outputs = self.env.client("dynamodb"), self.env.outputs()

        def sweep() -> None:
            number = max(0, int((time.time() - self.expiring) * EXPIRE_RATE))
            while not stop.wait(0.5):
                due = min(self.rows, int((time.time() - self.expiring) * EXPIRE_RATE))
                while number + BATCH <= due:
                    for table in TABLES:
                        items = [
                            self._item(n, is_events=table == "EventsTable")[2] for n in range(number, number + BATCH)
                        ]
                        keys = [{k: v for k, v in one.items() if k in ("PK", "SK", "event_id")} for one in items]
                        requests = [{"DeleteRequest": {"Key": key}} for key in keys]
                        client.batch_write_item(RequestItems={outputs[table]: requests})
                    number, deleted[0] = number + BATCH, deleted[0] + 2 * BATCH

        thread = threading.Thread(target=sweep)
        thread.start()
        try:
            yield deleted
        finally:
            stop.set()
            thread.join()

    def ingest(self, entity: str, events: int) -> dict[str, Any]:
        """Send events of one entity and day, as a producer does."""
        from pik import producer

        path = self.folder / f"{entity}.jsonl"
        lines = (
            {
                "source": "bench",
                "event_type": "measured",
                "entity_id": entity,
                "event_time": f"2025-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z",
                "payload": {"value": number},
            }
            for number in range(events)
        )
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        if not producer.send(producer.load(str(path)), self.env).safe:
            raise RuntimeError("the events were not taken: there is nothing to measure")
        return {}

    def drain(self, entity: str, replay: str, patience: float) -> dict[str, Any]:
        """Have the processor count a replay of all events of one entity; return what was seen."""
        switch = _imported("switch", "pik.aws.event_source_mapping", "pik.rollout.mapping")
        switch(self.env, self.env.outputs(), on=False)
        sent = self._send(self._messages(entity, replay))
        began = time.time()
        switch(self.env, self.env.outputs(), on=True)
        while time.time() - began < patience:
            time.sleep(1.0)
            dead = self._waiting("DeadLetterQueueUrl")
            times = self._counted(began)
            if len(times) + dead >= sent:
                break
        return {"sent": sent, "counted": len(times), "dead": dead, "seconds": round(max(times) - began, 2)}

    def _messages(self, entity: str, replay: str) -> list[str]:
        from pik import events
        from pik.pipeline import queue, rows
        from pik.pipeline.aws import from_item

        outputs = self.env.outputs()
        pages = (
            self.env.client("dynamodb")
            .get_paginator("query")
            .paginate(
                TableName=outputs["EventsTable"],
                KeyConditionExpression="PK = :pk",
                ExpressionAttributeValues={":pk": {"S": events.entity_pk(entity)}},
            )
        )
        expand = getattr(rows, "expand", lambda row: row)
        found = [expand(from_item(item)) for page in pages for item in page["Items"]]
        about = {"replay_id": replay, "entity_id": entity, "bucket": outputs["RawBucket"]}
        return [queue.dumps(queue.message(row, **about)) for row in found]

    def _send(self, bodies: list[str]) -> int:
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])]
            self.env.client("sqs").send_message_batch(QueueUrl=self.env.outputs()["QueueUrl"], Entries=entries)
        return len(bodies)

    def _fill(self, replay: str, copies: int) -> int:
        """Put the day's events into the queue, ``copies`` times, each time as another replay; return the number."""
        from pik.pipeline import queue

        reader = _imported(("StoreReader", "Stores"), "pik.aws.reading", "pik.rollout.reading")
        busiest = _imported("busiest", "pik.rollout.checks.replaying", "pik.rollout.replaying")

        stores, bodies = reader(self.env), list[str]()
        for selection in busiest(stores, 1000):
            ids = {"entity_id": selection.entity_id, "bucket": stores.outputs["RawBucket"]}
            bodies += [
                queue.dumps(queue.message(row, replay_id=f"{replay}-{copy}", **ids))
                for row in selection.rows
                for copy in range(copies)
            ]
        return self._send(bodies)

    def _counted(self, since: float) -> list[float]:
        """When each message was counted that was counted since a moment (seconds since 1970)."""
        from pik.events import parse_time

        scan = self.env.client("dynamodb").get_paginator("scan")
        pages = scan.paginate(TableName=self.env.outputs()["AggregatesTable"], ConsistentRead=True)
        items = (item for page in pages for item in page["Items"] if "counted" in item)
        return [moment for item in items if (moment := parse_time(item["counted"]["S"]).timestamp()) >= since]

    def _waiting(self, output: str = "QueueUrl") -> int:
        name = "ApproximateNumberOfMessages"
        url = self.env.outputs()[output]
        found = self.env.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        return int(found["Attributes"][name])


def main() -> None:
    """Do what each line says until there is none."""
    with tempfile.TemporaryDirectory(prefix="pik-bench-") as folder:
        os.environ[EMULATOR.STATE_VARIABLE] = folder
        worker = Worker(Path(folder))
        try:
            for line in sys.stdin:
                order = json.loads(line)
                with redirect_stdout(sys.stderr):
                    answer = getattr(worker, order.pop("do"))(**order)
                print(json.dumps(answer), flush=True)
        finally:
            EMULATOR.down(folder)


if __name__ == "__main__":
    main()

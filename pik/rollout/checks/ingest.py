"""What must be proven in phase 1 (ingest), with real requests and a look at what is really stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

from pik import clock, events
from pik.aws.exchange import Exchange, tried
from pik.aws.reading import RawObject, StoreReader
from pik.environments import Environment
from pik.results import Check, words
from pik.rollout.checks import common
from pik.rollout.checks.probe import Probe, all_answered, answering, until_answered
from pik.rollout.checks.verdicts import ask, check, every, missing


class IngestChecks:
    """Sends one probe's requests when made, then answers one question after the other about them.

    >>> IngestChecks(environment("local")).all()                      # doctest: +SKIP
    """

    def __init__(self, environment: Environment, patience: float = 60.0) -> None:
        self.environment = environment
        self.stores = StoreReader(environment)
        self.patience = patience
        self.since = clock.now(environment) - timedelta(seconds=2)
        answering(environment, self.stores.outputs["IngestUrl"], Probe().body(1))
        until_answered(self._ask)

    def _ask(self) -> Iterable[Exchange]:
        """Send every request, about a new probe."""
        self.probe = Probe()
        first = self.probe.body(1)
        self.unsigned = self._send(first, sign=False)
        self.dry = self._send(first, dry_run=True)
        self.traces = self._traces()
        self.first = self._send(first)
        self.raw_before = self._raw(self.first)
        self.row_before = self._first_row()
        self.again = self._send(first)
        key = f"key-{self.probe.id}"
        self.original = self._send(self.probe.body(2, key))
        self.conflict = self._send(self.probe.body(3, key))
        self.rejected = self._send(self.probe.broken())
        return self.exchanges.values()

    @property
    def exchanges(self) -> dict[str, Exchange]:
        """Every request that was sent, by what it was for."""
        return {
            "unsigned": self.unsigned,
            "dry run": self.dry,
            "first": self.first,
            "the same again": self.again,
            "with an idempotency key": self.original,
            "same key, other payload": self.conflict,
            "not an event": self.rejected,
        }

    def all(self) -> tuple[Check, ...]:
        """Answer every question of the phase."""
        return ask(self.questions(), self.environment.name)

    def questions(self) -> dict[str, Callable[[], Check]]:
        """Return every question of the phase by its name."""
        return {
            "API answers": self.api_answers,
            "dry run writes nothing": self.dry_run,
            "raw bytes stored are the bytes sent": self.raw_bytes,
            "metadata, dedupe row and raw object agree": self.rows_agree,
            "duplicates are detected": self.duplicates,
            "a conflict keeps both payloads": self.conflicts,
            "a rejected body is kept": self.rejections,
            "logs exist": self.logs,
            "metrics arrive": self.metrics,
            **common.questions(self.stores, self.patience),
        }

    def api_answers(self) -> Check:
        """A signed request is answered, an unsigned one is not let in."""
        up = all_answered(asked for asked in self.exchanges.values() if asked is not self.unsigned)
        seen = {
            "signed": self.first.status == 200 if self.first.answered else up,
            "unsigned": self.unsigned.status == 403 if self.unsigned.answered else None,
        }
        return check(
            "API answers",
            every(seen),
            yes="signed requests are answered, unsigned ones are refused",
            no=f"not as it must be: {missing(seen)}",
            unknown=self._why_unknown(self.first, self.unsigned),
            evidence={
                "POST": self.stores.outputs["IngestUrl"],
                "signed": self.first.summary,
                "unsigned": self.unsigned.summary,
            },
        )

    def dry_run(self) -> Check:
        """A dry run answers as the real thing would, and leaves no trace in any store."""
        seen = {
            "answered 200": self.dry.status == 200,
            "says dry_run": self.dry["dry_run"] is True,
            "no row": not self.traces["rows"],
            "no dedupe row": not self.traces["dedupe"],
            "no raw object": not self.traces["raw"],
        }
        return check(
            "dry run writes nothing",
            self._judged(every(seen), self.dry),
            yes="the dry run was answered and is in no store",
            no=f"not as it must be: {missing(seen)}",
            unknown=self._why_unknown(self.dry),
            evidence={"answer": f"{self.dry.summary} dry run: {words(self.dry['dry_run'])}", "found": self.traces},
        )

    def raw_bytes(self) -> Check:
        """What is stored is what was sent, byte for byte."""
        raw = self.raw_before
        return check(
            "raw bytes stored are the bytes sent",
            self._judged(self._same(raw, self.first.sent), self.first, unless_dry=True),
            yes=f"{len(self.first.sent)} bytes, odd white space and accents included, are stored as they were sent",
            no="the raw object is missing or differs from what was sent",
            unknown=self._why_unknown(self.first),
            evidence={
                "sent": self.first.sent,
                "object": self.first["s3_key"],
                "stored": raw.body if raw else "nothing",
            },
        )

    def rows_agree(self) -> Check:
        """The metadata row and the dedupe row point at the raw object and carry its identity."""
        row, dedupe, raw = self.row_before, self.stores.dedupe(str(self.first["event_id"])), self.raw_before
        seen = {"metadata row": row is not None, "dedupe row": dedupe is not None, "raw object": raw is not None}
        if row and dedupe and raw:
            identity = (raw.event().event_id, raw.event().payload_sha256, raw.key)
            seen["metadata row"] = (row["event_id"], row["payload_sha256"], row["s3_key"]) == identity
            seen["dedupe row"] = (dedupe["event_id"], dedupe["payload_sha256"], dedupe["s3_key"]) == identity
            seen["dedupe row -> metadata row"] = (dedupe["pk"], dedupe["sk"]) == (row["PK"], row["SK"])
        return check(
            "metadata, dedupe row and raw object agree",
            self._judged(every(seen), self.first, unless_dry=True),
            yes="all three name the same event, hash and key",
            no=f"missing or different: {missing(seen)}",
            unknown=self._why_unknown(self.first),
            evidence={"event_id": self.first["event_id"], "row": row and row["SK"], "key": raw and raw.key},
        )

    def duplicates(self) -> Check:
        """The same event again is a duplicate with a row of its own; the first row and the object stay as they were."""
        rows = [row for row in self._rows() if row["event_id"] == self.first["event_id"]]
        seen = {
            "ACCEPTED first": self.first["status"] == events.ACCEPTED,
            "DUPLICATE then": self.again["status"] == events.DUPLICATE,
            "same event id": self.first["event_id"] == self.again["event_id"],
            "first row unchanged": self.row_before is not None and self.row_before in rows,
            "raw object unchanged": self.raw_before is not None and self._raw(self.first) == self.raw_before,
            "a row of its own": [row["status"] for row in rows] == [events.ACCEPTED, events.DUPLICATE],
        }
        return check(
            "duplicates are detected",
            self._judged(every(seen), self.first, self.again, unless_dry=True),
            yes="the first row and the raw object are unchanged, the second arrival has a row of its own",
            no=f"not as it must be: {missing(seen)}",
            unknown=self._why_unknown(self.first, self.again),
            evidence={
                "answers": f"{self.first.summary}, then {self.again.summary}",
                "rows": [f"{row['status']} {row['ingest_time']}" for row in rows],
            },
        )

    def conflicts(self) -> Check:
        """The same idempotency key with another payload is refused, and both payloads are kept."""
        both = [(self.original, self._raw(self.original)), (self.conflict, self._raw(self.conflict))]
        seen = {
            "first accepted": self.original["status"] == events.ACCEPTED,
            "second 409": (self.conflict.status, self.conflict["status"]) == (409, events.CONFLICT),
            "both kept": all(self._same(raw, sent.sent) for sent, raw in both),
        }
        return check(
            "a conflict keeps both payloads",
            self._judged(every(seen), self.original, self.conflict, unless_dry=True),
            yes="the second payload is answered 409, and both are stored byte for byte",
            no=f"not as it must be: {missing(seen)}",
            unknown=self._why_unknown(self.original, self.conflict),
            evidence={
                "answers": f"{self.original.summary}, then {self.conflict.summary}",
                "objects": [raw.key if raw else None for _, raw in both],
            },
        )

    def rejections(self) -> Check:
        """What is not an event is refused with a reason, and can be found again by the id in the answer."""
        identifier = self.rejected["rejected_id"]
        raw = self.stores.raw(events.rejected_key(identifier)) if identifier else None
        seen = {
            "400 REJECTED": (self.rejected.status, self.rejected["status"]) == (400, events.REJECTED),
            "found by its id": raw is not None,
            "same bytes": self._same(raw, self.rejected.sent),
            "with the reason": bool(raw and raw.metadata.get("reason")),
        }
        return check(
            "a rejected body is kept",
            self._judged(every(seen), self.rejected, unless_dry=True),
            yes="refused with a reason, and found again by the id in the answer, byte for byte",
            no=f"not as it must be: {missing(seen)}",
            unknown=self._why_unknown(self.rejected),
            evidence={
                "sent": self.rejected.sent,
                "answer": f"{self.rejected.summary}: {self.rejected['error']}",
                "object": raw.key if raw else None,
                "kept reason": raw.metadata.get("reason") if raw else None,
            },
        )

    def logs(self) -> Check:
        """The probe's request id is in the log group."""
        wanted = str(self.first["request_id"] or "")
        return common.logs(self.stores, "IngestLogGroup", wanted, self.since, self.patience)

    def metrics(self) -> Check:
        """The pipeline's own metrics count the probe that is no event."""
        return common.metrics(self.stores, "Rejected", "ingest", self.patience)

    def _send(self, body: bytes, *, dry_run: bool = False, sign: bool = True) -> Exchange:
        return tried(self.environment, self.stores.outputs["IngestUrl"], body, dry_run=dry_run, sign=sign)

    def _raw(self, sent: Exchange) -> RawObject | None:
        return self.stores.raw(str(sent["s3_key"])) if sent["s3_key"] else None

    def _rows(self) -> list[dict[str, object]]:
        return self.stores.arrivals(self.probe.entity_id)

    def _first_row(self) -> dict[str, object] | None:
        rows = [row for row in self._rows() if row["event_id"] == self.first["event_id"]]
        return rows[0] if rows else None

    def _traces(self) -> dict[str, object]:
        identity, key = self.dry["event_id"], self.dry["s3_key"]
        return {
            "rows": len(self._rows()),
            "dedupe": self.stores.dedupe(str(identity)) is not None if identity else False,
            "raw": self.stores.raw(str(key)) is not None if key else False,
        }

    @staticmethod
    def _same(raw: RawObject | None, sent: bytes) -> bool:
        return raw is not None and raw.body == sent

    def _judged(self, answer: bool | None, *asked: Exchange, unless_dry: bool = False) -> bool | None:
        """Return an answer, or None when the requests that it goes by were not dealt with, or wrote nothing."""
        if not all(one.answered for one in asked) or (unless_dry and self._dry):
            return None
        return answer

    @property
    def _dry(self) -> bool:
        return self.first["dry_run"] is True

    def _why_unknown(self, *asked: Exchange) -> str:
        silent = [one.summary for one in asked if not one.answered]
        if silent:
            return f"the API answered only with errors that say nothing (429, 5xx or no answer): {', '.join(silent)}"
        return "the environment is deployed with DRY_RUN: nothing is written, so nothing can be proven"

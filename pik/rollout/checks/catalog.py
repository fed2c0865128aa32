"""The checks, defined once: what each asks, in which steps, how patiently, and what to do when it does not pass.

How a check looks is code (:mod:`pik.rollout.checks.ingest` and the like); everything else is here. ``pik checks``
lists them, and docs/checks.md is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pik import phases

INGEST, REPLAY, PROCESSOR = phases.INGEST.name, phases.REPLAY.name, phases.PROCESSOR.name
ROLLBACK = "rollback"
STEPS = (INGEST, REPLAY, PROCESSOR, ROLLBACK)


@dataclass(frozen=True)
class Spec:
    """One check.

    Attributes:
        name: what it is called everywhere; unique.
        question: what it asks, in a sentence.
        steps: the steps of a rollout that ask it.
        remedy: what to do when it does not pass; ``{env}`` is the environment.
        investigate: the runbook that looks into a failure, with its parameters; empty: the remedy says all.
        blocking: whether the gate stays closed unless it passes; an advisory one is only shown.
        patience: seconds that what comes late is waited for on AWS, at the least; ``-p patience`` makes it longer.
    """

    name: str
    question: str
    steps: tuple[str, ...]
    remedy: str
    investigate: str = ""
    blocking: bool = True
    patience: float = 0.0

    def command(self, env: str) -> str:
        """Return the command that looks into a failure in an environment; empty when there is none."""
        if not self.investigate:
            return ""
        runbook, _, more = self.investigate.partition(" ")
        return f"pik run {runbook} --env {env}{' ' + more if more else ''}"


CHECKS = (
    # ------------------------------------------------------------------------------------------------ phase 1: ingest
    Spec(
        "every event sent is safe",
        "Was each event that this run sent accepted, or was it stored already?",
        (INGEST,),
        "send the events again: that is safe, and events that were accepted are answered DUPLICATE",
        "conflicting-payloads",
    ),
    Spec(
        "API answers",
        "Is a signed request answered, and an unsigned one refused?",
        (INGEST,),
        "read the ingest log group; 403 for the signed request means that the caller lacks the ProducerPolicy",
    ),
    Spec(
        "dry run writes nothing",
        "Does a dry run give the same answer as a real request, and write nothing into any store?",
        (INGEST,),
        "do not go on: no dry run can be trusted",
    ),
    Spec(
        "raw bytes stored are the bytes sent",
        "Are the raw objects the bytes that were sent?",
        (INGEST,),
        "the API must treat every media type as binary (BinaryMediaTypes */*)",
        "stores-reconciliation",
    ),
    Spec(
        "metadata, dedupe row and raw object agree",
        "Do the metadata, the dedupe row and the raw object name the same event, hash and key?",
        (INGEST,),
        "send the event again: ingest then writes what is missing",
        "stores-reconciliation",
    ),
    Spec(
        "duplicates are detected",
        "Is a repeated event recognized as a duplicate, with its own row, and is the first row unchanged?",
        (INGEST,),
        "do not go on: duplicates would be counted twice, or overwrite the first arrival",
        "duplicate-storm",
    ),
    Spec(
        "a conflict keeps both payloads",
        "Is an event with a known idempotency key and another payload refused, and are both payloads kept?",
        (INGEST,),
        "read the ingest log group for this event id",
        "conflicting-payloads",
    ),
    Spec(
        "a rejected body is kept",
        "Is a body that is no event refused with a reason, and stored under the id that the answer gives?",
        (INGEST,),
        "read the ingest log group for this request id",
    ),
    # ------------------------------------------------------------------------------------------------ phase 2: replay
    Spec(
        "replay API answers",
        "Is every replay request answered, and an unsigned one refused?",
        (REPLAY,),
        "read the replay log group",
    ),
    Spec(
        "replay plan = replay sent = expected",
        "For each replay: do the metadata, the dry run and the sent messages have the same number of events?",
        (REPLAY,),
        "with DRY_RUN deployed, nothing is sent; otherwise read the replay log group",
        "aggregate-drift",
    ),
    Spec(
        "limit and cursor lose nothing",
        "Does a replay in several requests send the same events as a replay in one request?",
        (REPLAY,),
        "do not go on: a long replay would leave events out",
    ),
    Spec(
        "the queue holds what was sent",
        "Did the queue grow by the number of messages sent?",
        (REPLAY,),
        "another consumer reads the queue, or it was purged: list its event source mappings and consumers",
        "queue-and-dlq",
        patience=180,
    ),
    Spec(
        "messages resolve to raw objects",
        "Does each inspected message name a raw object that matches the message?",
        (REPLAY,),
        "do not go on: the processor would move these messages to the dead-letter queue",
        "queue-and-dlq",
    ),
    Spec(
        "every raw object's hash matches",
        "Does every replayed event have a raw object with the bytes and the identity that its metadata states?",
        (REPLAY,),
        "restore the first version of the object; how: docs/template.md, Restore a raw object",
        "stores-reconciliation",
    ),
    Spec(
        "aggregates are predicted",
        "Can the aggregates that phase 3 must write be predicted before it is switched on?",
        (REPLAY,),
        "restore the raw objects that are missing or altered; how: docs/template.md, Restore a raw object",
    ),
    # --------------------------------------------------------------------------------------------- phase 3: processor
    Spec(
        "the queue drains",
        "Is nothing left in the queue?",
        (PROCESSOR,),
        "read the processor's log group; failed messages return to the queue after the visibility timeout",
        "queue-and-dlq",
        patience=300,
    ),
    Spec(
        "aggregates written = predicted",
        "Does each entity, day and replay have exactly the state that was predicted from the raw objects?",
        (PROCESSOR,),
        "pik rollback --env {env}\nthen compare the versions of the aggregates",
        "aggregate-drift",
        patience=120,
    ),
    Spec(
        "every input is counted",
        "For each replay: is every sent event counted, and none twice?",
        (PROCESSOR,),
        "wait for the queue to drain, then run the step again",
        "aggregate-drift",
    ),
    Spec(
        "redelivery changes nothing",
        "Do all sums stay the same when messages are sent again?",
        (PROCESSOR,),
        "events are counted twice:\npik rollback --env {env}",
        "aggregate-drift",
        patience=300,
    ),
    Spec(
        "a poison message reaches the dead-letter queue with its reason",
        "Does a message that can never be processed reach the dead-letter queue with its reason?",
        (PROCESSOR,),
        "read the processor's log group; look into the dead-letter queue, the message may arrive later",
        "queue-and-dlq",
        patience=120,
    ),
    Spec(
        "a processor's dry run predicts the same",
        "Does a dry run of the processor predict the same aggregates, write nothing and consume nothing?",
        (PROCESSOR,),
        "pik rollback --env {env}\ncheck also that the caller has lambda:InvokeFunction on the processor",
    ),
    # ------------------------------------------------------------------------------------------------------- rollback
    Spec(
        "nothing consumes the queue",
        "Is the event source mapping gone?",
        (ROLLBACK,),
        "run the rollback again:\npik rollback --env {env}",
    ),
    Spec(
        "the queue's messages are kept",
        "Is the queue the same one, does nothing read it, and are its messages still there?",
        (ROLLBACK,),
        "replay the window again: raw objects and metadata hold the events, messages only refer to them",
        "queue-and-dlq",
    ),
    Spec(
        "every store is untouched",
        "Is every table, bucket and queue the same one as before, with the sampled items in it?",
        (ROLLBACK,),
        "restore from the buckets' versions and the tables' point-in-time recovery",
        "stores-reconciliation",
    ),
    Spec(
        "aggregates are still readable",
        "Can an aggregate that was written before still be read?",
        (ROLLBACK,),
        "restore from the buckets' versions and the tables' point-in-time recovery",
        "aggregate-drift",
    ),
    Spec(
        "the replay API is as the phase says",
        "Does the replay API answer in phase 2, and is it gone in phase 1?",
        (ROLLBACK,),
        "read the replay log group",
    ),
    # ---------------------------------------------------------------------------------------------- more than one step
    Spec(
        "ingest still answers",
        "Does the ingest API accept events at the address that producers use?",
        (REPLAY, PROCESSOR, ROLLBACK),
        "pik status --env {env}\nthen read the ingest log group",
    ),
    Spec(
        "logs exist",
        "Does the function's log group have a line about the requests of this step?",
        (INGEST, REPLAY, PROCESSOR),
        "CloudWatch may be late: run the step again; if there are still no lines, check the function's LoggingConfig",
        patience=300,
    ),
    Spec(
        "metrics arrive",
        "Do the pipeline's own metrics count the requests of this step?",
        (INGEST, REPLAY, PROCESSOR),
        "CloudWatch may need some minutes: run the step again",
        patience=300,
    ),
    Spec(
        "dead-letter queue is empty",
        "Is no message in the dead-letter queue?",
        (REPLAY, PROCESSOR),
        "do not go on before you know why the messages were moved there",
        "queue-and-dlq",
    ),
    Spec(
        "no alarm",
        "Is no alarm of the stack in state ALARM?",
        (INGEST, REPLAY, PROCESSOR),
        "pik status --env {env}\nthen read the description of the alarm",
        "daily-health",
        patience=240,
    ),
    Spec(
        "permissions are as declared",
        "Does every role and policy of the stack have exactly the statements of the deployed template?",
        (INGEST, REPLAY, PROCESSOR),
        "somebody changed a role or policy by hand: undo that change in IAM (the evidence names the statements; a "
        "deploy of the same template does not undo it), or change the template and deploy it",
    ),
    Spec(
        "only this phase is on",
        "Do exactly the functions, APIs and event source mappings of this phase exist?",
        (INGEST, REPLAY, PROCESSOR, ROLLBACK),
        "if a component runs that does not belong to this phase:\npik rollback --env {env}",
        patience=120,
    ),
)
BY_NAME = {spec.name: spec for spec in CHECKS}


def of_step(step: str) -> tuple[Spec, ...]:
    """Return the checks of one step: a phase's name, or ``rollback``.

    >>> [spec.name for spec in of_step("rollback")][:2]
    ['nothing consumes the queue', "the queue's messages are kept"]
    """
    return tuple(spec for spec in CHECKS if step in spec.steps)

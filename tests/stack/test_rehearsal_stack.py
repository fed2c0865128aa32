"""A whole promotion from nothing to the processor in prod, by what a person would run: runbooks, promote, deploy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pik import config, ledger, producer, runbooks
from pik.aws.queues import queue_counts
from pik.emulator.metrics import extract_metrics
from pik.environments import Environment
from pik.errors import Refused
from pik.ledger import Kind
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.promote import promote
from tests.stack.rehearsal import named

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two(embedded_env: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Environment, ...]]:
    """Staging and prod, each in an account and a region of its own."""
    file = tmp_path_factory.mktemp("config") / "pik.toml"
    file.write_text(
        '[environments.staging]\nplatform = "embedded"\naccount = "111122223333"\n\n'
        '[environments.prod]\nplatform = "embedded"\naccount = "444455556666"\nregion = "eu-west-1"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(config.CONFIG_VARIABLE, str(file))
        yield named("staging"), named("prod")


def proven(env: Environment, phase: str, runs: Path) -> None:
    """Run the phase's verification, as a person would, and see that it passed and is in the ledger."""
    few = {"entities": 5} if phase == "replay" else {}
    run = runbooks.run(f"verify-{phase}", env.name, few, runs_dir=runs)
    checks = [check for step in run.steps if step.result for check in step.result.checks]
    missing = [check.sentence for check in checks if check.verdict != "passed"]
    assert (run.verdict, missing) == ("passed", [])
    entry = ledger.read(env).entries[-1]
    assert (entry.kind, entry.phase, entry.verdict) == (Kind.VERIFICATION, phase, "passed")
    assert [link.name for link in entry.links if link.name.endswith(f"{phase}.ipynb")]


def test_from_nothing_to_the_processor_in_prod(two: tuple[Environment, ...], tmp_path: Path) -> None:
    staging, prod = two
    with pytest.raises(Refused):
        deploy(prod, "ingest")
    for env in (staging, prod):
        deploy(env, "ingest")
        assert producer.send(list(producer.load("flights:2013-01-01"))[:60], env).safe
        proven(env, "ingest", tmp_path)
    for phase in ("replay", "processor"):
        with pytest.raises(Refused, match="was never verified"):
            promote(prod, phase)
        for env in (staging, prod):
            assert promote(env, phase).changed
            proven(env, phase, tmp_path)
    for env in (staging, prod):
        assert ledger.verify(env) == ()
        assert [e.phase for e in ledger.read(env).select(kind=Kind.PROMOTION)] == ["replay"] * 2 + ["processor"] * 2


def test_alarms_and_queues_are_watched_in_every_account(two: tuple[Environment, ...]) -> None:
    for env in two:
        url = env.outputs()["DeadLetterQueueUrl"]
        env.client("sqs").send_message(QueueUrl=url, MessageBody="poison")
        assert queue_counts(env, url)["ApproximateNumberOfMessages"] == 1
        extract_metrics(env)
        alarms = env.client("cloudwatch").describe_alarms(StateValue="ALARM")["MetricAlarms"]
        assert [alarm["MetricName"] for alarm in alarms] == ["ApproximateNumberOfMessagesVisible"]
        env.client("sqs").purge_queue(QueueUrl=url)

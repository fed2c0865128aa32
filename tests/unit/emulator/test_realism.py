"""The realism mode's settings, its chance and its counting; the clock's skew."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pik import emulator, errors
from pik.cli.local import describe_realism
from pik.cli.local import local as commands
from pik.emulator import realism
from pik.emulator.realism import HABITS, RealismSettings, limits
from pik.emulator.realism.dice import Bursts, Dice
from pik.emulator.starting import launch_environment
from pik.emulator.supervisor import requested_realism
from tests.unit.emulator.rig import FORM, Rig


def test_settings_are_one_line() -> None:
    settings = RealismSettings.parse("7 compress=10 without=throttling,lost-answers fail-resource=3")

    assert settings == RealismSettings(7, 10, frozenset({"throttling", "lost-answers"}), 3)
    assert RealismSettings.parse(settings.text) == settings
    assert settings.seconds(60) == 6


@pytest.mark.parametrize("text", ["x", "1 without=lost-answer", "1 compress=0.5", "1 faster=2", "1 fail-resource=-1"])
def test_settings_that_mean_nothing_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no such|invalid|compress|takes|counts"):
        RealismSettings.parse(text)
    monkeypatch.setenv(realism.VARIABLE, text)
    with pytest.raises(errors.UsageError, match=realism.VARIABLE):
        requested_realism()


@pytest.mark.parametrize("words", [["--compress", "10"], ["--realism", "1", "--without", "rain"]])
def test_the_command_line_refuses_them_as_well(words: list[str]) -> None:
    result = CliRunner().invoke(commands, ["up", *words])

    assert isinstance(result.exception, errors.UsageError)


def test_off_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(realism.VARIABLE, raising=False)

    assert requested_realism() is None
    plain = launch_environment(tmp_path, "nonce", 0)
    assert not {realism.VARIABLE, realism.SKEW_VARIABLE, "PYTHONPATH", "LAMBDA_ACCOUNT_CONCURRENCY"} & plain.keys()


def test_the_emulator_is_told(tmp_path: Path) -> None:
    told = launch_environment(tmp_path, "nonce", 0, realism=RealismSettings(7))

    assert told[realism.VARIABLE] == "7"
    assert told["LAMBDA_ACCOUNT_CONCURRENCY"] == str(limits.CONCURRENCY)
    assert Path(told["PYTHONPATH"], "sitecustomize.py").is_file()
    calm = launch_environment(tmp_path, "nonce", 0, realism=RealismSettings(7, without=frozenset(HABITS)))
    assert not {"PYTHONPATH", "LAMBDA_ACCOUNT_CONCURRENCY"} & calm.keys()


def test_the_same_seed_and_requests_meet_the_same_habits() -> None:
    def run(seed: int) -> list[int]:
        rig = Rig(*HABITS, seed=seed)
        answers = [rig.target("DynamoDB_20120810.PutItem", TableName="events", Item={}) for _ in range(400)]
        return [answer.status if answer else 0 for answer in answers]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert set(run(1)) > {200}


@pytest.mark.parametrize("habit", sorted(HABITS))
def test_each_habit_can_be_left_out_alone(habit: str) -> None:
    rig = Rig(*(set(HABITS) - {habit}))
    for _ in range(300):
        rig.target("DynamoDB_20120810.TransactWriteItems", TransactItems=[{"Put": {}}])
        rig.target("AmazonSQS.SendMessageBatch", Entries=[{"Id": "1"}])
        rig.signed("s3", "PUT", "/bucket/key")
        rig.signed("cloudformation", "POST", "/", b"Action=DescribeStacks", **FORM)

    assert habit not in rig.struck
    assert rig.struck


def test_a_burst_goes_on_for_up_to_three_seconds() -> None:
    now = 0.0
    bursts, lengths, began = Bursts(Dice(3), "throttling", 0.01, lambda: now), [0.0], -1.0
    for _ in range(300_000):
        now += 0.01
        struck = bursts.strike("sqs.SendMessage")
        if struck and began < 0:
            began = now
        if not struck and began >= 0:
            lengths.append(now - began)
            began = -1.0

    assert 2 < max(lengths) < 6  # two may follow each other
    assert sorted(lengths)[len(lengths) // 2] < 0.1  # most strikes are of one call


def test_what_struck_is_told() -> None:
    assert describe_realism(None) == []
    lines = describe_realism({"settings": "7", "skew_seconds": -31.5, "struck": {"throttling": 1234}})
    assert "throttling 1,234" in lines[0]
    assert "-32 s" in lines[1]


def test_the_skew_is_between_a_third_and_the_whole_of_a_minute_either_way() -> None:
    skews = [RealismSettings(seed).skew for seed in range(100)]

    assert all(20 <= abs(skew) <= 60 for skew in skews)
    assert {skew > 0 for skew in skews} == {True, False}


def test_a_functions_clock_is_the_one_of_aws(tmp_path: Path) -> None:
    code = """
import datetime, json, pickle, time
from datetime import datetime as kind, timezone
now = kind.now(timezone.utc)
assert isinstance(now, kind) and isinstance(kind(2020, 1, 1), kind) and not isinstance(1, kind)
assert pickle.loads(pickle.dumps(now)) == now and kind.fromisoformat(now.isoformat()) == now
print(json.dumps([time.time(), time.time_ns() / 1e9, now.timestamp(), kind.now().timestamp(),
                  kind.utcnow().replace(tzinfo=timezone.utc).timestamp(), time.monotonic()]))
"""
    environment = launch_environment(tmp_path, "nonce", 0, realism=RealismSettings(7))
    began = datetime.now(UTC).timestamp()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    *told, _ = json.loads(done.stdout)
    for moment in told:
        assert began - 1 < moment - RealismSettings(7).skew < began + 30


def test_a_request_that_is_nothing_of_aws_passes() -> None:
    rig = Rig(*HABITS)
    for _ in range(500):
        answer = rig.call("GET", "/_ministack/health", {})
        assert answer
        assert answer.status == 200


def test_up_with_other_habits_than_those_that_run_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pik.emulator import supervisor
    from pik.emulator.instance import Instance

    Instance("n", 1, 1, "2026-01-01T00:00:00+00:00", "7").write(tmp_path)
    monkeypatch.setattr(Instance, "alive", True)
    monkeypatch.setattr(supervisor, "answers", lambda instance: True)

    with pytest.raises(errors.Refused, match="seed 7"):
        emulator.up(tmp_path, realism=RealismSettings(8))
    assert emulator.up(tmp_path, realism=RealismSettings(7)).realism == "7"
    assert emulator.up(tmp_path).already_running

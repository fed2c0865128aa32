"""Up, down, crash and back: no process is left, no saved state is lost, no two instances get in each other's way."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from pik import emulator, errors
from pik.emulator import demo
from pik.emulator.instance import is_marked, processes, recorded
from pik.emulator.realism import REGION
from pik.environments import Environment


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    emulator.down(tmp_path / "state")


def reach(info: emulator.Info) -> Environment:
    return Environment("local", REGION, info.endpoint)


def nonce(state: Path) -> str:
    instance = recorded(state)
    assert instance
    return instance.nonce


def until(condition: Callable[[], Any], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def put_something(env: Environment) -> None:
    env.client("s3").create_bucket(Bucket="kept")
    env.client("s3").put_object(Bucket="kept", Key="a/b", Body=b"\xffbytes")
    env.client("dynamodb").create_table(
        TableName="kept",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    env.client("dynamodb").put_item(TableName="kept", Item={"id": {"S": "1"}, "n": {"N": "1.50"}})
    url = env.client("sqs").create_queue(QueueName="kept")["QueueUrl"]
    env.client("sqs").send_message(QueueUrl=url, MessageBody="waiting")


def assert_something(env: Environment) -> None:
    assert env.client("s3").get_object(Bucket="kept", Key="a/b")["Body"].read() == b"\xffbytes"
    item = env.client("dynamodb").get_item(TableName="kept", Key={"id": {"S": "1"}})["Item"]
    assert item == {"id": {"S": "1"}, "n": {"N": "1.5"}} or item["n"] == {"N": "1.50"}
    url = env.client("sqs").get_queue_url(QueueName="kept")["QueueUrl"]
    counts = env.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    assert counts["Attributes"]["ApproximateNumberOfMessages"] == "1"


def sleeping_lambda(env: Environment) -> None:
    """Create a function and leave an invocation of it running that would take a minute."""
    role = env.client("iam").create_role(
        RoleName="sleeper",
        AssumeRolePolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": "lambda.amazonaws.com"},
                        "Action": "sts:AssumeRole",
                    }
                ],
            }
        ),
    )["Role"]["Arn"]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("sleeper.py", "import time\ndef handler(event, context):\n    time.sleep(event)\n    return 1\n")
    client = env.client("lambda", retries={"max_attempts": 0})
    client.create_function(
        FunctionName="sleeper",
        Runtime="python3.13",
        Handler="sleeper.handler",
        Role=role,
        Code={"ZipFile": archive.getvalue()},
        Timeout=90,
    )
    client.invoke(FunctionName="sleeper", Payload=b"0")

    def invoke() -> None:
        try:
            client.invoke(FunctionName="sleeper", Payload=b"60")
        except (BotoCoreError, ClientError):
            return

    threading.Thread(target=invoke, daemon=True).start()
    time.sleep(0.3)


def test_up_then_down_leaves_no_process_and_keeps_the_state(state: Path) -> None:
    info = emulator.up(state)
    assert not info.already_running
    assert emulator.running_endpoint(state) == info.endpoint
    put_something(reach(info))
    mark = nonce(state)

    assert emulator.down(state) is True

    assert processes(mark) == []
    assert not (state / "tmp").exists()
    with pytest.raises(errors.AwsError, match="not running"):
        emulator.running_endpoint(state)
    again = emulator.up(state)
    assert again.note == ""
    assert again.port == info.port
    assert_something(reach(again))


def test_up_twice_is_one_instance(state: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        infos = list(pool.map(lambda _: emulator.up(state), range(4)))

    assert len({info.pid for info in infos}) == 1
    assert sorted(info.already_running for info in infos) == [False, True, True, True]


def test_down_ends_a_lambda_in_the_middle_of_its_work(state: Path) -> None:
    env = reach(emulator.up(state))
    put_something(env)
    sleeping_lambda(env)
    mark = nonce(state)
    assert len(processes(mark)) > 2  # itself, its guard, a worker

    began = time.monotonic()
    emulator.down(state)

    assert processes(mark) == []
    assert time.monotonic() - began < 55  # it did not wait for the invocation
    again = emulator.up(state)
    assert again.note == ""  # it did save
    assert_something(reach(again))


def test_after_a_crash_nothing_outlives_it_and_up_continues_from_the_saved_state(state: Path) -> None:
    info = emulator.up(state)
    put_something(reach(info))
    until(lambda: emulator.status(state).saved)
    sleeping_lambda(reach(info))
    mark = nonce(state)

    os.kill(info.pid, signal.SIGKILL)

    until(lambda: not processes(mark), seconds=5)  # without anybody's help: its guard saw it die
    assert "without being stopped" in emulator.status(state).note
    again = emulator.up(state)
    assert "uncleanly" in again.note
    assert "ahead of the tables" in again.note
    assert_something(reach(again))


def test_up_right_after_a_crash(state: Path) -> None:
    info = emulator.up(state)
    os.kill(info.pid, signal.SIGKILL)

    again = emulator.up(state)

    assert again.pid != info.pid
    reach(again).client("sts").get_caller_identity()


def test_a_crash_of_the_guard_and_the_launcher_is_cleaned_up_by_the_next_up(state: Path) -> None:
    sleeping_lambda(reach(emulator.up(state)))
    mark = nonce(state)
    first = processes(mark)
    for pid in sorted(first)[:2]:  # launcher and guard together: now only the worker is left
        os.kill(pid, signal.SIGSTOP)
    for pid in sorted(first)[:2]:
        os.kill(pid, signal.SIGKILL)

    emulator.up(state)

    assert not [pid for pid in first if is_marked(pid, mark)]


def test_a_terminate_signal_saves_like_down(state: Path) -> None:
    info = emulator.up(state)
    put_something(reach(info))
    mark = nonce(state)

    os.kill(info.pid, signal.SIGTERM)

    until(lambda: not processes(mark))
    again = emulator.up(state)
    assert again.note == ""
    assert_something(reach(again))


def test_two_checkouts_side_by_side(tmp_path: Path) -> None:
    with emulator.embedded(tmp_path / "one") as one, emulator.embedded(tmp_path / "two") as two:
        reach(one).client("s3").create_bucket(Bucket="only-in-one")

        assert one.port != two.port
        assert reach(two).client("s3").list_buckets()["Buckets"] == []


def test_a_taken_port_is_avoided(tmp_path: Path, state: Path) -> None:
    with emulator.embedded(tmp_path / "other") as other:
        state.mkdir()
        (state / "port").write_text(str(other.port))

        assert emulator.up(state).port != other.port


def test_it_ends_when_its_state_directory_is_deleted(state: Path) -> None:
    emulator.up(state)
    mark = nonce(state)

    shutil.rmtree(state)

    until(lambda: not processes(mark))
    assert not state.exists()


def test_reset_leaves_nothing_behind(state: Path) -> None:
    put_something(reach(emulator.up(state)))
    mark = nonce(state)

    assert emulator.reset(state) > 0

    assert processes(mark) == []
    fresh = reach(emulator.up(state))
    assert fresh.client("s3").list_buckets()["Buckets"] == []
    assert fresh.client("dynamodb").list_tables()["TableNames"] == []


def test_embedded_stops_whatever_ends_the_block(state: Path) -> None:
    marks = []

    def interrupted() -> None:
        with emulator.embedded(state):
            marks.append(nonce(state))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert processes(marks[0]) == []


def test_what_somebody_did_in_what_a_demo_left_opens_where_the_next_demo_put_it(state: Path) -> None:
    demo.begin(state, owner=os.getpid())
    emulator.down(state)
    put_something(reach(emulator.up(state)))
    with pytest.raises(errors.Refused, match="runs in"):
        demo.begin(state, owner=os.getpid())
    emulator.down(state)

    begun = demo.begin(state, owner=os.getpid())

    assert reach(begun.info).client("s3").list_buckets()["Buckets"] == []
    assert begun.kept
    with emulator.embedded(begun.kept) as opened:
        assert_something(reach(opened))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_leaves_nothing_broken(state: Path, number: signal.Signals) -> None:
    """However far it got: either an instance is recorded and serves, or nothing is left of it."""
    for delay in (0.05, 0.2, 0.35, 0.5):
        script = f"from pik import emulator as local; local.up({str(state)!r})"
        with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as starting:
            time.sleep(delay)
            starting.send_signal(number)
        instance = recorded(state)
        if instance is None:
            until(lambda: not _processes_of(state))
        info = emulator.up(state)
        reach(info).client("sts").get_caller_identity()
        emulator.down(state)
        assert _processes_of(state) == []


def _processes_of(state: Path) -> list[int]:
    """Ids of every process that was started for a state directory, whichever instance it was of."""
    import psutil

    found = []
    for pid in psutil.pids():
        try:
            if psutil.Process(pid).environ().get(emulator.STATE_VARIABLE) == str(state):
                found.append(pid)
        except psutil.Error:
            continue
    return found


def test_nothing_is_left_in_the_systems_temporary_directory(state: Path) -> None:
    sleeping_lambda(reach(emulator.up(state)))

    ours = {path.name for path in Path("/tmp").glob("ministack*")}  # noqa: S108

    assert str(emulator.up(state).port) not in " ".join(ours)
    assert list((state / "tmp").glob("ministack-lambda-sleeper-*"))


def test_what_ran_for_one_process_ends_with_it_even_when_that_is_killed(state: Path) -> None:
    code = "import sys, time; from pik import emulator as local\n"
    code += "with local.embedded(sys.argv[1]): print('up', flush=True); time.sleep(60)"
    owner = subprocess.Popen([sys.executable, "-c", code, str(state)], stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout
        assert owner.stdout.readline() == "up\n"
        mark = nonce(state)
        assert processes(mark)
        owner.kill()
    until(lambda: not processes(mark))
    assert recorded(state) is None, "it ended cleanly: the record is gone"

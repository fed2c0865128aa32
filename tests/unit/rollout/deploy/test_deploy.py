from __future__ import annotations

import dataclasses
import json
import os
import shlex
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pik import clock, phases, project
from pik.aws import event_source_mapping, stack
from pik.aws.stack import Follower, Stack, StackEvent
from pik.config import LONGEST_STACK, EnvironmentConfig
from pik.environments import Environment
from pik.errors import AwsError, Refused, UsageError
from pik.rollout.deploy.deploy import _deploy_sources, _failure, _protect
from pik.rollout.plan import sam
from pik.rollout.plan.preconditions import refuse_unless_forward, wanted
from tests.unit.plan_world import DOCUMENT, a_plan

LOCAL = Environment("local", region="us-east-1", endpoint="http://127.0.0.1:1")
PROD = Environment("prod", region="eu-west-1", config=EnvironmentConfig(protection="protected", after="staging"))


def a_stack(phase: phases.Phase, status: str = "UPDATE_COMPLETE", **parameters: str) -> Stack:
    return Stack("pik-x", status, "", datetime.now(UTC), {**phase.parameters, **parameters})


@pytest.mark.parametrize("target", [phases.INGEST, phases.REPLAY])
def test_a_step_back_is_refused_and_names_the_rollback(target: phases.Phase) -> None:
    with pytest.raises(Refused) as refusal:
        refuse_unless_forward(PROD, target, a_stack(phases.PROCESSOR))
    assert refusal.value.next_step == f"pik rollback --env prod --to {target.name}"


def test_a_phase_is_skipped_only_where_that_is_harmless() -> None:
    refuse_unless_forward(LOCAL, phases.PROCESSOR, None)
    with pytest.raises(Refused) as refusal:
        refuse_unless_forward(PROD, phases.REPLAY, None)
    assert refusal.value.next_step == "pik deploy --env prod --phase ingest"
    with pytest.raises(Refused) as refusal:
        refuse_unless_forward(PROD, phases.PROCESSOR, a_stack(phases.INGEST))
    assert refusal.value.next_step == "pik promote --env prod --to replay"


@pytest.mark.parametrize("target", [phases.REPLAY, phases.PROCESSOR])
def test_the_same_and_the_next_phase_are_allowed_where_it_is_open(target: phases.Phase) -> None:
    refuse_unless_forward(LOCAL, target, a_stack(phases.REPLAY))


def test_elsewhere_the_same_phase_is_deployed_and_the_next_one_promoted() -> None:
    refuse_unless_forward(PROD, phases.INGEST, None)
    refuse_unless_forward(PROD, phases.REPLAY, a_stack(phases.REPLAY))
    with pytest.raises(Refused) as refusal:
        refuse_unless_forward(PROD, phases.PROCESSOR, a_stack(phases.REPLAY))
    assert refusal.value.next_step == "pik promote --env prod --to processor"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("UPDATE_IN_PROGRESS", "wait"),
        ("ROLLBACK_COMPLETE", "delete-stack"),
        ("CREATE_FAILED", "delete-stack"),
        ("UPDATE_ROLLBACK_FAILED", "pik rollback --env prod"),
        ("UPDATE_FAILED", "pik rollback --env prod"),  # to delete it would take the APIs and their addresses away
        ("IMPORT_ROLLBACK_FAILED", "describe-stack-events"),
    ],
)
def test_a_stack_that_cannot_be_updated_is_refused_with_the_way_out(status: str, says: str) -> None:
    with pytest.raises(Refused) as refusal:
        refuse_unless_forward(PROD, phases.REPLAY, a_stack(phases.INGEST, status))
    assert says in refusal.value.next_step


@pytest.mark.parametrize("status", ["IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"])
def test_a_stack_into_which_resources_were_imported_can_be_updated(status: str) -> None:
    refuse_unless_forward(LOCAL, phases.REPLAY, a_stack(phases.INGEST, status))


def test_a_first_deploy_refuses_a_stack_name_that_would_be_cut() -> None:
    longest = max((name for name in DOCUMENT["Resources"] if name.endswith(("Function", "Role"))), key=len)
    assert 64 - len(f"-{longest}-") - 12 == LONGEST_STACK
    for length in (LONGEST_STACK, LONGEST_STACK + 1):
        env = Environment("dev", region="eu-west-1", config=EnvironmentConfig(stack="s" * length))
        if length == LONGEST_STACK:
            refuse_unless_forward(env, phases.INGEST, None)
            continue
        with pytest.raises(UsageError, match="characters"):
            refuse_unless_forward(env, phases.INGEST, None)
        refuse_unless_forward(env, phases.INGEST, a_stack(phases.INGEST))  # it is there, and has its names


def test_the_toggles_belong_to_the_phase() -> None:
    with pytest.raises(UsageError):
        wanted(LOCAL, phases.INGEST, None, None, {"EnableProcessor": "true"})


def test_only_a_new_stack_gets_the_configured_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam, "configured_parameters", lambda _: {"BatchSize": "7", "EnableReplay": "true"})
    new = wanted(LOCAL, phases.INGEST, None, None, {})
    assert new == {"BatchSize": "7", "EnableReplay": "false", "EnableProcessor": "false", "Environment": "local"}
    assert "BatchSize" not in wanted(LOCAL, phases.INGEST, a_stack(phases.INGEST), None, {})


@pytest.mark.parametrize(("dry_run", "value"), [(True, "true"), (False, "false"), (None, None)])
def test_dry_run_is_kept_unless_asked_for(dry_run: bool | None, value: str | None) -> None:
    assert wanted(LOCAL, phases.INGEST, a_stack(phases.INGEST), dry_run, {}).get("DryRun") == value


def test_every_environment_is_configured_under_its_own_name() -> None:
    for name in ("local", "dev", "staging", "prod"):
        assert sam.configured_parameters(Environment(name, region="eu-west-1"))["Environment"] == name


def test_one_of_the_users_own_needs_no_section_of_samconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default one holds for it, except for what says which environment it is."""
    own, built = Environment("qa", region="eu-west-1"), sam.Build(tmp_path, "d", fresh=True)
    arguments = sam.deploy_arguments(own, built, wanted(own, phases.INGEST, None, None, {}))
    assert arguments[arguments.index("--config-env") + 1] == "default"
    assert arguments[arguments.index("--stack-name") + 1] == "pik-qa"
    assert [one for one in arguments if one.startswith('"pik:environment"')] == ['"pik:environment"="qa"']
    assert 'ParameterKey=Environment,ParameterValue="qa"' in arguments
    file = tmp_path / "samconfig.toml"
    file.write_text(project.SAMCONFIG.read_text() + '[qa.deploy.parameters]\ntags = ["CostCenter=7"]\n')
    monkeypatch.setattr(project, "SAMCONFIG", file)
    assert sam.section(own) == "qa"
    assert sam.configured_tags(own) == {"CostCenter": "7"}
    assert sam.section(Environment("staging", region="eu-west-1")) == "staging"


@pytest.mark.parametrize(("protection", "given"), [("open", "false"), ("guarded", None), ("protected", None)])
def test_only_one_of_the_users_own_to_play_with_has_tables_that_anybody_may_delete(
    protection: Any, given: str | None
) -> None:
    own = Environment("qa", region="eu-west-1", config=EnvironmentConfig(protection=protection, after="dev"))
    assert wanted(own, phases.INGEST, None, None, {}).get("DeletionProtection") == given
    before = a_stack(phases.INGEST, DeletionProtection="false")
    again = wanted(own, phases.INGEST, before, None, {}).get("DeletionProtection")
    assert again == (None if protection == "open" else "true")


def test_sam_is_told_only_what_is_wanted(tmp_path: Path) -> None:
    built = sam.Build(tmp_path, "d", fresh=True)
    arguments = sam.deploy_arguments(PROD, built, {"B": "", "A": 'a "name" with spaces'})
    assert arguments[arguments.index("--config-env") + 1] == "prod"
    assert arguments[arguments.index("--stack-name") + 1] == "pik-prod"
    overrides = arguments[arguments.index("--parameter-overrides") + 1 :]
    assert overrides == [
        'ParameterKey=A,ParameterValue="a \\"name\\" with spaces"',
        'ParameterKey=B,ParameterValue=""',
    ]


@pytest.mark.skipif(not project.SAM.exists(), reason="the SAM CLI is not installed")
@pytest.mark.parametrize("written", ['["CostCenter=4711", "Owner=Data Team"]', "'CostCenter=4711 \"Owner=Data Team\"'"])
def test_a_companys_own_tags_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """Those of samconfig.toml and those that the stack has; CloudFormation's own cannot be set."""
    file = tmp_path / "samconfig.toml"
    file.write_text(f"[prod.deploy.parameters]\ntags = {written}\n")
    monkeypatch.setattr(project, "SAMCONFIG", file)
    there = {"Ticket": "OPS-1 = done", "CostCenter": "old", "aws:cloudformation:stack-name": "x"}
    arguments = sam.deploy_arguments(PROD, sam.Build(tmp_path, "d", fresh=True), {}, there)
    script = (
        "import json, sys; from samcli.cli.types import CfnTags as T;"
        "print(json.dumps(T().convert(tuple(sys.argv[1:]), None, None)))"
    )
    given = arguments[arguments.index("--tags") + 1 : arguments.index("--parameter-overrides")]
    done = subprocess.run(
        [project.SAM.with_name("python"), "-c", script, *given], capture_output=True, text=True, check=True
    )
    own = {"CostCenter": "4711", "Owner": "Data Team", "Ticket": "OPS-1 = done"}
    assert json.loads(done.stdout) == {**own, "pik:environment": "prod"}


@pytest.mark.skipif(not project.SAM.exists(), reason="the SAM CLI is not installed")
def test_sam_reads_every_parameter_as_it_is_meant(tmp_path: Path) -> None:
    meant = {"A": "a topic, with = and spaces", "B": "", "C": 'say "yes"!', "D": "10"}
    arguments = sam.deploy_arguments(PROD, sam.Build(tmp_path, "d", fresh=True), meant)
    script = (
        "import json, sys; from samcli.cli.types import CfnParameterOverridesType as T;"
        "print(json.dumps(T().convert(tuple(sys.argv[1:]), None, None)))"
    )
    overrides = arguments[arguments.index("--parameter-overrides") + 1 :]
    done = subprocess.run(
        [project.SAM.with_name("python"), "-c", script, *overrides], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == meant


def test_the_sources_digest_sees_every_kind_of_source(tmp_path: Path) -> None:
    seen = {sam.sources_digest(tmp_path)}
    for name in (
        "template.yaml",
        "requirements/lambda.lock",
        "pik/events.py",
        "pik/pipeline/deep/new.py",
        "pik/Makefile",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        seen.add(sam.sources_digest(tmp_path))
    (tmp_path / "pik/rollout/deploy").mkdir(parents=True)
    (tmp_path / "pik/rollout/deploy/deploy.py").write_text("not part of the artifact")
    assert sam.sources_digest(tmp_path) in seen
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Building\nError: Template file not found at x\n", "Template file not found at x"),
        ("\x1b[31mError: Failed to create changeset: denied\x1b[0m\n", "Failed to create changeset: denied"),
        ("Build Failed\nError: PythonPipBuilder:None - no\n", "PythonPipBuilder:None - no"),
        ("something odd\nat the end\n", "at the end"),
        ("", "sam said nothing"),
    ],
)
def test_sams_last_error_is_found_in_its_output(tmp_path: Path, said: str, reason: str) -> None:
    log = tmp_path / "log"
    log.write_text(f"$ sam build\nError: of an earlier command\n$ sam deploy\n{said}")
    assert sam.last_error(log) == reason


def test_without_sam_the_next_step_is_make_setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "SAM", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AwsError) as error:
        sam.command()
    assert error.value.next_step == "make setup"


@pytest.fixture
def fake_sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `sam` that says its process id, and who started it with what, and stays."""
    script, code = tmp_path / "sam", tmp_path / "sam.py"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(code))} "$@"\n')
    code.write_text(
        "import os, sys, tempfile, time\n"
        "print(os.getpid(), os.environ['SAM_CLI_TELEMETRY'], os.environ.get('AWS_PROFILE'),"
        " tempfile.mkdtemp(), flush=True)\n"
        "if 'stay' in sys.argv: time.sleep(60)\nsys.exit(3)\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(project, "SAM", script)
    monkeypatch.setattr(project, "STATE", tmp_path / "state")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    return tmp_path / "log"


def test_sam_runs_with_the_environments_own_variables_and_its_output_is_kept(fake_sam: Path) -> None:
    assert sam.run(LOCAL, ["go"], fake_sam) == 3
    first, second = fake_sam.read_text().splitlines()
    assert first == "$ sam go"
    assert second.split()[1:3] == ["0", "None"]


def test_what_sam_leaves_behind_goes_with_it(fake_sam: Path) -> None:
    sam.run(LOCAL, ["go"], fake_sam)
    left = Path(fake_sam.read_text().split()[-1])
    assert left.parent.name.startswith("pik-sam-")
    assert not left.parent.exists()


def test_ctrl_c_leaves_no_sam_behind(fake_sam: Path) -> None:
    def interrupt() -> None:
        if len(fake_sam.read_text().splitlines()) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sam.run(LOCAL, ["stay"], fake_sam, interrupt)
    child = int(fake_sam.read_text().splitlines()[1].split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_sam_that_a_killed_command_left_is_not_joined_by_another(fake_sam: Path) -> None:
    """kill -9 of the command leaves its sam at work: it has the lock until it ends."""
    script = (
        "import sys; from pathlib import Path; from pik import project; from pik.rollout.plan import sam;"
        "from pik.environments import Environment;"
        f"project.SAM = Path({str(project.SAM)!r}); project.STATE = Path({str(project.STATE)!r});"
        f"sam.run(Environment('local', 'us-east-1', 'http://127.0.0.1:1'), ['deploy', 'stay'], Path({str(fake_sam)!r}))"
    )
    fake_sam.touch()
    command = subprocess.Popen([sys.executable, "-c", script])
    while len(fake_sam.read_text().splitlines()) < 2:
        assert command.poll() is None
        time.sleep(0.05)
    command.kill()
    command.wait()
    left = int(fake_sam.read_text().splitlines()[1].split()[0])
    try:
        with pytest.raises(Refused, match="is at work on this computer"):
            sam.run(LOCAL, ["deploy", "go"], fake_sam)
        # The same stack's name on another embedded AWS, as tests and a demo have it, is another stack.
        assert sam.run(dataclasses.replace(LOCAL, endpoint="http://127.0.0.1:2"), ["deploy", "go"], fake_sam) == 3
    finally:
        os.kill(left, 9)
    while True:  # the lock goes with it
        try:
            assert sam.run(LOCAL, ["deploy", "go"], fake_sam) == 3
        except Refused:
            time.sleep(0.05)
        else:
            break


class Protecting:
    """CloudFormation's call that protects a stack."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.asked: list[dict[str, object]] = []

    def update_termination_protection(self, **how: object) -> None:
        self.asked.append(how)
        if self.refuses:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "UpdateTerminationProtection")


@pytest.mark.parametrize(
    ("env", "protected", "asked"), [(PROD, False, True), (PROD, True, False), (LOCAL, False, False)]
)
def test_a_guarded_stack_is_protected_against_deletion(env: Environment, protected: bool, asked: bool) -> None:
    client, said, own = Protecting(), list[str](), dataclasses.replace(env)
    object.__setattr__(own, "client", lambda _: client)
    _protect(own, dataclasses.replace(a_stack(phases.INGEST), protected=protected), said.append)
    assert client.asked == ([{"StackName": "pik-prod", "EnableTerminationProtection": True}] if asked else [])
    assert bool(said) == asked


def test_who_may_not_protect_a_stack_has_deployed_all_the_same() -> None:
    own, said = dataclasses.replace(PROD), list[str]()
    object.__setattr__(own, "client", lambda _: Protecting(refuses=True))
    _protect(own, a_stack(phases.INGEST), said.append)
    assert "not protected against its deletion" in said[0]


def an_event(resource: str, status: str, reason: str = "", seconds: int = 0) -> StackEvent:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return StackEvent(f"{resource}{status}", moment, resource, "AWS::Lambda::Function", status, reason)


def test_the_failure_told_is_the_root_and_not_what_it_dragged_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [
        an_event("Other", "CREATE_FAILED", "Resource creation cancelled"),
        an_event("pik-local", "UPDATE_ROLLBACK_IN_PROGRESS", "The following resource(s) failed"),
        an_event("Root", "CREATE_FAILED", "memory is too small"),
        an_event("Later", "CREATE_FAILED", "also bad", seconds=1),
    ]
    monkeypatch.setattr(stack, "events", lambda *_: told)
    monkeypatch.setattr(clock, "now", lambda _: datetime.now(UTC))
    monkeypatch.setattr(stack, "read", lambda _: a_stack(phases.INGEST, "UPDATE_ROLLBACK_COMPLETE"))
    said: list[str] = []
    follow = Follower(LOCAL, said.append)
    follow()
    follow()
    error = _failure(LOCAL, follow, tmp_path / "log")
    assert "Root" in error.message
    assert error.reason == "memory is too small"
    assert said == ["Root create failed", "Later create failed"]


class Taps:
    """Lambda's two calls about mappings; a change takes a few looks to be done."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.updates: list[bool] = []

    def get_paginator(self, _: str) -> Taps:
        return self

    def paginate(self, **_: str) -> list[dict[str, list[dict[str, str]]]]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return [{"EventSourceMappings": [{"UUID": "u", "State": state, "FunctionArn": "a:f"}]}]

    def update_event_source_mapping(self, **how: bool) -> None:
        self.updates.append(how["Enabled"])


def tapped(monkeypatch: pytest.MonkeyPatch, taps: Taps) -> Environment:
    monkeypatch.setattr(Environment, "client", lambda *_: taps)
    return dataclasses.replace(LOCAL)


def test_the_tap_is_closed_once_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    taps = Taps("Enabled", "Disabling", "Disabled")
    event_source_mapping.switch(tapped(monkeypatch, taps), {"QueueArn": "q"}, on=False)
    assert taps.updates == [False]


def test_a_mapping_that_is_still_being_made_is_not_updated_before_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    taps = Taps("Creating", "Enabled", "Disabling", "Disabled")
    event_source_mapping.switch(tapped(monkeypatch, taps), {"QueueArn": "q"}, on=False)
    assert taps.updates == [False]


def test_a_tap_that_does_not_close_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    taps = Taps("Enabled", "Disabling")
    with pytest.raises(AwsError, match="still Disabling"):
        event_source_mapping.switch(tapped(monkeypatch, taps), {"QueueArn": "q"}, on=False, patience=0.2)


@pytest.mark.parametrize(("environment", "steps"), [("prod", 2), ("staging", 2), ("dev", 1)])
def test_tables_are_protected_once_they_are_created(
    environment: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudFormation cannot delete protected tables: a failed create would leave them behind."""
    env = Environment(environment, region="eu-west-1")
    planned = a_plan(None, phases.INGEST, environment=env, Environment=environment)
    built: Any = SimpleNamespace(digests=lambda: planned.target)
    given: list[dict[str, str]] = []
    monkeypatch.setattr(sam, "build", lambda *_: built)
    monkeypatch.setattr(sam, "deploy_arguments", lambda _, __, settings, tags: [*map(given.append, [settings])])
    monkeypatch.setattr(sam, "run", lambda *_: 0)
    monkeypatch.setattr(stack, "Follower", lambda *_: lambda: None)
    monkeypatch.setattr(stack, "require", lambda _: a_stack(phases.INGEST))
    monkeypatch.setattr(
        sys.modules["pik.rollout.deploy.deploy"], "converge", lambda _, __, settings, ___: given.append(settings)
    )
    assert _deploy_sources(env, planned, None, tmp_path / "log", print)
    assert [one["DeletionProtection"] for one in given] == ["false", "true"][2 - steps :]


def test_protection_that_was_interrupted_comes_with_the_next_deploy() -> None:
    before = a_stack(phases.INGEST, DeletionProtection="false")
    assert wanted(PROD, phases.INGEST, before, None, {})["DeletionProtection"] == "true"
    asked = {"DeletionProtection": "false"}
    assert wanted(PROD, phases.INGEST, before, None, asked)["DeletionProtection"] == "false"
    assert "DeletionProtection" not in wanted(PROD, phases.INGEST, a_stack(phases.INGEST), None, {})

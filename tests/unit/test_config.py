"""``pik.toml``: what it may say, and what is said when it says something else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pik import config, project
from pik.config import DEFAULTS, EnvironmentConfig
from pik.emulator.instance import Instance
from pik.environments import environment
from pik.errors import Refused, UsageError
from pik.incidents.inject import _only_local
from pik.notebooks.inputs import _widget
from pik.rollout.plan import naming
from pik.runbooks import parameters
from pik.runbooks.parameters import Parameter
from tests.unit import template_tools as tools


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "pik.toml"
    monkeypatch.setenv(config.CONFIG_VARIABLE, str(file))
    return file


def test_without_a_file_every_environment_is_as_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(config.CONFIG_VARIABLE, raising=False)
    monkeypatch.setattr(project, "CONFIG", tmp_path / "pik.toml")
    assert config.load() == {"local": config.LOCAL, **DEFAULTS}
    assert config.config("prod") == EnvironmentConfig(protection="protected", after="staging", stack="pik-prod")


def test_a_file_that_is_named_and_not_there_is_an_error(toml: Path) -> None:
    """What it says of accounts and protection would not hold, and nobody would know."""
    with pytest.raises(UsageError, match=f"there is no file {toml}") as raised:
        config.load()
    assert "PIK_CONFIG names it" in raised.value.reason


def test_the_committed_file_says_what_the_defaults_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(config.CONFIG_VARIABLE, raising=False)
    assert config.path() == project.CONFIG
    assert config.load() == {"local": config.LOCAL, **DEFAULTS}


def test_what_is_given_counts_and_the_rest_is_by_default(toml: Path) -> None:
    toml.write_text(
        '[environments.prod]\naccount = "111122223333"\nregion = "eu-west-1"\nstack = "events"\nprofile = "acme"\n'
        'approvers = ["arn:aws:iam::111122223333:user/ana"]\nevidence_hours = 2\n'
    )
    found = config.load()
    assert found["prod"] == EnvironmentConfig(
        account="111122223333",
        region="eu-west-1",
        stack="events",
        profile="acme",
        protection="protected",
        after="staging",
        approvers=("arn:aws:iam::111122223333:user/ana",),
        evidence_hours=2.0,
    )
    assert found["dev"] == DEFAULTS["dev"]
    assert config.config("prod").stack == "events"


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("[environments", "cannot be read", "edit"),
        ("environments = 3", "environments is not a table", "edit"),
        ("[environment.dev]", "there is no environment", "did you mean environments?"),
        ("[environments.Production]", "there is no environments.Production", "one of dev, staging, prod"),
        ("[environments.local]", "there is no environments.local", "one of dev, staging, prod"),
        ("[environments.dev]\nacount = '1'", "there is no environments.dev.acount", "did you mean account?"),
        ("[environments.dev]\naccount = 111122223333", "environments.dev.account = 111122223333", "edit"),
        ("[environments.dev]\naccount = '1234'", "environments.dev.account = '1234'", "edit"),
        ("[environments.dev]\nprotection = 'high'", "environments.dev.protection = 'high'", "edit"),
        ("[environments.dev]\nprotection = 'protected'", "environments.dev.after = ''", "edit"),
        ("[environments.prod]\nafter = 'prod'", "environments.prod.after = 'prod'", "edit"),
        ("[environments.prod]\nafter = 'local'", "environments.prod.after = 'local'", "edit"),
        ("[environments.prod]\napprovers = ['ana']", "environments.prod.approvers = ('ana',)", "edit"),
        ("[environments.prod]\nevidence_hours = 0", "environments.prod.evidence_hours = 0.0", "edit"),
        ("[environments.dev]\nplatform = 'embedded'", "environments.dev.account = ''", "edit"),
    ],
)
def test_a_mistake_is_named_with_what_to_do(toml: Path, text: str, says: str, hint: str) -> None:
    toml.write_text(text)
    with pytest.raises(UsageError) as error:
        config.load()
    assert says in error.value.message
    assert hint in error.value.next_step


def test_a_configured_environment_is_used_as_configured(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aws = toml.with_name("aws")
    aws.write_text("[profile acme]\nregion = eu-central-1\naws_access_key_id = AKIAACME\naws_secret_access_key = x\n")
    for name, value in {
        "AWS_CONFIG_FILE": str(aws),
        "AWS_ACCESS_KEY_ID": "AKIASHELL",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    toml.write_text('[environments.dev]\nprofile = "acme"\nstack = "events-dev"\n')
    env = environment("dev")
    assert (env.region, env.stack) == ("eu-central-1", "events-dev")
    assert env.session.get_credentials().access_key == "AKIAACME"  # not the shell's
    told = env.subprocess_env()
    assert told["AWS_PROFILE"] == "acme"
    assert told["AWS_ACCESS_KEY_ID"] == "AKIAACME"  # the profile's, as this process has it; not the shell's


def test_a_rehearsed_environment_has_an_account_of_its_own(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = Instance("nonce", 1, 43817, "2026-01-01T00:00:00+00:00")
    monkeypatch.setattr("pik.emulator.running", lambda: instance)
    toml.write_text('[environments.staging]\nplatform = "embedded"\naccount = "111122223333"\n')
    env = environment("staging")
    assert env.embedded
    assert env.region == "us-east-1"
    assert env.session.get_credentials().access_key == "111122223333"
    assert env.subprocess_env()["AWS_ACCESS_KEY_ID"] == "111122223333"


# --- environments of one's own names --------------------------------------------------------------------------------


def test_a_table_of_another_name_is_an_environment_and_guarded_unless_it_says_otherwise(toml: Path) -> None:
    toml.write_text(
        '[environments.qa]\naccount = "111122223333"\nregion = "eu-west-1"\n'
        '[environments.dev-2]\nprotection = "open"\n[environments.prod]\nafter = "qa"\n'
    )
    assert config.names() == ("local", "dev", "staging", "prod", "qa", "dev-2")
    assert config.listed() == "local, dev, staging, prod, qa or dev-2"
    assert config.load().keys() == set(config.names())
    assert config.config("qa") == EnvironmentConfig(
        account="111122223333", region="eu-west-1", protection="guarded", stack="pik-qa"
    )
    assert config.config("dev-2") == EnvironmentConfig(stack="pik-dev-2")
    assert config.config("prod").after == "qa"
    assert config.config("dev") == EnvironmentConfig(stack="pik-dev")


@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("local", "embedded AWS"),
        ("QA", "small letters"),
        ("qa_2", "small letters"),
        ("2qa", "begins with a letter"),
        ("qa-", "single hyphens"),
        ("qa--2", "single hyphens"),
        ("q" * 30, "it has 30 characters, 29 are the most: Lambda takes 64"),
        ("default", "samconfig.toml"),
        ("version", "samconfig.toml"),
    ],
)
def test_a_name_that_aws_or_sam_would_not_take_is_refused_before_anything_happens(
    toml: Path, name: str, because: str
) -> None:
    toml.write_text(f'[environments."{name}"]\n')
    with pytest.raises(UsageError, match=f"there is no environments.{name}") as raised:
        config.config("dev")
    assert because in raised.value.reason
    assert config.listed() == "local, dev, staging, prod".replace(
        ", prod", " or prod"
    )  # a help text is no place for it


def test_the_longest_name_is_what_the_template_has_room_for() -> None:
    template = tools.load()
    assert naming.most(template) == config.LONGEST_STACK
    declared = template["Parameters"]["Environment"]
    assert declared["MaxLength"] == config.LONGEST_NAME
    for name in (*config.BUILT_IN, "qa", "dev-2", "q" * 29, "QA", "qa_2", "2qa", "qa-", "qa--2", "q" * 30):
        taken = bool(re.fullmatch(declared["AllowedPattern"], name)) and len(name) <= declared["MaxLength"]
        assert taken == (name == "local" or not config.unfit(name)), name


def test_words_that_names_of_resources_begin_with_are_known() -> None:
    """Those without a capital letter: the template's own, after the stack's name."""
    found = {naming.begins(name, resource) for name, resource in tools.load()["Resources"].items()}
    assert {one.rstrip("-") for one in found if one.islower()} == set(config.RESOURCES)
    assert all(one.endswith("-") for one in found if one.islower())


@pytest.mark.parametrize("name", ["dev-queue", "dev-rawbucket", "dev-evidencebucket-2", "qa-queue-1"])
def test_an_environment_within_reach_of_anothers_policies_is_refused(toml: Path, name: str) -> None:
    """pik-dev-queue-1a2b is the queue of pik-dev, and pik-dev-queue-queue-1a2b begins alike."""
    toml.write_text(f"[environments.qa]\n[environments.{name}]\n")
    with pytest.raises(UsageError, match="are not apart") as raised:
        config.load()
    assert f"belongs to pik-{name}" in raised.value.reason


@pytest.mark.parametrize(
    "text",
    [
        "[environments.dev-queues]",
        "[environments.devqueue]",
        '[environments.dev]\naccount = "111122223333"\n[environments.dev-queue]\naccount = "444455556666"',
    ],
)
def test_an_environment_out_of_reach_is_taken(toml: Path, text: str) -> None:
    toml.write_text(text)
    assert config.load()


@pytest.mark.parametrize("stack", ["QA", "q" * 34, "qa--2"])
def test_a_stacks_name_that_would_be_cut_is_refused(toml: Path, stack: str) -> None:
    toml.write_text(f'[environments.qa]\nstack = "{stack}"\n')
    with pytest.raises(UsageError, match=r"environments.qa.stack"):
        config.load()


def test_an_unknown_environment_is_answered_with_what_exists_and_what_to_write(toml: Path) -> None:
    toml.write_text("[environments.qa]\n")
    with pytest.raises(UsageError, match="no such environment: uat") as raised:
        config.config("uat")
    said, *lines = raised.value.next_step.splitlines()
    assert "local, dev, staging, prod, qa" in said
    assert "pik.toml" in said
    toml.write_text("\n".join(lines))
    assert config.config("uat") == EnvironmentConfig(
        account="111122223333", region="eu-west-1", protection="guarded", stack="pik-uat"
    )
    with pytest.raises(UsageError) as raised:
        config.config("UAT")
    assert "small letters" in raised.value.reason
    assert "[environments" not in raised.value.next_step


def test_one_of_the_users_own_is_taken_wherever_an_environment_is_asked_for(toml: Path) -> None:
    toml.write_text("[environments.qa]\n")
    assert _widget("env", "qa", "").options == ("local", "dev", "staging", "prod", "qa")
    parameter = Parameter(type="environment", default="local")
    assert parameters.parse({"before": parameter}, "qa", {"before": "qa"}) == {"env": "qa", "before": "qa"}
    assert parameter.hint("before") == "-p before=local|dev|staging|prod|qa"
    with pytest.raises(Refused, match="incidents are not simulated in qa"):
        _only_local("qa")
    with pytest.raises(UsageError, match="no such environment: uat"):
        _only_local("uat")

"""``pik.toml``: what it may say, and what is said when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pik import config, project
from pik.config import DEFAULTS, EnvironmentConfig
from pik.environments import environment
from pik.errors import UsageError
from pik.local.instance import Instance


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
        ("[environments.production]", "there is no environments.production", "one of dev, staging, prod"),
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
    monkeypatch.setattr("pik.local.running", lambda: instance)
    toml.write_text('[environments.staging]\nplatform = "embedded"\naccount = "111122223333"\n')
    env = environment("staging")
    assert env.embedded
    assert env.region == "us-east-1"
    assert env.session.get_credentials().access_key == "111122223333"
    assert env.subprocess_env()["AWS_ACCESS_KEY_ID"] == "111122223333"

"""``pik.toml``: which environment is where, how well it is guarded, and who says yes; and mappings.

It is read anew each time; it is small. Without the file every environment is as in :data:`DEFAULTS`. ``local`` is the
embedded AWS and cannot be configured.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pik import project
from pik.errors import UsageError

CONFIG_VARIABLE = "PIK_CONFIG"  # another file than the checkout's pik.toml
LOCAL_ACCOUNT = "000000000000"
Protection = Literal["open", "guarded", "protected"]
Platform = Literal["aws", "embedded"]


@dataclass(frozen=True)
class EnvironmentConfig:
    """What ``pik.toml`` says of one environment.

    Attributes:
        account: the AWS account it belongs to (12 digits); without it nobody can tell whether this is the right one,
            so environments that are not open need it.
        region: its region; empty: that of the profile, or of the shell.
        stack: name of its stack; empty: ``pik-<environment>``.
        profile: the AWS profile to use; empty: whatever the shell is signed in with.
        protection: ``open``: deploy as you like. ``guarded``: the phase is raised by ``pik promote`` only, with
            evidence. ``protected``: moreover, what is deployed must be proven in ``after`` first.
        after: the environment that comes before this one.
        approvers: patterns (``*`` as in file names) of the ARNs of who may approve; none: no approval is needed.
        evidence_hours: how long evidence is fresh.
        required_tags: names of the tags that your company wants on everything; ``pik doctor`` looks for them.
        platform: ``embedded``: on the embedded AWS, in an account of its own, to rehearse; ``aws``: for real.
    """

    account: str = ""
    region: str = ""
    stack: str = ""
    profile: str = ""
    protection: Protection = "open"
    after: str = ""
    approvers: tuple[str, ...] = ()
    evidence_hours: float = 24.0
    required_tags: tuple[str, ...] = ()
    platform: Platform = "aws"


NAMES = ("local", "dev", "staging", "prod")
LOCAL = EnvironmentConfig(account=LOCAL_ACCOUNT, platform="embedded")
DEFAULTS: Mapping[str, EnvironmentConfig] = {
    "dev": EnvironmentConfig(),
    "staging": EnvironmentConfig(protection="guarded"),
    "prod": EnvironmentConfig(protection="protected", after="staging"),
}


def path() -> Path:
    """Return the file that is read: ``$PIK_CONFIG``, else ``pik.toml`` of the checkout."""
    return Path(os.environ.get(CONFIG_VARIABLE) or project.CONFIG)


def load() -> dict[str, EnvironmentConfig]:
    """Return the configuration of every environment, checked.

    Raises:
        UsageError: the file that ``PIK_CONFIG`` names is not there; the file is not TOML; or it says something that
            cannot be: then the key is named and what it may be.

    >>> load()["local"].platform
    'embedded'
    """
    file, document = path(), _document()
    given = document.get("environments", {})
    _known(file, "environments.", given, tuple(DEFAULTS))
    found = {"local": LOCAL, **{name: _checked(file, name, given.get(name, {})) for name in DEFAULTS}}
    for name, config in found.items():
        _consistent(file, name, config)
    return found


def mappings() -> Any:
    """Return the table ``mappings`` of the file, as it is; :mod:`pik.mappings.catalog` checks it. Raise UsageError."""
    return _document().get("mappings", {})


def _document() -> dict[str, Any]:
    file = path()
    if os.environ.get(CONFIG_VARIABLE) and not file.exists():  # what it says of accounts and protection would not hold
        raise UsageError(
            f"there is no file {file}",
            reason=f"{CONFIG_VARIABLE} names it",
            next_step=f"correct {CONFIG_VARIABLE}, or unset it for {project.CONFIG.name} of the checkout",
        )
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{file.name} cannot be read", reason=str(error), next_step=f"edit {file}") from None
    _known(file, "", document, ("environments", "mappings"))
    return document


def _known(file: Path, where: str, given: Any, names: tuple[str, ...]) -> None:
    if not isinstance(given, dict):
        raise UsageError(f"{file.name}: {where.rstrip('.')} is not a table", next_step=f"edit {file}")
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(names)}"
            reason = "local is always the embedded AWS" if name == "local" else ""
            raise UsageError(f"{file.name}: there is no {where}{name}", reason=reason, next_step=hint)


def _checked(file: Path, name: str, given: Any) -> EnvironmentConfig:
    defaults = DEFAULTS[name]
    if given == {}:
        return defaults
    from pydantic import TypeAdapter, ValidationError  # only here: most commands have no pik.toml to check

    _known(file, f"environments.{name}.", given, tuple(vars(defaults)))
    try:
        return TypeAdapter(EnvironmentConfig).validate_python({**vars(defaults), **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{file.name}: environments.{name}.{key} = {first['input']!r}",
            reason=first["msg"],
            next_step=f"edit {file}",
        ) from None


def _consistent(file: Path, name: str, config: EnvironmentConfig) -> None:
    def wrong(key: str, reason: str) -> UsageError:
        value = getattr(config, key)
        return UsageError(f"{file.name}: environments.{name}.{key} = {value!r}", reason=reason, next_step="edit it")

    if config.account and not (len(config.account) == 12 and config.account.isdigit()):
        raise wrong("account", "an AWS account id has 12 digits, in quotes")
    if config.after and (config.after not in DEFAULTS or config.after == name):
        raise wrong("after", f"another environment: one of {', '.join(n for n in DEFAULTS if n != name)}")
    if config.protection == "protected" and not config.after:
        raise wrong("after", "a protected environment needs one that comes before it")
    if config.evidence_hours <= 0:
        raise wrong("evidence_hours", "evidence is fresh for more than no time")
    if any(not pattern.startswith("arn:") for pattern in config.approvers):
        raise wrong("approvers", "each is the pattern of an ARN, such as arn:aws:sts::*:assumed-role/Approvers/*")
    if name != "local" and config.platform == "embedded" and config.account in ("", LOCAL_ACCOUNT):
        raise wrong("account", "to rehearse on the embedded AWS, give it an account of its own (any other 12 digits)")


def config(name: str) -> EnvironmentConfig:
    """Return the configuration of one environment, its stack named. Raise UsageError when there is no such one."""
    if name not in NAMES:
        raise UsageError(f"no such environment: {name}", next_step=f"one of {', '.join(NAMES)}")
    found = LOCAL if name == "local" else load()[name]
    return found if found.stack else replace(found, stack=f"pik-{name}")

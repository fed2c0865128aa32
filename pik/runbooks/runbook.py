"""Runbooks: which notebooks, in which order, with which typed parameters. Read from ``runbooks/<name>.yaml``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Hashable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pik import project
from pik.errors import UsageError
from pik.runbooks.declared import declared
from pik.runbooks.notebook import check_names
from pik.runbooks.parameters import Parameter, Value, refuse_secret_name, refuse_secret_value
from pik.runbooks.suggest import did_you_mean
from pik.text import named

_REFERENCE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_NAME = r"^[a-z0-9][a-z0-9-]*$"


class StepSpec(BaseModel):
    """One step: a notebook below ``notebooks/`` and the parameters it gets (besides ``env``, which every one gets).

    ``passes``: names of parameters that a run may give and the step passes on; what the runbook does not declare of
    them, the notebook's ``parameters`` cell does. ``all``: all that it has and the step does not fix.
    ``when``: name of a boolean parameter without which the step is skipped; ``timeout``: seconds for the whole step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=_NAME, max_length=40)
    title: str
    notebook: str
    parameters: dict[str, Value] = Field(default_factory=dict)
    passes: Literal["all"] | tuple[str, ...] = ()
    when: str | None = None
    timeout: float | None = Field(default=None, gt=0)

    @field_validator("notebook")
    @classmethod
    def _below_notebooks(cls, value: str) -> str:
        path = Path(value)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".ipynb":
            raise ValueError("must be the path of an .ipynb file below the notebooks folder")
        return value

    def resolve(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return the step's parameters with every ``{{ name }}`` replaced by the run's value.

        A lone reference keeps the value's type; inside other text it becomes text. A reference to an optional
        parameter without a value leaves the notebook's own default alone.
        """
        resolved: dict[str, Value] = {"env": values["env"]}
        for name, value in self.parameters.items():
            references = _REFERENCE.findall(value) if isinstance(value, str) else []
            if any(reference not in values for reference in references):
                continue
            resolved[name] = _substitute(value, values)
        return resolved


def _substitute(value: Value, values: Mapping[str, Value]) -> Value:
    if not isinstance(value, str):
        return value
    alone = _REFERENCE.fullmatch(value.strip())
    return values[alone[1]] if alone else _REFERENCE.sub(lambda match: str(values[match[1]]), value)


class Runbook(BaseModel):
    """A runbook, checked: every reference, every ``when`` and every default has been resolved once.

    ``parameters`` are those that the file declares and those that its steps pass on to their notebooks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_NAME, max_length=60)
    title: str
    description: str = ""
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    steps: tuple[StepSpec, ...] = Field(min_length=1)
    path: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _one_step(cls, data: Any) -> Any:
        # A notebook instead of steps: the only step, which passes on whatever the notebook declares.
        if not isinstance(data, dict) or "notebook" not in data:
            return data
        if "steps" in data:
            raise ValueError("it has a notebook and steps; one of them says what runs")
        step = {"id": data.get("name"), "title": data.get("title"), "notebook": data["notebook"], "passes": "all"}
        return {name: value for name, value in data.items() if name != "notebook"} | {"steps": [step]}

    @model_validator(mode="after")
    def _passed_on(self) -> Runbook:
        own = {"env", *self.parameters}
        self.parameters.setdefault("env", Parameter(type="environment"))
        for step in self.steps:
            if step.passes:
                self._pass_on(step, own)
        return self

    def _pass_on(self, step: StepSpec, own: Collection[str]) -> None:
        """Add what the step passes on to its parameters, and to the runbook's what is not its ``own`` declaration."""
        found = declared(project.NOTEBOOKS / step.notebook)
        fixed = {"env", *step.parameters}
        names = [name for name in found if name not in fixed] if step.passes == "all" else step.passes
        check_names(step, names, found)
        for name in names:
            if name in fixed:
                raise ValueError(f"step {step.id}: {name} is passed on, and has a value")
            if name not in own and not self.parameters.setdefault(name, found[name]).same(found[name]):
                raise ValueError(f"step {step.id}: another step's notebook declares {name} otherwise; declare it here")
            step.parameters[name] = f"{{{{ {name} }}}}"

    @model_validator(mode="after")
    def _resolvable(self) -> Runbook:
        for name in self.parameters:
            refuse_secret_name(name)
            if not name.isidentifier():
                raise ValueError(f"parameter {name!r} is not a name that a notebook can use")
        if "env" in self.parameters and self.parameters["env"].type != "environment":
            raise ValueError("parameter env must be of type environment")
        ids = [step.id for step in self.steps]
        if len(set(ids)) != len(ids):
            raise ValueError("two steps have the same id")
        for step in self.steps:
            self._check_step(step)
        return self

    def _check_step(self, step: StepSpec) -> None:
        for name, value in step.parameters.items():
            refuse_secret_name(name)
            refuse_secret_value(name, str(value))
            for reference in _REFERENCE.findall(str(value)):
                self._declared(reference, f"step {step.id}, parameter {name}")
        if step.when is not None:
            self._declared(step.when, f"step {step.id}, when")
            if self.parameters[step.when].type != "boolean":
                raise ValueError(f"step {step.id}: when: {step.when} is not a boolean parameter")

    def _declared(self, name: str, where: str) -> None:
        if name not in self.parameters:
            raise ValueError(f"{where}: no such parameter: {name}{did_you_mean(name, self.parameters)}")

    @cached_property
    def sha256(self) -> str:
        """Digest of the file it was read from."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def load(name_or_path: str | Path, *, folder: Path | None = None) -> Runbook:
    """Return the runbook called so in ``runbooks/``, or at a path ending in .yaml; raise UsageError.

    >>> load("rollout").steps[0].id
    'phase-1'
    """
    path = _find(name_or_path, folder or project.RUNBOOKS)
    try:
        data = yaml.load(path.read_text("utf-8"), Loader=_UniqueKeys)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # not UTF-8, or a number of thousands of digits
        raise _unreadable(path, " ".join(str(error).split())) from None
    except RecursionError:
        raise _unreadable(path, "it is nested too deeply") from None
    except OSError as error:
        raise _unreadable(path, str(error.strerror)) from None
    if not isinstance(data, dict):
        raise _unreadable(path, "it is not a mapping with name, title and steps")
    if "path" in data:
        raise _unreadable(path, "path: no such key")
    try:
        return Runbook.model_validate({**data, "path": path})
    except ValidationError as error:
        raise _unreadable(path, _first_problem(error)) from None


def catalog(folder: Path | None = None) -> list[Runbook | UsageError]:
    """Return every runbook of the project by name; one that cannot be read is its error, and hides no other."""
    entries: list[Runbook | UsageError] = []
    for path in sorted((folder or project.RUNBOOKS).glob("*.yaml")):
        try:
            entries.append(load(path))
        except UsageError as error:
            entries.append(error)
    return entries


def _find(name_or_path: str | Path, folder: Path) -> Path:
    text = str(name_or_path)
    path = Path(text) if text.endswith((".yaml", ".yml")) else folder / f"{text}.yaml"
    if not _is_file(path):
        known = [found.stem for found in sorted(folder.glob("*.yaml"))]
        raise UsageError(f"no such runbook: {named(text)}{did_you_mean(text, known)}", next_step="pik run --list")
    return path.resolve()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a null character
        return False


def _unreadable(path: Path, reason: str) -> UsageError:
    return UsageError(f"cannot use runbook {path.name}", reason=reason, next_step=f"correct {path}")


def _first_problem(error: ValidationError) -> str:
    # A misspelt key is also a missing one: the misspelling says more.
    problems = error.errors(include_url=False)
    problem = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{where}: no such key{did_you_mean(str(problem['loc'][-1]), _keys_at(problem['loc']))}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {"parameters": Parameter, "steps": StepSpec}
    model = models.get(str(location[0]), Runbook) if len(location) > 1 else Runbook
    return [*model.model_fields, *(["notebook"] if model is Runbook else [])]


class _UniqueKeys(yaml.SafeLoader):
    """YAML itself lets a later key silently replace an earlier one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} stands here twice", node.start_mark)
        return super().construct_mapping(node, deep)

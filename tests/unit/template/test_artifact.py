"""The Lambda artifact: what is in it, that it is enough, and that building it again gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pik import project
from pik.rollout.plan import sam
from scripts import build_lambda
from tests.unit import template_tools as tools


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A stand-in for pip: no network, and what a host's installer leaves behind."""
    calls: list[Path] = []

    def install(target: Path) -> None:
        calls.append(target)
        for name, text in {
            "library/__init__.py": "x = 1",
            "library/__pycache__/__init__.cpython-311.pyc": "this host's",
            "library-1.dist-info/METADATA": "Name: library",
            "library-1.dist-info/RECORD": f"{target}",
            "bin/tool": f"#!{sys.executable}",
        }.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    monkeypatch.setattr(build_lambda, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(build_lambda, "_install", install)
    return calls


def files(root: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(root)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mode)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_same_inputs_give_the_same_files_whatever_the_umask(installed: list[Path], tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        build_lambda.build(tmp_path / "one")
        os.umask(0o002)
        build_lambda.build(tmp_path / "two")
    finally:
        os.umask(before)
    assert len(installed) == 1  # the libraries are fetched once for all three functions
    found = files(tmp_path / "one")
    assert found == files(tmp_path / "two")
    assert {"library/__init__.py", "library-1.dist-info/METADATA", "pik/pipeline/ingest.py", "pik/events.py"} <= set(
        found
    )
    assert not [name for name in found if "__pycache__" in name or name.startswith("bin/") or name.endswith("RECORD")]


def test_only_what_the_functions_need_is_in_it(installed: list[Path], tmp_path: Path) -> None:
    build_lambda.build(tmp_path)
    ours = {path.relative_to(tmp_path / "pik").parts[0] for path in (tmp_path / "pik").rglob("*.py")}
    assert ours == set(build_lambda.SOURCES)


def test_native_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_fast.cpython-314-x86_64-linux-gnu.so").touch()
    with pytest.raises(build_lambda.BuildError, match="native code"):
        build_lambda._prune(tmp_path)


def test_the_functions_import_with_nothing_but_the_artifact_of_ours(installed: list[Path], tmp_path: Path) -> None:
    build_lambda.build(tmp_path)
    program = (
        "import json, sys, pik.pipeline.ingest, pik.pipeline.replay, pik.pipeline.processor\n"
        "ours = [m.__file__ for n, m in sys.modules.items() if n.startswith('pik.') and m.__file__]\n"
        "heavy = [n for n in ('pydantic', 'pandas', 'papermill', 'typer', 'rich') if n in sys.modules]\n"
        "print(json.dumps([ours, heavy]))"
    )
    env = {"PYTHONPATH": str(tmp_path), "AWS_DEFAULT_REGION": "us-east-1", "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {"POWERTOOLS_TRACE_DISABLED": "true", "POWERTOOLS_SERVICE_NAME": "ingest", "PIK_ENVIRONMENT": "local"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    modules, workbench = json.loads(done.stdout)
    assert modules
    assert all(Path(module).is_relative_to(tmp_path) for module in modules)
    assert workbench == []


def test_the_lock_is_pinned_hashed_and_leaves_out_what_the_runtime_has() -> None:
    lock = build_lambda.LOCK.read_text(encoding="utf-8")
    names = {line.split("==")[0] for line in lock.splitlines() if "==" in line and not line.startswith((" ", "#"))}
    assert {"aws-lambda-powertools", "aws-xray-sdk", "rfc8785"} <= names
    assert not names & {"boto3", "botocore", "s3transfer", "urllib3", "python-dateutil", "six"}
    assert lock.count("==") == len(names)
    assert lock.count("--hash=sha256:") >= len(names)


def test_the_build_is_for_the_runtime_of_the_template() -> None:
    assert tools.load()["Globals"]["Function"]["Runtime"] == f"python{build_lambda.LAMBDA_PYTHON}"


def test_a_deploy_builds_anew_whenever_an_input_of_the_artifact_changed() -> None:
    watched = {path for pattern in sam.SOURCES for path in project.ROOT.glob(pattern)}
    inputs = {build_lambda.LOCK, project.ROOT / "scripts" / "build_lambda.py", project.ROOT / "pik" / "Makefile"}
    for name in build_lambda.SOURCES:
        source = project.ROOT / "pik" / name
        inputs |= set(source.rglob("*.py")) if source.is_dir() else {source}
    assert inputs <= watched


def test_every_function_has_a_make_target() -> None:
    makefile = (project.ROOT / "pik" / "Makefile").read_text(encoding="utf-8")
    resources = tools.load()["Resources"]
    functions = {name: item for name, item in resources.items() if item["Type"] == "AWS::Serverless::Function"}
    assert len(functions) == 3
    for name, function in functions.items():
        assert function["Metadata"]["BuildMethod"] == "makefile"
        assert f"build-{name}" in makefile


def test_a_host_without_pip_and_uv_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_lambda, "_runs", lambda _command: False)
    monkeypatch.setattr(build_lambda, "CACHE", tmp_path / "cache")
    with pytest.raises(build_lambda.BuildError, match="no pip and no uv"):
        build_lambda.build(tmp_path / "target")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_makefile_finds_the_checkout_whatever_its_path_is_called(tmp_path: Path) -> None:
    checkout, target = tmp_path / "my  kit, für $1 'now'", tmp_path / "a target"
    (checkout / "pik").mkdir(parents=True)
    (checkout / "scripts").mkdir()
    (checkout / "pik" / "Makefile").write_text((project.ROOT / "pik" / "Makefile").read_text())
    (checkout / "scripts" / "build_lambda.py").write_text("import sys; print(__file__, sys.argv[1], sep='\\n')")

    done = subprocess.run(
        ["make", "--makefile", str(checkout / "pik" / "Makefile"), "build-IngestFunction"],
        # Not a part of the make that runs the tests: that one would have it say which directory it works in.
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        | {"ARTIFACTS_DIR": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    script, given = done.stdout.splitlines()
    assert Path(script).resolve() == (checkout / "scripts" / "build_lambda.py").resolve()
    assert given == str(target)

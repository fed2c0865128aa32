# Every target sets up what it needs. Fresh machine: Python 3.11+ and make are enough.
PYTHON ?= python3
PIK := .venv/bin/pik

.DEFAULT_GOAL := help
.PHONY: help setup dev demo test test-unit hostile sim lab lint format bench docs site clean lock

help:  ## show the targets
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "  make %-10s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## make .venv and the tool environments (again only when a lock file changed)
	@$(PYTHON) scripts/setup.py workbench emulator sam

dev: setup  ## add to .venv what only tests and linters need (the targets below that need it do so by themselves)
	@$(PYTHON) scripts/setup.py dev

demo: setup  ## embedded AWS, rollout on real flights, rollback, report
	@$(PIK) demo

test: dev  ## all tests (unit, stack, faults, notebooks, browser); the fast ones alone: make test-unit
	@.venv/bin/pytest -n 2 --dist loadfile --ignore=tests/browser
	@.venv/bin/pytest tests/browser

test-unit: dev  ## the fast loop: no embedded AWS, seconds
	@.venv/bin/pytest tests/unit -n 2 -q -m "not slow"

hostile: dev  ## every hostile input, the published lists included (fetched with npm)
	@PYTHONPATH=. .venv/bin/python -m tests.hostile.published
	@PIK_HOSTILE=all .venv/bin/pytest tests/hostile

sim: dev  ## seeded histories of the shipped functions over a small AWS in memory (EPISODES=100000 SEED=0)
	@.venv/bin/python -m tests.sim --episodes $(or $(EPISODES),100000) --seed $(or $(SEED),0) --keep .pik/sim

lab: setup  ## JupyterLab on notebooks/, with the embedded AWS running (STATE=.pik/demo: what the demo left)
	@$(PIK) lab $(if $(STATE),--state "$(STATE)")

lint: dev  ## ruff, mypy, which package may import which, SAM validation, cfn-lint, checkov
	@$(PYTHON) scripts/setup.py lint
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports --no-logo --no-cache
	@scripts/lint_template.sh

format: dev  ## format the code
	@.venv/bin/ruff check --fix . && .venv/bin/ruff format .

bench: setup  ## benchmarks, side by side in one run
	@.venv/bin/python -m bench

docs: dev  ## write docs/cli.md, docs/checks.md, docs/cases.md, docs/api.md and docs/openapi.json from what they describe
	@.venv/bin/python scripts/cli_docs.py && PYTHONPATH=. .venv/bin/python scripts/checks_docs.py
	@PYTHONPATH=. .venv/bin/python scripts/cases_docs.py && PYTHONPATH=. .venv/bin/python scripts/api_docs.py

site: setup  ## build the documentation as HTML, to read and search offline: site/index.html
	@$(PYTHON) scripts/setup.py docs
	@.tools/docs/bin/python -m sphinx -q -W --keep-going -b html -d .sphinx -c docs . site && echo "✓ site/index.html"

lock:  ## resolve the lock files anew (after a change of pyproject.toml or requirements/*.in)
	@$(PYTHON) scripts/setup.py uv && sh scripts/lock.sh

clean:  ## stop the embedded AWS; remove environments, state, builds and caches (not runs/)
	@test ! -x $(PIK) || $(PIK) local down
	@rm -rf .venv .tools .pik .aws-sam .sphinx site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

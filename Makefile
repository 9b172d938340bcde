# Everything runs in .venv, which is made from requirements.lock when that has changed.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
QUIETLY := --quiet --disable-pip-version-check
RUN := $(VENV)/bin/python -P -m

.PHONY: up down ps logs test lint bench faults

up down ps logs: $(READY)
	@$(RUN) deploy.local $@

test: $(READY)
	@$(VENV)/bin/python -m pytest

lint: $(READY)
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/python -m pytest --quiet tests/unit/test_imports.py

bench: $(READY)
	@$(VENV)/bin/python -m tests.bench

faults: $(READY)
	@$(VENV)/bin/python -m pytest tests/faults

$(READY): $(INSTALLED) pyproject.toml
	@$(VENV)/bin/python -m pip install $(QUIETLY) --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version): set PYTHON"; exit 2; } >&2
	@echo "Installing what requirements.lock names into $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install $(QUIETLY) --require-hashes --requirement requirements.lock
	@touch $@

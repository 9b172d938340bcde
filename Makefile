# Everything runs in .venv, which is made from requirements.lock when that has changed.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
# What reads the files in deploy: Helm, the schemas of Kubernetes, Docker Compose, PromQL and CycloneDX.
CHART_TOOLS := $(VENV)/.chart-tools
QUIETLY := --quiet --disable-pip-version-check
RUN := $(VENV)/bin/python -P -m
# The tests start dozens of processes: each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE
# What builds the console, and checks its pages in tests.
CONSOLE := clients/console
CONSOLE_TOOLS := $(CONSOLE)/node_modules/.package-lock.json
# What builds the client for TypeScript, and tests it.
CLIENT := clients/typescript
CLIENT_TOOLS := $(CLIENT)/node_modules/.package-lock.json
# What checks programs of users in tests, beside mypy.
PYRIGHT := tools/pyright/node_modules/.package-lock.json
# Node.js has authorities of its own; those that the system trusts count, too.
export NODE_EXTRA_CA_CERTS ?= $(wildcard /etc/ssl/certs/ca-certificates.crt)
# Several processes of tests, each with servers of its own: tests/support/scheduling.py.
PYTEST := $(VENV)/bin/python -m pytest --numprocesses=auto --no-loadscope-reorder
# More options of pytest, as in `make test OPTIONS="--random-order"`.
OPTIONS ?=

.PHONY: up scale restart down ps logs check fast test lint static docs console client sbom bench bench-guard bench-peers simulate-placement simulate faults

# The processes of each service of objects, as in `make up REPLICAS=2`.
REPLICAS ?=
# The service of `make scale` and `make restart`; `make restart` without one restarts all.
SERVICE ?=

up: $(READY)
	@$(RUN) deploy.local up --replicas "$(REPLICAS)"

scale: $(READY)
	@$(RUN) deploy.local scale --service "$(SERVICE)" --replicas "$(REPLICAS)"

restart: $(READY)
	@$(RUN) deploy.local restart --service "$(SERVICE)"

down ps: $(READY)
	@$(RUN) deploy.local $@

# SERVICE=objects for one service alone; OPTIONS as in "--since 10m --level WARNING".
logs: $(READY)
	@$(RUN) aidevos.cli.main logs $(SERVICE) $$([ -t 1 ] && echo --follow) $(OPTIONS)

test: $(READY) $(CHART_TOOLS) $(CONSOLE_TOOLS) $(CLIENT_TOOLS) $(PYRIGHT)
	@$(VENV)/bin/python -m tests.support.needs
	@$(PYTEST) $(OPTIONS)

# What lint checks and everything that needs no server, at once.
check: $(READY)
	@$(MAKE) --no-print-directory --jobs=2 static fast

fast: $(READY) $(CHART_TOOLS) $(CONSOLE_TOOLS) $(CLIENT_TOOLS) $(PYRIGHT)
	@$(PYTEST) tests/unit tests/contract tests/bench -m "not servers" $(OPTIONS)

lint: static
	@$(VENV)/bin/python -m pytest --quiet tests/unit/test_imports.py tests/unit/test_links.py tests/unit/tools/test_pages.py \
		tests/unit/deploy/kubernetes/test_chart.py

static: $(READY) $(CHART_TOOLS)
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(MAKE) --no-print-directory docs

# The site of the documentation, in var/docs. A link that leads nowhere fails.
docs: $(READY)
	@$(VENV)/bin/zensical build --strict

# What the image consists of, in the format of CycloneDX. The image itself has a list with licences.
SBOM ?= var/sbom.cdx.json
sbom: $(CHART_TOOLS)
	@mkdir -p $(dir $(SBOM))
	@$(VENV)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-file $(SBOM) deploy/docker/requirements.lock

# The files of the console, which are kept in the repository; needs Node.js.
console: $(READY) $(CONSOLE_TOOLS)
	@$(VENV)/bin/python -m tools.console

# The client for TypeScript, of which the gateway serves a file that is kept in the repository; needs Node.js.
client: $(READY) $(CLIENT_TOOLS)
	@$(VENV)/bin/python -m tools.typescript_client

# QUICK=1 compares requests alone, in one short round.
bench: $(READY)
	@$(VENV)/bin/python -m tests.bench $(if $(QUICK),--quick)

# The products that `make bench` compares with, in a folder and an environment of their own.
PEERS := $(VENV)/bench-peers
bench-peers: $(READY)
	@mkdir -p $(PEERS) && cp tests/bench/peers/package.json $(PEERS)
	@npm install --prefix $(PEERS) --no-audit --no-fund --no-package-lock --loglevel=error
	@$(PYTHON) -m venv $(PEERS)/venv
	@$(PEERS)/venv/bin/python -m pip install $(QUIETLY) --requirement tests/bench/peers/requirements.txt

# The instructions that hot paths take, beside the recorded ones. RENEW=1 records those of this code.
bench-guard: $(READY)
	@$(VENV)/bin/python -m tests.bench.guard $(if $(RENEW),--renew)

# The placement of 4,096 partitions on 1,000 hosts that come and go; OPTIONS as in "--hosts 100 --hours 24".
simulate-placement: $(READY)
	@$(VENV)/bin/python -m tools.placement $(OPTIONS)

# Whole fleets in virtual time, one for each seed; OPTIONS as in "--first 17".
simulate: export SEEDS ?= 300
simulate: $(READY)
	@$(VENV)/bin/python -m tests.simulation --seeds $(SEEDS) $(OPTIONS)

# Every change of hosts is repeated many times, and then random faults meet a fleet for MINUTES. With SEED or MINUTES, only
# the random faults. FAULT_SEED=… repeats what was random in the changes of hosts.
MINUTES ?=
SEED ?=
faults: export FAULT_ROUNDS ?= 20
faults: $(READY)
	@$(VENV)/bin/python -m tests.support.needs
ifeq ($(MINUTES)$(SEED),)
	@$(VENV)/bin/python -m pytest tests/faults --hypothesis-profile=deep $(OPTIONS)
endif
	@$(VENV)/bin/python -m tests.support.campaign $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

$(READY): $(INSTALLED) pyproject.toml
	@$(VENV)/bin/python -m pip install $(QUIETLY) --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version): set PYTHON"; exit 2; } >&2
	@echo "Installing what requirements.lock names into $(VENV), which takes a minute or more …"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install $(QUIETLY) --require-hashes --requirement requirements.lock
	@touch $@

$(CONSOLE_TOOLS) $(CLIENT_TOOLS) $(PYRIGHT): %/node_modules/.package-lock.json: %/package-lock.json
	@command -v npm > /dev/null || { echo "npm was not found: install Node.js 20 or newer" >&2; exit 2; }
	@npm ci --prefix $* --no-audit --no-fund --loglevel=error
	@touch $@

$(CHART_TOOLS): $(INSTALLED) tools/chart.lock deploy/docker/sbom.lock
	@$(VENV)/bin/python -m pip install $(QUIETLY) --require-hashes --requirement tools/chart.lock
	@$(VENV)/bin/python -m pip install $(QUIETLY) --require-hashes --requirement deploy/docker/sbom.lock
	@touch $@

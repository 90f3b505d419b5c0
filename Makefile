# Every target builds the environment that it needs first. `make help` lists them.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do command -v $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Tests wait more than they work: one process more than CI has cores. JOBS=0 runs one test after the other.
JOBS ?= 3
LOCK := uv pip compile pyproject.toml --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --quiet $(LOCK_ARGS)

.DEFAULT_GOAL := help
.PHONY: help up demo test check format e2e bench bench-alerts bench-service bench-collector bench-crowd bench-store bench-dashboard bench-lake fuzz docs screenshots lock clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps are remade where a lock file or the project's own metadata changed.
$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo 'installing the dependencies (about a minute, once) …'
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

up: $(VENV)/.runtime ## Run collector, service and dashboard; Ctrl-C stops them
	@exec $(BIN)/lastword up --follow-parent $(ARGS)

demo: $(VENV)/.runtime ## Send demo traffic with faults, starting the product if it is not up (ARGS="--turns 500")
	@exec $(BIN)/lastword demo $(ARGS)

test: $(VENV)/.dev ## Run all tests, those with servers and a browser too
	$(BIN)/pytest -n $(JOBS) $(ARGS)

check: $(VENV)/.dev ## Format, lint, types, and the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check
	$(BIN)/pytest -q -n 2 tests/unit

format: $(VENV)/.dev ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

e2e: $(VENV)/.dev ## Run the real programs and a real browser; screenshots land in artifacts/
	$(BIN)/pytest tests/e2e $(ARGS)

bench: $(VENV)/.dev ## Run the retrieval and replay benchmark (needs the data files, see docs/benchmarks.md)
	$(BIN)/python -m benchmarks.replay $(ARGS)

bench-alerts: $(VENV)/.dev ## Score the alerts beside other ways to alert, on synthetic services (about half an hour)
	$(BIN)/python -m benchmarks.alerts $(ARGS)

bench-service: $(VENV)/.dev ## Measure how fast the service streams, beside other ways to do it (about 8 minutes)
	$(BIN)/python -m benchmarks.service $(ARGS)

bench-collector: $(VENV)/.dev ## Measure how fast spans are taken, kept and found, beside a plain way, Phoenix and MLflow
	$(BIN)/python -m benchmarks.collector $(ARGS)

bench-crowd: $(VENV)/.dev ## Measure how much eight people's queries slow the taking of spans
	$(BIN)/python -m benchmarks.collector.crowd $(ARGS)

bench-store: $(VENV)/.dev ## Measure how a store of ten million turns answers and loads (ARGS="--turns 1000000 --days 3" for a smaller one)
	$(BIN)/python -m benchmarks.store $(ARGS)

bench-dashboard: $(VENV)/.dev ## Measure in a real browser how quickly the dashboard redraws over ten million turns (ARGS="--turns 1000000 --days 3" for fewer)
	$(BIN)/python -m benchmarks.dashboard $(ARGS)

bench-lake: $(VENV)/.dev ## Measure what a lake of several collectors costs, on Debian's PostgreSQL (about 2 minutes)
	$(BIN)/python -m benchmarks.lake $(ARGS)

fuzz: $(VENV)/.dev ## Ask the service at random for ten minutes, after its own OpenAPI document (ARGS="--seconds 60")
	$(BIN)/python -m tests.fuzz $(ARGS)

docs: $(VENV)/.dev ## Rewrite the generated parts of docs/
	$(BIN)/python docs/generate.py

lock: ## Pin the dependencies anew (needs uv; LOCK_ARGS=--upgrade takes newer ones)
	$(LOCK) --group build -o requirements.lock
	$(LOCK) --extra ducklake --group build --group dev -c requirements.lock -o requirements-dev.lock

clean: ## Remove the environment and caches; data/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info

screenshots: $(VENV)/.dev ## Make the pictures in docs/img from a real run (needs Debian's chromium)
	$(BIN)/python -m docs.screenshots

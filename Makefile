# The only entry for people and CI. `make` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
NATIVE := $(VENV)/.native
CHDB   := $(VENV)/chdb/.installed
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider
ON_EVERY_SERVER := tests/storage/contract tests/storage/timescale tests/storage/archive tests/storage/maintain \
	--ignore=tests/storage/maintain/test_command.py

.DEFAULT_GOAL := help
.PHONY: help setup native packages collector collector-full check test test-part test-servers demo generate lock bench soak clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) $(NATIVE) ## create .venv, install exactly what requirements.lock names (hash-checked), build receiver/native

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "WaferMonitor needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12 …" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing $$(grep -c '==' requirements.lock) packages from requirements.lock into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Without it the receiver decodes in Python. In CI a build that fails is a failure.
$(NATIVE): $(STAMP) $(wildcard receiver/native/*.toml receiver/native/src/*.rs receiver/native/python/wafermonitor/*)
	@if ! command -v cargo >/dev/null 2>&1; then echo "no cargo here: the receiver decodes in Python"; else \
		echo "building receiver/native with $$(cargo --version) (the first time about a minute)"; \
		PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
			--no-build-isolation --force-reinstall ./receiver/native && touch $@ || \
		{ echo "receiver/native could not be built: the receiver decodes in Python" >&2; test -z "$$CI"; }; fi

packages: ## Debian packages that the tests use (Chromium): installed when root, else named
	@.ci/packages

collector: setup ## a stock Collector: the one on PATH, or built once through Go (about 4 minutes)
	@$(BIN)/wafer collector install

collector-full: collector ## the same with the parts of further backends (Kafka, Prometheus, X-Ray): 2 minutes more
	@$(BIN)/wafer collector install --full

check: setup ## format, lint, types, import contracts, unit tests (under a minute)
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(PYTEST) -q -n 2 -m "not (postgres or collector or browser or servers or slow)"

native: setup ## format, lints and tests of receiver/native, where cargo is
	@if ! command -v cargo >/dev/null 2>&1; then echo "no cargo here: receiver/native is not checked"; else cd receiver/native && \
		{ cargo fmt --check || { echo "run: cargo fmt in receiver/native" >&2; exit 1; }; } && \
		cargo clippy --quiet --all-targets -- -D warnings && cargo test --quiet --no-default-features; fi

test: check native packages collector ## everything a newcomer's machine can run: real PostgreSQL, Collector, browser
	@$(PYTEST) -q -n 2 --dist loadgroup -m "(postgres or collector or browser or slow) and not servers"

$(CHDB): tests/servers/chdb.txt $(STAMP)
	@echo "installing ClickHouse's engine into $(VENV)/chdb"
	@rm -rf $(VENV)/chdb
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target $(VENV)/chdb -r $<
	@touch $@

test-servers: setup packages collector-full $(CHDB) ## the rest: longer screens, other servers and versions
	@$(PYTEST) -q -n 2 --dist loadgroup -m servers --ignore=tests/storage/timescale
	@for bin in /usr/lib/postgresql/*/bin; do \
		if test -x $$bin/postgres; then \
			echo "the store on $$($$bin/postgres --version)"; \
			WAFER_STORAGE_PG_BIN=$$bin $(PYTEST) -q -n 2 -m "postgres and not servers" $(ON_EVERY_SERVER) || exit 1; \
		else echo "no PostgreSQL of Debian here: the store was tested on the embedded one alone"; test -z "$$CI" || exit 1; fi; \
	done
	@echo "the store on TimescaleDB, Apache edition"
	@WAFER_TEST_STORE=apache $(PYTEST) -q -n 2 -m "postgres and not servers" $(ON_EVERY_SERVER)
	@WAFER_TEST_STORE=apache $(PYTEST) -q -n 2 -m servers tests/storage/timescale
	@if test -n "$$WAFER_TEST_TSL_DSN"; then echo "the store on TimescaleDB, Community edition"; \
		WAFER_TEST_STORE=community $(PYTEST) -q -n 2 -m "postgres and not servers" $(ON_EVERY_SERVER) && \
		WAFER_TEST_STORE=community $(PYTEST) -q -n 2 -m servers tests/storage/timescale; fi

test-part: setup ## the tests of some folders: make test-part PART="tests/query tests/ui"
	@$(PYTEST) -q -m "not servers" $(PART)

demo: setup collector ## everything on this machine, with jobs running; Ctrl-C ends it
	@$(BIN)/wafer demo

generate: setup packages ## constants, tables and screenshots that are committed but not written by hand
	@$(BIN)/python otel-semconv/semconv_generate.py
	@$(BIN)/python docs/generate.py
	@$(BIN)/python -m tests.conformance.page
	@$(BIN)/python -m tests.ui.screenshots docs/images

lock: ## choose versions anew (needs uv on PATH)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --no-annotate --extra all --group dev pyproject.toml -o requirements.lock

bench: setup collector ## the published figures (about 50 minutes): make bench BENCH="p01 p05" measures some of them
	@$(BIN)/python -m benchmarks $(BENCH)

soak: setup packages collector ## faults and fuzzing at full length; both lanes on a million spans; a year of maintenance; a fab of 10,000 runs
	@if test -e $(NATIVE); then $(BIN)/python -m tests.receiver.native.agree --spans 1000000; \
		else echo "receiver/native is not built here: there is one lane, and nothing to compare"; fi
	@WAFER_TEST_SOAK=1 $(PYTEST) -q tests/flow
	@WAFER_TEST_SOAK=1 $(PYTEST) -q -m servers tests/backends
	@WAFER_TEST_SOAK=1 $(PYTEST) -q tests/storage/maintain/test_month.py::test_a_year_at_a_hundredth
	@WAFER_TEST_SOAK=1 $(PYTEST) -q tests/alerting/simulator/test_trial.py

clean: ## remove what the targets made
	rm -rf $(VENV) receiver/native/target receiver/native/Cargo.lock build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

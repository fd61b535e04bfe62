# Two commands: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
LOG ?= postgres

.PHONY: help demo up down test check doctor format bench test-long lock kafka clean

help:               ## What there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements.lock pyproject.toml client/pyproject.toml tools/setup_environment.py
	@$(PYTHON) tools/setup_environment.py

demo: $(READY)      ## The main job, from a script to a served model (LOG=kafka: on a real broker)
	@$(BIN)/python tools/demo.py --log $(LOG)

up: $(READY)        ## Starts the server in the background and leaves it running
	@$(BIN)/python tools/up.py start --log $(LOG)

down: $(READY)      ## Stops what `make up` started
	@$(BIN)/python tools/up.py stop

test: $(READY)      ## Unit, contract (Postgres and Kafka) and system tests, at most 12 minutes on 2 cores
	@$(BIN)/python tools/doctor.py --for test
	@$(BIN)/python tools/test.py

check: $(READY)     ## Lint, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/mypy core projections actors adapters client/foldline tools
	@$(BIN)/lint-imports

doctor:             ## Says what is missing on this machine
	@$(PYTHON) tools/doctor.py

bench: $(READY)     ## Measures, one JSON line a workload
	@$(BIN)/python -m bench.all

test-long: $(READY) ## Long campaigns
	@$(BIN)/python tools/campaign.py simulation

lock:               ## Resolves requirements.lock anew
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-emit-package foldline pyproject.toml \
	  --extra kafka-admin --group dev --group build --no-header --python-version 3.11 -o requirements.lock

clean:              ## Removes what was built (not your data)
	rm -rf .venv .kafka dist build .mypy_cache .ruff_cache .pytest_cache

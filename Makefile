# make run    the demo: daemon, demo studies, table of what came back (Ctrl-C ends it)
# make test   everything that CI checks: lint, then every test, against real servers
# make help   the rest
#
# On a machine without a GPU, plain pip may fetch the CUDA build of torch, several gigabytes that nothing here uses.
# If you have an index or a folder with CPU builds, name it:  make run PIP_INSTALL_ARGS='--find-links /path/to/wheels'
# Another Python than the first suitable one:                 make run PYTHON=/path/to/python3.12

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

# Hundreds of processes import the same packages: compiled once, not by each (it halves the time a daemon takes to start).
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL_ARGS ?=
PYTEST_ARGS ?=

.PHONY: help run test pytest venv system-packages lint format benchmark viewer lock clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 26

run: venv ## start everything on this machine and send the demo studies
	@exec $(BIN)/dicom-worker run --profile demo

test: venv system-packages lint pytest ## lint and all tests (PYTEST_ARGS='-k word' for some)

pytest: venv ## the tests alone
	@scripts/tests.sh $(VENV) $(PYTEST_ARGS)

venv: $(VENV)/.complete ## the virtual environment, redone when pyproject.toml or constraints.txt change

$(VENV)/.complete: pyproject.toml constraints.txt
	@scripts/make-venv.sh $(VENV) $(PIP_INSTALL_ARGS)
	@touch $@

system-packages: ## Debian packages that the tests need (apt-get, with sudo if need be)
	@scripts/system-packages.sh

lint: venv ## ruff, mypy, import contracts, spelling, compose file
	@scripts/lint.sh $(VENV)

format: venv ## put the code into the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: venv system-packages ## what is measured against peers: ingest, rendering, answering, latency, viewer
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.render
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.viewer

viewer: ## the viewer's JavaScript from its sources (needs Node and npm; what comes out is committed)
	@scripts/build_viewer.sh

lock: venv ## write the installed versions down in constraints.txt
	@scripts/lock.sh $(VENV) > constraints.new && mv constraints.new constraints.txt

clean: ## remove what the other targets made; data and settings stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything from nothing, with Python 3.11 to 3.13, make and a package index:
#
#   make demo     set up, then run the whole story: train, package, serve, verify
#   make test     set up, then run all tests, real servers included
#   make setup    set up alone: .venv, .servers/triton, .servers/torchserve; what is done is kept, so again is instant
#   make numbers  set up, then run every benchmark for the numbers of record into record/ (under an hour on two cores)
#   make lint     ruff, mypy, import-linter, hadolint
#   make clean    remove everything that set-up and runs have made
#
# Variables:
#   TORCH_INDEX=URL        a package index to take torch from, beside the usual one (its CPU build is enough)
#   PIP_EXTRA='ARGS'       further arguments for every pip install
#   TRITON=no              go on without Triton; TORCHSERVE=no likewise
#   PYTHON=PROGRAM         the Python to begin with
#   DATA=FOLDER            where real pictures and networks are, for make numbers
#   NUMBERS='ARGS'         what the numbers are told, for example NUMBERS='--long'
#   PYTEST='ARGS'          what pytest is told, for example PYTEST='-k keys'
#   PTYNET_SERVERS=FOLDER  where the servers are installed, instead of .servers

PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
	$$each -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && echo $$each && exit; \
	done; echo python3)
TORCH_INDEX ?=
PIP_EXTRA ?=
TRITON ?= yes
TORCHSERVE ?= yes
PYTEST ?=
DATA ?= ../shared/data
NUMBERS ?=

PARTS := project $(if $(filter no,$(TRITON)),,triton) $(if $(filter no,$(TORCHSERVE)),,torchserve)
BIN := .venv/bin

.PHONY: help setup demo test numbers lint clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

setup:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 to 3.13 is needed: apt-get install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -m model_store_tools.serving.setup --torch-index '$(TORCH_INDEX)' --pip-extra '$(PIP_EXTRA)' $(PARTS)

demo: setup
	@$(BIN)/ptynet demo

test: setup
	@$(BIN)/python -m pytest $(PYTEST)

numbers: setup
	@$(BIN)/python -m benchmarks.record --data '$(DATA)' $(NUMBERS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	test ! -x $(BIN)/hadolint || $(BIN)/hadolint docker/Dockerfile.triton docker/Dockerfile.torchserve

clean:
	rm -rf .venv .servers ptynet-demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

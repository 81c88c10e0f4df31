# Every target makes what it needs: a virtual environment in .venv, from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS ?= postgres,dev,bench
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help install demo serve test check lint types bench drill gate-drill clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Scarwise needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (some minutes the first time; pip shows the large ones)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --progress-bar on -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

install: $(STAMP)  ## make .venv with everything in it

demo: $(STAMP)  ## it answers (a minute), it learns, and is only served once it proved itself
	@$(BIN)/scarwise demo

serve: $(STAMP)  ## the service, on http://127.0.0.1:8420
	@$(BIN)/scarwise serve

test: $(STAMP)  ## the whole test suite
	@$(BIN)/python -m pytest

check: lint types  ## what CI checks besides the tests

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/mypy

bench: $(STAMP)  ## measure quality, speed and memory; results in benchmarks/results
	@$(BIN)/python -m benchmarks

gate-drill: $(STAMP)  ## plant regressions and honest improvements; the gate must tell one from the other
	@$(BIN)/python -m benchmarks.gate

drill: $(STAMP)  ## kill and stop a turn of the loop at each of its points; the next one must finish it, once
	@$(BIN)/python -m benchmarks.kills
	@$(BIN)/python -m benchmarks.outages

clean:  ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help demo test check bench format docs clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: $(VENV)/.product ## run the benchmark on drawn scenes; ends with the path of a report
	$(BIN)/vexbench run --out $(DEMO)

test: $(VENV)/.developer ## run all tests
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest --numprocesses auto

check: $(VENV)/.developer ## formatting, lint, types, import rules, doctests, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --doctest-modules src
	$(BIN)/python docs/tables.py --check

bench: $(VENV)/.developer ## time against the peers, and what every method costs, and a study, as ratios to bare passes
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/peers.py
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/cost.py
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/efficiency.py --images 6 --budget 90s

format: $(VENV)/.developer ## format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.developer ## regenerate the tables of methods, metrics and datasets
	$(BIN)/python docs/tables.py

clean: ## remove the environment and what was run
	rm -rf $(VENV) runs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vexbench needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.product: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.developer: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,peers,fetch,pretrained]'
	@touch $@ $(VENV)/.product

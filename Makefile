# Everything a newcomer or a CI machine types. Set-up happens by itself and needs no root.
PYTHON ?= python3
VENV ?= .venv
LS_VENV ?= .venv-label-studio
BIN = $(VENV)/bin
SETUP = $(PYTHON) scripts/setup.py --venv $(VENV)
PYTEST = $(BIN)/python -m pytest
# One process per core, each with one thread. The long tests keep the order of their files: else a file with one test that
# takes minutes comes last.
PARALLEL = -n logical --maxprocesses 4 --dist loadfile
test test-slow soak: export OMP_NUM_THREADS ?= 1
export MASKLOOP_TEST_LABEL_STUDIO ?= $(abspath $(LS_VENV))/bin/label-studio

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow soak test-all lint format lock clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Install Maskloop and what it needs into $(VENV)
	@$(SETUP)

demo: ## Set up and start everything, with a demo project, and print the address
	@$(SETUP) --label-studio $(LS_VENV)
	@MASKLOOP_HOME="$${MASKLOOP_HOME:-$(CURDIR)/.maskloop}" \
	MASKLOOP_LABEL_STUDIO="$${MASKLOOP_LABEL_STUDIO:-$(abspath $(LS_VENV))/bin/label-studio}" \
	exec $(BIN)/maskloop demo

test: setup ## Set up and run the quick tests
	@$(PYTEST) $(PARALLEL) $(ARGS)

test-slow: ## Set up and run the long tests: Label Studio, browser, PostgreSQL, training
	@$(SETUP) --label-studio $(LS_VENV) --tools
	@$(PYTEST) -m "slow and demo" $(ARGS)
	@$(PYTEST) -m "slow and not demo" $(PARALLEL) --no-loadscope-reorder $(ARGS)

soak: ## Fifty kills and every other fault on a real installation; prints the table
	@$(SETUP) --label-studio $(LS_VENV) --tools
	@MASKLOOP_TEST_KILLS=$${MASKLOOP_TEST_KILLS:-50} $(PYTEST) -m slow -s tests/test_recovery.py $(ARGS)

test-all: test test-slow lint ## Run all tests and the linters

lint: setup ## ruff, ruff format and mypy (strict)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: ## Write the constraints files from what is installed and tested
	@$(PYTHON) scripts/lock.py --venv $(VENV) --out constraints.txt
	@$(PYTHON) scripts/lock.py --venv $(LS_VENV) --out constraints-label-studio.txt

clean: ## Remove caches, virtual environments and the demo's state
	rm -rf .venv .venv-label-studio .maskloop .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

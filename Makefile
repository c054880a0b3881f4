# Every target sets up what it needs by itself: a virtual environment in .venv, pinned packages, and (for the demo) the pocket model and data.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEMO   ?= full
BENCH  ?= layer step decode ranking paths data
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test harness cluster lint bench align clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v[:2] <= (3, 13) else f"mixtune needs Python 3.10 to 3.13, {sys.executable} is {v[0]}.{v[1]}: try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[pocket,dev]'
	@touch $(READY)

setup: $(READY) ## virtual environment with pinned packages

ifeq ($(filter full smoke,$(DEMO)),)
$(error DEMO is '$(DEMO)': use DEMO=smoke, or leave it out for the full demo)
endif

demo: $(READY) ## the main job end to end: tune mixlora and lora on the pocket model, compare, report (DEMO=smoke: two minutes)
	$(BIN)/mixtune demo recipes/pocket/demo.yaml $(if $(filter smoke,$(DEMO)),--smoke)

test: $(READY) ## the whole test suite, under ten minutes on two cores
	$(BIN)/python -m pytest

harness: $(READY) ## the tests with the real lmms-eval, which the suite leaves out where that is not installed
	$(BIN)/python -m pip install --no-deps --requirement tests/lmms-eval.txt
	$(BIN)/python -m pytest tests/evaluate/test_harness.py

cluster: $(READY) ## the tests with a real Ray, on a cluster of this machine, which the suite leaves out where that is not installed
	$(BIN)/python -m pip install --no-deps --requirement tests/ray.txt
	$(BIN)/python -m pytest tests/compare/test_pools.py

lint: $(READY) ## ruff, the type checker, and the tests of size and of imports
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

bench: $(READY) ## time and memory beside peft's LoRA and the released computation (BENCH=layer: that one alone; about three quarters of an hour)
	@for name in $(BENCH); do $(BIN)/python -m benchmarks $$name || exit 1; done

align: $(READY) ## make the pocket projector again (stage 1; about half an hour) as it is kept in the repository
	$(BIN)/mixtune train recipes/pocket/align.yaml
	$(BIN)/mixtune pocket adopt runs/align

clean: ## remove the virtual environment and build leftovers (runs/ and the asset cache stay)
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache

# `make demo` and `make test` are all that a newcomer needs; both create the same .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Whatever a run caches stays inside the .venv, so that removing the checkout removes everything.
# Numba notices an edited kernel but not edited kernels that it calls, and stale ones crash: so the
# place of the cache depends on all of them.
KERNELS := $(shell grep -rl --include=*.py njit indexes models corpus | sort | xargs cat | cksum | cut -d' ' -f1)
export NUMBA_CACHE_DIR := $(abspath $(VENV))/cache/numba/$(KERNELS)
export PIP_NO_CACHE_DIR := 1
# Two threads on two busy cores are many times slower than one: tests and the demo state theirs.
export OMP_NUM_THREADS ?= 1

.PHONY: demo setup test test-long lint types layers format clean

demo: $(VENV)/installed
	$(BIN)/ragstone demo

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV), which takes a minute or two ..."
	$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	touch $@

test: lint types layers
	$(BIN)/python -m pytest -n 2

test-long: $(VENV)/installed
	$(BIN)/python -m pytest -m long

lint: $(VENV)/installed
	$(BIN)/ruff check --cache-dir $(VENV)/cache/ruff .
	$(BIN)/ruff format --check --cache-dir $(VENV)/cache/ruff .

# mypy wants a folder whose name is an identifier; a checkout may have any name, hence the link.
types: $(VENV)/installed
	mkdir -p $(VENV)/types && ln -sfn ../.. $(VENV)/types/ragstone
	MYPYPATH=$(VENV)/types $(BIN)/mypy --cache-dir $(VENV)/cache/mypy -p ragstone

layers: $(VENV)/installed
	$(BIN)/lint-imports --cache-dir $(VENV)/cache/imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix --cache-dir $(VENV)/cache/ruff .
	$(BIN)/ruff format --cache-dir $(VENV)/cache/ruff .

clean:
	rm -rf $(VENV) *.egg-info build dist

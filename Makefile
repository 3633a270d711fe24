# make demo: set-up, then the main job on real data: about a minute after the set-up.
# make test: set-up, then the tests.            Both work on a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Idle OpenMP threads would otherwise spin, and several processes on two cores slow one another down by ten.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-all lint types docs clean

demo: $(READY)
	$(BIN)/leanfit compress recipes/digits-resnet-half-int8.yaml --out runs/demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-all: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache

# leanfit needs Python 3.11 or newer; constraints.txt pins the versions it is tested with.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "leanfit needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cpu,digits,dev]"
	@touch $(READY)

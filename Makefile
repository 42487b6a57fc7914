# make demo: stylize the clip that ships here.   make test: lint, types and the whole suite.
# Both set up their own .venv. TORCH_INDEX names an index of CPU wheels of torch for `make test`.
PYTHON ?= python3
BIN := .venv/bin
TORCH_INDEX ?=

.PHONY: demo test clean

demo: .venv/core
	@mkdir -p demo/out
	@$(BIN)/rtstyle video demo/big_buck_bunny.mp4 demo/out/big_buck_bunny.sketch.mp4 --style sketch --overwrite

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "rtstyle needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/core: .venv/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/test: .venv/core
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) 'torch==2.13.0'
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

clean:
	rm -rf .venv demo/out build *.egg-info

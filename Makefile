# make demo: stylize the clip that ships here.   make test: lint, types and the whole suite.
# make docs: build the site into build/site, with every link checked.   make dist: wheel and sdist, checked.
# All set up their own .venv. TORCH_INDEX names an index of CPU wheels of torch for `make test`; the tests that measure
# no time run in JOBS processes, the others after them.
PYTHON ?= python3
BIN := .venv/bin
TORCH_INDEX ?=
JOBS ?= 2

.PHONY: demo test docs dist clean

demo: .venv/core
	@mkdir -p demo/out
	@$(BIN)/rtstyle video demo/big_buck_bunny.mp4 demo/out/big_buck_bunny.sketch.mp4 --style sketch --overwrite

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
ifeq ($(JOBS),1)
	$(BIN)/python -m pytest
else
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not alone"
	$(BIN)/python -m pytest -m "alone and not slow"
endif

docs: .venv/docs
	$(BIN)/python docs/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python -m pytest -q tests/test_docs.py
	@echo build/site/index.html

dist: .venv/dist
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "rtstyle needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/core: .venv/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/test: .venv/core
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) 'torch==2.13.0'
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,docs]'
	@touch $@

.venv/docs: .venv/core
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]' pytest
	@touch $@

.venv/dist: .venv/python
	$(BIN)/pip install --quiet --disable-pip-version-check build twine
	@touch $@

clean:
	rm -rf .venv demo/out build dist *.egg-info

# Two commands do everything on a fresh machine: `make demo` and `make test`. Each installs what it needs first.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# uv where the machine has it, else uv from PyPI in a small environment of its own.
UV     := $(shell command -v uv 2>/dev/null || echo $(VENV)-uv/bin/uv)

.PHONY: help install demo check test lint speed docs lock licences clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    pretrain, graft, fine-tune and score on embedded data; ends with a report"
	@echo "make check   linters and the tests that take seconds: before every commit"
	@echo "make test    run all tests"
	@echo "make lint    ruff and mypy"
	@echo "make speed   one table of ratios against named rivals and limits, within 15 minutes"
	@echo "make docs    the site of docs/, in build/site"

install: $(STAMP)

$(VENV)-uv/bin/uv:
	$(PYTHON) -m venv $(VENV)-uv
	$(VENV)-uv/bin/python -m pip install --quiet uv

# Versions and hashes come from requirements.lock; the package itself is linked, so edits take effect at once.
$(STAMP): pyproject.toml requirements.lock | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet $(VENV)
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: $(STAMP)
	$(BIN)/python recipes/demo.py

# A worker for every core, up to eight: each holds the libraries, about 1 GB. A file's tests stay with one worker, which
# builds what they share once; files with slow tests come first, so that no worker ends with one.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadscope --no-loadscope-reorder

check: lint
	$(PYTEST) -m "not slow"

test: $(STAMP)
	$(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

speed: $(STAMP)
	$(BIN)/python tests/speed/table.py --out runs/speed.md

# Offline; a warning is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	for page in clinic student engineer; do \
		$(BIN)/jupytext --quiet --to notebook --output build/site/tutorials/$$page.ipynb docs/tutorials/$$page.md || exit 1; done

licences: $(STAMP)
	$(BIN)/python docs/licences.py

lock: pyproject.toml
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) $(VENV)-uv runs

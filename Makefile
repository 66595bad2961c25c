# Two words to begin with: `make demo` and `make test`. The environment is .venv, and nothing else
# on the machine is touched. The second time is quick: stamps remember what is installed.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(shell command -v $(name) 2>/dev/null)))
BIN := .venv/bin
KERNELS := $(wildcard src/puna/kernels/native/*.h src/puna/kernels/native/*.cpp)
SOURCES := pyproject.toml constraints.txt setup.py $(KERNELS)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# What a model answers, and not a scripted one; once more with weights in few bits.
PACKED := tests/e2e/test_local_model.py tests/e2e/test_demo.py

.PHONY: help demo test check unit bench format clean

help:
	@echo "make demo     set everything up, run the two lesson programs on the embedded models"
	@echo "make test     all tests, some of them again with quantised weights"
	@echo "make check    format, lint, types, floors and unit tests: what every change must pass"
	@echo "make bench    measure Puna beside its peers, which it installs first: two hours, 20 GB of disk"
	@echo "make format   put the code in form"
	@echo "make clean    remove .venv and caches"

demo: .venv/.demo
	@$(BIN)/python examples/demo.py

test: .venv/.dev
	$(BIN)/python -m pytest
	PUNA_QUANTIZE=int8 $(BIN)/python -m pytest $(PACKED)
	PUNA_QUANTIZE=int4 $(BIN)/python -m pytest $(PACKED)

unit: .venv/.dev
	$(BIN)/python -m pytest tests/unit

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/unit

bench: .venv/.dev
	$(BIN)/python -m bench

format: .venv/.dev
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "puna: no Python found; install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "puna: $(PYTHON) is too old; Puna needs Python 3.11 or newer (make PYTHON=...)"; exit 1; }
	@echo "Making the environment in .venv with $(PYTHON) ..."
	@$(PYTHON) -m venv .venv

.venv/.demo: $(SOURCES) | .venv/bin/python
	@echo "Installing Puna and what the demo needs into .venv (a few minutes the first time) ..."
	@$(PIP) -e '.[demo]'
	@touch $@

.venv/.dev: $(SOURCES) | .venv/bin/python
	@echo "Installing Puna and its development tools into .venv (a few minutes the first time) ..."
	@$(PIP) -e '.[dev]'
	@touch .venv/.demo $@

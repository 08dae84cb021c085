# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
# A virtual environment is made in .venv on first use; delete it (`make clean`) to start over.

PYTHON ?= python3
VENV ?= .venv
# Extra words for `pip install torch`, for example the index of CPU-only builds.
TORCH_ARGS ?=
DEMO_ARGS ?=
TESTS ?= tests
# Test processes; a module's tests stay together unless one process runs out of work.
WORKERS ?= 2

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --durations 15

.DEFAULT_GOAL := help
.PHONY: help install demo demo-videogpt test test-slow fuzz lint types layers ci clean

help:
	@echo "make demo     record a game, learn it, measure it, play it (about 10 minutes on 2 cores)"
	@echo "make demo-videogpt   the same for the system videogpt, a world that runs by itself"
	@echo "make test     run the tests (at most 8 minutes on 2 cores)"
	@echo "make test-slow   the rest: learning, killed and resumed processes, the tutorial word for word"
	@echo "make fuzz     100,000 malformed messages to the play server"
	@echo "make lint     ruff: style and formatting       make types    mypy, strict"
	@echo "make layers   who may import whom              make ci       everything the CI runs"
	@echo "make install  only the virtual environment     make clean    remove it and the caches"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter; PLAY=0 keeps the demo from serving the play page;"
	@echo "DEMO_ARGS=--quick makes a two-minute demo; TORCH_ARGS='...' goes to pip when torch is installed."

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "error: $(PYTHON) is missing or older than 3.11; run: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo \
	  "error: $(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "[1/3] making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "[2/3] installing torch (the largest download; a few minutes)"
	@$(PIP) --constraint constraints.txt $(TORCH_ARGS) $(shell grep '^torch==' constraints.txt)
	@echo "[3/3] installing reelworld, simulators and tools"
	@$(PIP) --constraint constraints.txt --editable '.[envs,robotics,dev]'
	@$(PIP) --constraint constraints.txt --editable '.[screen]' >/dev/null 2>&1 || echo \
	  "without the screen recorder: on Linux its packages need a C compiler and kernel headers"
	@touch $@
	@echo "installed in $(VENV)"

demo: $(INSTALLED)
	@$(BIN)/reelworld demo $(DEMO_ARGS)

demo-videogpt: $(INSTALLED)
	@$(BIN)/reelworld demo --system videogpt $(DEMO_ARGS)

test: $(INSTALLED)
	@$(PYTEST) -m "not slow" $(TESTS)

test-slow: $(INSTALLED)
	@$(PYTEST) -m slow $(TESTS)

fuzz: $(INSTALLED)
	@REELWORLD_FUZZ=100000 $(BIN)/python -m pytest tests/serve/test_fuzz.py

lint: $(INSTALLED)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(INSTALLED)
	@$(BIN)/mypy

layers: $(INSTALLED)
	@$(BIN)/lint-imports

ci:
	@.ci/run

clean:
	@rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

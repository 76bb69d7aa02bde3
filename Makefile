# tapdot: make demo shows it working, make test proves it.
# Both set up .venv themselves. PIP_FLAGS goes to pip, for example:
#   make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"   (PyTorch without CUDA, see README)

PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench soak clean

help:
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | column -t -s '|'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tapdot needs Python 3.11 or newer, and $(PYTHON) is older; run make with PYTHON=python3.12, say." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[test,examples,dev]'
	@touch $(STAMP)

demo: $(STAMP) ## compiles, verifies and measures a small network and a ResNet-18 on this machine
	$(BIN)/python -m examples.demo.run

test: $(STAMP) ## runs the tests (under 15 minutes on two cores)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## against the engines that are installed (pip install -e .[bench]), one pinned core, interleaved
	$(BIN)/python -m benchmarks.peers

soak: $(STAMP) ## ten minutes of hostile clients against one agent
	$(BIN)/python -m pytest -q tests/runtime --soak

clean: ## removes the virtual environment
	rm -rf $(VENV)

PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all check format setup results bench energy-methods clean

demo: .venv/.demo  ## the main job on the shipped pictures and weights
	$(BIN)/python examples/demo.py

test: .venv/.dev  ## everything that runs in minutes
	$(BIN)/pytest -n 2 -m "not slow" -q

test-all: .venv/.dev  ## the slow tests too
	$(BIN)/pytest -n 2 -q

check: .venv/.dev  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

results: .venv/.dev  ## docs/results.md and docs/reproduction.md from docs/records
	$(BIN)/python benchmarks/results.py

bench: .venv/.dev  ## the speed claims as ratios; leave the machine alone meanwhile
	$(BIN)/python benchmarks/bench.py

energy-methods: .venv/.dev  ## how far each way to measure energy is off on simulated boards
	$(BIN)/python benchmarks/energy_methods.py

setup: .venv/.dev  ## a virtual environment for development

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/pip
	$(PIP) -e '.[all]'
	touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/pip
	$(PIP) -e '.[dev]'
	touch $@ .venv/.demo

clean:
	rm -rf .venv runs build dist

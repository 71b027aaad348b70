PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all package install-and-use environments oldest campaign check format setup results site tutorial bench runtimes energy-methods gpu gpu-rehearsal clean

demo: .venv/.demo  ## detect, evaluate and measure with the bundled images and weights
	$(BIN)/python examples/demo.py

test: .venv/.dev  ## run all tests except the slow ones; takes minutes
	$(BIN)/pytest -n 2 -m "not slow and not campaign" -q

test-all: .venv/.dev  ## run all tests, including the slow ones
	$(BIN)/pytest -n 2 -m "not campaign" -q

campaign: .venv/.dev  ## try 20,000 changed files, kills, full disks and bad servers; takes a quarter of an hour on two idle cores
	OMP_NUM_THREADS=1 PYTHONPATH=src $(BIN)/python -m tests.campaign.run --sections --jobs 2 --record docs/records/campaign.json

check: .venv/.dev  ## check formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/.dev  ## format the code and apply ruff's fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

results: .venv/.dev  ## render docs/results.md, docs/reproduction.md and what other pages quote from docs/records
	$(BIN)/python benchmarks/results.py

site: .venv/.dev  ## build the site from docs/ into build/site; no page of it asks another host for anything
	PYTHONPATH=src NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "built: $(BIN)/python -m http.server -d build/site shows it at http://localhost:8000"

tutorial: .venv/.dev  ## run the commands of docs/tutorial.md and put what they print into the page; a quarter of an hour
	$(BIN)/python benchmarks/tutorial.py

bench: .venv/.dev  ## check the speed claims; keep the machine otherwise idle
	$(BIN)/python benchmarks/bench.py

runtimes: .venv/.dev  ## measure the bundled detector in all runtimes and the runner without PyTorch; keep the machine otherwise idle
	$(BIN)/python benchmarks/runtimes.py

GPU_PYTHON ?= $(BIN)/python
gpu:  ## on a GPU: tests, tables, training on VOC, throughput, the study; GPU="--budget 580 --data VOC --cifar CIFAR"
	PYTHONPATH=src:$$PYTHONPATH $(GPU_PYTHON) benchmarks/gpu.py $(GPU)

gpu-rehearsal: .venv/.dev  ## the same, tiny, on the CPU
	$(BIN)/python benchmarks/gpu.py --rehearse

energy-methods: .venv/.dev  ## measure the error of each energy method on simulated boards
	$(BIN)/python benchmarks/energy_methods.py

package: .venv/.dev  ## build the wheels and sdists of vovnet and vovnet-runtime into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	cd runtime && ../$(BIN)/python -m hatchling build -d ../dist

install-and-use: package  ## install wheel and sdist with a Python and use vovnet as its users do: make install-and-use PYTHON=python3.13
	$(BIN)/python benchmarks/install_and_use.py --python $(PYTHON) $(INSTALL)

environments: package  ## install the wheels in bare environments, with each extra alone; ENVIRONMENTS="--record" notes what each weighs
	$(BIN)/python benchmarks/environments.py $(ENVIRONMENTS)

oldest: .venv-oldest/.dev  ## run the tests with the oldest allowed versions of the dependencies
	.venv-oldest/bin/pytest -n 2 -m "not slow and not campaign" -q

setup: .venv/.dev  ## create .venv with everything for development

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv-oldest/.dev: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e ".[dev]"
	touch $@

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/pip
	$(PIP) -e '.[all]'
	touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/pip
	$(PIP) -e '.[dev]'
	touch $@ .venv/.demo

clean:  ## remove .venv, runs and build outputs
	rm -rf .venv .venv-oldest runs build dist

# The two commands a newcomer needs: make demo, make test. Both make the virtual environment first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP = $(BIN)/python -m pip install --disable-pip-version-check
# Pins for Python 3.11 to 3.13; on 3.10 leave them out: make CONSTRAINTS= test
CONSTRAINTS ?= -c constraints.txt

# One knob for all thread pools; more threads than cores make small networks slower. Overridable.
OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
export OMP_NUM_THREADS
# The tests start hundreds of processes; without byte code each would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

# Other people's DICOM programs, which the tests ask for a second opinion, and a file of each.
TOOLS := orthanc orthanc-dicomweb dcmtk dicom3tools chromium chromium-driver eatmydata openssl gcc libc6-dev procps
TOOL_FILES ?= /usr/sbin/Orthanc /usr/share/orthanc/plugins/libOrthancDicomWeb.so /usr/bin/dcmdump /usr/bin/dciodvfy \
  /usr/bin/chromium /usr/bin/chromedriver /usr/bin/eatmydata /usr/bin/openssl /usr/bin/gcc /usr/bin/pgrep

.PHONY: help demo tools test lint types imports docs pytest test-fast mutants bench gpu-check hub format image image-test compose-test clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.venv: $(STAMP) ## make the virtual environment and install into it, once

# torch first and alone, by pip: whichever build of it (CPU, CUDA) the index of this machine gives is then kept.
# uv installs the rest in a quarter of pip's time, but knows nothing of pip's settings; where only those lead to an
# index, pip does it (at once with make INSTALLER=pip .venv).
INSTALLER ?= uv
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info < (3, 14); sys.exit(0 if ok else f"Python {sys.version.split()[0]}; allowed: 3.10 to 3.13; do: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0 $(filter uv,$(INSTALLER))
	$(if $(filter uv,$(INSTALLER)),$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python $(CONSTRAINTS) -e ".[test]" ||) \
	  $(PIP) $(CONSTRAINTS) -e ".[test]"
	@touch $@

demo: $(STAMP) ## phantom data, a few minutes of training, demo/report.html
	$(BIN)/python -m iscl_monai.demo

# Never fails: tests without their tool skip, or fail if CI=true. Debian starts what it installs, at every boot, too;
# an Orthanc with default ports and passwords must not stay behind, unless there was one before.
tools: ## Orthanc, dcmtk, chromium and others for the tests, if missing; needs Debian and root, else does nothing
	@if ls $(TOOL_FILES) >/dev/null 2>&1; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "tools: some are missing; as root on Debian: apt-get install $(TOOLS)"; exit 0; \
	fi; \
	before=; if [ -e /usr/sbin/Orthanc ]; then before=yes; fi; export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq || true; \
	apt-get install -qq -y --no-install-recommends $(TOOLS) || echo "tools: apt-get failed, see above"; \
	if [ -e /usr/sbin/Orthanc ] && [ -z "$$before" ]; then \
	  if [ -d /run/systemd/system ]; then systemctl disable --now orthanc; \
	  else /etc/init.d/orthanc stop; update-rc.d orthanc disable; fi || true; \
	fi

test: lint types imports docs pytest ## everything that must be green before a commit

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

imports: $(STAMP) ## who may import whom
	$(BIN)/lint-imports

# Sphinx needs Python 3.11; on 3.10 it is not installed. Without -E only what has changed is read again.
docs: $(STAMP) ## the documentation as a site in build/site; a broken link is an error
	@if [ -x $(BIN)/sphinx-build ]; then $(BIN)/sphinx-build -q -W --keep-going -d build/doctrees -c docs . build/site; \
	else echo "docs: left out, they need Python 3.11 and pip install -e '.[docs]'"; fi

# A worker for every core and one more, as nodes and their peers wait half the time (test-fast has none); one thread
# each. A worker works off neighbouring tests, for they share what is costly to make.
WORKERS ?= $(shell expr 1 + $$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2))
WORKING := --numprocesses=$(WORKERS) --dist=worksteal
pytest test-fast: export OMP_NUM_THREADS = 1
test-fast: WORKERS = $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)

pytest: $(STAMP) ## the tests, with the coverage floor
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(WORKING)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-fast: $(STAMP) ## the tests without a node, training, program or phantom scan; says what it left out
	$(BIN)/python -m pytest $(WORKING) -m "not slow and not node"

MUTANTS_ARGS ?=

mutants: $(VENV)/.mutants ## do tests notice changed code? half an hour; MUTANTS_ARGS='--minutes 20', goes on next time
	$(BIN)/python tests/mutation/check_mutants.py $(MUTANTS_ARGS)

$(VENV)/.mutants: $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check $(CONSTRAINTS) -e ".[mutants]"
	@touch $@

BENCH_ARGS ?=

bench: $(STAMP) ## what a slice, a series and a start cost, beside other networks; half an hour; writes bench/*.json
	mkdir -p bench
	$(BIN)/python benchmarks/bench.py --out bench/methods.json $(BENCH_ARGS)
	$(BIN)/python benchmarks/end_to_end.py --out bench/end_to_end.json
	$(BIN)/python benchmarks/start_up.py --out bench/start_up.json
	$(BIN)/python benchmarks/growth.py --out bench/growth.json

GPU_ARGS ?=

gpu-check: $(STAMP) ## all that is open on a GPU, in at most eight minutes; writes gpu.json and gpu.md
	$(BIN)/python benchmarks/gpu.py $(GPU_ARGS)

format: $(STAMP) ## rewrite files the way ruff wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

IMAGE ?= iscl-monai
IMAGE_ARGS ?=

image: ## build the container of the node with docker; IMAGE_ARGS='--build-arg ...', see the Dockerfile
	DOCKER_BUILDKIT=1 docker build --build-arg REVISION="$$(git rev-parse HEAD)" \
	  --build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' iscl_monai/version.py)" $(IMAGE_ARGS) -t $(IMAGE) .

image-test: $(STAMP) ## build it without a registry, and prove what is said about it; minutes, Debian and root
	$(BIN)/python tests/container/check_image.py

compose-test: $(STAMP) ## bring up compose.yaml, send a series through, stop it; minutes, Debian and root
	$(BIN)/python tests/container/check_compose.py

HUB ?= build/iscl_ct_denoising
HUB_ARGS ?=

hub: $(STAMP) ## the bundle as Model Zoo, MONAI Label, MONAI Deploy and Hugging Face want it, in build/iscl_ct_denoising
	rm -rf $(HUB)
	mkdir -p $(dir $(HUB))
	$(BIN)/python deploy/hub/make_hub.py $(HUB) $(HUB_ARGS)

clean: ## remove what was built, the virtual environment too; runs/ stays
	rm -rf $(VENV) build dist htmlcov demo mutants .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache \
	  .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

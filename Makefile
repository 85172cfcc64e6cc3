# The course in commands. Each target sets up all it needs in .venv (course.py does it); a second run installs nothing.
# One environment serves lessons and tests alike: what differs is a few small packages beside PyTorch's gigabytes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A file of exact versions to install: CI names requirements.lock; without it, the newest above the floors are taken.
LOCK ?=
# CPU=1: PyTorch without CUDA, on Linux 2 GB instead of 6.
CPU ?=
CHOICES := $(if $(CPU),--cpu) $(if $(LOCK),--lock $(LOCK))
# Tests run in as many processes as there are cores; each may take 3 GB, so no more than four.
WORKERS ?= -n auto --maxprocesses=4
# Two torch threads that wait actively on a busy machine are ten times slower.
export OMP_WAIT_POLICY = PASSIVE

.DEFAULT_GOAL := help
.PHONY: ready help setup course lab student solutions test test-long unit lint notebooks test-browser site readme benchmark \
  speed fuzz tutor gpu-pack test-colab test-gpu test-sets test-floors test-newest lock badges format clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

setup:  ## install all that the course needs into .venv (CPU=1: PyTorch without CUDA)
	@$(PYTHON) course.py setup $(CHOICES)

course: ready  ## run all notebooks end to end: copies, HTML and a results table under build/
	@$(PYTHON) course.py course

lab: ready  ## open the notebooks in JupyterLab
	@$(PYTHON) course.py lab

student: ready  ## write the notebooks without solutions and outputs into build/student (OUT=dir: elsewhere; OVERWRITE=1)
	@$(BIN)/python notebooks/editions.py student $(if $(OUT),--out "$(OUT)") $(if $(OVERWRITE),--overwrite)

solutions: ready  ## write them with each exercise filled in, and executed, into build/solutions (OUT=dir: elsewhere; OVERWRITE=1)
	@$(BIN)/python notebooks/editions.py solutions $(if $(OUT),--out "$(OUT)") $(if $(OVERWRITE),--overwrite)

test: ready lint  ## check style, run all tests, compare the notebooks' stored outputs
	@$(BIN)/python -m pytest -q $(WORKERS)

test-long: ready  ## run the long tests that `make test` leaves out: notebooks on a pretended GPU, with each cell run twice, as a student's
	@$(BIN)/python -m pytest -q $(WORKERS) -m long tests

unit: ready  ## run the tests without the notebooks
	@$(BIN)/python -m pytest -q $(WORKERS) tests

lint: ready
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/ruff format --check --line-length 120 notebooks/*.py

notebooks: ready  ## execute the committed notebooks in place
	@$(BIN)/python notebooks/run.py --in-place

test-browser: ready  ## move the sliders of the notebooks in a real JupyterLab (wants Chromium; WHOLE=1: run all cells there, 30 minutes)
	@$(BIN)/python tests/browser.py $(if $(WHOLE),--whole)

site: ready  ## build the website of the course into build/site; nothing is executed
	@rm -rf build/site
	@$(BIN)/python -m sphinx -EW --keep-going -q -b html -c docs -d build/doctrees . build/site
	@echo "open build/site/index.html"

readme: ready  ## write the tables of README, docs/results.md, docs/scaling.md, the cards' figures, and the picture again
	@$(BIN)/python docs/tools/update_readme.py

benchmark: ready  ## measure all tables of data/results that are not up to date, and write the README's
	@$(BIN)/python -m helpers benchmark
	@$(BIN)/python docs/tools/update_readme.py

speed: ready  ## measure throughput, processes, restoring, codec, DW-SSIM and memory, each against the plain way
	@$(BIN)/python tests/benchmark.py

test-colab: ready  ## run all notebooks with Colab's versions, as after a click on a badge (6 GB, once)
	@$(BIN)/python tests/colab.py

test-gpu:  ## try all of the course on this machine's GPU, within five minutes; without .venv, by PYTHON, if that has torch
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) tests/gpu.py

test-sets: ready  ## fetch all image sets from a server here, then train and measure with them (wants COURSE_DATA)
	@$(BIN)/python tests/sets.py

test-floors: ready  ## run the unit tests with the oldest versions allowed, on Python 3.10 (5 GB, once)
	@$(BIN)/python tests/versions.py floors

test-newest: ready  ## run the unit tests with the newest versions, on the newest Python here (6 GB, once)
	@$(BIN)/python tests/versions.py newest

tutor: ready  ## write what an assistant beside a learner reads: AGENTS.md, and metadata of the exercises
	@$(BIN)/python docs/tools/tutor.py

gpu-pack: ready  ## pack code, weights and pictures to train elsewhere (RECIPES="A B", SETS=A,B, MB=50, OUT=FILE)
	@$(BIN)/python docs/tools/gpu_pack.py $(RECIPES) $(if $(SETS),--sets "$(SETS)") $(if $(MB),--megabytes $(MB)) \
	  $(if $(OUT),--out "$(OUT)")

lock: ready  ## write requirements.lock again: the newest versions, which CI then installs
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.10 --no-annotate --extra dev \
	  --custom-compile-command 'make lock' --output-file requirements.lock requirements.txt pyproject.toml

badges:  ## make badges and links name your fork: make badges REPO=owner/name [BRANCH=main]
	@$(PYTHON) docs/tools/badges.py --repository '$(REPO)' --branch '$(BRANCH)'

fuzz: ready  ## try all loaders on spoilt and hostile files, and write the table of docs/robustness.md (Linux, an hour)
	@$(BIN)/python tests/fuzz.py --write

format: ready  ## format the code
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format . ; $(BIN)/ruff format --line-length 120 notebooks/*.py

clean:  ## remove what the targets made, the environment included
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis *.egg-info

ready:
	@$(PYTHON) course.py ready $(CHOICES)

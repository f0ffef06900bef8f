# make pipeline   the whole offline run: seven notebooks, no key, no network
# make check      lint, types, notebooks, parameters and small units, in less than a minute: at each save
# make test       every test but the slow suites below
# make bench      times of the environment on this machine
# make soak       400 environments, some killed by force: nothing is left of them
# make attacks    every scripted attack against the gym, as a table
# make faults     every planted fault and every sound task of the library through the gates
# make exports    the tests of exports on every task of outputs/offline
# make kills      whole runs killed by force again and again end as one that nobody disturbed
# make storm      an endpoint that answers 503 for ten minutes: what is owed, and how it ends
# make papermill  all seven notebooks by plain papermill, without the runner
# make ray        stages on a Ray cluster of two nodes; installs requirements.ray.lock
# make ray-offline  stages 01 to 05 of the offline run there, a node leaving in the middle, beside a local run
# make lab        JupyterLab on the notebooks
# make clean      takes the virtual environment and caches away; runs under outputs/ stay
#
# Each target first makes .venv from requirements.lock, once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help pipeline check types units test bench soak attacks faults exports kills storm papermill ray ray-offline lab clean

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.made-from-lock
RAY_STAMP := $(VENV)/.made-from-ray-lock
PARAMS ?= params/offline.yaml
ARGS ?=
# What is looked at in less than a minute: nothing here starts a process, a service or a sandbox.
UNITS := $(addprefix tests/, test_architecture.py test_packaging.py test_readme.py notebooks/test_notebooks.py \
  core/test_params.py core/test_profiles.py core/test_prompts.py core/test_personal_data.py core/test_files.py \
  gym/test_parsing.py gym/test_aup.py gym/test_history.py gym/test_trajectory.py gym/test_task.py \
  stages/test_leaks.py contract/test_contract_index.py)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^$$/q'

pipeline: $(STAMP)
	@$(PY) -m synthkit run $(PARAMS) $(ARGS)

# Both halves at once: a machine has two cores.
check: $(STAMP)
	@$(PY) -m ruff check .
	@$(MAKE) --no-print-directory --jobs 2 types units

types: $(STAMP)
	@$(PY) -m mypy

units: $(STAMP)
	@$(PY) -m pytest $(UNITS) $(ARGS)

test: $(STAMP)
	@$(PY) -m ruff check .
	@$(PY) -m pytest $(ARGS)

bench: $(STAMP)
	@$(PY) -m synthkit bench env $(ARGS)

soak: $(STAMP)
	@SYNTHKIT_SOAK=400 $(PY) -m pytest tests/gym/sandbox/test_soak.py $(ARGS)

attacks: $(STAMP)
	@$(PY) -m tests.attacks $(ARGS)

faults: $(STAMP)
	@SYNTHKIT_FAULTS=all $(PY) -m pytest tests/stages/test_planted_faults.py $(ARGS)

exports: $(STAMP)
	@SYNTHKIT_EXPORTED_RUN=outputs/offline $(PY) -m pytest tests/export/test_export.py $(ARGS)

kills: $(STAMP)
	@SYNTHKIT_KILLS=$${SYNTHKIT_KILLS:-30} $(PY) -m pytest -s tests/runs/test_kill.py tests/runs/test_kills.py $(ARGS)

storm: $(STAMP)
	@SYNTHKIT_STORM_S=$${SYNTHKIT_STORM_S:-600} $(PY) -m pytest -s tests/runs/test_storm.py $(ARGS)

papermill: $(STAMP)
	@SYNTHKIT_SLOW=1 $(PY) -m pytest tests/notebooks/test_papermill.py $(ARGS)

ray: $(RAY_STAMP)
	@SYNTHKIT_RAY=1 $(PY) -m pytest tests/core/test_ray.py $(ARGS)

ray-offline: $(RAY_STAMP)
	@SYNTHKIT_RAY_OFFLINE=1 $(PY) -m pytest -s tests/runs/test_ray_offline.py $(ARGS)

lab: $(STAMP)
	@$(PY) -m jupyterlab notebooks

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an interrupted installation is taken up again by the next call.
$(STAMP): requirements.lock pyproject.toml
	@found=; \
	for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3; do \
	  if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "synthkit needs Python 3.11 or newer with its venv module, and none was found on the PATH." >&2; \
	  echo "  fix: install it (Debian and Ubuntu: apt install python3 python3-venv)," >&2; \
	  echo "       or name one: make PYTHON=/path/to/python3.11 ..." >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$($$found --version) from requirements.lock (once; some minutes) ..."; \
	[ -x $(PY) ] || $$found -m venv $(VENV); \
	$(PY) -m pip install --quiet --requirement requirements.lock; \
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	touch $@

$(RAY_STAMP): requirements.ray.lock $(STAMP)
	@$(PY) -m pip install --quiet --requirement requirements.ray.lock --constraint requirements.lock
	@touch $@

# Residency: everything a developer does, by one name each. `make` alone prints the list.
# `make demo` and `make test` need Python 3.11, make and a C library; they set up the rest, once per state of pyproject.toml.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= $(or $(shell command -v python3.11),python3)
# Where a small CPU build of torch comes from, if the default package index holds only the large one:
# make test TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
WORKERS ?= 2

DEV := .venv
DEMO := .venv-demo
STATE := $(shell cksum pyproject.toml | cut -d ' ' -f 1)
DEV_READY := $(DEV)/.ready-$(STATE)
DEMO_READY := $(DEMO)/.ready-$(STATE)
PIP := bin/python -m pip --disable-pip-version-check install --quiet --no-input

# Test workers share the cores: one thread each in the numeric libraries.
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(THREADS) $(DEV)/bin/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help
help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(DEMO_READY)  ## the whole walk on real anatomy: publish, choose, run, store, show (no network, no torch)
	@$(DEMO)/bin/residency demo

.PHONY: test
test: $(DEV_READY) system  ## all tests but the slow ones (under 15 minutes on two cores)
	@$(PYTEST) -m "not slow"

.PHONY: test-all
test-all: $(DEV_READY) system  ## every test: attacks, reliability, fuzzing too (under 60 minutes)
	@$(PYTEST)

.PHONY: check
check: $(DEV_READY)  ## style, types, floors of the house, licences, extras, changelog fragments
	@status=0; \
	$(DEV)/bin/ruff check || status=1; \
	$(DEV)/bin/ruff format --check || status=1; \
	$(DEV)/bin/mypy || status=1; \
	$(DEV)/bin/lint-imports || status=1; \
	$(DEV)/bin/python tools/check_licences.py || status=1; \
	$(DEV)/bin/python tools/check_extras.py || status=1; \
	$(DEV)/bin/python tools/changelog.py check || status=1; \
	exit $$status

.PHONY: format
format: $(DEV_READY)  ## put the sources into the house's style
	@$(DEV)/bin/ruff check --fix
	@$(DEV)/bin/ruff format

.PHONY: docs
docs: $(DEV_READY)  ## make docs/reference anew from the code
	@$(DEV)/bin/python tools/make_reference.py

.PHONY: bench
bench: $(DEV_READY)  ## every bench in its quick form (minutes on two cores)
	@status=0; \
	for script in $(filter-out bench/contract.py,$(sort $(wildcard bench/*.py))); do \
	    $(DEV)/bin/python "$$script" --quick || status=1; \
	done; \
	exit $$status

.PHONY: system
system:  ## install the system packages that tests use, where this user may; say what is missing
	@$(PYTHON) tools/system_packages.py --install

.PHONY: clean
clean:  ## remove both virtual environments and all caches
	@rm -rf $(DEV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# torch goes in first and by its exact pin, so that an index of CPU builds is asked for this one package only.
$(DEV_READY): pyproject.toml
	@$(PYTHON) tools/make_environment.py $(DEV)
	@if ! [ -e $@ ]; then \
	    torch=$$($(PYTHON) tools/make_environment.py --torch-pin); \
	    echo "installing $$torch into $(DEV)"; \
	    $(DEV)/$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$torch"; \
	    echo "installing residency[train,optimise,demo,dev] into $(DEV)"; \
	    $(DEV)/$(PIP) --editable '.[train,optimise,demo,dev]'; \
	fi
	@rm -f $(DEV)/.ready-*
	@touch $@

$(DEMO_READY): pyproject.toml
	@$(PYTHON) tools/make_environment.py $(DEMO)
	@if ! [ -e $@ ]; then \
	    echo "installing residency[demo] into $(DEMO)"; \
	    $(DEMO)/$(PIP) --editable '.[demo]'; \
	fi
	@rm -f $(DEMO)/.ready-*
	@touch $@

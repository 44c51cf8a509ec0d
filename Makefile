# `make verify` runs the main job, `make test` the checks that a change has to pass in ten minutes,
# `make slow` the tests that take longer than ten seconds each, `make check` what takes a minute or
# two, to run between edits. On a fresh machine each first makes .venv, with the versions of
# constraints.txt, and installs again when that list changes.
#
#   PYTHON=...        the Python 3.11 to make .venv from
#   TORCH_INDEX=...   another package index to take torch, and torch alone, from. The public wheel
#                     for Linux carries CUDA; the PyTorch index for CPU wheels has a small one.
#   ARGS=...          arguments for `virtualdepth verify`, such as ARGS="--depth 4"
#   PYTEST_ARGS=...   arguments for pytest
#   EXTRAS=...        extras that `make clean-install` installs, such as EXTRAS="none lightning"

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PYTEST_ARGS ?= -n 2 -q
# the mathematics and the optimizer, without what starts processes or trains
CHECKED := tests/test_architecture.py tests/maths tests/optim
VENV_PYTHON := .venv/bin/python
PIP_INSTALL := $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help verify test slow check lint types pytest docs dist clean-install clean

help:
	@echo "make verify | test | slow | check | lint | types | pytest | docs | dist | clean-install | clean"
	@echo "(options: head of the Makefile)"

verify: .venv/.installed-experiments
	$(VENV_PYTHON) -m virtualdepth verify $(ARGS)

test: lint types pytest docs

check: lint types
	$(VENV_PYTHON) -m pytest $(PYTEST_ARGS) -m "not slow" $(CHECKED)

lint: .venv/.installed-dev
	$(VENV_PYTHON) -m ruff check --quiet
	$(VENV_PYTHON) -m ruff format --check --quiet

types: .venv/.installed-dev
	$(VENV_PYTHON) -m mypy --no-error-summary

pytest: .venv/.installed-dev
	$(VENV_PYTHON) -m pytest $(PYTEST_ARGS) -m "not slow"

slow: .venv/.installed-dev
	$(VENV_PYTHON) -m pytest $(PYTEST_ARGS) -m slow tests

docs: .venv/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(VENV_PYTHON) -m mkdocs build --strict

# What a release consists of, in dist/: wheel, sdist, and the site of the documentation. The wheel is
# built from the sdist.
dist: docs
	rm -rf dist
	$(VENV_PYTHON) -m build --no-isolation --outdir dist
	$(VENV_PYTHON) -m twine check --strict dist/*
	$(VENV_PYTHON) -m tarfile -c dist/virtualdepth-docs.tar.gz site

# The wheel of dist/ in a clean environment, for each of EXTRAS; all of them download a gigabyte.
EXTRAS ?= none all
clean-install: .venv/.installed-dev
	$(VENV_PYTHON) tests/clean_install.py dist/*.whl $(EXTRAS) $(if $(TORCH_INDEX),--torch-index "$(TORCH_INDEX)")

# Environment and caches go; what runs left under runs/ stays.
clean:
	rm -rf .venv site dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per extra. The build backend comes first and the build is not isolated, so that it too
# has the pinned version. From TORCH_INDEX nothing but torch is taken: such an index holds old
# copies of other packages.
.venv/.installed-%: pyproject.toml constraints.txt
	"$(PYTHON)" -m venv .venv
	$(if $(TORCH_INDEX),$(PIP_INSTALL) --no-deps --index-url "$(TORCH_INDEX)" torch)
	$(PIP_INSTALL) hatchling
	$(PIP_INSTALL) --no-build-isolation -e ".[$*]"
	touch $@

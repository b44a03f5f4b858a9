# geoseg: each target says in one sentence what it does. `make demo` is the place to start.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# A Python of at least 3.11; another one is taken with `make PYTHON=/path/to/python3.13 demo`.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
endif
# A Python 3.12 for `make test-core`, on the PATH or among pyenv's; empty where there is none.
ifndef PYTHON312
PYTHON312 := $(shell for p in python3.12 $(HOME)/.pyenv/versions/3.12.*/bin/python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' >/dev/null 2>&1 && { echo $$p; break; }; done)
endif
# The Python that QGIS was installed for.
QGIS_PYTHON ?= /usr/bin/python3

BIN := .venv/bin
UV := .build/uv/bin/uv
PIP_INSTALL := $(UV) pip install --quiet --constraints constraints.txt
export UV_PYTHON_DOWNLOADS := never
# Modules are compiled once, when they are installed.
export UV_COMPILE_BYTECODE := 1

.PHONY: help setup demo test test-slow check bench bench-peers notebooks docs test-qgis test-ui test-core wheel-demo has-python312 has-qgis has-chromium clean

# Lists the targets.
help:
	@awk '/^# /{said = substr($$0, 3)} /^[a-z][a-z0-9-]*:/{split($$1, name, ":"); printf "%-14s %s\n", name[1], said}' $(MAKEFILE_LIST)

# Installs all that is needed to work on geoseg: the core, training, tests and notebooks.
setup: .venv/.full .venv/.notebook

# Maps a real Sentinel-2 scene with the model that ships with geoseg; needs the core only.
demo: .venv/.core
	$(BIN)/geoseg demo

# Runs the tests, on several processors where there are.
test: .venv/.full
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# Checks format, lint and types, and that notebooks are kept without outputs.
check: .venv/.full .venv/.notebook
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb

# Measures time and memory of mapping; nothing is asserted.
bench: .venv/.full
	for script in benchmarks/measure_*.py; do echo "$$script"; $(BIN)/python $$script || exit 1; done

# Compares geoseg with TorchGeo, TerraTorch, geoai, Raster Vision, MONAI and the bare forward; takes some two hours.
bench-peers: $(UV)
	@test -n "$(PYTHON312)" || { echo "no Python 3.12 was found on the PATH or among pyenv's: say make PYTHON312=/path/to/python3.12 bench-peers"; exit 1; }
	$(PYTHON312) benchmarks/peers/environments.py --python "$(PYTHON312)" || true
	$(PYTHON312) benchmarks/peers/run.py

# Runs the slow tests: maps killed at many random moments, and the like.
test-slow: .venv/.full
	$(BIN)/python -m pytest -m slow

# Builds the documentation as a site in .build/site.
docs: .venv/.core
	$(PIP_INSTALL) --python .venv --editable '.[docs]'
	$(BIN)/mkdocs build --strict

# Runs each notebook from top to bottom.
notebooks: .venv/.notebook
	$(BIN)/python -m pytest --override-ini addopts= --nbmake --nbmake-timeout=900 notebooks

# Opens what geoseg wrote in the real QGIS, without a screen, and looks at its layers and colours.
test-qgis: .venv/.full
	QT_QPA_PLATFORM=offscreen QGIS_PYTHON=$(QGIS_PYTHON) $(BIN)/python -m pytest -m qgis tests/qgis

# Drives the page of `geoseg view` in a real Chromium, without a screen.
test-ui: .venv/.full
	$(BIN)/python -m pytest -m ui --force-enable-socket tests/ui

# Runs the tests again under Python 3.12 with the core alone, so that nothing leans on torch.
test-core: .build/core312/.done
	.build/core312/bin/python -m pytest

# Builds the wheel, installs it in an environment of its own, and runs the demo there, away from the sources.
wheel-demo: .build/wheel/.done
	work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && bin="$(CURDIR)/.build/wheel/bin" && cd "$$work" && \
	"$$bin/python" -c 'import geoseg; assert "site-packages" in geoseg.__file__, geoseg.__file__' && \
	"$$bin/geoseg" demo

# Succeeds where `make test-core` finds a Python 3.12.
has-python312:
	@test -n "$(PYTHON312)"

# Succeeds where `make test-qgis` finds QGIS.
has-qgis:
	@$(QGIS_PYTHON) -c 'import qgis.core' >/dev/null 2>&1

# Succeeds where `make test-ui` finds a Chromium.
has-chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null

# Removes everything that the other targets made.
clean:
	rm -rf .build .venv dist geoseg-demo .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Below: the files that the targets above need, made once and again only when what they are made from has changed.

# uv makes environments even where Python came without ensurepip or is managed by the system.
$(UV):
	@test -n "$(PYTHON)" || { echo "geoseg needs Python 3.11 or newer, and none was found on the PATH: install one, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "$(PYTHON) has no pip: install it (Debian: apt install python3-pip)"; exit 1; }
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .build/uv --upgrade --constraint constraints.txt uv

.venv/bin/python: | $(UV)
	$(UV) venv --quiet --seed --allow-existing --python "$(PYTHON)" .venv

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP_INSTALL) --python .venv --editable .
	@touch $@

.venv/.full: .venv/.core
	@echo "installing torch and the tools of the tests: the first time this takes minutes"
	$(PIP_INSTALL) --python .venv --editable '.[train,forest,explain,cluster,openvino,postgis,web,hub,adapters,dev]'
	@touch $@

.venv/.notebook: .venv/.core
	$(PIP_INSTALL) --python .venv --editable '.[dev,notebook]'
	@touch $@

.build/core312/.done: pyproject.toml constraints.txt | $(UV)
	@test -n "$(PYTHON312)" || { echo "no Python 3.12 was found on the PATH or among pyenv's: say make PYTHON312=/path/to/python3.12 test-core"; exit 1; }
	$(UV) venv --quiet --seed --allow-existing --python "$(PYTHON312)" .build/core312
	$(PIP_INSTALL) --python .build/core312 --editable . jsonschema onnx pytest pytest-socket rio-cogeo
	@touch $@

.build/wheel/.done: pyproject.toml constraints.txt data_catalog.yaml $(shell find geoseg -type f ! -name '*.pyc') | .venv/bin/python
	rm -rf .build/dist .build/wheel
	$(UV) build --quiet --wheel --build-constraints constraints.txt --python .venv/bin/python --out-dir .build/dist .
	$(UV) venv --quiet --seed --python .venv/bin/python .build/wheel
	$(PIP_INSTALL) --python .build/wheel .build/dist/*.whl
	@touch $@

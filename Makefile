# make book   build the site from the stored outputs and serve it      make test     everything that must hold
# make lab    the chapters in JupyterLab, with everything installed     make execute  refresh the chapters whose code changed
# make check  what is quick: units, lint, types, stale chapters         make chapter  N=09 NAME=low-rank: the skeleton of a chapter
# make diagrams  draw the diagrams and covers of book/diagrams/

PYTHON ?= python3
PORT ?= 8000
SERVE ?= 1
WORKERS ?= 2
SITE := _build/html

# The versions of the lock, or with ENVIRONMENT=oldest or newest those at an end of the ranges, in a folder of their own.
ENVIRONMENT ?= locked
RESOLUTION_oldest := lowest-direct
RESOLUTION_newest := highest
ifeq ($(ENVIRONMENT),locked)
VENV := .venv
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
else ifdef RESOLUTION_$(ENVIRONMENT)
VENV := .venv-$(ENVIRONMENT)
UV := $(VENV)/bin/uv
INSTALL = $(UV) pip install --quiet --python $(BIN)/python --upgrade --resolution $(RESOLUTION_$(ENVIRONMENT))
else
$(error ENVIRONMENT must be locked, oldest or newest, got $(ENVIRONMENT))
endif
BIN := $(VENV)/bin

# Threads that wait should sleep, not spin: on a busy machine of two cores spinning is many times slower.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: book site lab test check chapter diagrams execute address version links colab lint types lock clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,4s/^# //p' Makefile

book: site
ifneq ($(SERVE),0)
	@echo "The book is at http://localhost:$(PORT) — stop with Ctrl-C"
	@cd $(SITE) && ../../$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1
endif

site: $(VENV)/site.installed
	@$(BIN)/python book/tools/address.py --check
	@$(BIN)/jupyter-book build . -W -n --keep-going --quiet
	@echo "Built $(SITE)/index.html"

lab: $(VENV)/whole.installed
	@$(BIN)/python -m compress_lib data
	@$(BIN)/jupyter lab --notebook-dir notebooks

test: $(VENV)/whole.installed
	@{ command -v chromium-headless-shell || command -v chromium || command -v google-chrome; } >/dev/null || { echo "make test: no Chromium; on Debian: apt-get install chromium" >&2; exit 1; }
	@$(BIN)/python -m compress_lib data
	$(BIN)/python -m pytest -n $(WORKERS) --nbval-lax --nbval-current-env tests notebooks

check: lint types
	@$(BIN)/python -m compress_lib data
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow" tests
	@$(BIN)/python book/tools/execute.py --check

chapter: $(VENV)/whole.installed
	@$(BIN)/python book/tools/chapter.py "$(N)" "$(NAME)"

diagrams: $(VENV)/whole.installed
	@$(BIN)/python book/diagrams/draw.py

execute: $(VENV)/whole.installed
	@$(BIN)/python book/tools/execute.py

# The public address of the repository: "make address" takes the git remote, "make address URL=https://…" is told.
address: $(VENV)/site.installed
	@$(BIN)/python book/tools/address.py $(URL)

# After a change of the version in pyproject.toml: where else it stands.
version: | $(BIN)/python
	@$(BIN)/python book/tools/version.py

links: $(VENV)/site.installed
	@$(BIN)/jupyter-book build . --builder linkcheck

# Inside Colab's own image: its torch, its numpy; only the library and what the set-up cell installs come on top.
colab:
	@python3 -m pip install --quiet --no-deps . anywidget psygnal nbval
	@python3 -m compress_lib data
	@python3 -m pytest --nbval-lax --nbval-current-env notebooks

lint: $(VENV)/whole.installed
	@$(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check .

types: $(VENV)/whole.installed
	@$(BIN)/python -m mypy

# The newest versions that work together, for every system. Not of the pair that every measured figure depends on: it moves by
# hand, and the chapters are executed again.
MEASURED_WITH := torch==2.14.1 torchvision==0.29.1
lock: $(BIN)/uv
	@printf '%s\n' $(MEASURED_WITH) | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate \
		--custom-compile-command "make lock" --all-extras pyproject.toml requirements.txt - --output-file requirements.lock

clean:
	rm -rf _build

# The site alone needs no torch; the whole environment adds to the same folder.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or later is needed; name one with PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "make: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }

$(BIN)/uv: | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/site.installed: book/requirements.txt requirements.lock | $(BIN)/python $(UV)
	@echo "Installing what the site needs into $(VENV)"
	@$(INSTALL) --requirement book/requirements.txt
	@touch $@

$(VENV)/whole.installed: requirements.txt book/requirements.txt requirements.lock pyproject.toml | $(BIN)/python $(UV)
	@echo "Installing the whole environment into $(VENV): some minutes, some GB"
	@$(INSTALL) --requirement requirements.txt --editable '.[explore,onnx]'
	@touch $@ $(VENV)/site.installed

# Everything runs in .venv, which the first command makes. Paths are relative, so a folder with a space in its name works.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install notebooks test lint lab refresh site clean

PYTHON ?= python3
# Any folder of images: one folder per class, train/val/test folders, or a labels.csv. Empty: the images in data/.
DATA_DIR ?=
# CPU=1 takes builds of torch without CUDA, which uv knows where to find: 2.0 GB on the disk instead of 6.6 (Linux).
CPU ?=
# OLDEST=1 takes the oldest versions that setup.py allows.
OLDEST ?=
# Extra arguments of pip, or of uv where CPU or OLDEST is set.
PIP_ARGS ?=
# Exact versions; make CONSTRAINTS= takes the newest that setup.py allows.
CONSTRAINTS ?= $(if $(OLDEST),,requirements/constraints.txt)

UV_ARGS := $(if $(CPU),--torch-backend cpu) $(if $(OLDEST),--resolution lowest-direct)

VENV_PYTHON := $(if $(filter Windows_NT,$(OS)),.venv/Scripts/python.exe,.venv/bin/python)
STAMP := .venv/installed
# In a container, as of .devcontainer, the user is root, whom JupyterLab else refuses.
ALLOW_ROOT := $(if $(filter 0,$(shell id -u 2>/dev/null)),--allow-root)
# A virtual environment holds absolute paths: when the folder was moved or copied, it is made again.
HERE := $(shell pwd -P)
ifneq ($(shell cat .venv/folder 2>/dev/null),$(HERE))
.PHONY: $(STAMP)
endif

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20
	@echo
	@echo "  make notebooks DATA_DIR=/my/images   the same on your own folder"
	@echo "  make install CPU=1                   builds of torch without CUDA: 2 GB on the disk instead of 7"
	@echo "  make refresh ONLY_STALE=1            go on after a stop: leave out what is up to date"

$(STAMP): setup.py pyproject.toml $(CONSTRAINTS)
	@command -v "$(PYTHON)" >/dev/null || { echo "No $(PYTHON) found. Install Python 3.11 or newer, or: make PYTHON=/path/to/python"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Found $$("$(PYTHON)" --version), but Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) comes without the venv module. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing into .venv; the first time takes several minutes and $(if $(CPU),2 GB,7 GB (make CPU=1 without GPU: 2 GB))."
	@if [ "$$(cat .venv/folder 2>/dev/null)" != "$$(pwd -P)" ]; then "$(PYTHON)" -m venv --clear .venv; fi
	$(if $(strip $(UV_ARGS)),"$(VENV_PYTHON)" -m pip install --quiet --disable-pip-version-check uv)
	"$(VENV_PYTHON)" $(if $(strip $(UV_ARGS)),-m uv pip install --quiet --python "$(VENV_PYTHON)" $(UV_ARGS),-m pip \
		install --quiet --disable-pip-version-check) $(PIP_ARGS) $(if $(CONSTRAINTS),-c "$(CONSTRAINTS)") -e '.[dev]'
	@pwd -P > .venv/folder
	@touch "$(STAMP)"

install: $(STAMP) ## Make .venv and install everything (again only when the requirements change)

notebooks: $(STAMP) ## Execute notebooks 00, 01 and 02 into outputs/ and show their results
	"$(VENV_PYTHON)" -m utils_cv run $(if $(DATA_DIR),--parameter "DATA_DIR=$(DATA_DIR)") \
		notebooks/00_dataset_loading.ipynb notebooks/01_training_introduction.ipynb \
		notebooks/02_training_accuracy_vs_speed.ipynb

lint: $(STAMP) ## Check style, imports and annotations
	"$(VENV_PYTHON)" -m ruff check .
	"$(VENV_PYTHON)" -m ruff format --check .
	"$(VENV_PYTHON)" -m codespell_lib
	"$(VENV_PYTHON)" -m mypy

test: lint ## Run lint and every test, notebooks included (no network needed)
	"$(VENV_PYTHON)" -m pytest -n 2

lab: $(STAMP) ## Open JupyterLab in notebooks/
	"$(VENV_PYTHON)" -m jupyterlab $(ALLOW_ROOT) --config tools/lab_config.py --notebook-dir . \
		notebooks/00_dataset_loading.ipynb

refresh: $(STAMP) ## Execute the committed notebooks in place; fill their numbers and figures into the documents
	"$(VENV_PYTHON)" -m tools.refresh_notebooks $(if $(ONLY_STALE),--only-stale) \
		--document README.md --document FAQ.md --document notebooks/README.md --document benchmarks/README.md \
		notebooks/*.ipynb

site: $(STAMP) ## Build outputs/site from the executed notebooks, the documents and the docstrings; check its links
	"$(VENV_PYTHON)" -m tools.build_site

clean: ## Remove .venv and outputs/ (nothing else)
	rm -rf .venv outputs

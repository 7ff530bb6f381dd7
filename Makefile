# What one does with this project. `make` alone lists it.
# A new verb is a target with a `##` sentence behind it; `dev` is what it needs to be installed.

GOOD := -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
# The first Python that is new enough and whole; a version manager's stub that leads nowhere is not.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" $(GOOD) && { command -v "$$p"; break; }; done)
BIN := .venv/bin
# The first that works: a docker client without its daemon does not.
ENGINE ?= $(shell for e in docker podman buildah; do \
	$$e info >/dev/null 2>&1 && { echo $$e; break; }; done)
PYTHON_VERSION ?= 3.13
IMAGE ?= flowith-openai-proxy

.DEFAULT_GOAL := help
.PHONY: help install dev run doctor test check fmt bench soak clients screenshots image clean

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## make .venv with what the service needs

dev: .venv/installed-dev

run: .venv/installed ## start the service on http://localhost:8099 (without a token: a demo)
	@$(BIN)/python run.py

doctor: .venv/installed ## check settings, network and accounts; say what to put into .env
	@FLASK_SKIP_DOTENV=1 $(BIN)/flask doctor $(DOCTOR)

test: dev ## run all tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n 4 --dist worksteal

check: dev ## format, lint and types, without changing a file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --exclude '^(bench|clients)/' .
	$(foreach d,bench clients clients/whole_jobs,MYPYPATH=.:tests:clients $(BIN)/mypy $(wildcard $(d)/*.py) &&) true

fmt: dev ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: dev ## measure what the proxy costs, beside other servers (about 10 minutes)
	$(BIN)/python bench/run.py

soak: dev ## five minutes of mixed load with faults; fails on a leak
	PYTHONPATH=. $(BIN)/python tests/soak.py $(SOAK)

clients: dev ## real clients and agents against the service (20 minutes, Node with npm; at first 4 GB of packages)
	$(BIN)/python clients/drive.py
	$(BIN)/python clients/whole_jobs/jobs.py

screenshots: dev ## the pictures of the page in docs/images, taken anew (needs Chromium)
	PYTHONPATH=.:tests/server $(BIN)/python tests/screenshots.py

image: ## build the container image with docker, podman or buildah
	@test -n "$(ENGINE)" || { echo "Neither docker nor podman nor buildah works here."; exit 1; }
	BUILDAH_FORMAT=docker $(ENGINE) build $(BUILD_OPTIONS) --build-arg PYTHON_VERSION=$(PYTHON_VERSION) -t $(IMAGE) .

clean: ## remove .venv and the tools' caches; .env stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@"$(PYTHON)" $(GOOD) || { echo "This needs Python 3.11 or newer with its venv module; here is" \
		"$$($(or $(PYTHON),python3) --version 2>/dev/null || echo no python3). On Debian and Ubuntu:" \
		"apt install python3-venv. A Python in another place: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv --clear .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# edgekube: `make up` for a cluster on this machine, `make test` for the tests. Both install what they need.
VENV    := .venv
BIN     := $(VENV)/bin
PYTHON  ?= $(shell command -v python3)
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

RUN_PACKAGES  := podman crun conmon netavark mosquitto iproute2 util-linux busybox-static python3-venv
TEST_PACKAGES := $(RUN_PACKAGES) mosquitto-clients nftables procps e2fsprogs mount haproxy

.PHONY: up down test unit e2e search lint format bench clean

up: $(VENV)/run.stamp
	$(SUDO) $(BIN)/edgekube up --demo

down:
	@[ ! -x $(BIN)/edgekube ] || $(SUDO) $(BIN)/edgekube down

test: lint unit e2e

unit: $(VENV)/test.stamp
	$(BIN)/pytest -m "not e2e"

e2e: $(VENV)/test.stamp
	$(BIN)/pytest -m e2e

search: $(VENV)/test.stamp
	HYPOTHESIS_PROFILE=search $(BIN)/pytest -m "not e2e" --timeout 900 tests/api tests/control tests/controllers tests/contract tests/fuzz tests/node tests/proxy tests/scheduler

lint: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/test.stamp
	for program in tests/bench/*.py; do $(BIN)/python $$program; done

clean:
	rm -rf $(VENV) build dist

$(VENV)/run.stamp: pyproject.toml tools/install-packages
	tools/install-packages $(RUN_PACKAGES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/test.stamp: pyproject.toml tools/install-packages $(VENV)/run.stamp
	tools/install-packages $(TEST_PACKAGES)
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

# The one door: `make run` serves, `make test` tests, `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help run cluster check test sim bench conformance clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@test -d $(VENV) || { echo "making $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "installing kvstore and its dependencies ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: $(READY)  ## serve a single member on 127.0.0.1:2379, data in run/default
	@mkdir -p run && exec $(BIN)/kvstored --data-dir run/default

check: $(READY)  ## ruff, mypy, layering
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo >/tmp/lint-imports.$$$$ 2>&1 || { cat /tmp/lint-imports.$$$$; exit 1; }; rm -f /tmp/lint-imports.$$$$

test: $(READY)  ## all tests
	@$(BIN)/pytest

# The one door: `make run` serves, `make test` tests, `make help` lists the rest.
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DIST_TOOLS := build twine
COMPILED := $(wildcard kvstore/*.pyx kvstore/*/*.pyx) $(shell sed -n 's/^    "\(kvstore.*\.py\)",$$/\1/p' setup.py)

.PHONY: help run cluster check lock-check test restarts sim fuzz fuzz-guided bench conformance differential dist listings shapes test-patroni restart-bench clean sizes upgrade rooms

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ARGS=... is handed on: make run ARGS='--log-level debug', make test ARGS='-k watch'"

# The constraints hold for the build as well, which pip does apart from the installation. What was compiled goes before:
# where it cannot be made anew, an old one must not stay. With KVSTORE_PURE=1 it is not asked for, however old it is.
# An editable installation has no bytecode, and under PYTHONDONTWRITEBYTECODE each start would compile 100 modules.
$(READY): pyproject.toml setup.py constraints.txt $(if $(KVSTORE_PURE),,$(COMPILED))
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not installed (Debian: apt-get install python3 python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V); choose another one: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) cannot make virtual environments (Debian: apt-get install python3-venv)"; exit 1; }
	@test -x $(BIN)/pip || { echo "making $(VENV) ..."; $(PYTHON) -m venv --clear $(VENV); }
	@echo "installing kvstored and its dependencies (where there is a compiler, it takes a minute) ..."
	@rm -rf build; find kvstore -name '*.so' -delete
	@$(BIN)/pip uninstall --quiet --yes --disable-pip-version-check kvstore 2>/dev/null # its name before 0.2
	@PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -m compileall -q kvstore cmd
	@missing=; for source in $(basename $(COMPILED)); do ls $$source.*.so >/dev/null 2>&1 || missing=1; done; test -z "$$missing" || \
		echo "make: no C compiler, or none that works, so kvstored runs without its compiled parts, slower (Debian: apt-get install gcc python3-dev; then make -B $@)"
	@touch $@

run: $(READY)  ## serve a single member on 127.0.0.1:2379, data in run/default
	@mkdir -p run
	@exec $(BIN)/kvstored --data-dir run/default $(ARGS)

cluster: $(READY)  ## serve three members on 127.0.0.1:2379, :22379 and :32379, data in run/cluster; TLS=1: mutual TLS
	@exec $(BIN)/python -m tests.cluster $(if $(TLS),--tls)

check: $(READY) lock-check  ## ruff, mypy, layering, bandit, pinned versions, audit of packages, links, wording
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@found=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$found"; exit 1; }
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive kvstore cmd
	@$(BIN)/python -m tests.audit
	@$(BIN)/python -m tests.tools.links
	@$(BIN)/python -m tests.tidy --check

lock-check: $(READY)
	@missing=$$($(BIN)/pip freeze --exclude-editable | grep -vixFf constraints.txt) || true; \
		test -z "$$missing" || { echo "make: not in constraints.txt, but installed:"; echo "$$missing"; exit 1; }

test: $(READY)  ## all tests
	@exec $(BIN)/pytest $(ARGS)

restarts: $(READY)  ## the whole table of restarts: each operation on the members, before and after a snapshot, flags of any day
	@KVSTORE_RESTARTS=1 exec $(BIN)/pytest tests/system/test_restarts.py $(ARGS)

sim: $(READY)  ## 1,000 seeds of whole clusters in the simulator; one again: ARGS='--seed 7'
	@exec $(BIN)/python -m tests.sim $(ARGS)

upgrade: $(READY)  ## members of the release before and of this one side by side: three, four and five, replaced under load
	@UPGRADE_SIZES=3,4,5 UPGRADE_LONGEST_GAP=1.5 exec $(BIN)/pytest -s tests/upgrade $(ARGS)

sizes: $(READY)  ## a member with 640 MiB of large values, names and history: its memory and its folder stay within bounds
	@KVSTORE_SIZES=1 exec $(BIN)/pytest -s tests/system/test_sizes.py $(ARGS)

fuzz: $(READY)  ## a million mutated inputs for all that reads what others send; other ones: ARGS='--seed 7'
	@exec $(BIN)/python -m tests.fuzz $(ARGS)

fuzz-guided: $(READY)  ## the same, guided by coverage (atheris), a minute: ARGS='message'; longer: FUZZ_SECONDS=600
	@$(BIN)/python -c 'import atheris' 2>/dev/null || PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	@exec $(BIN)/python -m tests.fuzz.guided $(ARGS)

conformance: $(READY)  ## replay etcd's recordings against ours
	@exec $(BIN)/pytest tests/conformance $(ARGS)

differential: $(READY)  ## 20,000 random requests to ours, to etcd and to a model; others: DIFFERENTIAL_SEED=7
	@DIFFERENTIAL_OPERATIONS=$${DIFFERENTIAL_OPERATIONS:-20000} exec $(BIN)/pytest tests/differential --log-cli-level=INFO $(ARGS)

shapes: $(READY)  ## what requests of many shapes and sizes take of other requests: ARGS=--pure, ARGS='--shape pairs'
	@exec $(BIN)/python -m tests.shapes $(ARGS)

listings: $(READY)  ## what long listings and wide fan-outs take of other requests, five minutes: ARGS=--small
	@exec $(BIN)/python -m tests.listings $(ARGS)

test-patroni: $(READY)  ## PostgreSQL under Patroni, led by three members; needs Debian's postgresql
	@exec $(BIN)/pytest tests/clients -m patroni $(ARGS)

bench: $(READY)  ## ours and etcd side by side, half an hour; two minutes: ARGS=--quick
	@exec $(BIN)/python -m benchmarks $(ARGS)

restart-bench: $(READY)  ## all members killed and started 20 times, ours and etcd's: when all serve
	@exec $(BIN)/python -m benchmarks.restart $(ARGS)

rooms: $(READY)  ## count the rooms, floors, arrows and circles, and draw docs/rooms.svg; inside one: ARGS=kvstore.http
	@exec $(BIN)/python -m tests.tools.rooms $(or $(ARGS),--picture docs/rooms.svg)

# The pure wheel is built from the sdist as on a machine without a compiler. pip would take an earlier one from its cache.
dist: $(READY)  ## sdist, compiled wheel and pure wheel in dist/, each installed and tried without a compiler; five minutes
	@$(BIN)/python -c 'import build, twine' 2>/dev/null || PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check $(DIST_TOOLS)
	@rm -rf dist
	@PIP_CONSTRAINT=constraints.txt $(BIN)/python -m build --outdir dist >dist.log 2>&1 || { tail -n 20 dist.log; exit 1; }
	@CC=/bin/false PIP_CONSTRAINT=constraints.txt $(BIN)/pip wheel --quiet --disable-pip-version-check --no-cache-dir --no-deps --wheel-dir dist dist/*.tar.gz
	@$(BIN)/twine check --strict dist/*
	@exec $(BIN)/python -m tests.tools.check_dist

clean:  ## remove what was made, and the data of `make run` and `make cluster`
	@rm -rf $(VENV) .clients run build dist dist.log *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find kvstore -name '*.so' -delete -o -name '*native.c' -delete

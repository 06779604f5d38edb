# Two commands matter: `make demo` and `make test`. Both need Python 3.11+ and make, nothing else. `sudo make install`
# installs a service.
PYTHON ?= python3
# The interpreter of an installation, if one was named; else the installation looks for the system's own.
CHOSEN := $(if $(filter file,$(origin PYTHON)),,$(PYTHON))
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test quick lint audit bench figures picture soak mutation test-peers test-install pins wheel install uninstall deb clean

demo: $(VENV)/.run
	$(BIN)/syncd demo

# Many tests wait for processes of their own, so four workers keep two cores busy. Each starts a PostgreSQL of its own.
WORKERS ?= 4

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# The fast part of the tests, for while you write.
quick: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/unit/core tests/unit/config tests/unit/obs tests/unit/portal tests/unit/sandbox tests/unit/cli

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Looks for dangerous calls in our code, and for known faults in the packages that an installation gets. The second needs
# an advisory service; packages it does not know are listed as skipped.
audit: .venv-audit/.installed
	.venv-audit/bin/bandit --quiet --recursive --severity-level medium syncd
	.venv-audit/bin/pip-audit --disable-pip --require-hashes --requirement requirements/run.txt

.venv-audit/.installed: requirements/audit.txt | $(BIN)/python
	$(BIN)/python -m venv .venv-audit
	.venv-audit/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/audit.txt
	@touch $@

# Changes syncd/core and syncd/engine in every small way, one at a time, and expects a test to break. PART names modules
# (engine.verify engine.run) or packages (core). See docs/mutation.md.
PART ?= core
mutation: $(VENV)/.dev
	$(BIN)/python -m tests.mutation $(PART)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "syncd needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt -r requirements/build.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# Other people's clients against the sandbox, in an environment of their own.
test-peers: $(VENV)/.dev .venv-peers/.installed .venv-peers/.node
	$(BIN)/python -m pytest tests/peers

.venv-peers/.installed: requirements/peers.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/peers.txt
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The one client for node, from npm's configured registry. Where it cannot be had, the bench and the tests say so and go on.
.venv-peers/.node: requirements/node/package-lock.json | .venv-peers/.installed
	@cp requirements/node/package.json requirements/node/package-lock.json .venv-peers/
	@if ! command -v node >/dev/null || ! command -v npm >/dev/null; then \
	  echo "node or npm is missing: going on without @bitrix24/b24jssdk"; \
	elif (cd .venv-peers && npm ci --silent --ignore-scripts --no-audit --no-fund); then \
	  touch $@; \
	else \
	  echo "npm could not install @bitrix24/b24jssdk: going on without it"; \
	fi

bench: $(VENV)/.dev .venv-peers/.installed .venv-peers/.node
	$(BIN)/python -m tests.benchmarks --page docs/benchmarks.md

# What the code is made of, and how deep a pass calls, before and now: docs/figures.md. SUITE: seconds that `make test` took.
figures: $(VENV)/.dev
	$(BIN)/python -m tests.figures $(if $(SUITE),--suite $(SUITE)) --page docs/figures.md

# The pictures in README.md and the docs: of the demo, and of the status page where there is a Chromium.
picture: $(VENV)/.dev
	$(BIN)/python -m tests.figures.picture

# Seeded lives of a link (LIVES=10000), and their page in docs/; then lives of the rule machine over the real parts
# (MACHINE=1000). What breaks a promise is kept in broken-lives/, as a scenario file.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.simulation.soak --lives $(or $(LIVES),10000) --report docs/simulation.md
	$(BIN)/python -m tests.property.endless --lives $(or $(MACHINE),1000)

pins: | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group build -c requirements/run.txt -o requirements/build.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras --group build --group test --group lint --group mutation -c requirements/run.txt -c requirements/build.txt pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras --group build --group peers pyproject.toml -o requirements/peers.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group audit -o requirements/audit.txt
	cd requirements/node && npm install --silent --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund

wheel: $(VENV)/.dev
	$(BIN)/python -m build --no-isolation --wheel

# On this machine, as root; or into DESTDIR, below PREFIX (/usr/local), for packagers. deploy/install/ says what and where.
install uninstall:
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' PYTHON='$(CHOSEN)' deploy/install/install.sh $@

# A package for Debian and Ubuntu, in dist/. It belongs to the Python of the machine that it is made on.
deb:
	@PYTHON='$(CHOSEN)' DIST='$(DIST)' deploy/install/deb.sh

# What `make test` leaves out because it takes a minute: the package.
test-install: $(VENV)/.dev
	SYNCD_TEST_PACKAGE=1 $(BIN)/python -m pytest tests/system/test_install.py

clean:
	rm -rf $(VENV) dist build mutants

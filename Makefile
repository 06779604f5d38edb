# Two commands matter: `make demo` and `make test`. Both need Python 3.11+ and make, nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint bench soak mutation test-peers pins wheel clean

demo: $(VENV)/.run
	$(BIN)/syncd demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Changes syncd/core in every small way, one at a time, and expects a test to break; some five minutes. See docs/mutation.md.
mutation: $(VENV)/.dev
	$(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "syncd needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
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

# Seeded lives of a link (LIVES=10000), and their page in docs/; then lives of the rule machine over the real parts until
# Ctrl-C, or as many as MACHINE says. What breaks a promise is kept in broken-lives/, as a scenario file.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.simulation.soak --lives $(or $(LIVES),10000) --report docs/simulation.md
	$(BIN)/python -m tests.property.endless $(if $(MACHINE),--lives $(MACHINE))

pins: | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras --group build pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras --group build --group test --group lint --group mutation -c requirements/run.txt pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras --group build --group peers pyproject.toml -o requirements/peers.txt
	cd requirements/node && npm install --silent --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund

wheel: $(VENV)/.dev
	$(BIN)/python -m build --no-isolation --wheel

clean:
	rm -rf $(VENV) dist build mutants

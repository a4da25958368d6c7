# `make run` and `make test` need python3 (3.11 or later, with venv) and make. Everything goes to .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python tools/install_packages.py

.PHONY: setup run demo test alone lint bench chaos fleet cluster mails previews node docs lock clean
.DELETE_ON_ERROR:

# EXTRAS=ses installs what Amazon SES needs as well.
setup: .venv/.runtime $(EXTRAS:%=.venv/.%)

# `python3 -m venv` leaves a .venv without pip if Debian's python3-venv is missing: create it again.
.venv/.runtime: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Mailroom needs Python 3.11 or later; run make PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "Creating .venv …"; $(PYTHON) -m venv --clear .venv; }
	@$(INSTALL) --require-hashes -r requirements.txt
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --no-deps -e .
	@$(BIN)/python -m compileall -q server.py supervisor.py handlers mailroom
	@touch $@

.venv/.ses: .venv/.runtime requirements-ses.txt
	@$(INSTALL) --require-hashes -r requirements-ses.txt
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	@$(INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

# Serves on this machine, captures every mail instead of sending it: http://localhost:8000/console/captured
run: setup
	$(BIN)/python server.py --dev

# Starts a server, posts a request as Logto does, and prints the mail.
demo: setup
	@$(BIN)/python -m bench.demo

# All tests but those of `make alone`, on all cores; or with ARGS="-k webhook -x" those, on one core.
# Each worker imports all tests, in half the time if what pytest compiled before is kept.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/.dev
	$(BIN)/python -m pytest $(or $(ARGS),-n auto --dist loadfile --no-loadscope-reorder -m "not alone" --durations=15)

# The tests that need the machine for themselves, for they drive real servers under load: one after the other.
alone: .venv/.dev
	$(BIN)/python -m pytest -m alone

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev
	$(BIN)/python -m bench $(ARGS)

# SIGKILLs, SIGHUPs and reloads of the proxies under load: make chaos KILLS=200 SIGHUPS=100 RELOADS=20 SEED=7
chaos: .venv/.dev node
	$(BIN)/python -m tests.e2e.chaos --kills $(or $(KILLS),200) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.e2e.reloads --reloads $(or $(SIGHUPS),100) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.e2e.proxy_reloads --reloads $(or $(RELOADS),20) $(if $(SEED),--seed $(SEED))

# Posts 200 codes a second while providers fail in every way: make fleet SECONDS=120 SEED=7
fleet: .venv/.dev
	$(BIN)/python -m tests.e2e.fleet $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

# Kills, stops and cuts off workers while PostgreSQL is restarted: make cluster SECONDS=120 SEED=7
cluster: .venv/.dev
	$(BIN)/python -m tests.e2e.cluster $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

# Checks every mail in every language with SpamAssassin (apt-get install spamassassin) and html-validate.
mails: .venv/.dev node
	$(BIN)/python -m tests.lint.oracles

# Screenshots in build/previews/, to be looked at: phone and desktop, three looks, logos of all shapes; needs chromium.
# LANGUAGES="ko th" for others.
previews: .venv/.dev
	$(BIN)/python -m tests.rendering.pictures $(LANGUAGES)

# Logto's own connectors, which tests and the bench run; they need Node 20 or later.
node: tests/node/node_modules/.package-lock.json

tests/node/node_modules/.package-lock.json: tests/node/package-lock.json
	cd tests/node && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# The pages that are generated from the code; a test fails if they are not current.
docs: setup
	$(BIN)/python -m tools.reference_pages

# Updates the locked versions; needs uv. The files contain no address of an index.
lock: COMPILE = uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--no-header pyproject.toml
lock:
	$(COMPILE) --extra postgres -o requirements.txt
	$(COMPILE) --extra postgres --extra ses -o requirements-ses.txt
	$(COMPILE) --extra postgres --extra ses --group dev -o requirements-dev.txt

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache tests/node/node_modules

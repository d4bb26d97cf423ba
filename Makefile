# All that is made, and how. `make run` and `make test` set up what they need.

PYTHON ?= python3
VENV ?= .venv
KEYS ?= keys
CLIENT ?= $(shell id -un)
TESTS ?= tests
BENCH ?= --write docs/performance

BIN := $(VENV)/bin

.PHONY: run test bench lint types docs news wheel clean

# Start the service in the foreground; make keys first if there are none.
run: $(VENV)/.run
	@test -e $(KEYS)/ca.pem || $(BIN)/tcpsvc keys init --keys $(KEYS)
	@test -e $(KEYS)/clients/$(CLIENT).pem \
	    || $(BIN)/tcpsvc keys client --keys $(KEYS) $(CLIENT) > /dev/null
	@echo; echo "To talk to it, paste this into another terminal:"
	@echo; $(BIN)/tcpsvc keys show --line --keys $(abspath $(KEYS)) $(CLIENT); echo
	@exec $(BIN)/twistd -n --pidfile= tcpsvc --keys $(KEYS)

test: $(VENV)/.test $(VENV)/.sslyze
	$(BIN)/python -m twisted.trial $(TESTS)

# sslyze wants another version of cryptography: it has an environment of its own, where
# the tests find it. Without it they skip what needs it.
$(VENV)/.sslyze: | $(VENV)/bin/pip
	@$(PYTHON) -m venv $(VENV)/sslyze
	@$(VENV)/sslyze/bin/pip install --quiet --disable-pip-version-check sslyze \
	    && touch $@ || echo >&2 "make: sslyze cannot be installed; its test is skipped"

# Measure beside the peers, and write the figures of the documentation; BENCH=--short
# only sees that all of it runs. Wants a C compiler and OpenSSL's headers.
bench: $(VENV)/.bench
	$(BIN)/python -m bench $(BENCH)
	$(BIN)/python -m bench.audit $(if $(filter --short,$(BENCH)),--short, \
	    --rst docs/explanation/audit-figures.rst)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.lint
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# Show the news of the next release.
news: $(VENV)/.news
	$(BIN)/towncrier build --draft

wheel: $(VENV)/.run
	rm -rf build
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist docs/_build _trial_temp* *.egg-info .mypy_cache .ruff_cache

# One virtual environment; each stamp says that one set of extras is in it.
$(VENV)/bin/pip:
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo >&2 \
	    "make: $(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv"; \
	    exit 1; }

$(VENV)/.run: EXTRAS = console
$(VENV)/.test: EXTRAS = console,serial,test,peers
$(VENV)/.bench: EXTRAS = bench
$(VENV)/.lint: EXTRAS = console,serial,test,lint
$(VENV)/.docs: EXTRAS = docs
$(VENV)/.news: EXTRAS = news
$(VENV)/.run $(VENV)/.test $(VENV)/.bench $(VENV)/.lint $(VENV)/.docs $(VENV)/.news: \
		setup.cfg pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@

# Needs make and Python >= 3.10, nothing else. Plain `make` lists the targets.

VENV ?= .venv
# How many tests run at a time: they wait more than they compute; 0 runs them one after the other in one process.
PARALLEL ?= 3
LOCK := constraints/newest.lock
RUN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help demo stack scrape tools test test-fast check fix docs bench matrix lock tools-lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(STAMP) ## show one request ID on its way through HTTP, SQL, Celery and the logs (KEEP=1 stays up, STACK=1: all of it)
	@$(if $(STACK),$(RUN)/python -m tools.programs --quiet)
	@$(RUN)/otel-cc demo

stack: $(STAMP) ## run the shop with collector, Prometheus, Alertmanager and Jaeger behind it, until Ctrl-C (ARGS="--fixed-ports")
	@$(RUN)/python -m tools.programs --quiet
	@$(RUN)/otel-cc stack up $(ARGS)

scrape: $(STAMP) ## record the names of all series of a running stack (ARGS=--check compares)
	@$(RUN)/python -m tools.programs --quiet
	@$(RUN)/python -m tools.scrape $(ARGS)

tools: $(STAMP) ## build the collector, Prometheus, Jaeger and others that tests and the stack run (ARGS="--list")
	@$(RUN)/python -m tools.programs $(ARGS)

test: $(STAMP) ## all tests, on real servers and the programs of make tools
	@$(RUN)/python -m tools.programs --quiet
	@$(RUN)/python -m pytest -n $(PARALLEL) --dist loadscope --no-loadscope-reorder $(ARGS)

test-fast: $(STAMP) ## the tests that need nothing of make tools
	@$(RUN)/python -m pytest -p tools.pytest_fast $(ARGS)

check: $(STAMP) ## format, lint, strict types, layers, generated pages
	$(RUN)/ruff format --check
	$(RUN)/ruff check
	$(RUN)/mypy
	$(RUN)/python -m tools.pages --check
	$(RUN)/python -m pytest -q tests/test_layers.py tests/test_house.py

fix: $(STAMP) ## repair format, lint and generated pages
	$(RUN)/ruff check --fix
	$(RUN)/ruff format
	$(RUN)/python -m tools.pages

docs: $(STAMP) ## write the generated pages
	$(RUN)/python -m tools.pages

bench: $(STAMP) ## what a request costs, beside others, and what the collector carries (QUICK=1 takes three minutes)
	@$(RUN)/python -m benchmarks $(ARGS)
	@if $(RUN)/python -m tools.programs --quiet otelcol-cc; then $(RUN)/python -m benchmarks.load; \
	  else echo 'What the collector carries is not measured without it: make tools builds it.' >&2; fi

matrix: $(STAMP) ## the tests on every Python of this machine with old and new libraries (ARGS="-s oldest-3.10")
	@$(RUN)/nox $(ARGS)

lock: ## renew constraints/*.lock (needs uv)
	python3 -m tools.lock

tools-lock: $(STAMP) ## renew the Go modules in tools/go from tools/versions.json and collector/manifest.yaml
	@$(RUN)/python -m tools.programs --lock

clean: ## remove everything that make has made
	rm -rf $(VENV) .nox .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# A Python that is too old, or a version manager's stub for one that is not active, must not be taken.
$(STAMP): $(LOCK) pyproject.toml
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	  if "$$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	    "$$python" tools/venv.py $(VENV) $(LOCK) && touch $@; exit; \
	  fi; \
	done; echo 'Python 3.10 or newer with the module venv is needed: install it (Debian: python3-venv), or name it with make PYTHON=...' >&2; exit 1

# The first Python 3.11 found; `make PYTHON=/path/to/python3.11 run` chooses another.
PYTHON = $(or $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$p && break; done), \
	$(error Python 3.11 is not on the PATH: install it, or say PYTHON=/path/to/python3.11))
BIN = .venv/bin
ARGS =

.PHONY: help run test check bench docs system lock environment extras dev

help:
	@echo "make run      install what is missing, start the studio at http://127.0.0.1:7860 (ARGS=\"--port 8080\")"
	@echo "make test     the whole test suite (ARGS=\"-k name\")"
	@echo "make check    format, lint, types, imports, function sizes"
	@echo "make bench    every benchmark, one table each (ARGS=name: one of them)"
	@echo "make docs     write the reference pages in docs/ anew"
	@echo "make system   the system packages that tests need (Debian and Ubuntu, as root)"
	@echo "make extras   try again for what the studio runs without and could not be downloaded"
	@echo "make lock     resolve requirements-*.txt anew into requirements-*.lock"

run: environment
	@exec $(BIN)/python app.py $(ARGS)

test: dev
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/sizes.py

bench: environment
	$(BIN)/python -m bench $(ARGS)

docs: environment
	$(BIN)/python tools/reference.py

system:
	@tools/system.sh

lock:
	PYTHON=$(PYTHON) tools/lock.sh

environment:
	@$(PYTHON) tools/environment.py

extras:
	@$(PYTHON) tools/environment.py --extras

dev:
	@$(PYTHON) tools/environment.py --dev

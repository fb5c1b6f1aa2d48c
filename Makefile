# Every target makes the virtualenv it needs; nothing but Python 3.11 or 3.12, pip and make has to be there.
VENV := .venv
PYTHON := $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
LIGHT := --ignore tests/training --ignore tests/benchmarks

.PHONY: demo test test-light check check-light train bench clean

demo: $(VENV)/core.ok  ## build submissions on the spot and judge them
	$(BIN)/kyc-guard demo --out demo-out

test: $(VENV)/train.ok check  ## everything, training tests included
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-light: $(VENV)/dev.ok check-light  ## without torch
	$(BIN)/python -m pytest -n 2 --dist loadfile $(LIGHT)

check: $(VENV)/train.ok  ## what is installed fits together; style, types, import law
	$(BIN)/python -m pip check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-light: $(VENV)/dev.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p kyc_guard
	$(BIN)/lint-imports

train: $(VENV)/train.ok  ## shared data -> weights/ (see training/README.md)
	$(BIN)/python -m training all

bench: $(VENV)/dev.ok  ## speed of nets and of whole submissions
	$(BIN)/python -m benchmarks.throughput

$(VENV)/python.ok:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and was not found on PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/core.ok: $(VENV)/python.ok pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/dev.ok: $(VENV)/core.ok
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/train.ok: $(VENV)/dev.ok
	$(PIP) --editable '.[dev,train,speech,ray]'
	@touch $@

clean:
	rm -rf $(VENV) demo-out

# Seven verbs, the same here and in CI. Each does the set-up it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FAULTS ?=
JOBS ?= 2
BENCH ?= flow
ARGS ?=

.PHONY: install check test fuzz demo bench docs stubs clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 install"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

# two processes take the tests file by file, in their order
test: install
	FAULTS=$(FAULTS) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=25

# SECONDS=3600 or COUNT=1000000; what was found is tried first the next time
fuzz: install
	FUZZ_SECONDS="$(or $(SECONDS),60)" FUZZ_COUNT=$(COUNT) $(BIN)/python -m pytest -q -rP tests/receiver/test_fuzz.py

demo: install
	@$(BIN)/python -m clara_dicom_adapter.cli demo $(if $(KEEP),--keep) $(if $(JSON),--json)

bench: install
	$(BIN)/python benchmarks/$(BENCH).py $(ARGS)

docs: install
	$(BIN)/python docs/build.py

# clara/wire is committed, so that installing needs no compiler; after a change of the .proto this makes it anew.
STUBS ?= src
stubs: install
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m grpc_tools.protoc -I src --python_out=$(STUBS) --grpc_python_out=$(STUBS) \
		--mypy_out=quiet:$(STUBS) --mypy_grpc_out=quiet:$(STUBS) src/clara_dicom_adapter/clara/wire/clara_platform.proto

clean:
	rm -rf $(VENV) build dist

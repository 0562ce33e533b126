# Everything starts here; each target creates what it needs. `make demo` and `make test` work on a machine that
# has only Python 3.11+, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: venv demo test test-core test-torch test-tf test-hf check systems bench bench-meter bench-select docs clean

venv: $(STAMP)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --progress-bar off -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@rm -rf runs/demo
	$(BIN)/zoo select examples/tickets.csv --max-latency 5ms --max-size 80MB \
	  --candidate hf:all-minilm-l6-v2,depth=all --candidate tf:all-minilm-l6-v2,depth=all -o runs/demo
	@echo; echo '$$ $(BIN)/zoo predict runs/demo/model.onnx "my parcel never came"'
	@$(BIN)/zoo predict runs/demo/model.onnx "my parcel never came"
	@echo; echo "The report: runs/demo/report.html"

# One pytest process for the core and one for each framework: two frameworks in one process abort each other.
test: test-docs test-tf test-core test-torch test-hf

test-docs test-core test-torch test-tf test-hf: test-%: $(STAMP)
	@echo "== tests/$*"
	@$(BIN)/python -m pytest tests/$*

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/lint-imports
	$(BIN)/python scripts/house.py

# The thirteen systems at full size x twelve operations, each cell from a run of this command.
systems: $(STAMP)
	$(BIN)/python benchmarks/systems.py

bench: $(STAMP)
	@for name in startup predict training export preprocessing memory frozen pipeline layout trajectory kill; do \
	  $(BIN)/python benchmarks/$$name.py --record || exit 1; done

# The meter's own figures: against a bare loop, beside a hog, MACs beside the published, variants, exports, the install.
bench-meter: $(STAMP)
	@for name in timing macs activations variants export install; do \
	  $(BIN)/python benchmarks/meter_$$name.py --record || exit 1; done

# The selector's figures. Regret reads the runs of benchmarks/select_truth.py, which take days, or minutes with a GPU.
bench-select: $(STAMP)
	@for name in probe coverage logic again kill regret; do \
	  $(BIN)/python benchmarks/select_$$name.py --record || exit 1; done

# Is every model what it claims to be? An hour or two; goes on where it stopped.
parity: $(STAMP)
	$(BIN)/python benchmarks/parity.py --record

# The API reference, from the docstrings.
docs: $(STAMP)
	$(BIN)/python scripts/reference.py build/docs

clean:
	rm -rf $(VENV) runs build dist

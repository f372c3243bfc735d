# The commands of README.md. `make demo` and `make test` need nothing before them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: venv demo table test test-fast soak docs check format bench bench-quick clean

venv: $(READY)

# Made anew when the requirements change. fast-reid comes without its dependencies, because its
# metadata pins torch 1.13.1.
$(READY): setup.py
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "Python 3.10 or newer is needed; type make PYTHON=/path/to/python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps fastreid==1.4.0
	touch $(READY)

demo: $(READY)
	$(BIN)/python tools/train_net.py --config-file configs/Synthetic/msplr.yml \
		UDA.STAGES "('source', 'adapt', 'supervised')" OUTPUT_DIR logs/demo

# All methods with three seeds; a run that is finished is not repeated, one that was stopped goes on.
table: $(READY)
	$(BIN)/python benchmarks/synthetic_table.py

# A file stays on one worker, because its tests share runs; the files with whole runs come first.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST)

test-fast: $(READY)
	$(PYTEST) -m "not slow"

# Kills small adaptations at 20 random moments, resumes them, compares them bit for bit: a few minutes.
soak: $(READY)
	$(BIN)/python -m tests.soak --kills 20 --seed 0

# The pages of keys and commands are made from the code first. The variable is Material's switch for
# its notice about MkDocs 2.
docs: $(READY)
	$(BIN)/python -m fastreid_uda.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Beside fast-reid's own code, well over an hour: make bench SIZES="4000 12936". Figures go to logs/bench.
SIZES ?= 4000 12936 32621
BENCH := $(BIN)/python benchmarks

bench: $(READY)
	mkdir -p logs/bench
	$(BENCH)/label_stage.py --images $(SIZES) --json logs/bench/label_stage.json --plot logs/bench/label_stage.png
	$(BENCH)/neighbors.py --json logs/bench/neighbors.json
	$(BENCH)/evaluation.py --json logs/bench/evaluation.json
	$(BENCH)/kmeans.py --json logs/bench/kmeans.json
	$(BENCH)/nplp.py --json logs/bench/nplp.json
	$(BENCH)/uncertainty.py --json logs/bench/uncertainty.json

# The labels and the evaluation at small sizes, under three minutes.
bench-quick: $(READY)
	mkdir -p logs/bench
	$(BENCH)/label_stage.py --quick --json logs/bench/quick.json --plot logs/bench/quick.png
	$(BENCH)/evaluation.py --quick

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

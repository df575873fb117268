# make demo    everything from a fresh checkout: real radar frames through float, integer model and RTL, and the board's files
# make demo-text  text that the hardware's simulation writes, character by character; ARGS="--prompt 'ROMEO:' --characters 400"
# make test    everything that CI checks
# make quick   lint, types, operators, one shape of each circuit in one simulator: under 90 seconds
# make bench   measures, and writes docs/benchmarks.md
# make verify  proofs, mutants, faults, fuzzing, coverage, into docs/verification.md
# make evaluation   accuracy: data sets and ablations, into docs/evaluation.md
# make docs    the documentation as a site, in build/docs (needs the extra docs)
# make dist   wheel and sdist in build/dist, each installed alone and tried
# make asic    area, timing and energy of the chip in the libraries that EMAMBA_PDK names, into docs/asic.md
.PHONY: setup demo demo-text test quick lint bench verify evaluation asic docs dist clean
.DEFAULT_GOAL := demo
PYTHON_BIN := .venv/bin/python
# Tests start hundreds of programs: none compiles all modules anew.
test quick: export PYTHONDONTWRITEBYTECODE :=

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt hashes.txt tools/setup.sh
	tools/setup.sh

demo: setup
	$(PYTHON_BIN) demo.py

demo-text: setup
	$(PYTHON_BIN) demo_text.py $(ARGS)

test: setup
	$(PYTHON_BIN) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not quick_only" tests sim

quick: lint
	$(PYTHON_BIN) -m pytest -q -n 2 -m quick $$(grep -l 'mark\.quick' tests/test_*.py)

lint: setup
	$(PYTHON_BIN) -m ruff check .
	.venv/bin/lint-imports --no-cache --no-logo
	$(PYTHON_BIN) -m mypy

bench: setup
	$(PYTHON_BIN) -m benchmarks

verify: setup
	$(PYTHON_BIN) -m verify

evaluation: setup
	$(PYTHON_BIN) -m benchmarks.evaluation

docs: setup
	$(PYTHON_BIN) -m sphinx -W -q -b html docs build/docs

asic: setup
	$(PYTHON_BIN) -m benchmarks.asic

dist: setup
	tools/dist.sh

clean:
	rm -rf build

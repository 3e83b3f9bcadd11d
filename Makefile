# make demo    set up .venv and run the whole workflow on the CPU, on the digits of scikit-learn
# make test    set up .venv and run the tests
# make long    run the tests that take minutes each
# make oldest  run the tests of compiled models with the oldest PyTorch that pyproject.toml allows
# make lint    run ruff, snakefmt and snakemake --lint
# make setup   only set up .venv
# make format  format the code
# make clean   remove .venv, .oldest and demo/

PYTHON ?= python3
READY := .venv/.ready
# Programs are called as modules: their own files in .venv/bin begin with the path of Python, which not every system reads if it
# is long or has a space.
RUN := .venv/bin/python -m

.PHONY: setup demo test long oldest lint format clean
setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python {v[0]}.{v[1]} found, but AFMP needs 3.11 or newer: make PYTHON=python3.12")'
	@echo "Setting up .venv, step 1 of 2: Python without packages, a few seconds"
	$(PYTHON) -m venv .venv
	@echo "Setting up .venv, step 2 of 2: PyTorch, Snakemake and all else, 6 GB. pip says nothing for about 2 minutes"
	$(RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The demo has its own folder and never touches the results of a real study.
demo: $(READY)
	@echo "The demo takes about 8 minutes on two cores"
	$(RUN) snakemake report --cores 2 --directory demo --configfile demo.yaml
	@echo; echo "Figures: demo/results/figures/"
	@echo "Tables: demo/results/aggregate/"
	@echo "First page: demo/results/report/index.html"
	@echo "Report: demo/results/report/report.html"; echo
	@$(RUN) afmp.cli accuracies demo/results
	@echo; $(RUN) afmp.cli claims demo/results --config demo.yaml --short

test: $(READY)
	OMP_NUM_THREADS=1 $(RUN) pytest -q -n 2 --dist loadfile

long: $(READY)
	OMP_NUM_THREADS=1 $(RUN) pytest -q -n 2 -m long

# A second PyTorch of 1 GB, found before that of .venv. torch.compile differs most between releases.
OLDEST := .oldest/.ready
$(OLDEST): pyproject.toml $(READY)
	rm -rf .oldest
	$(RUN) pip install --quiet --disable-pip-version-check --no-deps --target .oldest \
		$(shell sed -nE 's/^ *"(torch|torchvision)>=([0-9.]+)",$$/\1==\2.0/p' pyproject.toml)
	@touch $@

oldest: $(OLDEST)
	PYTHONPATH=.oldest OMP_NUM_THREADS=1 $(RUN) pytest -q -n 2 -m "long or not long" tests/model/test_compiled_*.py

lint: $(READY)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) snakefmt --check .
	$(RUN) snakemake --lint

format: $(READY)
	$(RUN) ruff check --fix .
	$(RUN) ruff format .
	$(RUN) snakefmt .

clean:
	rm -rf .venv .oldest demo

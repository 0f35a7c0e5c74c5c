# Everything that is needed is made in .venv, from the versions and hashes in requirements.lock.
#
#   make denoise [EPOCHS=5] [DATA_DIR=/path/to/tfds] [CONFIG=configs/autoencoder.cfg] [WORKDIR=runs/mine]
#   make results [BUDGET=quick] [ONLY=denoising,lines] [DATA_DIR=...] [PHOTOS=...] [OMNIGLOT=...] [CIFAR10=...]
#                    measures the figures of the pages again, one after the other, and renders the pages; resumes
#   make test        all tests but those marked slow
#   make test-fast   without processes of their own
#   make test-all
#   make coverage    make test, and which lines of cae/ it runs
#   make lint
#   make golden      only where numbers are meant to change: renews the weights and scores that tests
#                    compare with; ADD=--add adds the weights of a processor that is not known yet

CONFIG ?= configs/denoise.cfg
WORKDIR ?= runs/$(basename $(notdir $(CONFIG)))
LOCK ?= requirements.lock
BIN := .venv/bin

train_flags = --flagfile=$(CONFIG) --workdir=$(WORKDIR) $(if $(EPOCHS),--epochs=$(EPOCHS)) $(if $(DATA_DIR),--data_dir=$(DATA_DIR))

# The first Python of 3.11 to 3.13 that can make an environment; PYTHON=... names another.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)

results_flags = $(if $(BUDGET),--budget=$(BUDGET)) $(if $(ONLY),--only=$(ONLY)) $(if $(DATA_DIR),--data_dir=$(DATA_DIR)) \
	$(if $(PHOTOS),--photos=$(PHOTOS)) $(if $(OMNIGLOT),--omniglot=$(OMNIGLOT)) $(if $(CIFAR10),--cifar10=$(CIFAR10))

.PHONY: denoise results test test-fast test-all coverage lint lock golden
.DELETE_ON_ERROR:

denoise: .venv/installed
	@$(BIN)/python train.py $(train_flags)
	@$(BIN)/python eval.py --workdir=$(WORKDIR)

results: .venv/installed
	@$(BIN)/python -m benchmarks.results $(results_flags)

pytest := $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

test: .venv/installed
	@$(pytest) -m "not slow"

test-fast: .venv/installed
	@$(pytest) -m "not slow and not e2e and not multiworker"

test-all: .venv/installed
	@$(pytest)

coverage: .venv/installed
	@$(pytest) -m "not slow" --cov --cov-report=term-missing:skip-covered

lint: .venv/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache --no-logo

golden: .venv/installed
	@$(BIN)/python -m tests.make_golden $(ADD)

.venv/installed: $(LOCK)
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11, 3.12 or 3.13 with venv; name it with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCK)
	@touch $@

# Renews every version. uv is needed for it alone.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-header --no-annotate -o requirements.lock
	uv pip compile pyproject.toml --extra dev --extra gpu --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-header --no-annotate -o requirements-gpu.lock
	uv pip compile pyproject.toml --extra dev --extra torch --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-header --no-annotate -o requirements-torch.lock

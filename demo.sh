#!/usr/bin/env bash
# What `make demo` does, step by step: trips in, return trips out, a page to look at; then figures
# with captions in, training tables out, and a page of those.
# TRIPS names your own files; without it the first step makes a day of trips.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

python=${PYTHON:-.venv/bin/python}
trips=${TRIPS:-}
lake=demo/lake

# A lake and pages of these files alone.
rm -rf demo/lake demo/return_trips.* demo/captions.html demo/figures
if [ -z "$trips" ]; then
    trips=demo/trips
    rm -rf "$trips"
    echo "== 1. make a day of trips (made, not real; TRIPS=path takes your own)" >&2
    "$python" jobs/make_trips.py --days 1 --trips-per-day "${TRIPS_PER_DAY:-400000}" --out "$trips"
fi
echo "== 2. ingest $trips" >&2
"$python" jobs/ingest_trips.py "$trips" --lake "$lake"
echo "== 3. find return trips" >&2
"$python" jobs/return_trips.py --lake "$lake"
echo "== 4. draw them" >&2
"$python" jobs/draw_return_trips.py --lake "$lake" --out demo
# So few figures are done before Java's second compiler has earned back what it costs.
export SPARK_SUBMIT_OPTS="${SPARK_SUBMIT_OPTS:-} -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
echo "== 5. make figures with captions and questions (made, not real)" >&2
"$python" jobs/make_figures.py --figures "${FIGURES:-2000}" --questions 300 --out demo/figures
echo "== 6. ingest them" >&2
"$python" jobs/ingest_figures.py demo/figures/figures --format webdataset --lake "$lake"
"$python" jobs/ingest_figures.py demo/figures/vqa --format vqa --source made-vqa --lake "$lake"
echo "== 7. decode, clean, find copies, split" >&2
"$python" jobs/prepare_captions.py --lake "$lake" --page demo/captions.html
echo
echo "Open $PWD/demo/return_trips.html and $PWD/demo/captions.html"

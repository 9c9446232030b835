#!/usr/bin/env bash
# What `make demo` does, step by step: trips in, return trips out, a page to look at.
# TRIPS names your own files; without it the first step makes a day of trips.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

python=${PYTHON:-.venv/bin/python}
trips=${TRIPS:-}
lake=demo/lake

rm -rf demo/lake demo/return_trips.*  # a page and a lake of these trips alone
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
echo
echo "Open $PWD/demo/return_trips.html"

#!/usr/bin/env bash
# What `make demo-vlm` does, step by step: made figures and questions in, two prototypes trained on
# two processes with ZeRO-2, their answers, and a leaderboard to look at. Made, not real.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

python=${PYTHON:-.venv/bin/python}
processes=${PROCESSES:-2}
here=demo/vlm
lake=$here/lake
export MODELS=$here/models HF_HUB_OFFLINE=1

rm -rf "$here"
# So few rows are done before Java's second compiler has earned back what it costs.
export SPARK_SUBMIT_OPTS="${SPARK_SUBMIT_OPTS:-} -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
echo "== 1. make figures with captions and questions (made, not real)" >&2
"$python" jobs/make_figures.py --figures "${FIGURES:-600}" --questions "${QUESTIONS:-900}" --out $here/figures
echo "== 2. ingest them" >&2
"$python" jobs/ingest_figures.py $here/figures/figures --format webdataset --lake $lake
"$python" jobs/ingest_figures.py $here/figures/vqa --format vqa --source made-vqa --lake $lake
echo "== 3. decode, clean, find copies, split" >&2
"$python" jobs/prepare_captions.py --longest-side-px 128 --lake $lake --page $here/captions.html
echo "== 4. make a small Bloom, with a tokenizer learnt from these texts" >&2
"$python" jobs/make_llm.py --lake $lake --out $MODELS/small-bloom
for recipe in demo-image demo-text; do
    echo "== 5. train $recipe: align on captions, instruct on questions" >&2
    "$python" jobs/train_vlm.py --recipe $recipe --num-processes "$processes" --lake $lake --run-id $recipe
    echo "== 6. ask it" >&2
    "$python" jobs/evaluate_vlm.py --run $recipe --lake $lake
done
echo "== 7. compare" >&2
"$python" jobs/leaderboard.py --lake $lake --page $here/leaderboard.html
echo
echo "Open $PWD/$here/leaderboard.html"

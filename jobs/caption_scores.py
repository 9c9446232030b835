"""The part of jobs/evaluate_vlm.py that is about captions, which need no question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.evaluation import Evaluation, interval_text
from jobs.vlm_answers import captions_told, gray_png, pool_told
from ml.evaluation.controls import swapped
from ml.evaluation.image_text import perplexity_scores, retrieval_scores
from ml.evaluation.summary import Score
from pipelines.figures.prompts import columns_of
from pipelines.figures.templates import built_in_templates, template
from schemas.frames import frame_of
from schemas.ml import MODEL_CONTROLS


def score_captions(of: Evaluation, template_name: str, *, pool: int) -> dict[str, Any]:
    """Perplexity, and retrieval in a pool of so many, into ml.scores; fields of the summary."""
    run, at = of.run, of.at
    prompt, text = columns_of(template(built_in_templates(), "captions", template_name))
    # Templates call caption what the table holds as text.
    told = at.rows.withColumn("caption", F.col("text")).select(
        "example_id", "group_id", "order_key", "image", prompt.alias("prompt"), text.alias("text")
    )
    groups = told.select("example_id", "group_id").toArrow()
    ids = groups["example_id"].to_pylist()
    pairs = swapped(dict(zip(ids, groups["group_id"].to_pylist(), strict=True)))
    with run.step("tell captions"):
        found = captions_told(
            _under_controls(told, pairs), of.place, of.partitions(len(ids) * len(MODEL_CONTROLS))
        )
        table = found.orderBy("control", "example_id").toArrow().to_pandas()
    by_control = {str(control): rows for control, rows in table.groupby("control")}
    own = by_control["image"]
    scores = perplexity_scores(
        {control: rows["log_likelihood"].to_numpy(float) for control, rows in by_control.items()},
        own["tokens"].to_numpy(float),
        own["example_id"].to_numpy(np.int64),
    )
    pool_size = 0
    if pool > 1:
        with run.step("find captions"):
            likelihood, without_image = _pool(of, told, pool)
        pool_size = len(likelihood)
        scores += retrieval_scores(likelihood, without_image)
    of.write_scores(scores)
    run.rows["captions"] = len(ids)
    _print(of, scores, len(ids), pool_size)
    return {
        "split_by": at.split_by,
        "split": at.split,
        "pool": pool_size,
        "scores": {s.metric: round(s.score, 6) for s in scores if s.control == "image"},
    }


def _under_controls(told: DataFrame, pairs: Mapping[int, int]) -> DataFrame:
    """Captions under each control of the model: control, example_id, image, prompt, text."""
    images = told.select(F.col("example_id").alias("shown"), "image")
    pair = frame_of(told.sparkSession, list(pairs.items()), "example_id bigint, shown bigint")
    rows = {
        "image": told,
        "blank": told.withColumn("image", F.lit(gray_png())),
        "no_image": told.withColumn("image", F.lit(None).cast("binary")),
        "swapped": told.drop("image").join(F.broadcast(pair), "example_id").join(images, "shown"),
    }
    columns = ("example_id", "image", "prompt", "text")
    frames = [r.select(F.lit(c).alias("control"), *columns) for c, r in rows.items()]
    return reduce(DataFrame.unionByName, frames)


def _pool(of: Evaluation, told: DataFrame, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihoods [N, N] of the pool's captions (columns) given its images, [N] given none."""
    # Of two with one caption either would be right: one of them is in the pool.
    first = F.min_by("example_id", "order_key").alias("example_id")
    drawn = told.groupBy("text").agg(first, F.min("order_key").alias("order_key"))
    chosen = drawn.orderBy("order_key").limit(size).select("example_id").collect()
    ids = [row["example_id"] for row in chosen]
    rows = told.where(F.col("example_id").isin(ids))
    named = {r["example_id"]: r for r in rows.select("example_id", "prompt", "text").collect()}
    absent = frame_of(told.sparkSession, [(None, None)], "example_id bigint, image binary")
    images = rows.select("example_id", "image").unionByName(absent)
    likelihoods = pool_told(
        images.repartition(of.partitions(len(ids) ** 2), "example_id"),
        [named[i]["prompt"] for i in ids],
        [named[i]["text"] for i in ids],
        of.place,
    )
    found = {row["example_id"]: row["likelihoods"] for row in likelihoods.collect()}
    return np.array([found[i] for i in ids]), np.array(found[None])


def _print(of: Evaluation, scores: Sequence[Score], captions: int, pool: int) -> None:
    print(
        f"\n{of.trained.recipe.name}, run {of.trained.run_id}: {captions:,} captions of "
        f"{of.at.table.name} version {of.at.version}, {of.at.split_by} {of.at.split}; 95 % "
        "intervals by image\n"
    )
    for s in scores:
        if "recall_at" in s.metric:
            k = int(s.metric.rsplit("_", 1)[1])
            by_chance = f"% of a pool of {pool}; by chance {100 * k / pool:.1f}"
            print(f"{s.metric:<28} {interval_text(s):>24} {by_chance}")
        else:
            name = s.metric if s.metric == "perplexity" else "nats a token"
            print(f"{name + ', ' + s.control:<28} {_plain(s):>24}")
    print()


def _plain(score: Score) -> str:
    ends = "" if score.low is None else f" [{score.low:.3g}, {score.high:.3g}]"
    return f"{score.score:.3g}{ends}"

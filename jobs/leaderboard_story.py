"""What the leaderboard's page shows beside the ranking: curves, samples, worst cases."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.run import Run, log
from ml.leaderboard.ranking import Entry
from ml.leaderboard.story import Curve, Said, Shown
from pipelines.errors import UsageError
from schemas import VQA_EXAMPLES
from schemas.frames import frame_of
from udfs.previews import preview

SAMPLES, WORST = 8, 8
SIDE_PX = 256
_BINS = 120
_MOST_CURVES = 4


def curves_of(metrics: DataFrame, groups: Sequence[Sequence[Entry]]) -> tuple[Curve, ...]:
    """Loss by step of each stage, of the first prototypes; runs of one are averaged."""
    # One that was tested by several splits was trained once.
    best = list({e.prototype: e for group in groups for e in group}.values())[:_MOST_CURVES]
    pairs = [(model.run_id, e.name) for e in best for model in e.runs]
    names = frame_of(metrics.sparkSession, sorted(set(pairs)), "run_id string, name string")
    of_best = metrics.join(F.broadcast(names), "run_id")
    longest = of_best.groupBy("stage").agg(F.max("step").alias("last"), F.min("at").alias("began"))
    width = F.greatest(F.ceil(F.col("last") / _BINS), F.lit(1))
    bins = (
        of_best.join(F.broadcast(longest), "stage")
        .withColumn("bin", F.floor((F.col("step") - 1) / width))
        .groupBy("stage", "name", "bin")
        .agg(F.avg("loss").alias("loss"))
        .collect()
    )
    curves = []
    for stage in sorted(longest.withColumn("width", width).collect(), key=lambda s: s["began"]):
        count = -(-stage["last"] // stage["width"])
        found = {(b["name"], b["bin"]): b["loss"] for b in bins if b["stage"] == stage["stage"]}
        shown = dict.fromkeys(e.name for e in best if any(n == e.name for n, _ in found))
        series = [(n, [found.get((n, k)) for k in range(count)]) for n in shown]
        ends = [min((k + 1) * stage["width"], stage["last"]) for k in range(count)]
        curves.append(Curve(stage["stage"], ends, series))
    return tuple(curves)


def samples_of(
    run: Run, entry: Entry, answers: DataFrame
) -> tuple[tuple[Shown, ...], tuple[Shown, ...]]:
    """Some questions of an entry by chance, and those that it got wrong and was surest of.

    Where several runs answered a question, the answer of the first of them stands for all.
    """
    once = Window.partitionBy("control", "example_id").orderBy("run_id")
    mine = (
        answers.where(
            F.col("run_id").isin([model.run_id for model in entry.runs])
            & (F.col("split_by") == entry.split_by)
            & (F.col("table_version") == entry.table_version)
        )
        .withColumns({"score": F.coalesce("strict", "f1"), "turn": F.row_number().over(once)})
        .where("turn = 1")
    )
    own = mine.where("control = 'image'")
    by_chance = own.orderBy(F.xxhash64("example_id", F.lit("page"))).limit(SAMPLES)
    wrong = own.where("score = 0").orderBy(F.col("confidence").desc_nulls_last(), "example_id")
    drawn = [[row["example_id"] for row in rows.select("example_id").collect()]
             for rows in (by_chance, wrong.limit(WORST))]  # fmt: skip
    ids = sorted({example_id for of in drawn for example_id in of})
    rows = mine.where(F.col("example_id").isin(ids)).collect()
    pictures = _pictures(run, entry, ids)

    def shown(example_id: int) -> Shown:
        of_question = [row for row in rows if row["example_id"] == example_id]
        image = next(row for row in of_question if row["control"] == "image")
        return Shown(
            jpeg=pictures.get(example_id),
            question=image["question"],
            truth=image["answer"],
            said=[Said(row["control"], row["prediction"], row["score"]) for row in of_question],
            confidence=image["confidence"],
        )

    chance, worst = (tuple(map(shown, of)) for of in drawn)
    return chance, worst


def _pictures(run: Run, entry: Entry, ids: Sequence[int]) -> dict[int, bytes]:
    """Thumbnails as JPEG by example_id, as far as the version that was evaluated is still there."""
    try:
        rows = run.lake.read(VQA_EXAMPLES, entry.table_version)
        few = rows.where(F.col("example_id").isin(list(ids))).select("example_id", "image")
        images = {row["example_id"]: row["image"] for row in few.collect()}
    except UsageError:
        raise
    except Exception as e:
        log(f"no images on the page: version {entry.table_version} of {VQA_EXAMPLES.name}: "
            f"{str(e).splitlines()[0]}")  # fmt: skip
        return {}
    made = {i: preview(bytes(image), SIDE_PX) for i, image in images.items() if image is not None}
    return {i: jpeg for i, jpeg in made.items() if jpeg is not None}

"""What the leaderboard's page shows beside the ranking: curves, samples, worst cases."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
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
    pairs = [(model.run_id, e.prototype) for e in best for model in e.runs]
    of_run = frame_of(metrics.sparkSession, pairs, "run_id string, prototype string")
    of_best = metrics.join(F.broadcast(of_run), "run_id")
    longest = of_best.groupBy("stage").agg(F.max("step").alias("last"), F.min("at").alias("began"))
    width = F.greatest(F.ceil(F.col("last") / _BINS), F.lit(1))
    bins = (
        of_best.join(F.broadcast(longest), "stage")
        .withColumn("bin", F.floor((F.col("step") - 1) / width))
        .groupBy("stage", "prototype", "bin")
        .agg(F.avg("loss").alias("loss"))
        .collect()
    )
    curves = []
    for stage in sorted(longest.withColumn("width", width).collect(), key=lambda s: s["began"]):
        count = -(-stage["last"] // stage["width"])
        found = {
            (b["prototype"], b["bin"]): b["loss"] for b in bins if b["stage"] == stage["stage"]
        }
        shown = [e for e in best if any(of == e.prototype for of, _ in found)]
        series = [(e.name, [found.get((e.prototype, k)) for k in range(count)]) for e in shown]
        ends = [min((k + 1) * stage["width"], stage["last"]) for k in range(count)]
        curves.append(Curve(stage["stage"], ends, series))
    return tuple(curves)


def samples_of(
    run: Run, entry: Entry, answers: DataFrame
) -> tuple[tuple[Shown, ...], tuple[Shown, ...]]:
    """Some questions of an entry by chance, and those that it got wrong and was surest of.

    Where several runs answered a question, the answer of the first of them stands for all.
    """
    mine = answers.where(
        F.col("run_id").isin([model.run_id for model in entry.runs])
        & (F.col("split_by") == entry.split_by)
        & (F.col("table_version") == entry.table_version)
    ).withColumn("score", F.coalesce("strict", "f1"))
    slim = mine.where("control = 'image'").select("run_id", "example_id", "score", "confidence")
    own = slim.toArrow().to_pandas().sort_values(["example_id", "run_id"])
    own = own.drop_duplicates("example_id").set_index("example_id")
    chance = own.sample(min(SAMPLES, len(own)), random_state=0).index.tolist()
    wrong = own[own["score"] == 0].sort_values("confidence", ascending=False, kind="stable")
    worst = wrong.index[:WORST].tolist()
    ids = sorted({*chance, *worst})
    # Of each question the run that answers for it.
    answering = [(i, str(own.loc[i, "run_id"])) for i in ids]
    chosen = frame_of(run.spark, answering, "example_id bigint, run_id string")
    rows = mine.join(F.broadcast(chosen), ["example_id", "run_id"], "left_semi").collect()
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

    return tuple(map(shown, chance)), tuple(map(shown, worst))


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

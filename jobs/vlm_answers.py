"""Questions and captions through a model, in Spark's tasks."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from PIL import Image
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.models_in_tasks import Place, model_at
from ml.evaluation.controls import Majority, Retrieval
from ml.evaluation.scores import METRICS, scores_of
from schemas.frames import frame_of

if TYPE_CHECKING:
    from ml.evaluation.answers import Answer

Batches = Iterable[pa.RecordBatch]

ASKED = (
    "control string, example_id bigint, image_id bigint, shown_image_id bigint, question string, "
    "answer string, closed boolean, question_type string, modality string"
)
"""A question under a control; `answer` is the truth."""
_SCORED = f"{ASKED}, prediction string, confidence double, " + ", ".join(
    f"`{metric}` double" for metric in METRICS
)
_NAMES = [part.split()[0] for part in ASKED.split(", ")]
_GRAY = 128


def asked_of_model(
    rows: DataFrame, prompt: Column, swapped_with: Mapping[int, int], controls: Iterable[str]
) -> DataFrame:
    """`rows` of gold.vqa_examples under each control: ASKED, image (bytes) and prompt.

    `swapped_with` is the image that is shown in the place of each.
    """
    parts = {
        "image": rows.withColumn("shown_image_id", F.col("image_id")),
        "blank": _shown(rows, F.lit(gray_png())),
        "no_image": _shown(rows, F.lit(None).cast("binary")),
        "swapped": _swapped(rows, swapped_with),
    }
    frames = [
        parts[c].withColumn("control", F.lit(c)).select(*_NAMES, "image", prompt.alias("prompt"))
        for c in controls
    ]
    return reduce(DataFrame.unionByName, frames)


def _shown(rows: DataFrame, image: Column) -> DataFrame:
    return rows.withColumns({"image": image, "shown_image_id": F.lit(None).cast("bigint")})


def _swapped(rows: DataFrame, swapped_with: Mapping[int, int]) -> DataFrame:
    pairs = frame_of(
        rows.sparkSession, list(swapped_with.items()), "image_id bigint, shown_image_id bigint"
    )
    images = rows.select(F.col("image_id").alias("shown_image_id"), "image").dropDuplicates(
        ["shown_image_id"]
    )
    return rows.drop("image").join(F.broadcast(pairs), "image_id").join(images, "shown_image_id")


@cache
def gray_png() -> bytes:
    """An image of one gray."""
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (_GRAY,) * 3).save(out, "PNG")
    return out.getvalue()


def answered(asked: DataFrame, place: Place, partitions: int) -> DataFrame:
    """What the model says to each row of `asked_of_model`, scored."""

    def in_batches(batches: Batches) -> Iterator[pa.RecordBatch]:
        model = model_at(place)
        for batch in batches:
            said = model.answers(batch["image"].to_pylist(), batch["prompt"].to_pylist())
            yield _scored(batch, [a.text for a in said], [a.confidence for a in said])

    return _spread(asked, partitions, "example_id", "control").mapInArrow(in_batches, _SCORED)


def answered_or_refused(asked: DataFrame, place: Place, partitions: int) -> DataFrame:
    """What the model says to each row, or why it says nothing: key, question, answer, confidence
    and reason.

    `asked` has key and question, both text, image (bytes), prompt, and reason: where that is not
    null the row is not asked.
    """

    def in_batches(batches: Batches) -> Iterator[pa.RecordBatch]:
        model = model_at(place)
        for batch in batches:
            reasons = batch["reason"].to_pylist()
            answers: list[Answer | None] = [None] * batch.num_rows
            put = [i for i, reason in enumerate(reasons) if reason is None]
            asked_rows = batch.take(pa.array(put, pa.int64()))
            images, prompts = (asked_rows[name].to_pylist() for name in ("image", "prompt"))
            for i, said in zip(put, model.answers_or_reasons(images, prompts), strict=True):
                if isinstance(said, str):
                    reasons[i] = said
                else:
                    answers[i] = said
            yield pa.RecordBatch.from_pydict(
                {
                    "key": batch["key"],
                    "question": batch["question"],
                    "answer": pa.array([a and a.text for a in answers], pa.string()),
                    "confidence": pa.array([a and a.confidence for a in answers], pa.float64()),
                    "reason": pa.array(reasons, pa.string()),
                }
            )

    return _spread(asked, partitions, "key").mapInArrow(
        in_batches, "key string, question string, answer string, confidence double, reason string"
    )


def _spread(asked: DataFrame, partitions: int, *keys: str) -> DataFrame:
    """Rows among so many tasks, prompts of one length side by side: little of a batch is padding
    then."""
    return asked.repartition(partitions, *keys).sortWithinPartitions(F.length("prompt"), keys[0])


def answered_without_model(rows: DataFrame, majority: Majority, retrieval: Retrieval) -> DataFrame:
    """The answers of the controls that need no model, scored.

    Where no training question is like the one asked, retrieval says what the majority does.
    """
    asked = _shown(rows, F.lit(None)).withColumn("control", F.lit("")).select(*_NAMES)

    def in_batches(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            kinds = zip(
                batch["closed"].to_pylist(), batch["question_type"].to_pylist(), strict=True
            )
            usual = [majority.answer(closed=c, question_type=t) for c, t in kinds]
            near = [retrieval.answer(question) for question in batch["question"].to_pylist()]
            nearest = [usual[i] if a is None else a for i, a in enumerate(near)]
            none = [None] * batch.num_rows
            yield _scored(_under(batch, "majority"), usual, none)
            yield _scored(_under(batch, "retrieval"), nearest, none)

    return asked.mapInArrow(in_batches, _SCORED)


def _under(batch: pa.RecordBatch, control: str) -> pa.RecordBatch:
    column = pa.array([control] * batch.num_rows)
    return batch.set_column(batch.schema.get_field_index("control"), "control", column)


def _scored(
    batch: pa.RecordBatch, predictions: list[str], confidences: list[Any]
) -> pa.RecordBatch:
    truths, closed = batch["answer"].to_pylist(), batch["closed"].to_pylist()
    found = [
        scores_of(prediction, truth, closed=is_closed)
        for prediction, truth, is_closed in zip(predictions, truths, closed, strict=True)
    ]
    columns = {name: batch[name] for name in _NAMES}
    columns |= {
        "prediction": pa.array(predictions, pa.string()),
        "confidence": pa.array(confidences, pa.float64()),
    }
    columns |= {m: pa.array([scores[m] for scores in found], pa.float64()) for m in METRICS}
    return pa.RecordBatch.from_pydict(columns)


def captions_told(shown: DataFrame, place: Place, partitions: int) -> DataFrame:
    """How likely the model finds captions: control, example_id, log_likelihood, tokens.

    `shown` has control, example_id, image, prompt and text.
    """

    def in_batches(batches: Batches) -> Iterator[pa.RecordBatch]:
        model = model_at(place)
        for batch in batches:
            told = model.likelihoods(
                *(batch[name].to_pylist() for name in ("image", "prompt", "text"))
            )
            yield pa.RecordBatch.from_pydict(
                {
                    "control": batch["control"],
                    "example_id": batch["example_id"],
                    "log_likelihood": pa.array([x for x, _ in told], pa.float64()),
                    "tokens": pa.array([float(n) for _, n in told], pa.float64()),
                }
            )

    spread = shown.repartition(partitions, "example_id", "control")
    return spread.sortWithinPartitions(F.length("text"), "example_id").mapInArrow(
        in_batches, "control string, example_id bigint, log_likelihood double, tokens double"
    )


def pool_told(
    images: DataFrame, prompts: list[str], captions: list[str], place: Place
) -> DataFrame:
    """Each image with all captions: example_id and their log-likelihoods, an array."""

    def in_batches(batches: Batches) -> Iterator[pa.RecordBatch]:
        model = model_at(place)
        for batch in batches:
            rows = []
            for image in batch["image"].to_pylist():
                told = model.likelihoods([image] * len(captions), prompts, captions)
                rows.append([x for x, _ in told])
            likelihoods = pa.array(rows, pa.list_(pa.float64()))
            yield pa.RecordBatch.from_pydict(
                {"example_id": batch["example_id"], "likelihoods": likelihoods}
            )

    return images.mapInArrow(in_batches, "example_id bigint, likelihoods array<double>")

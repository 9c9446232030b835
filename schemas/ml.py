"""Tables of training: runs, metrics, predictions, scores, and the leaderboard made of them.

A **run** trains one recipe once. Everything that a number depends on is in its row of `ml.runs`:
the recipe, the code, the version of each table read; the other tables name the run.
"""

from __future__ import annotations

from pyspark.sql.types import ArrayType, MapType

from schemas.figures import one_of
from schemas.table import BIGINT, BOOLEAN, DOUBLE, INT, STRING, TIMESTAMP, Column, Table

CONTROLS = ("image", "blank", "swapped", "majority", "retrieval")
"""What a question was answered with: its image, a blank one, another question's; or without the
model: the most frequent answer, the answer of the most similar training question."""

_RUN_ID = Column("run_id", STRING, "training run, see ml.runs", nullable=False)
_CHECKPOINT = Column("checkpoint", STRING, "stage and step of the weights", nullable=False)
_SPLIT_BY = Column("split_by", STRING, "split, published_split or fold", nullable=False)
_SPLIT = Column("split", STRING, "the rows evaluated: test, or a fold's number", nullable=False)

ML_RUNS = Table(
    name="ml.runs",
    comment=(
        "One row for each time that a training run was started, went on or ended; the latest by "
        "`at` is how it stands."
    ),
    columns=(
        _RUN_ID,
        Column("at", TIMESTAMP, "when", "UTC", nullable=False),
        Column("event", STRING, "start, resume or end", nullable=False),
        Column("outcome", STRING, "running; then done, failed or stopped", nullable=False),
        Column("recipe", STRING, "name of the recipe", nullable=False),
        Column("recipe_json", STRING, "the recipe with every default", nullable=False),
        Column("versions", MapType(STRING, STRING), "of roundtrip, its commit, torch, DeepSpeed"),
        Column("tables_in", MapType(STRING, BIGINT), "version of each table trained from"),
        Column("folder", STRING, "where its checkpoints and model lie", nullable=False),
        Column("processes", INT, "world size", nullable=False),
        Column("zero_stages", ArrayType(INT, False), "ZeRO stage of each stage", nullable=False),
        Column("parameters", BIGINT, "of the whole model"),
        Column("trained_parameters", BIGINT, "of these, trained in the last stage"),
        Column("steps", BIGINT, "optimiser steps done, all stages"),
        Column("seconds", DOUBLE, "wall time of training so far", "s"),
        Column("peak_bytes", BIGINT, "largest memory of a rank", "bytes"),
        Column("error", STRING, "what ended it, in one line"),
    ),
    key=("run_id", "at"),
    checks={"known_event": one_of("event", ("start", "resume", "end"))},
    time="at",
)

METRICS = Table(
    name="ml.metrics",
    comment="One row for each optimiser step of a run.",
    columns=(
        _RUN_ID,
        Column("stage", STRING, "name of the recipe's stage", nullable=False),
        Column("step", BIGINT, "optimiser step in the stage, from 1", nullable=False),
        Column("at", TIMESTAMP, "when it ended", "UTC", nullable=False),
        Column("attempt", INT, "starts of the run before it: 0, or more after resuming"),
        Column("loss", DOUBLE, "mean over the label tokens of the global batch; null: not finite"),
        Column("validation_loss", DOUBLE, "the same over the validation rows, where measured"),
        Column("learning_rate", DOUBLE, "of the fusion, in this step"),
        Column("gradient_norm", DOUBLE, "before clipping; null: not finite"),
        Column("loss_scale", DOUBLE, "of fp16; else 1"),
        Column("skipped", BOOLEAN, "the weights were left as they were", nullable=False),
        Column("examples", BIGINT, "examples consumed in the stage so far", nullable=False),
        Column("tokens", BIGINT, "text tokens in the global batch, padding apart", nullable=False),
        Column("seconds", DOUBLE, "wall time of the step", "s", nullable=False),
        Column("wait_seconds", DOUBLE, "of it, waiting for data, the slowest rank", "s"),
        Column("checkpoint_seconds", DOUBLE, "of it, writing a checkpoint", "s"),
        Column("mfu", DOUBLE, "model FLOP/s over the device's peak; null: peak unknown"),
        Column("peak_bytes", BIGINT, "largest memory of a rank so far", "bytes"),
    ),
    key=("run_id", "stage", "step"),
    time="at",
)

PREDICTIONS = Table(
    name="ml.predictions",
    comment="One row for each question and control that a model was evaluated with.",
    columns=(
        _RUN_ID,
        _CHECKPOINT,
        Column("table_version", BIGINT, "of gold.vqa_examples", nullable=False),
        _SPLIT_BY,
        _SPLIT,
        Column("control", STRING, "image, blank, swapped, majority or retrieval", nullable=False),
        Column("example_id", BIGINT, "see gold.vqa_examples", nullable=False),
        Column("image_id", BIGINT, "see gold.vqa_examples"),
        Column("shown_image_id", BIGINT, "the image given; null: none"),
        Column("question", STRING, "as asked", nullable=False),
        Column("answer", STRING, "the truth", nullable=False),
        Column("prediction", STRING, "what was answered", nullable=False),
        Column("closed", BOOLEAN, "see gold.vqa_examples", nullable=False),
        Column("question_type", STRING, "see gold.vqa_examples"),
        Column("modality", STRING, "see gold.vqa_examples"),
        Column("strict", DOUBLE, "closed: 1 where the answer is the truth, else 0"),
        Column("substring", DOUBLE, "closed: 1 where the truth is in the answer, as published"),
        Column("recall", DOUBLE, "open: words of the truth that the answer has", "0 to 1"),
        Column("f1", DOUBLE, "open: harmonic mean of precision and recall of words", "0 to 1"),
        Column("exact", DOUBLE, "open: 1 where both are the same after normalising"),
        Column("bleu", DOUBLE, "open: BLEU of the answer", "0 to 1"),
        Column("at", TIMESTAMP, "when", "UTC", nullable=False),
    ),
    key=("run_id", "checkpoint", "split_by", "split", "control", "example_id"),
    checks={"known_control": one_of("control", CONTROLS)},
    time="at",
)

SCORES = Table(
    name="ml.scores",
    comment="Means of the predictions, with bootstrap intervals, and scores of captions.",
    columns=(
        _RUN_ID,
        _CHECKPOINT,
        Column("table_version", BIGINT, "of the table evaluated", nullable=False),
        _SPLIT_BY,
        _SPLIT,
        Column("control", STRING, "as in ml.predictions; `minus` two of them", nullable=False),
        Column("metric", STRING, "as in ml.predictions; perplexity, recall_at_k", nullable=False),
        Column("group", STRING, "all, or the column that rows are grouped by", nullable=False),
        Column("value", STRING, "the group's value; all: all", nullable=False),
        Column("n", BIGINT, "questions, or captions", nullable=False),
        Column("score", DOUBLE, "the mean", nullable=False),
        Column("low", DOUBLE, "lower end of the 95 % bootstrap interval, by image"),
        Column("high", DOUBLE, "its upper end"),
        Column("at", TIMESTAMP, "when", "UTC", nullable=False),
    ),
    key=("run_id", "checkpoint", "split_by", "split", "control", "metric", "group", "value"),
    time="at",
)

LEADERBOARD = Table(
    name="ml.leaderboard",
    comment="The prototypes compared: one row for each run evaluated, the best first.",
    columns=(
        Column("place", INT, "1: the best by closed and open score together", nullable=False),
        _RUN_ID,
        Column("recipe", STRING, "name of the recipe", nullable=False),
        _CHECKPOINT,
        _SPLIT_BY,
        _SPLIT,
        Column("closed_strict", DOUBLE, "closed questions, strict", "0 to 1"),
        Column("closed_low", DOUBLE, "lower end of its interval"),
        Column("closed_high", DOUBLE, "upper end of its interval"),
        Column("open_f1", DOUBLE, "open questions, F1 of words", "0 to 1"),
        Column("open_low", DOUBLE, "lower end of its interval"),
        Column("open_high", DOUBLE, "upper end of its interval"),
        Column("over_blank", DOUBLE, "mean score with the image minus with a blank one"),
        Column("over_swapped", DOUBLE, "mean score with the image minus with another one"),
        Column("over_majority", DOUBLE, "mean score minus that of the most frequent answer"),
        Column("trained_parameters", BIGINT, "of the last stage"),
        Column("seconds", DOUBLE, "of training", "s"),
        Column("peak_bytes", BIGINT, "largest memory of a rank", "bytes"),
        Column("tables_in", MapType(STRING, BIGINT), "version of each table trained from"),
        Column("at", TIMESTAMP, "when it was compared", "UTC", nullable=False),
    ),
    key=("run_id", "split_by", "split"),
)

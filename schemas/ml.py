"""Tables of training: runs, metrics, predictions, scores, and the leaderboard made of them.

A **run** trains one recipe once. Everything that a number depends on is in its row of `ml.runs`:
the recipe, the code, the version of each table read; the other tables name the run.
"""

from __future__ import annotations

from pyspark.sql.types import ArrayType, MapType

from schemas.figures import one_of
from schemas.table import BIGINT, BOOLEAN, DOUBLE, INT, STRING, TIMESTAMP, Column, Table

MODEL_CONTROLS = ("image", "blank", "no_image", "swapped")
"""What the model was shown with a question: its image, a gray one, none, one of another group."""
CONTROLS = (*MODEL_CONTROLS, "majority", "retrieval")
"""The same; or without the model: the most frequent answer among the training questions of the
type, the answer of the most similar training question."""

_RUN_ID = Column("run_id", STRING, "training run, see ml.runs", nullable=False)
_CHECKPOINT = Column("checkpoint", STRING, "stage and step of the weights", nullable=False)
_SPLIT_BY = Column("split_by", STRING, "split, published_split or fold", nullable=False)
_SPLIT = Column(
    "split",
    STRING,
    "the rows evaluated: test, or a fold's number; test[:100] where they were cut",
    nullable=False,
)

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
        Column("outcome", STRING, "running; then done, paused, failed or stopped", nullable=False),
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
        Column(
            "seconds",
            DOUBLE,
            "wall time in training steps so far, with checkpoints, without validation",
            "s",
        ),
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
        Column(
            "seconds",
            DOUBLE,
            "wall time of the step with its checkpoint, without validation",
            "s",
            nullable=False,
        ),
        Column("wait_seconds", DOUBLE, "of it, waiting for data, the slowest rank", "s"),
        Column("checkpoint_seconds", DOUBLE, "of it, writing a checkpoint", "s"),
        Column("mfu", DOUBLE, "model FLOP/s over the device's peak; null: peak unknown"),
        Column("peak_bytes", BIGINT, "largest memory of a rank so far", "bytes"),
    ),
    key=("run_id", "stage", "step"),
    time="at",
)

SWEEPS = Table(
    name="ml.sweeps",
    comment="One row for each run of a sweep and rung that it reached.",
    columns=(
        Column("sweep_id", STRING, "the sweep, see docs/training.md", nullable=False),
        _RUN_ID,
        Column("recipe", STRING, "name of the recipe", nullable=False),
        Column("rung", DOUBLE, "share of the last stage's steps", "above 0, to 1", nullable=False),
        Column("step", BIGINT, "the step there; null: it failed before"),
        Column("validation_loss", DOUBLE, "there; null: not finite, or it failed before"),
        Column("place", INT, "1: the lowest loss of the rung; null: no loss"),
        Column("goes_on", BOOLEAN, "to the next rung; at the last: it is the best", nullable=False),
        Column("error", STRING, "what ended it, in one line"),
        Column("at", TIMESTAMP, "when the rung was decided", "UTC", nullable=False),
    ),
    key=("sweep_id", "run_id", "rung"),
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
        Column("control", STRING, f"one of {', '.join(CONTROLS)}", nullable=False),
        Column("example_id", BIGINT, "see gold.vqa_examples", nullable=False),
        Column("image_id", BIGINT, "see gold.vqa_examples"),
        Column("shown_image_id", BIGINT, "the image given; null: none, or a gray one"),
        Column("question", STRING, "as asked", nullable=False),
        Column("answer", STRING, "the truth", nullable=False),
        Column("prediction", STRING, "what was answered", nullable=False),
        Column(
            "confidence",
            DOUBLE,
            "geometric mean of the probabilities that the model gave the answer's tokens",
            "0 to 1",
        ),
        Column("closed", BOOLEAN, "see gold.vqa_examples", nullable=False),
        Column("question_type", STRING, "see gold.vqa_examples"),
        Column("modality", STRING, "see gold.vqa_examples"),
        Column("strict", DOUBLE, "closed: 1 where the answer begins with the truth, else 0"),
        Column("substring", DOUBLE, "closed: 1 where the truth is in the answer, as published"),
        Column("recall", DOUBLE, "open: words of the truth that the answer has", "0 to 1"),
        Column("precision", DOUBLE, "open: words of the answer that the truth has", "0 to 1"),
        Column("f1", DOUBLE, "open: harmonic mean of precision and recall of words", "0 to 1"),
        Column("exact", DOUBLE, "open: 1 where both are the same after normalising"),
        Column("bleu", DOUBLE, "open: sentence BLEU, see ml/evaluation/scores.py", "0 to 1"),
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
        Column("table_name", STRING, "the table evaluated", nullable=False),
        Column("table_version", BIGINT, "of the table evaluated", nullable=False),
        _SPLIT_BY,
        _SPLIT,
        Column(
            "control",
            STRING,
            "as in ml.predictions; a difference is named as `image minus blank`",
            nullable=False,
        ),
        Column(
            "metric",
            STRING,
            "as in ml.predictions; score: strict if closed, else f1; of captions: perplexity, "
            "log_likelihood of a token (of differences), image_to_text_recall_at_1 and the like",
            nullable=False,
        ),
        Column("group", STRING, "all, modality or question_type", nullable=False),
        Column("value", STRING, "the group's value; all: all", nullable=False),
        Column("n", BIGINT, "questions; captions; of recall_at_k the pool", nullable=False),
        Column("score", DOUBLE, "the mean", nullable=False),
        Column("low", DOUBLE, "lower end of the 95 % bootstrap interval, by image"),
        Column("high", DOUBLE, "its upper end; null: fewer than two images"),
        Column("at", TIMESTAMP, "when", "UTC", nullable=False),
    ),
    key=("run_id", "checkpoint", "split_by", "split", "control", "metric", "group", "value"),
    time="at",
)

ANSWERS = Table(
    name="ml.answers",
    comment=(
        "One row for each row of a table whose questions a model answered, or why it did not; "
        "asking the same again replaces them."
    ),
    columns=(
        _RUN_ID,
        _CHECKPOINT,
        Column("table_name", STRING, "the table asked from: its name, or its path", nullable=False),
        Column("table_version", BIGINT, "of the table asked from", nullable=False),
        Column("key", STRING, "the row in that table", nullable=False),
        Column("question", STRING, "as it stands there"),
        Column("answer", STRING, "what was answered; null: see reason"),
        Column("confidence", DOUBLE, "as in ml.predictions; null: see reason", "0 to 1"),
        Column(
            "reason",
            STRING,
            "why there is no answer: no_question, no_image, or why the image cannot be read, such "
            "as not_an_image, truncated or corrupt; null: there is one",
        ),
        Column("template", STRING, "how the model was asked, of prompts.toml", nullable=False),
        Column("at", TIMESTAMP, "when", "UTC", nullable=False),
    ),
    key=("run_id", "checkpoint", "table_name", "table_version", "key"),
    checks={
        "answer_or_reason": "(answer IS NULL) = (reason IS NOT NULL)",
        "as_sure_as_answered": "(confidence IS NULL) = (answer IS NULL)",
    },
    time="at",
)

LEADERBOARD = Table(
    name="ml.leaderboard",
    comment=(
        "The prototypes compared, the best first. A prototype is a recipe but for its seed and "
        "fold: its folds are put together, and each question's score is the mean of the seeds."
    ),
    columns=(
        Column(
            "place",
            INT,
            "1: the best of those tested on the same splits and version",
            nullable=False,
        ),
        Column("prototype", STRING, "hash of the recipe but for seed, fold, name", nullable=False),
        Column("recipe", STRING, "name of the recipe, or what its names have in common"),
        Column("runs", ArrayType(STRING, False), "training runs, see ml.runs", nullable=False),
        Column("table_version", BIGINT, "of gold.vqa_examples, evaluated", nullable=False),
        _SPLIT_BY,
        Column("splits", ArrayType(STRING, False), "the rows evaluated", nullable=False),
        Column("seeds", INT, "different seeds among the runs", nullable=False),
        Column("questions", BIGINT, "different ones", nullable=False),
        Column("score", DOUBLE, "mean of strict (closed) and f1 (open) of all", "0 to 1"),
        Column("score_low", DOUBLE, "lower end of its 95 % bootstrap interval, by image"),
        Column("score_high", DOUBLE, "upper end of its interval"),
        Column(
            "seed_deviation",
            DOUBLE,
            "standard deviation of the score between seeds, same questions",
        ),
        Column("closed_strict", DOUBLE, "closed questions, strict", "0 to 1"),
        Column("closed_low", DOUBLE, "lower end of its interval"),
        Column("closed_high", DOUBLE, "upper end of its interval"),
        Column("open_f1", DOUBLE, "open questions, F1 of words", "0 to 1"),
        Column("open_low", DOUBLE, "lower end of its interval"),
        Column("open_high", DOUBLE, "upper end of its interval"),
        *(
            Column(f"over_{control}{end}", DOUBLE, text)
            for control in CONTROLS[1:]
            for end, text in (
                ("", f"score minus that of the control {control}"),
                ("_low", "lower end of its interval, paired"),
                ("_high", "upper end of its interval"),
            )
        ),
        Column("behind_first", DOUBLE, "score of the first minus this one's, same questions"),
        Column("behind_low", DOUBLE, "lower end of its interval; 0 in it: not told apart"),
        Column("behind_high", DOUBLE, "upper end of its interval"),
        Column("parameters", BIGINT, "of the whole model"),
        Column("trained_parameters", BIGINT, "of the last stage"),
        Column("processes", INT, "world size, the largest of the runs"),
        Column(
            "seconds", DOUBLE, "wall time in training steps, as in ml.runs, mean of the runs", "s"
        ),
        Column("peak_bytes", BIGINT, "largest memory of a rank, of all runs", "bytes"),
        Column("tables_in", MapType(STRING, BIGINT), "version of each table trained from"),
        Column("at", TIMESTAMP, "when it was compared", "UTC", nullable=False),
    ),
    key=("prototype", "table_version", "split_by"),
)

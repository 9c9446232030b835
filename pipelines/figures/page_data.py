"""What captions.html tells, counted from the tables; what is collected is as small as the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.figures.page.story import Bins, Leak, Split, Stage, Story, Took
from pipelines.figures.page_pictures import copies_side_by_side, modality_sheets, rejected_sheets
from schemas.figures import SPLITS

READ, EXAMPLES, DECODED, CAPTIONED = "read", "images and panels", "decoded", "caption kept"
NOT_A_COPY, IN_A_SPLIT, TRAINED = "not a copy", "in one split", "training examples"

IN_QUESTIONS = "image_of_a_question_set"
"""Why an accepted example, or an image without a caption, is no training example of captions."""
UNACCOUNTED = "not_accounted_for"
"""Neither accepted nor rejected: a stage has not run on them, or is wrong."""

_WORDS_A_BIN, _PX_A_BIN, _BINS = 10, 64, 32
_TEST_ROWS_OF = 10  # a split by row puts one in so many to the test part


@dataclass(frozen=True)
class Tables:
    """The tables that the page tells of, see schemas.figures."""

    figures: DataFrame
    captions: DataFrame
    images: DataFrame
    pairs: DataFrame
    groups: DataFrame
    accepted: DataFrame
    rejected: DataFrame
    vlm: DataFrame
    vqa: DataFrame


def story_of(
    t: Tables, *, took: Sequence[Took] = (), versions: Mapping[str, int], made: bool
) -> Story:
    """Everything that `page.html.captions_page` needs.

    `took` are the run's steps; `versions` the tables' versions, by name; `made` says that the
    figures are.
    """
    sources = t.figures.select("source").distinct().orderBy("source").limit(50).collect()
    return Story(
        funnel=funnel_of(t),
        took=tuple(took),
        modalities=modality_sheets(t.accepted),
        rejected=rejected_sheets(t.rejected, t.images, t.figures),
        copies=copies_side_by_side(t.groups, t.pairs, t.images, t.captions, t.figures),
        pairs=_counts(t.pairs, "kind"),
        caption_words=_bins(
            t.accepted, F.size(F.split(F.trim("caption"), r"\s+")), step=_WORDS_A_BIN
        ),
        longest_sides=_bins(
            # Panels and frames repeat the size of their figure: its first part stands for it.
            t.images.where("part <= 1"),
            F.greatest("source_width", "source_height"),
            step=_PX_A_BIN,
        ),
        splits=splits_of(t),
        leaks=leaks_of(t),
        questions=t.vqa.count(),
        sources=tuple(row[0] for row in sources),
        versions=dict(versions),
        made=made,
    )


def _counts(rows: DataFrame, column: str) -> dict[str, int]:
    return {row[0]: row[1] for row in rows.groupBy(column).count().orderBy(column).collect()}


def _reasons(rows: DataFrame) -> list[str]:
    """The different reasons in a table: a few dozen at most."""
    found = rows.select(F.explode("reasons").alias("reason")).distinct().orderBy("reason")
    return [row[0] for row in found.collect()]


def funnel_of(t: Tables) -> tuple[Stage, ...]:
    """From figures read to training examples; each example that is lost counts under one reason.

    That is its first reason of the first stage that gave it one. Whatever no stage accounts for
    shows as UNACCOUNTED.
    """
    read, examples, trained = t.figures.count(), t.images.count(), t.vlm.count()
    if not read:
        return ()
    names = (DECODED, CAPTIONED, NOT_A_COPY, IN_A_SPLIT)
    dropped: dict[str, dict[str, int]] = {name: {} for name in (*names, TRAINED)}
    first = _first_reason(t)
    for row in t.rejected.select(first.alias("d")).groupBy("d.stage", "d.reason").count().collect():
        dropped[row["stage"]][row["reason"]] = row["count"]
    accepted = t.accepted.agg(
        F.count("*"), F.coalesce(F.sum(F.col("near_vqa").cast("long")), F.lit(0))
    ).collect()[0]
    if only_asked := _only_with_questions(t):
        dropped[CAPTIONED][IN_QUESTIONS] = only_asked
    lost = sum(n for name in names for n in dropped[name].values())
    if rest := examples - lost - accepted[0]:
        dropped[IN_A_SPLIT][UNACCOUNTED] = rest
    if accepted[1]:
        dropped[TRAINED][IN_QUESTIONS] = accepted[1]
    if rest := accepted[0] - accepted[1] - trained:
        dropped[TRAINED][UNACCOUNTED] = rest
    stages = [Stage(READ, read, unit="figures"), Stage(EXAMPLES, examples)]
    left = examples
    for name in names:
        left -= sum(dropped[name].values())
        stages.append(Stage(name, left, dropped[name]))
    return (*stages, Stage(TRAINED, trained, dropped[TRAINED]))


def _first_reason(t: Tables) -> Column:
    """Of a rejected row, the first stage that gave it a reason, and that reason."""

    def dropped(stage: str, reason: Column) -> Column:
        return F.struct(F.lit(stage).alias("stage"), reason.alias("reason"))

    def by(stage: str, known: Iterable[str]) -> Column:
        reasons = F.array_intersect("reasons", F.array(*map(F.lit, known)).cast("array<string>"))
        return F.when(F.size(reasons) > 0, dropped(stage, reasons[0]))

    of_images, of_captions = set(_reasons(t.images)), set(_reasons(t.captions))
    of_groups = set(_reasons(t.groups))
    of_copies = F.array_except(
        "reasons",
        F.array(*map(F.lit, sorted(of_images | of_captions | {"bridges_splits"}))),
    )
    return F.coalesce(
        by(DECODED, sorted(of_images)),
        by(CAPTIONED, sorted(of_captions - of_images)),
        F.when(
            F.col("duplicate_of").isNotNull(),
            dropped(NOT_A_COPY, F.coalesce(F.get(of_copies, F.lit(0)), F.lit("duplicate"))),
        ),
        by(IN_A_SPLIT, sorted(of_groups)),
        dropped(IN_A_SPLIT, F.get("reasons", F.lit(0))),
    )


def _only_with_questions(t: Tables) -> int:
    """Images of question sets that have no caption: no stage of captions judges them."""
    asked = t.figures.where("format = 'vqa' AND caption IS NULL").select("figure_id")
    judged = t.rejected.select("example_id").union(t.accepted.select("example_id"))
    return (
        t.images.join(asked, on="figure_id", how="left_semi")
        .join(judged, on="example_id", how="left_anti")
        .count()
    )


def _bins(rows: DataFrame, value: Column, *, step: int) -> Bins:
    values = rows.select(value.alias("value")).where("value IS NOT NULL")
    of = F.least(F.floor(F.col("value") / step), F.lit(_BINS - 1)).cast("int")
    found = {r[0]: r[1] for r in values.groupBy(of.alias("bin")).count().collect()}
    middle = values.agg(F.percentile_approx("value", 0.5)).collect()[0][0]
    count = max(found, default=-1) + 1  # nothing is drawn above the largest
    edges = min(count + 1, _BINS)
    return Bins(
        edges=tuple(step * n for n in range(edges)),
        counts=tuple(found.get(n, 0) for n in range(count)),
        middle=None if middle is None else float(middle),
    )


def splits_of(t: Tables) -> tuple[Split, ...]:
    """A row for each split that has anything."""
    examples, questions = _counts(t.vlm, "split"), _counts(t.vqa, "split")
    known = t.groups.where("split IS NOT NULL").groupBy("split")
    groups = {r[0]: r[1] for r in known.agg(F.count_distinct("group_id")).collect()}
    return tuple(
        Split(name, groups.get(name, 0), examples.get(name, 0), questions.get(name, 0))
        for name in SPLITS
        if name in groups or name in examples or name in questions
    )


def leaks_of(t: Tables) -> tuple[Leak, ...]:
    """What this split, one by row and the publishers' own let through, where there are test rows.

    A test row leaks where its group, of articles, patients and copies, is in training too.
    """
    by_row = F.pmod(F.xxhash64("example_id", F.lit("by row")), F.lit(_TEST_ROWS_OF)) == 0
    published = F.lower(F.trim("published_split"))
    ways = {
        "this one": (F.col("split") == "test", F.col("split") == "train"),
        "by row": (by_row, ~by_row),
        "as published": (published.startswith("test"), published.startswith("train")),
    }
    leaks = []
    for what, rows in (("captions", t.vlm), ("questions", t.vqa)):
        sums = []
        for n, (test, train) in enumerate(ways.values()):
            sums += [
                F.sum(F.coalesce(test, F.lit(False)).cast("long")).alias(f"test_{n}"),
                F.max(F.coalesce(train, F.lit(False)).cast("int")).alias(f"train_{n}"),
            ]
        groups = rows.groupBy("group_id").agg(*sums)
        totals = [
            total
            for n in range(len(ways))
            for total in (F.sum(f"test_{n}"), F.sum(F.col(f"test_{n}") * F.col(f"train_{n}")))
        ]
        row = groups.agg(*totals).collect()[0]
        leaks += [
            Leak(f"{what}, {way}", row[2 * n], row[2 * n + 1])
            for n, way in enumerate(ways)
            if row[2 * n]
        ]
    return tuple(leaks)

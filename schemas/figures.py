"""Tables of the figures: from delivered images and captions to training examples.

A **figure** is one delivered image with its caption, or an image that questions are about. Its
**parts** are what training sees: the whole figure (part 0), or one part for each panel of a
compound figure or each frame of a DICOM file (parts from 1). Each stage has a table of its own,
keyed by figure or by part, and carries the figure's `revision`: a stage has work to do where a
figure's revision is not the one that it has seen.
"""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql.types import ArrayType, BinaryType, FloatType, MapType

from schemas.table import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INT,
    STRING,
    TIMESTAMP,
    Column,
    Table,
    between,
)

MODALITIES = (
    "ct",
    "mri",
    "xray",
    "ultrasound",
    "nuclear",
    "angiography",
    "endoscopy",
    "microscopy",
    "fundus",
    "chart",
    "other",
)
SPLITS = ("train", "validation", "test")
PART_KINDS = ("whole", "panel", "frame")


def one_of(column: str, values: tuple[str, ...]) -> str:
    """A CHECK that a column holds one of the values."""
    return f"{column} IN ({', '.join(repr(v) for v in values)})"


_FIGURE_ID = Column("figure_id", BIGINT, "xxhash64(source, record)", nullable=False)
_PART = Column("part", INT, "0: the whole figure; from 1: its panels or frames", nullable=False)
_EXAMPLE_ID = Column("example_id", BIGINT, "xxhash64(figure_id, part)", nullable=False)
_REVISION = Column(
    "revision", BIGINT, "hash of all that was delivered of the figure", nullable=False
)
_SHA256 = Column("sha256", STRING, "SHA-256 of the image as delivered, hexadecimal; null: no image")
_SOURCE = Column("source", STRING, "name of the corpus, as --source gave it", nullable=False)
_SPLIT = Column("split", STRING, "train, validation or test", nullable=False)
_FOLD = Column("fold", INT, "0 to 4 by group, for cross-validation", nullable=False)
_PUBLISHED = Column("published_split", STRING, "split that the publisher gives, as delivered")
_REASONS = Column("reasons", ArrayType(STRING), "every reason, sorted; empty: none", nullable=False)
_IMAGE = Column("image", BinaryType(), "JPEG or PNG at the training size, RGB or gray")

FIGURE_DELIVERIES = Table(
    name="bronze.figure_deliveries",
    comment="One row per delivered list, shard or folder; written last, it marks it as done.",
    columns=(
        Column("delivery_id", STRING, "SHA-256 of the content, hexadecimal", nullable=False),
        _SOURCE,
        Column("format", STRING, "mapping that read it", nullable=False),
        Column("paths", ArrayType(STRING), "every path under which it was seen", nullable=False),
        Column("bytes", BIGINT, "size as delivered", "bytes", nullable=False),
        Column("rows_read", BIGINT, "figures in it", nullable=False),
        Column("rows_new", BIGINT, "figures that were not there before", nullable=False),
        Column("rows_changed", BIGINT, "figures delivered anew with other content", nullable=False),
        Column("rows_unchanged", BIGINT, "figures that were there as they are", nullable=False),
        Column("rows_without_image", BIGINT, "figures whose image was not found", nullable=False),
        Column("questions_read", BIGINT, "questions in it (vqa)", nullable=False),
        Column("run_id", STRING, "run that ingested it, see ops.runs", nullable=False),
    ),
    key=("source", "delivery_id"),
    checks={
        "rows_add_up": "rows_read = rows_new + rows_changed + rows_unchanged",
        "delivery_id_is_sha256": "length(delivery_id) = 64",
    },
)

FIGURES = Table(
    name="bronze.figures",
    comment=(
        "Every delivered figure with its caption, as delivered. May hold identifiers of patients: "
        "it has a retention of its own."
    ),
    columns=(
        _FIGURE_ID,
        _REVISION,
        _SOURCE,
        Column("record", STRING, "name of the record in the corpus, unique in it", nullable=False),
        Column("format", STRING, "mapping that read it", nullable=False),
        Column("member", STRING, "path of the image below the delivery, or in its archive"),
        Column("image", BinaryType(), "bytes as delivered; null: not found (missing_image)"),
        _SHA256,
        Column("caption", STRING, "as delivered; null where there is none"),
        Column("article_id", STRING, "article that the figure is from, where known"),
        Column("patient_id", STRING, "patient, where known; unique in the source only"),
        Column("licence", STRING, "as delivered"),
        _PUBLISHED,
        Column("modality", STRING, "as a DICOM tag or the publisher states it"),
        Column("fields", MapType(STRING, STRING), "everything else of the record, name to text"),
        Column("delivery_id", STRING, "delivery that brought it in this state", nullable=False),
        Column("delivered_at", TIMESTAMP, "when it first came", "UTC", nullable=False),
    ),
    key=("figure_id",),
    cluster_by=("source", "figure_id"),
    checks={"bytes_have_a_hash": "(image IS NULL) = (sha256 IS NULL)"},
    properties={
        "delta.enableChangeDataFeed": "true",
        # Statistics on bytes and maps cost and prune nothing.
        "delta.dataSkippingStatsColumns": "figure_id,revision,source,record,sha256,delivery_id",
    },
)

QUESTIONS = Table(
    name="bronze.questions",
    comment="Every delivered question about an image, as delivered, with its answer.",
    columns=(
        Column("question_id", BIGINT, "xxhash64(source, record)", nullable=False),
        Column("figure_id", BIGINT, "the figure that it is about; null: none is named"),
        _SOURCE,
        Column("record", STRING, "name of the question in the corpus", nullable=False),
        Column("question", STRING, "as delivered"),
        Column("answer", STRING, "as delivered, numbers as text"),
        Column("answer_type", STRING, "as delivered, such as CLOSED"),
        Column("question_type", STRING, "as delivered"),
        Column("language", STRING, "as delivered, or by the layout"),
        _PUBLISHED,
        Column("fields", MapType(STRING, STRING), "everything else of the record, name to text"),
        Column("delivery_id", STRING, "delivery that brought it", nullable=False),
    ),
    key=("question_id",),
    cluster_by=("source", "question_id"),
)

FIGURE_CAPTIONS = Table(
    name="silver.figure_captions",
    comment="Each figure's caption, cleaned, with what it says of the image.",
    columns=(
        _FIGURE_ID,
        _REVISION,
        Column("caption", STRING, "cleaned; null where rejected or where there is none"),
        Column("language", STRING, "ISO 639-1, as the library finds; null where too short"),
        Column("mended", ArrayType(STRING), "what cleaning changed, sorted", nullable=False),
        Column(
            "panel_captions",
            ArrayType(STRING),
            "text of each panel that the caption marks, as (A) ... (B) ...; empty: none",
            nullable=False,
        ),
        Column("modality", STRING, "by caption and tag; null: nothing was said", None),
        Column("modality_evidence", STRING, "words or tag that it follows from"),
        _REASONS,
    ),
    key=("figure_id",),
    cluster_by=("figure_id",),
    checks={
        "caption_or_reason": "caption IS NOT NULL OR size(reasons) > 0",
        "known_modality": f"modality IS NULL OR {one_of('modality', MODALITIES)}",
    },
)

FIGURE_QUESTIONS = Table(
    name="silver.figure_questions",
    comment="Each question about an image, cleaned; or, with reasons, why it is not trained from.",
    columns=(
        Column("question_id", BIGINT, "see bronze.questions", nullable=False),
        Column("figure_id", BIGINT, "the figure that it is about; null: none is named"),
        _SOURCE,
        Column("question", STRING, "cleaned"),
        Column("answer", STRING, "cleaned"),
        Column("closed", BOOLEAN, "answer from a closed set, such as yes or no"),
        Column("question_type", STRING, "of the publisher, spelt one way"),
        Column("language", STRING, "ISO 639-1"),
        _PUBLISHED,
        _REASONS,
    ),
    key=("question_id",),
    cluster_by=("question_id",),
    checks={
        "whole_or_reason": (
            "size(reasons) > 0 OR question IS NOT NULL AND answer IS NOT NULL "
            "AND closed IS NOT NULL AND language IS NOT NULL AND figure_id IS NOT NULL"
        ),
    },
)

FIGURE_IMAGES = Table(
    name="silver.figure_images",
    comment=(
        "Each part of each figure, decoded and normalised; or, with reasons and no image, why not."
    ),
    columns=(
        _FIGURE_ID,
        _PART,
        _EXAMPLE_ID,
        _REVISION,
        _SHA256,
        Column("kind", STRING, "whole, panel or frame", nullable=False),
        _IMAGE,
        Column("width", INT, "of the image here", "px"),
        Column("height", INT, "of the image here", "px"),
        Column("source_width", INT, "of the figure as delivered, upright", "px"),
        Column("source_height", INT, "of the figure as delivered, upright", "px"),
        Column("source_format", STRING, "by content, as JPEG"),
        Column("source_mode", STRING, "channels as delivered, as CMYK or I;16"),
        Column("entropy", DOUBLE, "of the gray values", "bits"),
        Column("phash", BIGINT, "perceptual hash, 64 bits"),
        Column("panels_seen", INT, "panels by the gutters between them; 1: not compound"),
        Column("codecs", STRING, "libraries that decoded, resized and encoded, with versions"),
        _REASONS,
    ),
    compressed=False,
    key=("figure_id", "part"),
    checks={
        "image_or_reason": "(image IS NULL) = (size(reasons) > 0)",
        "known_kind": one_of("kind", PART_KINDS),
    },
    properties={
        "delta.dataSkippingStatsColumns": "figure_id,part,example_id,revision,sha256,phash",
    },
)

FIGURE_PAIRS = Table(
    name="silver.figure_pairs",
    comment=(
        "Pairs of examples that are copies of one another, found by their images or captions; "
        "each pair once, the lower id first."
    ),
    columns=(
        Column("example_id", BIGINT, "one example", nullable=False),
        Column("other_id", BIGINT, "the other", nullable=False),
        Column("kind", STRING, "bytes, image or caption", nullable=False),
        Column("distance", INT, "between perceptual hashes; 0 for bytes", "bits"),
        Column("difference", FloatType(), "between the thumbnails' pixels, see verification", None),
        Column("similarity", FloatType(), "Jaccard similarity of the captions' shingles", "0 to 1"),
    ),
    key=("example_id", "other_id", "kind"),
    checks={
        "ordered": "example_id < other_id",
        "known_kind": one_of("kind", ("bytes", "image", "caption")),
    },
)

FIGURE_GROUPS = Table(
    name="silver.figure_groups",
    comment=(
        "For each example its group, of everything that must stay in one split (article, patient, "
        "copies), its split, and the example that it is a copy of."
    ),
    columns=(
        _EXAMPLE_ID,
        _FIGURE_ID,
        _PART,
        _REVISION,
        Column("group_id", BIGINT, "oldest example of the group", nullable=False),
        Column("split", STRING, "train, validation or test; null: bridges splits"),
        Column("fold", INT, "0 to 4 by group, for cross-validation; null: bridges splits"),
        Column("copies_id", BIGINT, "group of copies: its least example id", nullable=False),
        Column("duplicate_of", BIGINT, "best example of its copies; null: is the best"),
        Column("near_vqa", BOOLEAN, "is, or is a copy of, an image of a vqa delivery", None, False),
        _REASONS,
    ),
    key=("example_id",),
    checks={
        "split_or_bridge": "(split IS NULL) = array_contains(reasons, 'bridges_splits')",
        "known_split": f"split IS NULL OR {one_of('split', SPLITS)}",
        "known_fold": "fold IS NULL OR fold BETWEEN 0 AND 4",
        "not_of_itself": "duplicate_of IS NULL OR duplicate_of <> example_id",
    },
)

IMAGE_CAPTIONS = Table(
    name="silver.image_captions",
    comment="Images with captions: decoded, cleaned, deduplicated and split.",
    columns=(
        _EXAMPLE_ID,
        _FIGURE_ID,
        _PART,
        _REVISION,
        replace(_SOURCE, comment="name of the corpus; for DICOM a keyed hash of it"),
        _SHA256,
        replace(_IMAGE, nullable=False),
        Column("width", INT, "of the image", "px", nullable=False),
        Column("height", INT, "of the image", "px", nullable=False),
        Column("entropy", DOUBLE, "of the gray values", "bits", nullable=False),
        Column("caption", STRING, "cleaned", nullable=False),
        Column("modality", STRING, "see docs/figures.md; null: nothing was said"),
        Column("modality_evidence", STRING, "words or tag that it follows from"),
        Column("compound", BOOLEAN, "several panels kept in one image", nullable=False),
        Column("licence", STRING, "as delivered"),
        Column("group_id", BIGINT, "see silver.figure_groups", nullable=False),
        _SPLIT,
        _FOLD,
        _PUBLISHED,
        Column("near_vqa", BOOLEAN, "is, or is a copy of, an image of a vqa delivery", None, False),
    ),
    compressed=False,
    key=("example_id",),
    cluster_by=("source", "example_id"),
    checks={
        "known_split": one_of("split", SPLITS),
        "known_fold": "fold BETWEEN 0 AND 4",
        "known_modality": f"modality IS NULL OR {one_of('modality', MODALITIES)}",
    },
    expectations=(
        between("width", 8, 8192, level="warn"),
        between("height", 8, 8192, level="warn"),
        between("entropy", 0, 8),
    ),
    properties={
        "delta.dataSkippingStatsColumns": "example_id,figure_id,source,sha256,group_id,split",
    },
)

IMAGE_CAPTIONS_REJECTED = Table(
    name="silver.image_captions_rejected",
    comment="Examples that are not trained from, with every reason; no bytes, no names.",
    columns=(
        _EXAMPLE_ID,
        _FIGURE_ID,
        _PART,
        _SHA256,
        replace(_REASONS, comment="every reason, sorted"),
        Column("duplicate_of", BIGINT, "example that is kept instead; null: no copy"),
    ),
    key=("example_id",),
    checks={"has_a_reason": "size(reasons) > 0"},
)

VLM_EXAMPLES = Table(
    name="gold.vlm_examples",
    comment="What a training step on captions reads; no image that a vqa delivery holds.",
    columns=(
        _EXAMPLE_ID,
        replace(_REVISION, comment="of the figure that it is from"),
        replace(_IMAGE, nullable=False),
        Column("text", STRING, "the caption", nullable=False),
        Column("modality", STRING, "see docs/figures.md"),
        _SPLIT,
        _FOLD,
        _PUBLISHED,
        Column("group_id", BIGINT, "see silver.figure_groups", nullable=False),
        Column("order_key", BIGINT, "xxhash64(example_id), a random order", nullable=False),
    ),
    compressed=False,
    key=("example_id",),
    cluster_by=("order_key",),
    checks={"known_split": one_of("split", SPLITS), "known_fold": "fold BETWEEN 0 AND 4"},
)

VQA_EXAMPLES = Table(
    name="gold.vqa_examples",
    comment="Questions about images, with answers; no image or answer leaks across splits.",
    columns=(
        Column("example_id", BIGINT, "the question's id", nullable=False),
        Column("image", BinaryType(), "JPEG or PNG at the training size; null: not delivered"),
        Column("image_id", BIGINT, "example id of the image; null: not delivered"),
        Column("revision", BIGINT, "of the figure that the image is from"),
        Column("question", STRING, "cleaned", nullable=False),
        Column("answer", STRING, "cleaned", nullable=False),
        Column("closed", BOOLEAN, "answer from a closed set, such as yes or no", nullable=False),
        Column("question_type", STRING, "of the publisher, spelt one way"),
        Column("modality", STRING, "see docs/figures.md"),
        Column("language", STRING, "ISO 639-1", nullable=False),
        Column("source", STRING, "name of the corpus", nullable=False),
        _SPLIT,
        _FOLD,
        _PUBLISHED,
        Column("group_id", BIGINT, "see silver.figure_groups", nullable=False),
        Column("order_key", BIGINT, "xxhash64(example_id), a random order", nullable=False),
    ),
    compressed=False,
    key=("example_id",),
    cluster_by=("order_key",),
    checks={"known_split": one_of("split", SPLITS), "known_fold": "fold BETWEEN 0 AND 4"},
)

TOKEN_IDS = Table(
    name="gold.token_ids",
    comment="Texts of the examples as token ids, by tokenizer; another LLM copies no image.",
    columns=(
        Column("example_id", BIGINT, "see gold.vlm_examples and gold.vqa_examples", nullable=False),
        Column("tokenizer_sha256", STRING, "SHA-256 of the tokenizer's files", nullable=False),
        Column("text_hash", BIGINT, "xxhash64(prompt, answer) that they are of", nullable=False),
        Column("ids", ArrayType(INT, False), "of the prompt, then of the answer", nullable=False),
        Column(
            "prompt_tokens", INT, "so many of the ids are the prompt's; captions have no prompt"
        ),
    ),
    key=("example_id", "tokenizer_sha256"),
    cluster_by=("tokenizer_sha256", "example_id"),
)

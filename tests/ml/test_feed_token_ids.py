"""Token ids of the lake in place of tokenising: the same batches, and only for the same texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.lake import Lake
from ml.feed import Feed, TokenIds, open_table, read_token_ids
from ml.feed.texts import Texts
from ml.feed.token_ids import text_hash
from ml.models.processor import Processor
from ml.recipe import Data, Encoder, Stage
from pipelines.errors import UsageError
from pipelines.figures.templates import built_in_templates, template
from pipelines.figures.token_ids import token_ids_of
from pipelines.figures.tokenizers import tokenizer_sha256
from schemas import TOKEN_IDS
from schemas.frames import frame_of
from tests.ml.made_tables import SIDE_PX, write_vqa
from tests.ml.tiny_models import tiny_tokenizer

TEXTS = ["", "a", "Axial CT", "μm 胸部 MRI", "x" * 31, "x" * 32, "x" * 33, "long " * 200]
PAIRS = [(i, TEXTS[i % 8], TEXTS[i * 3 % 8]) for i in range(64)]
COUNT = 60


def test_hashes_are_those_of_spark(spark: SparkSession) -> None:
    rows = frame_of(spark, PAIRS, "example_id bigint, prompt string, answer string")
    said = rows.orderBy("example_id").select(F.xxhash64("prompt", "answer")).collect()
    assert [text_hash(*texts) for _, *texts in PAIRS] == [row[0] for row in said]
    assert text_hash("ab", "c") != text_hash("a", "bc")


@dataclass
class _Counting:
    """A tokenizer that counts its texts."""

    of: Any
    texts: int = 0

    def __call__(self, texts: list[str], **settings: Any) -> Any:
        self.texts += len(texts)
        return self.of(texts, **settings)


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder)
    return folder


@pytest.fixture
def processor(tokenizer_dir: Path) -> Processor:
    encoder = Encoder(kind="cnn", image_px=SIDE_PX)
    return Processor(tiny_tokenizer(tokenizer_dir), encoder, tokenizer_dir)


def known_of(spark: SparkSession, lake: Lake, tokenizer_dir: Path, pairs: list[Any]) -> TokenIds:
    """What gold.token_ids has of these texts, beside rows that are not the tokenizer's."""
    columns = "example_id bigint, prompt string, answer string"
    mine = token_ids_of(frame_of(spark, pairs, columns), tokenizer_dir)
    others = mine.withColumn("tokenizer_sha256", F.lit("0" * 64))
    older = mine.withColumn("example_id", F.col("example_id") + 10_000)
    lake.append(TOKEN_IDS, mine.repartition(3).unionAll(others))
    lake.append(TOKEN_IDS, older.withColumn("prompt_tokens", F.lit(None).cast("int")))
    return read_token_ids(open_table(lake.path(TOKEN_IDS)), tokenizer_sha256(tokenizer_dir))


@pytest.mark.slow
def test_what_is_known_is_what_would_be_tokenised(
    spark: SparkSession, lake: Lake, tokenizer_dir: Path, processor: Processor
) -> None:
    known = known_of(spark, lake, tokenizer_dir, PAIRS)
    assert known.example_ids.tolist() == list(range(64))

    def ids(text: str) -> list[int]:
        found: list[int] = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    backwards = PAIRS[::-1]
    assert known.of(
        [i for i, *_ in backwards], [(prompt, answer) for _, prompt, answer in backwards]
    ) == [(ids(prompt), ids(answer)) for _, prompt, answer in backwards]
    texts = (PAIRS[3][1], PAIRS[3][2])
    right = (ids(texts[0]), ids(texts[1]))
    assert known.of([3, 2, 64, 10_003], [texts] * 4) == [
        right,
        None,  # another example's
        None,
        None,  # it does not say where the prompt ends
    ]
    assert known.of([3], [("".join(texts), "")]) == [None]  # another border

    lake.remove(TOKEN_IDS, lake.read(TOKEN_IDS).where("example_id = 3"))
    now = read_token_ids(open_table(lake.path(TOKEN_IDS)), tokenizer_sha256(tokenizer_dir))
    _, *of_four = PAIRS[4]
    assert now.of([3, 4], [texts, (of_four[0], of_four[1])]) == [
        None,
        (ids(of_four[0]), ids(of_four[1])),
    ]
    assert len(read_token_ids(open_table(lake.path(TOKEN_IDS)), "f" * 64)) == 0


@pytest.mark.slow
def test_batches_are_the_same_with_known_ids_and_without(
    spark: SparkSession, lake: Lake, tokenizer_dir: Path, processor: Processor, tmp_path: Path
) -> None:
    write_vqa(tmp_path / "t", COUNT)
    of_stage = template(built_in_templates(), "vqa", "short")
    fields = [
        {"question": "why " * (1 + i % 7) + "?", "answer": f"answer {i}"} for i in range(COUNT)
    ]
    pairs = [(i, *of_stage.texts(f)) for i, f in enumerate(fields) if i % 6]
    pairs[7] = (pairs[7][0], pairs[7][1], "an answer that was mended since")
    known = known_of(spark, lake, tokenizer_dir, pairs)
    counting = processor.tokenizer = _Counting(processor.tokenizer)

    def batches(known: TokenIds | None) -> Iterator[Any]:
        stage = Stage(
            name="s", data="vqa", template="short", epochs=1, global_batch=8, micro_batch=4
        )
        feed = Feed(
            open_table(tmp_path / "t"),
            stage=stage,
            data=Data(),
            processor=processor,
            seed=1,
            token_ids=known,
        )
        for step in feed:
            yield from step.batches

    looked_up, texts = list(batches(known)), counting.texts
    tokenised = list(batches(None))
    trained = [i for batch in looked_up for i in batch.example_ids]
    assert texts == 2 * sum(i not in {p[0] for p in pairs} - {pairs[7][0]} for i in trained)
    assert 0 < texts < counting.texts - texts == 2 * len(trained)
    for one, other in zip(looked_up, tokenised, strict=True):
        assert one.example_ids == other.example_ids
        assert one.input_ids.equal(other.input_ids)
        assert one.labels.equal(other.labels)


@pytest.mark.slow
def test_one_prompt_of_all_captions_is_tokenised_once(
    spark: SparkSession, lake: Lake, tokenizer_dir: Path, processor: Processor
) -> None:
    known = known_of(spark, lake, tokenizer_dir, [(i, "", TEXTS[i]) for i in range(8)])
    counting = processor.tokenizer = _Counting(processor.tokenizer)
    describe = template(built_in_templates(), "captions", "describe")
    captions = [{"caption": text} for text in TEXTS]
    texts = Texts(describe, processor, 40, known)
    for _ in range(3):
        found = texts.tokens(range(8), captions)
    assert counting.texts == 2  # the prompt, and nothing as its answer
    assert found == Texts(describe, processor, 40).tokens(range(8), captions)


def test_a_tokenizer_that_transformers_reads_in_another_way_has_no_known_ids(
    processor: Processor, tokenizer_dir: Path
) -> None:
    assert processor.tokenizer_sha256() == tokenizer_sha256(tokenizer_dir)
    processor.tokenizer.add_tokens(["chest"])
    assert processor.tokenizer_sha256() is None


def test_a_table_of_an_older_version_is_refused(tmp_path: Path) -> None:
    write_vqa(tmp_path / "t", 16)
    with pytest.raises(UsageError, match="has no column text_hash, ids, prompt_tokens"):
        read_token_ids(open_table(tmp_path / "t"), "0" * 64)


def test_none_are_known_of_an_empty_table() -> None:
    none = np.empty(0, np.int64)
    known = TokenIds(none, none, none, np.zeros(1, np.int64), none)
    assert known.of([1], [("", "a")]) == [None]

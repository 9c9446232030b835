"""Token ids by a real, small tokenizer that is trained here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipelines.errors import UsageError
from pipelines.figures.token_ids import token_ids_of
from pipelines.figures.tokenizers import tokenizer_sha256
from schemas import TOKEN_IDS
from schemas.frames import frame_of

pytestmark = pytest.mark.slow

tokenizers = pytest.importorskip("tokenizers", reason="the extra with tokenizers is not installed")

TEXTS = ["Axial CT of the chest.", "", "T2-weighted μm 胸部 MRI", "CT " * 3000]


@pytest.fixture
def tokenizer_dir(tmp_path: Path) -> Path:
    """A byte-level BPE tokenizer that would cut and pad, as saved ones often do."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet
    )
    bpe.train_from_iterator(TEXTS, trainer)
    bpe.enable_truncation(4)
    bpe.enable_padding(length=8)
    bpe.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    bpe.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def test_ids_give_the_text_back(spark: SparkSession, tokenizer_dir: Path) -> None:
    # Prompts are other texts, in turn: what is theirs comes first.
    prompts = [*TEXTS[1:], TEXTS[0]]
    pairs = list(zip(range(len(TEXTS)), prompts, TEXTS, strict=True))
    texts = frame_of(spark, pairs, "example_id bigint, prompt string, answer string")
    found = token_ids_of(texts, tokenizer_dir).orderBy("example_id")
    assert found.columns == [c.name for c in TOKEN_IDS.columns]
    rows = found.collect()
    bpe = tokenizers.Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    apart = [(r.ids[: r.prompt_tokens], r.ids[r.prompt_tokens :]) for r in rows]
    told = [tuple(bpe.decode(ids, skip_special_tokens=False) for ids in both) for both in apart]
    assert told == list(zip(prompts, TEXTS, strict=True))  # whole, unpadded
    assert [r.example_id for r in rows] == list(range(len(TEXTS)))
    hashes = texts.orderBy("example_id").select(F.xxhash64("prompt", "answer")).collect()
    assert [r.text_hash for r in rows] == [h[0] for h in hashes]
    assert {r.tokenizer_sha256 for r in rows} == {tokenizer_sha256(tokenizer_dir)}


def test_the_hash_is_of_names_and_bytes(tokenizer_dir: Path) -> None:
    before = tokenizer_sha256(tokenizer_dir)
    content = (tokenizer_dir / "tokenizer.json").read_bytes()
    by_hand = (
        b"tokenizer.json\0%d\0%b" % (len(content), content) + b"tokenizer_config.json\x002\0{}"
    )
    assert before == hashlib.sha256(by_hand).hexdigest()
    (tokenizer_dir / "model.safetensors").write_bytes(b"weights")
    assert tokenizer_sha256(tokenizer_dir) == before
    (tokenizer_dir / "tokenizer_config.json").rename(tokenizer_dir / "special_tokens_map.json")
    assert tokenizer_sha256(tokenizer_dir) != before


def test_folders_that_hold_no_tokenizer(spark: SparkSession, tmp_path: Path) -> None:
    texts = frame_of(spark, [(1, "", "CT")], "example_id bigint, prompt string, answer string")
    with pytest.raises(UsageError, match=r"no tokenizer\.json"):
        token_ids_of(texts, tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": "none"}')
    with pytest.raises(UsageError, match="is no tokenizer"):
        token_ids_of(texts, tmp_path)

"""A language model made from the lake's own texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.lake import Lake
from jobs.make_llm import main
from schemas import VQA_EXAMPLES
from tests.job_runs import job_on
from tests.ml.seeing_lake import vqa_rows, write


def test_a_small_bloom_has_the_words_of_the_training_rows(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = vqa_rows(range(20))  # ten groups of four questions, six of them for training
    write(lake, VQA_EXAMPLES, rows)
    train = [row for row in rows if row["split"] == "train"]
    out = tmp_path / "models" / "bloom"
    make = job_on(lake, main, capsys, "--out", str(out))

    sizes = ("--hidden", "32", "--layers", "2", "--vocabulary", "300")
    code, line, _ = make(*sizes)

    assert code == 0, line
    assert line["rows"] == {"gold.vqa_examples": len(train)}
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.config.model_type == "bloom"
    assert line["parameters"] == model.num_parameters() == 300 * 32 + 2 * 12_704 + 4 * 32
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.decode(tokenizer("is it round? ü").input_ids) == "is it round? ü"
    word = train[0]["question"].split()[1]
    assert len(tokenizer(f" {word}").input_ids) == 1
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)

    code, line, _ = make(*sizes)
    assert code == 2
    assert "is there already" in line["error"]


def test_a_lake_without_texts_is_refused_and_nothing_is_made(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = job_on(lake, main, capsys, "--out", str(tmp_path / "bloom"))
    code, line, _ = make()
    assert code == 2
    assert "run prepare_captions first" in line["error"]
    code, line, _ = make("--hidden", "30")
    assert code == 2
    assert "30 does not divide into 4" in line["error"]
    assert not list(tmp_path.glob("*bloom*"))

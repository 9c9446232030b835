"""A lake to train a tiny model on, and its recipe as a file."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession

from jobs.lake import Lake
from schemas import VLM_EXAMPLES, VQA_EXAMPLES
from tests.ml.seeing_lake import vlm_rows, vqa_rows, write
from tests.ml.tiny_models import tiny_llm

RECIPE = """
name = "tiny"
seed = 5
[model]
encoder = {{ kind = "cnn", image_px = 32 }}
llm = {{ path = "{llm}" }}
fusion = {{ kind = "mlp_projector" }}
{stages}
"""
ALIGN = """
[[stages]]
name = "align"
data = "captions"
template = "plain"
train = {{ fusion = "full" }}
{common}
"""
INSTRUCT = """
[[stages]]
name = "instruct"
data = "vqa"
template = "question_answer"
train = {{ encoder = "full", fusion = "full", llm = "lora" }}
image_dropout = 0.2
{common}
"""


def training_lake(spark: SparkSession, folder: Path) -> Lake:
    """Captions and questions about squares."""
    lake = Lake(spark, str(folder / "lake"))
    lake.check_root()
    write(lake, VLM_EXAMPLES, vlm_rows())
    write(lake, VQA_EXAMPLES, vqa_rows())
    return lake


def tiny_recipe(folder: Path, name: str, *stages: str, **common: object) -> Path:
    """A recipe of stages of ALIGN and INSTRUCT, all with the same settings; makes its model."""
    if not (folder / "bloom").is_dir():
        tiny_llm(folder)
    settings: dict[str, object] = {
        "steps": 6,
        "global_batch": 8,
        "micro_batch": 4,
        "learning_rate": 1e-3,
    }
    settings |= {"precision": "fp32", "zero_stage": 2, "checkpoint_every": 2} | common
    lines = "\n".join(
        f"{key} = {value if not isinstance(value, str) else repr(value)}"
        for key, value in settings.items()
    )
    made = folder / f"{name}.toml"
    text = "\n".join(stage.format(common=lines) for stage in stages)
    made.write_text(RECIPE.format(llm=folder / "bloom", stages=text))
    return made

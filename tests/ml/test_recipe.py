"""Recipes: what is wrong in one is named, with the place and what is nearest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml.recipe import built_in, checked, load_recipe, recipe_of
from pipelines.errors import UsageError
from pipelines.figures.templates import built_in_templates

TOML = """
name = "mine"

[model.encoder]
kind = "cnn"
image_px = 64

[model.llm]
path = "small"

[model.fusion]
kind = "resampler"

[[stages]]
name = "align"
data = "captions"
template = "plain"
steps = 10
betas = [0.9, 0.95]

[stages.train]
fusion = "full"
"""


def test_a_recipe_is_what_its_text_says_and_comes_back_from_json() -> None:
    recipe = recipe_of(TOML, "mine.toml")
    assert recipe.model.encoder.image_px == 64
    assert recipe.stages[0].betas == (0.9, 0.95)
    assert recipe.stages[0].train.llm == "frozen"
    assert checked(json.loads(recipe.to_json()), "run.json") == recipe
    assert (
        recipe.to_json()
        == recipe_of(TOML.replace("image_px = 64\n", "image_px=64\n"), "x").to_json()
    )


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("steps = 10", "stepz = 10", "unknown key stages.0.stepz; did you mean steps?"),
        ("image_px", "imge_px", "unknown key model.encoder.imge_px; did you mean image_px?"),
        (
            'fusion = "full"',
            'fusoin = "full"',
            "unknown key stages.0.train.fusoin; did you mean fu",
        ),
        ('name = "mine"', 'nmae = "mine"', "unknown key nmae; did you mean name?"),
        ('name = "mine"', 'name = "My recipe"', "name ('My recipe')"),
        ('kind = "cnn"', 'kind = "cn"', "model.encoder.kind ('cn')"),
        ('kind = "cnn"', 'kind = "timm"', "needs the name of an architecture"),
        ("steps = 10", 'steps = "10"', "stages.0.steps ('10')"),
        ("steps = 10", "steps = 10\nepochs = 3", "give either steps or epochs"),
        ("steps = 10", "steps = 10\nmicro_batch = 7", "no multiple of micro_batch 7"),
        ("steps = 10", 'steps = 10\noffload_parameters = "cpu"', "needs zero_stage 3"),
        ("steps = 10", 'steps = 10\nquestion_types = ["plane"]', 'needs data = "vqa"'),
        ("steps = 10", "steps = 10\nclosed_image_swap = 0.5", 'needs data = "vqa"'),
        ("steps = 10", "steps = 10\nkeep_frozen_bytes = 9\nzero_stage = 3", "keep_frozen_bytes"),
        ("steps = 10", 'steps = 10\noffload_optimizer = "nvme"', "cannot read NVMe; use cpu"),
        (
            "steps = 10",
            'steps = 10\nzero_stage = 3\noffload_parameters = "nvme"',
            "cannot read what is frozen",
        ),
        ('fusion = "full"', 'fusion = "frozen"', "nothing is trained"),
        ("[[stages]]", "[[stages", "no TOML"),
    ],
)
def test_what_is_wrong_is_named(was: str, becomes: str, said: str) -> None:
    assert was in TOML
    with pytest.raises(UsageError) as refused:
        recipe_of(TOML.replace(was, becomes), "mine.toml")
    assert str(refused.value).startswith("mine.toml: ")
    assert said in str(refused.value)


def test_parameters_go_to_nvme_where_all_are_trained() -> None:
    offloaded = TOML.replace(
        "steps = 10", 'steps = 10\nzero_stage = 3\noffload_parameters = "nvme"'
    )
    whole = offloaded + 'encoder = "full"\nllm = "full"\n'
    assert recipe_of(whole, "x").stages[0].offload_parameters == "nvme"
    with pytest.raises(UsageError, match="cannot read what is frozen"):
        recipe_of(whole + "llm_from_layer = 1\n", "x")


def test_a_recipe_needs_stages_of_different_names() -> None:
    head, stage = TOML.split("[[stages]]")
    with pytest.raises(UsageError, match="stages is missing"):
        recipe_of(head, "x")
    with pytest.raises(UsageError, match="two stages have the same name"):
        recipe_of(head + 2 * ("[[stages]]" + stage), "x")


@pytest.mark.parametrize(
    ("tunings", "said"),
    [
        (
            [("lora", 2), ("lora", 1)],
            "stage s1: the llm keeps its adapters, which begin at layer 2",
        ),
        ([("lora", 2), ("frozen", 0), ("lora", 0)], "stage s2"),
        ([("lora", 1), ("lora", 2), ("lora", 0)], "begin at layer 1: llm_from_layer cannot be 0"),
        ([("lora", 1), ("lora", 2), ("lora", 1)], None),
        ([("lora", 2), ("full", 0), ("lora", 1)], None),
    ],
)
def test_adapters_begin_where_the_first_stage_has_them(
    tunings: list[tuple[str, int]], said: str | None
) -> None:
    head, stage = TOML.split("[[stages]]")
    stages = [
        "[[stages]]"
        + stage.replace("align", f"s{i}")
        + f'llm = "{llm}"\nllm_from_layer = {layer}\n'
        for i, (llm, layer) in enumerate(tunings)
    ]
    if said is None:
        recipe_of(head + "".join(stages), "x")
        return
    with pytest.raises(UsageError, match=said):
        recipe_of(head + "".join(stages), "x")


def test_recipes_by_name_and_by_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TOML)
    assert load_recipe(str(tmp_path / "mine.toml")).name == "mine"
    with pytest.raises(UsageError, match="did you mean demo-image"):
        load_recipe("demo-imag")


@pytest.mark.parametrize("name", sorted(built_in()))
def test_the_recipes_that_ship_are_whole(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    known = built_in_templates()
    assert all((stage.data, stage.template) in known for stage in recipe.stages)

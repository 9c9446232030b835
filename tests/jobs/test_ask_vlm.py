"""One question about one image, without Spark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.ask_vlm import main
from ml.models import build
from ml.models.artefact import save_artefact
from tests.ml.made_tables import square
from tests.ml.seeing import QUESTIONS, answers, save_seeing_model, seeing_recipe, shade


def test_a_model_answers_about_the_image_that_it_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "lake" / ".runs" / "r1" / "model"
    save_seeing_model(folder, seeing_recipe(tmp_path / "parts"))
    for number in (6, 7):  # a dark square and a bright one
        image = tmp_path / f"{number}.jpg"
        image.write_bytes(square(shade(number)))
        lake = str(tmp_path / "lake")
        assert main([str(image), QUESTIONS[0], "--run", "r1", "--lake", lake]) == 0
        shown, line = capsys.readouterr().out.splitlines()[-2:]
        made = json.loads(line)
        assert shown == made["answer"] == answers(number)[0]
        assert 0.5 < made["confidence"] <= 1

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    assert main([str(broken), "why?", "--model", str(folder)]) == 3
    assert "cannot be read" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_what_cannot_be_asked_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "square.jpg"
    image.write_bytes(square(9))
    recipe = seeing_recipe(tmp_path / "parts")
    captions = recipe.model_copy(update={"stages": recipe.stages[:1]})
    save_artefact(build(recipe.model), tmp_path / "m", recipe=captions, facts={})
    for given, refused in (
        ((str(image), "why?", "--run", "r1", "--lake", str(tmp_path)), "no model at"),
        ((str(tmp_path / "gone.jpg"), "why?", "--model", str(tmp_path / "m")), "No such file"),
        ((str(image), "why?", "--model", str(tmp_path / "m")), "no stage on questions"),
        ((str(image), "why?"), "--run --model is required"),
    ):
        assert main(given) == 2
        out = capsys.readouterr()
        assert refused in json.loads(out.out.splitlines()[-1])["error"]
        assert "Traceback" not in out.err

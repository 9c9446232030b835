"""Preparing figures killed with SIGKILL in one stage after another: the tables of a quiet run."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from jobs import ingest_figures, make_figures, prepare_captions
from jobs.lake import Lake
from jobs.prepare_captions import STAGES as TABLES
from jobs.run import EXIT_DONE
from tests.job_processes import content, start_job

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

# Each with the lines between which the kill may fall.
STAGES = (
    ("clean captions ...", "decode images ..."),
    ("find copies ...", "group and split ..."),
    ("write silver examples ...", "write training tables ...", "draw the page ..."),
)


def tables(lake: Lake) -> dict[str, list[object]]:
    return {t.name: list(content(lake, t)) for t in TABLES}


def test_killed_in_one_stage_after_another_and_run_again(lake: Lake, tmp_path: Path) -> None:
    made, to = tmp_path / "made", ["--lake", lake.root]
    counts = ["--figures", "80", "--questions", "4", "--copy-share", "0.2", "--dirty-share", "0.2"]
    assert make_figures.main(["--out", str(made), *counts]) == EXIT_DONE
    for folder, format_ in (("figures", "webdataset"), ("vqa", "vqa")):
        given = [str(made / folder), "--format", format_, "--source", folder]
        assert ingest_figures.main([*given, *to]) == EXIT_DONE
    quiet = Lake(lake.spark, str(tmp_path / "quiet"))
    shutil.copytree(lake.root, quiet.root)
    page = ["--page", str(tmp_path / "captions.html")]
    assert prepare_captions.main(["--lake", quiet.root, *page]) == EXIT_DONE

    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    killed = 0
    for n, lines in enumerate(STAGES):
        job = start_job("prepare_captions", *to, *page, log=tmp_path / f"log{n}")
        killed += job.kill_after(f"prepare_captions: {dice.choice(lines)}", dice.uniform(0, 1.5))
    assert killed >= 1
    assert prepare_captions.main([*to, *page]) == EXIT_DONE
    assert tables(lake) == tables(quiet)

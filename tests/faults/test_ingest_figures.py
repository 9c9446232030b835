"""Deliveries of figures killed with SIGKILL, and two at once: the tables of an undisturbed run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jobs.ingest_figures import main
from jobs.lake import Lake
from jobs.run import EXIT_DONE
from schemas import FIGURE_DELIVERIES, FIGURES, QUESTIONS
from tests.figure_files import jpeg, write_images, write_tar
from tests.job_processes import content, start_job

TABLES = (FIGURES, QUESTIONS, FIGURE_DELIVERIES)
STEPS = (
    "look at lists ...",
    "read and hash ...",
    "compare with lake ...",
    "write bronze.figures ...",
    "write bronze.figures took",
    "write bronze.questions ...",
    "write bronze.questions took",
    "mark as done ...",
    "mark as done took",
)


@pytest.fixture
def deliveries(tmp_path: Path) -> list[Path]:
    """A list of questions about images, and the same with other captions and more of them."""
    made = []
    for n, count in enumerate((20, 30)):
        folder = tmp_path / f"delivery{n}"
        write_images(folder / "images", [f"{i}.jpg" for i in range(count)])
        (folder / "images" / "3.jpg").write_bytes(jpeg(100 + n))
        rows = ",".join(
            f'{{"image_name": "{i}.jpg", "phrase_type": "freeform", "image_organ": "{i % 3 + n}", '
            f'"question": "what is {i}?", "answer": {i * n}, "qid": {i}}}'
            for i in range(count)
        )
        (folder / "questions.json").write_text(f"[{rows}]")
        made.append(folder)
    return made


def arguments(folder: Path) -> list[str]:
    return [str(folder), "--format", "vqa", "--source", "rad"]


def tables(lake: Lake) -> dict[str, list[object]]:
    # The run's name and the time are all in which two undisturbed runs differ.
    return {t.name: list(content(lake, t, ("run_id", "delivered_at"))) for t in TABLES}


def undisturbed(lake: Lake, root: Path, deliveries: list[Path]) -> dict[str, list[object]]:
    other = Lake(lake.spark, str(root / "undisturbed"))
    for folder in deliveries:
        assert main([*arguments(folder), "--lake", other.root]) == EXIT_DONE
    return tables(other)


@pytest.mark.slow
def test_killed_between_commits_and_run_again(
    lake: Lake, tmp_path: Path, deliveries: list[Path]
) -> None:
    assert main([*arguments(deliveries[0]), "--lake", lake.root]) == EXIT_DONE
    job = start_job(
        "ingest_figures", *arguments(deliveries[1]), "--lake", lake.root, log=tmp_path / "log"
    )
    assert job.kill_after("write bronze.figures took")
    assert len(content(lake, FIGURES)) == 30
    assert len(content(lake, FIGURE_DELIVERIES)) == 1
    assert main([*arguments(deliveries[1]), "--lake", lake.root]) == EXIT_DONE
    # Also the counts of new and changed rows, all of which the killed run wrote.
    ids = {r["rows_read"]: r["delivery_id"] for r in lake.read(FIGURE_DELIVERIES).collect()}
    (done,) = lake.read(FIGURE_DELIVERIES).where("rows_read = 30").collect()
    assert (done["rows_new"], done["rows_changed"], done["rows_unchanged"]) == (10, 20, 0)
    rows = lake.read(FIGURES).collect()
    assert {r["delivery_id"] for r in rows} == {ids[30]}
    assert {r["record"]: bytes(r["image"]) for r in rows} == {
        path.name: path.read_bytes() for path in (deliveries[1] / "images").iterdir()
    }
    answers = {r["record"]: r["answer"] for r in lake.read(QUESTIONS).collect()}
    assert answers == {str(i): str(i) for i in range(30)}


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_killed_at_random_moments(lake: Lake, tmp_path: Path, deliveries: list[Path]) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    expected = undisturbed(lake, tmp_path, deliveries)
    for i in range(2):
        again = Lake(lake.spark, f"{lake.root}{i}")
        assert main([*arguments(deliveries[0]), "--lake", again.root]) == EXIT_DONE
        for kill in range(1 + i % 2):
            step, delay_s = dice.choice(STEPS), dice.uniform(0, 1.5)
            print(f"seed {seed}, kill {i}.{kill}: {delay_s:.2f} s after {step!r}")
            job = start_job(
                "ingest_figures",
                *arguments(deliveries[1]),
                "--lake",
                again.root,
                log=tmp_path / f"log{i}.{kill}",
            )
            job.kill_after(step, delay_s)
        assert main([*arguments(deliveries[1]), "--lake", again.root]) == EXIT_DONE
        assert tables(again) == expected


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("same", [True, False], ids=["the same", "different sources"])
def test_two_at_once(lake: Lake, tmp_path: Path, same: bool) -> None:
    for n in range(2):
        members = {f"{i}.jpg": jpeg(i + 40 * n) for i in range(40)}
        write_tar(tmp_path / f"s{n}.tar", members)
    jobs = [
        start_job(
            "ingest_figures",
            tmp_path / ("s0.tar" if same else f"s{n}.tar"),
            "--format",
            "webdataset",
            "--lake",
            lake.root,
            log=tmp_path / f"log{n}",
        )
        for n in range(2)
    ]
    results = [job.result() for job in jobs]
    assert [code for code, _ in results] == [EXIT_DONE] * 2, [said for _, said in results]
    rows = content(lake, FIGURES)
    assert len(rows) == (40 if same else 80)
    assert len({r[0] for r in rows}) == len(rows)
    assert len(content(lake, FIGURE_DELIVERIES)) == (1 if same else 2)

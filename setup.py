"""Packages, extras and console scripts of roundtrip; compiles udfs/scala into a jar.

A dependency has an upper bound only where something is known to break above it, with the reason
beside it. Exact versions are in requirements/*.txt, which `make lock` compiles from this file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SCALA = ROOT / "udfs" / "scala"
JAR = ROOT / "udfs" / "roundtrip-udfs.jar"

INSTALL_REQUIRES = [
    # These three go with the jars that jobs/fetch_jars.py pins: Delta 4.0 and Sedona's spark-4.0
    # jar call internals of Spark 4.0, and each Python half must be of its jar's version.
    "pyspark==4.0.1",
    "delta-spark==4.0.1",
    "apache-sedona==1.8.0",
    # Version 4 gave every function of h3 a new name; the next major may do so again.
    "h3>=4.5,<5",
    "pyarrow>=26",
    "pandas>=3.1",
    "numpy>=2.4",
    "matplotlib>=3.11",
    # Figures: decoding, resizing and encoding, DICOM with its compressed transfer syntaxes (GDCM),
    # the table of the basic confidentiality profile, the language of a caption.
    "pillow>=13",
    "simplejpeg>=1.9",
    # It has no wheel for ARM on Linux: there Pillow resizes, slower.
    "cykooz.resizer>=4.0.1; sys_platform != 'linux' or platform_machine == 'x86_64'",
    "pydicom>=3.0.2,<4",  # 3.0 moved the pixel decoders; the next major may do so again
    "python-gdcm>=3.2.6",
    "dicom-anonymizer>=2.1,<3",  # its module of tags is named by the standard's year
    "py3langid>=0.4",
    "tokenizers>=0.23",
]

EXTRAS = {
    "dev": [
        "duckdb>=2.0",  # a peer in benchmarks/, and an independent reader of tables in tests
        "hypothesis>=6.170",
        "mypy>=2.4",
        "pandas-stubs>=3.1",
        "playwright>=1.65",  # drives the Chromium that is there, in the test of Dagster's page
        "pytest>=9.2",
        "pytest-timeout>=2.4",
        "pytest-xdist>=3.8",
        # The formatter's style changes with its minor versions: `make check` is for one of them.
        "ruff>=0.17.6,<0.18",
    ],
    "bench": [
        "scipy>=1.17",
        # Before 1.0 a minor may rename functions and change what its planner recognises.
        "sedonadb>=0.5,<0.6",
    ],
    "ml": [
        # DeepSpeed compiles its kernels against one minor of torch, and is tried with this one.
        "torch>=2.15,<2.16",
        # Before 1.0 a minor of DeepSpeed may rename what its configuration file takes.
        "deepspeed>=0.19.8,<0.20",
        # The models' module names, which checkpoints hold, change between majors.
        "transformers>=5.24,<6",
        # Before 1.0 a minor of peft may rename the parameters of adapters, which checkpoints hold.
        "peft>=0.21,<0.22",
        "timm>=1.0.31",
        "open-clip-torch>=3.3",
        "safetensors>=0.8",
        "xxhash>=4.1",  # Spark's xxhash64, to tell whether token ids are of a text
        "deltalake>=1.6",  # reads a table's log with no Spark in the training processes
        "gguf>=0.19",  # transformers reads GGUF files through it
    ],
    "tensorboard": ["tensorboard>=2.20"],
    "quality": [
        # The fluent Spark data source that the quality job calls came with 1.x, replacing 0.x.
        "great-expectations>=1.24.1,<2",
    ],
    "schedule": [
        # Dagster's asset API is stable within a major only.
        "dagster>=1.13,<2",
        "dagster-webserver>=1.13,<2",
    ],
}

JOBS = [
    "ingest-trips",
    "ingest-figures",
    "return-trips",
    "return-trips-stream",
    "make-trips",
    "prepare-captions",
    "make-figures",
    "make-llm",
    "draw-return-trips",
    "plan-memory",
    "train-vlm",
    "sweep-vlm",
    "check-quality",
    "replay-rejected",
    "maintain",
    "status",
    "evaluate-vlm",
    "leaderboard",
    "ask-vlm",
    "answer-questions",
    "export-vlm",
    "describe-tables",
]
SCRIPTS = {f"roundtrip-{name}": f"jobs.{name.replace('-', '_')}:main" for name in JOBS}
SCRIPTS["roundtrip-fetch-jars"] = "jobs.fetch_jars:main"


def compile_scala() -> bool:
    """Compile udfs/scala/**/*.scala into udfs/roundtrip-udfs.jar; False where that cannot be done.

    The compiler is the one in Spark's own jars, so the jar fits the Spark that will run it. Where
    pyspark or Java is missing it warns: each JVM function has a twin in Python.
    """
    sources = sorted(map(str, SCALA.rglob("*.scala")))
    if not sources:
        return False
    spec = find_spec("pyspark")
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home, "bin", "java")) if home else "java")
    if spec is None or spec.origin is None or java is None:
        missing = "Java" if java is None else "pyspark"
        print(f"warning: no {missing}, so udfs/scala is not compiled", file=sys.stderr)
        return False
    spark_jars = Path(os.environ.get("SPARK_HOME") or Path(spec.origin).parent) / "jars"
    made = JAR.with_name(f".{os.getpid()}.jar")
    command = [java, "-cp", f"{spark_jars}/*", "scala.tools.nsc.Main", "-usejavacp", "-deprecation"]
    try:
        subprocess.run([*command, "-d", str(made), *sources], check=True)
        made.replace(JAR)  # a JVM that has the old jar open keeps it
    finally:
        made.unlink(missing_ok=True)
    return True


class CompileScala(Command):
    """`python setup.py compile_scala`: udfs/roundtrip-udfs.jar alone."""

    description = "compile udfs/scala into udfs/roundtrip-udfs.jar"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012 (distutils' own shape)

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        compile_scala()


class BuildPy(build_py):
    """Python modules and package data, with the jar where it can be compiled."""

    def run(self) -> None:
        self.has_jar = compile_scala()
        super().run()

    def find_data_files(self, package: str, src_dir: str) -> list[str]:
        """Package data, without a jar that an earlier build left and this one did not compile."""
        found = super().find_data_files(package, src_dir)
        has_jar = getattr(self, "has_jar", False)
        return [f for f in found if has_jar or Path(f).name != JAR.name]


setup(
    name="roundtrip",
    version="0.1.0",
    description="Trips that come back: taxi files become Delta tables and return trips, on Spark",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",  # pyarrow 26 begins at 3.11, Spark 4.0 ends at 3.13
    packages=[
        *find_packages(
            include=[
                f"{p}{s}"
                for p in ("jobs", "pipelines", "schemas", "udfs", "ml")
                for s in ("", ".*")
            ]
        ),
        "spark_conf",
    ],
    package_dir={"spark_conf": "spark-conf"},
    package_data={
        "": ["*.css", "*.csv", "*.toml", "*.yaml"],
        "spark_conf": ["*.conf", "*.properties", "spark-env.sh"],
        "ml": ["recipes/*.toml"],
        "udfs": [JAR.name],
    },
    include_package_data=False,
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": [f"{name} = {target}" for name, target in SCRIPTS.items()]},
    cmdclass={"build_py": BuildPy, "compile_scala": CompileScala},
    zip_safe=False,
)

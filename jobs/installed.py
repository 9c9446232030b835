"""What every run needs to find on the machine: Java, Spark, its jars, room on the disk.

Standard library only: bootstrap.py asks the same questions before anything is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

OLDEST_JAVA = 17
# Java 24 took away the security manager, which the Hadoop in Spark 4.0 asks at every start.
NEWEST_JAVA = 23

_WAY_OUT = (
    "install a JDK 17 or 21 (Debian: apt install openjdk-17-jdk-headless) or set JAVA_HOME to one"
)


class SetupError(RuntimeError):
    """Something that every run needs is not installed; the message is one line with a way out."""


def check_java() -> None:
    """Raise SetupError unless the Java that Spark will start is one that Spark runs on.

    That is JAVA_HOME's where it is set, even to a wrong place, and otherwise the first on PATH.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home, "bin", "java")) if home else "java")
    where = f"JAVA_HOME={home}" if home else "no java on PATH"
    if java is None:
        raise SetupError(f"Java {OLDEST_JAVA} is needed, none found ({where}): {_WAY_OUT}")
    version = _version_in_release_file(java) or _version_said_by(java)
    if version is None:
        raise SetupError(f"Java {OLDEST_JAVA} is needed, {java} does not run: {_WAY_OUT}")
    major = int(re.split(r"\D", version.removeprefix("1."))[0])
    if not OLDEST_JAVA <= major <= NEWEST_JAVA:
        need = f"Java {OLDEST_JAVA} to {NEWEST_JAVA}"
        raise SetupError(f"{need} is needed, found {version} at {java}: {_WAY_OUT}")


def _version_in_release_file(java: str) -> str | None:
    """The version without starting the JVM; None where `java` is a script or laid out otherwise."""
    try:
        text = (Path(java).resolve().parents[1] / "release").read_text("utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="?(\d[^"\s]*)', text, re.MULTILINE)
    return found[1] if found else None


def _version_said_by(java: str) -> str | None:
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(\d[^"]*)"', said.stderr)
    return found[1] if found and said.returncode == 0 else None


def spark_home() -> Path:
    """SPARK_HOME, or where pip put pyspark, which holds a whole Spark."""
    if home := os.environ.get("SPARK_HOME"):
        return Path(home)
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise SetupError("pyspark is not installed in this Python: run `make setup`")
    return Path(spec.origin).parent


def check_jars() -> None:
    """Raise SetupError unless Delta's jar is in Spark's jars folder."""
    jars = spark_home() / "jars"
    if not list(jars.glob("delta-spark_*.jar")):
        raise SetupError(
            f"Delta's jars are not in {jars}: run `make setup`, or `roundtrip-fetch-jars` in this "
            "Python environment"
        )


def check_disk(folder: Path, needed_bytes: int) -> None:
    """Raise SetupError unless the disk of `folder` has so much room; the folder may not exist."""
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise SetupError(
            f"the disk of {existing} has {free / 1e9:.2f} GB free, {needed_bytes / 1e9:.2f} GB are "
            "needed: make room, or use another disk"
        )

"""Put Delta's and Sedona's jars, and the project's own, among Spark's jars, once.

Every later start finds them there, offline: no resolver runs. A jar is downloaded at most once per
user, into a cache (XDG_CACHE_HOME, default ~/.cache), and used only if its SHA-256 is the pinned
one. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.installed import SetupError, check_disk, spark_home

MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
"""Where Spark itself resolves packages, unless DEFAULT_ARTIFACT_REPOSITORY names a mirror."""

OWN_JAR = Path(__file__).resolve().parents[1] / "udfs" / "roundtrip-udfs.jar"

_ATTEMPTS = 3
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Jar:
    """One artifact of Maven Central."""

    group: str
    artifact: str
    version: str
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def url(self, repository: str) -> str:
        group = self.group.replace(".", "/")
        return f"{repository.rstrip('/')}/{group}/{self.artifact}/{self.version}/{self.name}"


JARS = (
    Jar(
        "io.delta",
        "delta-spark_2.13",
        "4.0.1",
        7_731_162,
        "a1e76860b19fe1e6b205a4ea7a9099a2f9575d39bb71d49b3e679b299d0efb91",
    ),
    Jar(
        "io.delta",
        "delta-storage",
        "4.0.1",
        78_832,
        "ecc42c5aaa51c423312d9e4e48aa4a12b34740bf2c37de0e8f279277ec3d12e4",
    ),
    Jar(
        "org.apache.sedona",
        "sedona-spark-shaded-4.0_2.13",
        "1.8.0",
        73_262_128,
        "c847cec67cd06b43c7a2f67086fa56fd6044564a539128e598cf68262fe53a2f",
    ),
    Jar(
        "org.datasyslab",
        "geotools-wrapper",
        "1.8.0-33.1",
        30_807_478,
        "64d7b8296ded315e97fe90af1d40be6c24203603d952d06a093ef3470fa4cfca",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Put Delta's and Sedona's jars among Spark's, so that jobs start offline.",
        epilog="example:\n"
        "  roundtrip-fetch-jars\n"
        "  downloads 112 MB the first time, nothing later; DEFAULT_ARTIFACT_REPOSITORY names a\n"
        "  mirror of Maven Central",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(argv)
    try:
        fetch_jars(spark_home() / "jars")
    except SetupError as e:
        print(f"fetch_jars: {e}", file=sys.stderr)
        return 1
    return 0


def fetch_jars(into: Path) -> None:
    """Leave exactly the pinned jars in `into`, beside whatever else lies there.

    Raises SetupError where a jar cannot be had, is not the pinned one, or cannot be written.
    """
    repository = os.environ.get("DEFAULT_ARTIFACT_REPOSITORY") or MAVEN_CENTRAL
    for jar in JARS:
        try:
            target = into / jar.name
            if not _is(jar, target):
                _place(_cached(jar, repository), target)
            for other in into.glob(f"{jar.artifact}-*.jar"):
                if other != target:  # two versions on one class path: either may win
                    other.unlink()
        except OSError as e:
            raise SetupError(f"{jar.name}: {e.strerror or e} ({e.filename or into})") from e
    _link_own_jar(into)


def _cached(jar: Jar, repository: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "roundtrip", "jars")
    cached = cache / jar.name
    if not _is(jar, cached):
        cache.mkdir(parents=True, exist_ok=True)
        check_disk(cache, 2 * jar.bytes)
        _download(jar, jar.url(repository), cached)
    return cached


def _download(jar: Jar, url: str, to: Path) -> None:
    print(f"fetching {jar.name} ({jar.bytes / 1e6:.1f} MB)", file=sys.stderr, flush=True)
    for attempt in range(1, _ATTEMPTS + 1):
        handle, name = tempfile.mkstemp(dir=to.parent, prefix=f".{jar.name}.")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as out, _open(url) as answer:
                shutil.copyfileobj(answer, out, 1 << 20)
            if _is(jar, part):
                part.chmod(0o644)
                part.replace(to)
                return
            problem = f"{part.stat().st_size:,} bytes came, not the {jar.bytes:,} of its SHA-256"
            way_out = "if it does so again, something on the way or at the mirror changes files"
        except urllib.error.HTTPError as e:
            problem = f"{e.code} {e.reason}"
            way_out = "set DEFAULT_ARTIFACT_REPOSITORY to a mirror of Maven Central that has it"
        except (urllib.error.URLError, ConnectionError, TimeoutError) as e:
            problem = str(getattr(e, "reason", e))
            way_out = (
                "connect to the internet, or set HTTPS_PROXY, or DEFAULT_ARTIFACT_REPOSITORY to a "
                "mirror of Maven Central"
            )
        finally:
            part.unlink(missing_ok=True)
        if attempt < _ATTEMPTS:
            print(f"  attempt {attempt}: {problem}; trying again", file=sys.stderr, flush=True)
    raise SetupError(f"{jar.name} could not be fetched from {url}: {problem}: {way_out}")


def _open(url: str):  # type: ignore[no-untyped-def]  # urlopen's own type is Any-like
    request = urllib.request.Request(url, headers={"User-Agent": "roundtrip"})
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)


def _is(jar: Jar, path: Path) -> bool:
    try:
        if path.stat().st_size != jar.bytes:
            return False
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _place(source: Path, target: Path) -> None:
    """Put a whole file at `target` in one step, without a second copy where the disk allows it."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            os.link(source, part)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _link_own_jar(into: Path) -> None:
    """Spark finds udfs/'s jar through a link, so that compiling it again needs no second step.

    Where it was not compiled the link leads nowhere, which the JVM passes over.
    """
    link = into / OWN_JAR.name
    try:
        if not link.is_symlink() or link.readlink() != OWN_JAR:
            part = into / f".{OWN_JAR.name}.{os.getpid()}"
            part.symlink_to(OWN_JAR)
            part.replace(link)
    except OSError as e:
        raise SetupError(f"{link} cannot be made: {e.strerror}") from e


if __name__ == "__main__":
    sys.exit(main())

"""Make .venv with everything that the project needs: `python3 bootstrap.py` or `make setup`.

    python3 bootstrap.py run    what jobs need
    python3 bootstrap.py ml     and what training needs: torch, DeepSpeed, transformers
    python3 bootstrap.py dev    and what tests and checks need (default)
    python3 bootstrap.py bench  and the peers of the benchmarks

Uses uv where it is on PATH; elsewhere pip gets uv first, the quicker of the two, unless it was told
where packages are. Does nothing where nothing changed since the last time; a set-up that was
interrupted is made anew by the next. Each thing that is missing ends it with one line that says
what to do. Standard library only; the first lines run on any Python 3.6 or newer.
"""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        f"setup: Python 3.11, 3.12 or 3.13 is needed, {sys.executable} is "
        f"{sys.version_info[0]}.{sys.version_info[1]}: install one and name it, as in "
        "`make setup PYTHON=python3.12`"
    )

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from jobs.installed import SetupError, check_disk, check_java

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "roundtrip-setup.json"
UNFINISHED = VENV / "roundtrip-setup.unfinished"

_PIP = [str(PYTHON), "-m", "pip"]
_PIP_INSTALL = [*_PIP, "install", "--no-input"]
_PIP_SETTINGS = re.compile(r"(?m)\.(index-url|extra-index-url|no-index|proxy|client-cert)=")

# Each holds all of those before it.
LEVELS = ("run", "ml", "dev", "bench")

# Measured: the environment is 1.1 GB, with torch and its CUDA 7.5 GB; pip unpacks and builds in a
# temporary folder besides.
VENV_BYTES = {"run": 2_500_000_000, "ml": 12_000_000_000}

_NO_NETWORK = re.compile(
    r"dns error|name resolution|name or service not known|failed to lookup|ConnectError|"
    r"connection (error|refused|reset|aborted)|error trying to connect|client error \(connect\)|"
    r"NewConnectionError|ConnectTimeout|timed out|unreachable|ProxyError|tunnel|"
    r"from versions: none",  # all that pip says of it where it makes no second attempt
    re.IGNORECASE,
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make .venv with everything that is needed.")
    parser.add_argument("level", nargs="?", choices=LEVELS, default="dev")
    level = parser.parse_args().level
    lock = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second waits, and finds it done
    try:
        if level not in _done():
            _set_up(level)
    except SetupError as e:
        print(f"setup: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; the next one starts anew", file=sys.stderr)
        return 130
    finally:
        os.close(lock)
    return 0


def _set_up(level: str) -> None:
    check_java()
    uv = _working_uv("uv")
    fresh = UNFINISHED.exists() or not _is_environment(needs_pip=uv is None)
    if fresh:
        check_disk(VENV, VENV_BYTES.get(level, VENV_BYTES["ml"]))
        _say(f"making {VENV} with {'uv' if uv else 'pip'}")
        if uv:
            _call([uv, "venv", "--quiet", "--clear", "--python", _base_python(), str(VENV)])
        else:
            _make_with_venv()
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    uv = uv or _uv_by_pip()
    # Compiled now, as pip does: where PYTHONDONTWRITEBYTECODE is set, or .venv is read-only later,
    # every start of a job would compile two thousand modules anew.
    if uv:
        install = [uv, "pip", "install", "--compile-bytecode", "--python", str(PYTHON)]
    else:
        install = _PIP_INSTALL
    _say(f"installing requirements/{level}.txt")
    _call([*install, "--require-hashes", "-r", str(ROOT / "requirements" / f"{level}.txt")])
    _say("installing the project")
    _call([*install, "--no-build-isolation", "--no-deps", "-e", str(ROOT)])
    fetch = [str(PYTHON), "-m", "jobs.fetch_jars"]
    if subprocess.run(fetch, cwd=ROOT, env=_environment(), check=False).returncode:
        raise SetupError("the jars are not complete, see the line above")
    levels = LEVELS[: LEVELS.index(level) + 1]
    STAMP.write_text(json.dumps({"of": _of(), "levels": {x: _digest(x) for x in levels}}))
    UNFINISHED.unlink()
    _say(f"done: {PYTHON}")


def _done() -> tuple[str, ...]:
    """The levels that .venv already holds in their present state."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return ()
    if UNFINISHED.exists() or not PYTHON.exists() or stamp["of"] != _of():
        return ()
    return tuple(x for x, digest in stamp["levels"].items() if digest == _digest(x))


def _of() -> dict[str, str]:
    """What an environment is tied to: it can be neither moved nor used by another Python."""
    return {"root": str(ROOT), "python": sys.version, "base": sys.base_prefix}


def _digest(level: str) -> str:
    """A hash of everything from which a level is made."""
    made_from = [
        ROOT / "requirements" / f"{level}.txt",
        ROOT / "requirements" / "uv.txt",
        *(ROOT / name for name in ("bootstrap.py", "setup.py", "pyproject.toml")),
        ROOT / "jobs" / "fetch_jars.py",
        *sorted((ROOT / "udfs" / "scala").rglob("*.scala")),
        *sorted(ROOT.glob("*/__init__.py")),  # an editable install knows the packages of its day
    ]
    digest = hashlib.sha256()
    for path in made_from:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _is_environment(needs_pip: bool) -> bool:
    """Whether .venv is a working environment of this very Python."""
    code = "import sys; print(sys.version); print(sys.base_prefix)" + "; import pip" * needs_pip
    try:
        said = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    here = _of()
    if STAMP.exists() and json.loads(STAMP.read_text())["of"]["root"] != here["root"]:
        return False
    return said.returncode == 0 and said.stdout == f"{here['python']}\n{here['base']}\n"


def _base_python() -> str:
    """The Python that runs this, or the one behind it where .venv itself was named."""
    return getattr(sys, "_base_executable", None) or sys.executable


def _uv_by_pip() -> str | None:
    """uv, installed into .venv; None where pip is to do it all, being told where packages are.

    uv does not read pip's settings.
    """
    said = subprocess.run(
        [*_PIP, "config", "list"], env=_environment(), capture_output=True, text=True, check=False
    )
    if said.returncode or _PIP_SETTINGS.search(said.stdout):
        return None
    _call([*_PIP_INSTALL, "--require-hashes", "-r", str(ROOT / "requirements" / "uv.txt")])
    return _working_uv(str(PYTHON.with_name("uv")))


def _working_uv(name: str) -> str | None:
    """That uv, unless it is only a shim of a version manager with nothing behind it."""
    uv = shutil.which(name)
    if uv is None:
        return None
    works = subprocess.run([uv, "--version"], capture_output=True, check=False).returncode == 0
    return uv if works else None


def _make_with_venv() -> None:
    made = subprocess.run(
        [_base_python(), "-m", "venv", "--clear", str(VENV)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        if "ensurepip" in made.stdout + made.stderr:
            minor = ".".join(map(str, sys.version_info[:2]))
            raise SetupError(
                f"{sys.executable} cannot make environments: install its venv module (Debian: apt "
                f"install python{minor}-venv) or uv"
            )
        raise SetupError(f"{VENV} could not be made: {_last_line(made.stdout + made.stderr)}")


def _call(command: list[str]) -> None:
    """Run a command, showing what it says; raise SetupError with the reason where it fails."""
    said = []
    env = _environment() | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if not line.startswith("Requirement already satisfied"):
                print(f"  {line}", end="", file=sys.stderr, flush=True)
    if process.returncode == 0:
        return
    output = "".join(said)
    if _NO_NETWORK.search(output):
        raise SetupError(
            "the package index cannot be reached: connect to the internet, or set HTTPS_PROXY, or "
            "name a mirror (PIP_INDEX_URL for pip, UV_DEFAULT_INDEX for uv)"
        )
    if "No space left on device" in output:
        raise SetupError(f"the disk of {VENV} or of the package cache is full: make room")
    name = " ".join(Path(command[0]).name if i == 0 else x for i, x in enumerate(command[:3]))
    raise SetupError(f"`{name}` failed: {_last_line(output)}")


def _environment() -> dict[str, str]:
    """The caller's, without what it says about interpreters and a Spark that are not .venv's."""
    others = ("VIRTUAL_ENV", "PYTHONPATH", "SPARK_HOME")
    return {k: v for k, v in os.environ.items() if k not in others}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


def _say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

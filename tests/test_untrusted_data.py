"""Nothing in the packages makes objects or code of data, or unpacks an archive."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("jobs", "pipelines", "schemas", "udfs", "ml", "benchmarks")

_MODULES = {
    *("pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"),  # objects of data
    *("tarfile", "zipfile"),  # a member's name may lead anywhere
}
_FUNCTIONS = {"eval", "exec", "pickleFile", "read_pickle", "saveAsPickleFile", "unpack_archive"}


def faults(source: str) -> Iterator[str]:
    """What in a module must not be there, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named += [alias.name for alias in node.names]
            for name in named:
                parts = name.split(".")
                if _MODULES & set(parts):
                    yield f"line {node.lineno}: import of {name}"
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            module = getattr(getattr(node.func, "value", None), "id", "")
            of_torch = (module, name) == ("torch", "load") and given.get("weights_only") is not True
            if name in _FUNCTIONS or given.get("allow_pickle") or of_torch:
                yield f"line {node.lineno}: call of {name}"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "from pyspark import cloudpickle",
        "import zipfile as z",
        "shutil.unpack_archive(path)",
        "numpy.load(path, allow_pickle=True)",
        "torch.load(path)",
        "sc.pickleFile(path)",
        "eval(text)",
    ],
)
def test_each_of_these_would_be_found(source: str) -> None:
    assert len(list(faults(source))) == 1


def test_no_module_has_any_of_them() -> None:
    modules = [m for p in PACKAGES for m in sorted((ROOT / p).rglob("*.py"))]
    assert len(modules) > 50
    found = [f"{m.relative_to(ROOT)} {x}" for m in modules for x in faults(m.read_text())]
    assert found == []


def test_make_check_looks_for_unpickling_too() -> None:
    """Under the project's own settings, where nobody can leave the rule out unseen."""
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", "jobs/x.py", "-"],
        input='import pickle\n\npickle.loads(b"")\n',
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 1, checked.stderr
    assert "S301" in checked.stdout

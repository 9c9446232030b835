"""Nothing in the packages makes objects or code of data, or unpacks an archive."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("jobs", "pipelines", "schemas", "udfs", "ml", "benchmarks")

_MODULES = {
    *("pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"),  # objects of data
    *("tarfile", "zipfile"),  # a member's name may lead anywhere
}
_FUNCTIONS = {
    *("pickleFile", "read_pickle", "saveAsPickleFile"),
    *("unpack_archive", "extract", "extractall"),
}
_BUILT_IN = {"eval", "exec"}  # by name alone: a torch module has a method of that name
# Modules of which each may import one: it reads members as streams and refuses names that lead
# elsewhere, or copies one member under a name of its own; it writes archives and reads none; it
# talks to a child process of its own making.
_DELIBERATE = {
    "ml/models/packaged.py": {"zipfile"},
    "pipelines/figures/delivered/tars.py": {"tarfile"},
    "pipelines/figures/delivered/zips.py": {"zipfile"},
    "pipelines/figures/made/files.py": {"tarfile"},
    "udfs/images/isolated.py": {"cloudpickle"},
}


def faults(source: str, allowed: Set[str] = frozenset()) -> Iterator[str]:
    """What in a module must not be there, with its line; `allowed` are modules that it imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named += [alias.name for alias in node.names]
            for name in named:
                parts = name.split(".")
                if (_MODULES - allowed) & set(parts):
                    yield f"line {node.lineno}: import of {name}"
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            is_built_in = getattr(node.func, "id", "") in _BUILT_IN
            given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            module = getattr(getattr(node.func, "value", None), "id", "")
            of_torch = (module, name) == ("torch", "load") and given.get("weights_only") is not True
            if name in _FUNCTIONS or is_built_in or given.get("allow_pickle") or of_torch:
                yield f"line {node.lineno}: call of {name}"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "from pyspark import cloudpickle",
        "import zipfile as z",
        "shutil.unpack_archive(path)",
        "archive.extract(member, path)",
        "archive.extractall(path)",
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
    found = [
        f"{name} {fault}"
        for name, module in ((m.relative_to(ROOT).as_posix(), m) for m in modules)
        for fault in faults(module.read_text(), _DELIBERATE.get(name, frozenset()))
    ]
    assert found == []


def test_those_that_may_import_one_of_them_may_do_nothing_else() -> None:
    for name, allowed in _DELIBERATE.items():
        source = (ROOT / name).read_text()
        assert len(list(faults(source))) == len(allowed)
        assert list(faults(source, allowed)) == []


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

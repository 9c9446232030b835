"""Where weights lie: below the folder that environment MODELS names, or in Hugging Face's cache."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from pipelines.errors import UsageError


def located(name: str, what: str) -> Path:
    """The file or folder that a recipe calls `name`; `what` says in errors what it is.

    An absolute path is itself. Any other is looked up below MODELS (default ./models), then as the
    name of a repository in Hugging Face's local cache; nothing is ever downloaded. Raises
    UsageError, which names both places.
    """
    models = Path(os.environ.get("MODELS", "models")).absolute()
    path = models / name
    if path.exists():
        return path
    if Path(name).is_absolute():
        raise UsageError(f"{what}: there is no {name}")
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as e:
        raise UsageError(
            f"{what} {name!r} is neither at {path} (environment MODELS names the folder) nor in "
            "Hugging Face's cache (environment HF_HOME); nothing is downloaded"
        ) from e

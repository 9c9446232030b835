"""Prompt templates: data in `prompts.toml`, checked when they are read. No Spark is needed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from string import Formatter
from typing import Any

from pipelines.errors import UsageError

PLACEHOLDERS = {"captions": ("caption",), "vqa": ("question", "answer")}
"""By the kind of template, the columns that it may name."""


@dataclass(frozen=True)
class Template:
    """What a model is given, `prompt`, and what it is to say, `answer`; both with placeholders."""

    kind: str
    name: str
    prompt: str
    answer: str

    def texts(self, fields: Mapping[str, str]) -> tuple[str, str]:
        """Prompt and answer, made of the fields that their placeholders name."""
        return self.prompt.format_map(fields), self.answer.format_map(fields)

    @property
    def one_prompt(self) -> str | None:
        """The prompt where it is the same for all examples: where it has no placeholder."""
        is_one = all(name is None for _, name, _, _ in Formatter().parse(self.prompt))
        return self.prompt.format() if is_one else None


def built_in_templates() -> dict[tuple[str, str], Template]:
    """Those of `prompts.toml`, by kind and name."""
    return templates_of(files(__package__).joinpath("prompts.toml").read_text(encoding="utf-8"))


def templates_of(toml: str) -> dict[tuple[str, str], Template]:
    """The templates of a file such as `prompts.toml`, by kind and name.

    Raises UsageError, which names the place and what is nearest, for a file that is no TOML, an
    unknown kind, key or placeholder, a template that lacks a key, and an answer that holds none of
    what is to be learnt.
    """
    try:
        declared = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"prompts: no TOML: {e}") from e
    _known(declared, tuple(PLACEHOLDERS), "prompts", "kind")
    return {
        (kind, name): _template(kind, name, fields)
        for kind, named in declared.items()
        for name, fields in _table(named, kind).items()
    }


def template(templates: Mapping[tuple[str, str], Template], kind: str, name: str) -> Template:
    """The template of that kind and name; UsageError naming the nearest where there is none."""
    _known((name,), tuple(n for k, n in templates if k == kind), f"prompts.{kind}", "template")
    return templates[kind, name]


def _template(kind: str, name: str, fields: Any) -> Template:
    where = f"prompts.{kind}.{name}"
    texts = _table(fields, where)
    _known(texts, ("prompt", "answer"), where, "key")
    for key in ("prompt", "answer"):
        if not isinstance(texts.get(key), str):
            raise UsageError(f"{where}: {key} is missing, or no text")
        named = _placeholders(texts[key], f"{where}.{key}")
        _known(named, PLACEHOLDERS[kind], where, "placeholder")
    target = PLACEHOLDERS[kind][-1]
    if target not in _placeholders(texts["answer"], where):
        raise UsageError(f"{where}: its answer lacks {{{target}}}, so nothing is to be learnt")
    return Template(kind, name, texts["prompt"], texts["answer"])


def _placeholders(text: str, where: str) -> list[str]:
    try:
        parts = list(Formatter().parse(text))
    except ValueError as e:
        raise UsageError(f"{where}: {e}; a brace that is one is doubled") from e
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise UsageError(f"{where}: a placeholder is a name and nothing else, such as {{caption}}")
    return [name for _, name, _, _ in parts if name is not None]


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: should be a table")
    return value


def _known(names: Any, known: tuple[str, ...], where: str, what: str) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"{where}: unknown {what} {name!r}; {hint}")

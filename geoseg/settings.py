"""What comes from YAML or the command line: checked when it is read, unknown keys refused with the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from geoseg.errors import InputError


class Settings(BaseModel):
    """Root of all that is read from files; frozen, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in known:
                    # The sentence goes in as a value: pydantic would take braces in it for places to fill.
                    raise PydanticCustomError("unknown_key", "{sentence}", {"sentence": f"unknown key {key!r}; {nearest(str(key), known)}"})
        return data


SettingsType = TypeVar("SettingsType", bound=Settings)


def parse(kind: type[SettingsType], data: object, *, source: str) -> SettingsType:
    """`data` (from YAML, JSON or options) as settings of this kind.

    What does not fit raises InputError: one sentence with `source`, the place inside it, what was wrong, and the cure.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first, more = error.errors()[0], error.error_count() - 1
        place = ".".join(str(step) for step in first["loc"])
        others = f" (and {more} more)" if more else ""
        raise InputError(f"{source}: {f'at {place}: ' if place else ''}{first['msg'].removeprefix('Value error, ')}{others}") from error


def read_settings(kind: type[SettingsType], path: str | Path) -> SettingsType:
    """Settings of this kind from a YAML file; InputError as for `parse` and `read_yaml`."""
    return parse(kind, read_yaml(path), source=str(path))


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds, as plain data.

    No such file, broken YAML, and a key that stands twice in one mapping raise InputError; objects are never built.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path} cannot be read: {reason}") from error
    try:
        return yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'sensor'?`, or the known names where none is near."""
    names = list(known)
    if close := difflib.get_close_matches(word.lower(), names, n=1):
        return f"did you mean {close[0]!r}?"
    return f"known are {', '.join(names)}"


class _UniqueKeys(yaml.SafeLoader):
    """Plain YAML, but a key that stands twice is an error: PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

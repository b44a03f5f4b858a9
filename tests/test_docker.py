"""The images as files: in step with the extras, since no container engine builds them here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = ["Dockerfile", "Dockerfile.full"]
NOT_IN_IMAGES = {"dev", "all", "docs", "notebook"}

if not (ROOT / "docker").is_dir():
    pytest.skip("the repository's files are not beside these tests", allow_module_level=True)


def text_of(name: str) -> str:
    return (ROOT / "docker" / name).read_text(encoding="utf-8")


def extras_of(name: str) -> set[str]:
    (found,) = re.findall(r"\.whl\)\[([a-z,]+)\]", text_of(name))
    return set(found.split(","))


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_full_image_has_every_extra_and_the_small_one_no_torch() -> None:
    known = pyproject()["optional-dependencies"]
    assert extras_of("Dockerfile.full") == set(known) - NOT_IN_IMAGES
    small = extras_of("Dockerfile")
    assert small < extras_of("Dockerfile.full")
    packages = [package for extra in small for package in known[extra]]
    assert not [package for package in packages if re.match(r"torch|lightning|timm|openvino|geoseg", package)]


@pytest.mark.parametrize("name", FILES)
def test_an_image_is_made_of_what_there_is(name: str) -> None:
    text = text_of(name)
    for line in re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE):
        assert (ROOT / line).exists()
    version = re.findall(r"^FROM python:(\d+\.\d+)-slim", text, re.MULTILINE)
    assert len(set(version)) == 1
    assert f"Programming Language :: Python :: {version[0]}" in pyproject()["classifiers"]
    assert text.index("USER geoseg") < text.index("ENTRYPOINT")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not {"geoseg", "pyproject.toml", "data_catalog.yaml", "README.md", "LICENSE", "constraints.txt"} & set(ignored)


@pytest.mark.parametrize("name", FILES)
def test_the_commands_at_the_top_are_ones_that_geoseg_has(name: str) -> None:
    from geoseg.cli import cli

    (words,) = re.findall(r"^# +docker run .* geoseg(?::full)? (\w.*)$", text_of(name), re.MULTILINE)
    command, *given = words.split()
    options = {option for parameter in cli.commands[command].params for option in parameter.opts}
    assert {word for word in given if word.startswith("--")} <= options

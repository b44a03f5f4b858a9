"""The documentation names only what is there: files, commands, options, public names; its blocks of code can be read."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

import geoseg
from geoseg.cli import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
OUTSIDE_THE_SITE = {"progress.md"}


def broken_links(page: Path, text: str) -> list[str]:
    """Links and pictures of a page whose file is not there; addresses of the net are not asked."""
    plain = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", plain)
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    return [target for target in local if not (page.parent / target).exists()]


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block."""
    yield from re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def mistake(language: str, block: str) -> str | None:
    """What is wrong with a block of code, None where nothing is."""
    readers = {"python": ast.parse, "yaml": yaml.safe_load, "json": json.loads}
    try:
        readers.get(language, str)(block)
    except (SyntaxError, yaml.YAMLError, json.JSONDecodeError) as error:
        return f"{language}: {error}"
    if language != "sh":
        return None
    lines = block.replace("\\\n", " ").splitlines()
    return next((wrong for line in lines if (wrong := unknown_word(line))), None)


def unknown_word(line: str) -> str | None:
    """The first command or option of a `geoseg …` line that does not exist."""
    if not line.startswith("geoseg "):
        return None
    command: click.Command = cli
    for word in shlex.split(line, comments=True)[1:]:
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
        if word.startswith("-") and len(word) > 1 and not word.lstrip("-")[0].isdigit() and word.partition("=")[0] not in options:
            return f"geoseg {command.name} has no {word}"
        if isinstance(command, click.Group) and not word.startswith("-"):
            if word not in command.commands:
                return f"geoseg {command.name} has no {word}"
            command = command.commands[word]
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_and_blocks_can_be_read(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert broken_links(page, text) == []
    assert [wrong for language, block in blocks(text) if (wrong := mistake(language, block))] == []


@pytest.mark.parametrize(
    ("language", "block", "wrong"),
    [
        ("python", "classes = (", "never closed"),
        ("yaml", "a: [1", "expected"),
        ("json", "{", "Expecting"),
        ("sh", "geoseg predikt scene.tif", "no predikt"),
        ("sh", "geoseg predict scene.tif \\\n  -o out --scorse", "no --scorse"),
        ("sh", "geoseg data lst", "data has no lst"),
    ],
)
def test_blocks_that_cannot_be_read_are_found(language: str, block: str, wrong: str) -> None:
    assert wrong in (mistake(language, block) or "")


def test_links_to_nowhere_are_found_and_code_is_no_link() -> None:
    text = "[here](docs/index.md#top) [not](docs/nowhere.md) `[code](x)` [net](https://example.org/a)"
    assert broken_links(ROOT / "README.md", text) == ["docs/nowhere.md"]


def test_the_site_leads_to_every_page_but_decisions() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"])))
    there = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert named == {page for page in there - OUTSIDE_THE_SITE if not page.startswith("decisions/")}


def test_the_reference_has_every_public_name_and_every_command() -> None:
    python = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: (\S+)\n    options:\n      heading: (\S+)$", python, re.MULTILINE)
    assert sorted(shown) == sorted((f"geoseg.{home}.{name}", f"geoseg.{name}") for name, home in geoseg._HOMES.items())
    table = re.findall(r"^\| `geoseg ([\w-]+)` \|", (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(cli.commands)

"""The commands of a how-to page, read from the page itself and run as they stand there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Ran

PAGES = Path(__file__).resolve().parents[1] / "docs" / "how-to"


def commands(page: str) -> list[list[str]]:
    """The words after `geoseg` of every command in the page's `sh` blocks, in order; a line that ends in a backslash goes on."""
    text = (PAGES / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("geoseg ")]


def run_page(page: str, folder: Path, geoseg: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> list[Ran]:
    """Run the page's commands inside `folder`, which holds the files that the page names; each has to end well."""
    monkeypatch.chdir(folder)
    ended = []
    for words in commands(page):
        ran = geoseg(*(path for word in words for path in _expanded(word)))
        assert ran.code == 0, f"geoseg {' '.join(words)}\n{ran.err}"
        ended.append(ran)
    assert ended, f"{page} names no command"
    return ended


def _expanded(word: str) -> list[str]:
    """The files that a shell would put in the place of a word with `*`, in the current folder; any other word as it is."""
    return sorted(path.as_posix() for path in Path().glob(word)) if "*" in word else [word]

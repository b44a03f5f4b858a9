"""The help of the command line: an example each that is no invention, options under headings, defaults said, completion."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from geoseg.cli import cli
from geoseg.commands._help import COMMANDS, OPTIONS


def leaves(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


LEAVES = dict(leaves())


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_an_example_that_it_understands(name: str) -> None:
    found = re.search(r"Example: `geoseg (.+)`", LEAVES[name].epilog or "")
    assert found is not None, "say epilog='Example: `geoseg …`'"
    words = shlex.split(found[1])
    assert " ".join(words[: len(name.split())]) == name
    LEAVES[name].make_context(name, words[len(name.split()) :])  # raises for what it does not take


def test_an_example_with_a_strange_option_would_be_found() -> None:
    with pytest.raises(click.NoSuchOption):
        LEAVES["info"].make_context("info", ["scene.tif", "--modle", "my_model"])


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_says_what_it_is_for(name: str) -> None:
    assert not [one.name for one in LEAVES[name].params if isinstance(one, click.Option) and not one.help]


def test_every_command_and_every_named_option_has_its_heading() -> None:
    listed = [name for names in COMMANDS.values() for name in names]
    assert sorted(listed) == sorted(cli.commands)
    options = [name for names in OPTIONS.values() for name in names]
    known = {word for command in LEAVES.values() for one in command.params for word in one.opts}
    assert len(options) == len(set(options))
    assert set(options) <= known


def test_help_shows_headings_defaults_and_the_example() -> None:
    done = geoseg("composite", "--help")
    for said in ("What the scene is", "Where it goes", "[default: month]", "Example: geoseg composite"):
        assert said in done.stdout


def test_a_flag_that_turns_something_off_is_not_said_to_be_on() -> None:
    assert "[default: True]" not in "".join(
        command.get_help(command.make_context(name, [], resilient_parsing=True)) for name, command in LEAVES.items()
    )


def test_the_shell_completes_commands_and_options() -> None:
    assert completed("geoseg pred", 1) == ["predict"]
    assert set(completed("geoseg predict --min", 2)) == {"--min-area-m2"}


def completed(line: str, word: int) -> list[str]:
    asked = {"_GEOSEG_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(word)}
    return [found.split(",")[1] for found in geoseg(**asked).stdout.split()]


def geoseg(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = "from geoseg.cli import main; main()"
    environment = os.environ | {"COLUMNS": "120", "NO_COLOR": "1"} | variables
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=environment, check=True)

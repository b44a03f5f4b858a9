"""All results of a command or none: a hidden folder where they are made, and how they take their places together."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from geoseg.errors import OutputError
from geoseg.io.atomic import check_name, output_error


def check_free(out: Path, names: Collection[str], *, overwrite: bool) -> None:
    """Raise OutputError where results cannot be put, InputError's exit code where they are there already."""
    for path in (out.absolute(), *(out / name for name in names)):
        check_name(path)
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out} is a file; expected a folder for the results: choose another -o")
    there = [name for name in names if (out / name).exists()]
    if there and not overwrite:
        raise OutputExistsError(f"{out} already holds {there[0]}; choose another -o, or replace it with --overwrite")


class OutputExistsError(OutputError):
    """Results of the same name are there already."""

    exit_code = 2


class Staging:
    """A folder inside `out` where a map is made; gone afterwards, and after an error also the folders made on the way to it."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._made = [folder for folder in (out, *out.parents) if not folder.exists()]
        self._folder: Path | None = None

    def __enter__(self) -> Path:
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=".geoseg-", dir=self._out))
            for name in ("parts", "done"):
                (self._folder / name).mkdir()
        except BaseException as error:
            self._clear(kept=False)
            if isinstance(error, OSError):
                raise output_error(self._out / "map" if self._out.is_dir() else self._out, error) from error
            raise
        return self._folder

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._clear(kept=kind is None)

    def _clear(self, *, kept: bool) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        for folder in () if kept else self._made:
            with suppress(OSError):  # holds something by now, or was never made
                folder.rmdir()


def fresh_folder(folder: Path) -> Path:
    """The same folder, new and empty."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


def move_results(done: Path, out: Path, *, last: str) -> None:
    """Rename every finished file into its place; the Item, which vouches for the others, comes last.

    Where one cannot be placed, or the user stops it, all that was in their places before is there again.
    """
    files: Sequence[Path] = sorted(done.iterdir(), key=lambda path: path.name == last)
    before = done.with_name("before")
    try:
        before.mkdir(exist_ok=True)
        for path in files:
            place = out / path.name
            if place.is_file():
                place.replace(before / path.name)
            path.replace(place)
    except BaseException as error:
        for path in files:
            if not path.exists():
                (out / path.name).unlink(missing_ok=True)
        for old in before.iterdir():
            old.replace(out / old.name)
        if isinstance(error, OSError):
            raise output_error(place, error) from error
        raise

"""Outputs appear whole or not at all, and what hinders them is said in one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from geoseg.errors import OutputError
from geoseg.io.atomic import atomic, output_error


def test_the_file_appears_when_the_block_ends_and_replaces_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "a.txt"
    for text in ("old", "new"):
        with atomic(out) as part:
            part.write_text(text)
            part.with_name("side file").write_text("left by a library")
            assert not out.exists() or out.read_text() == "old"
        assert out.read_text() == text
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_after_an_error_the_old_file_stands_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "a.txt"
    out.write_text("old")

    def fail() -> None:
        with atomic(out) as part:
            part.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_text() == "old"


@pytest.mark.parametrize("number", ["ENOSPC", "EFBIG", "EDQUOT"])
def test_full_disk_is_said(tmp_path: Path, number: str) -> None:
    code = getattr(errno, number, errno.ENOSPC)
    with pytest.raises(OutputError, match=r"a\.txt could not be written: the disk is full"), atomic(tmp_path / "a.txt"):
        raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is not a folder"), atomic(tmp_path / "file" / "a.txt"):
        raise AssertionError("nothing can be written here")


def test_folder_without_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(OutputError, match="no permission to write in"), atomic(tmp_path / "a.txt"):
        raise AssertionError("nothing can be written here")


def test_folder_in_the_outputs_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OutputError, match="a folder of that name is there"), atomic(tmp_path / "a.txt") as part:
        part.write_text("x")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_file_open_in_another_windows_program_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "a.txt"
    out.write_text("held")
    monkeypatch.setattr("geoseg.io.atomic._ON_WINDOWS", True)
    sentence = str(output_error(out, PermissionError(errno.EACCES, "Access is denied")))
    assert "open in another program" in sentence


@pytest.mark.parametrize("name", ["10:30.tif", "a?.tif", "a*b", 'a"b', "NUL", "con.tif", "Com1.tar.gz", "name.", "name "])
def test_names_that_windows_cannot_hold_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="Windows"), atomic(tmp_path / name):
        raise AssertionError("refused before this")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["console.tif", "com10.tif", "été 2020.tif", "a.b.c", ".hidden"])
def test_names_that_only_look_like_reserved_ones_are_taken(tmp_path: Path, name: str) -> None:
    with atomic(tmp_path / name) as part:
        part.write_text("x")
    assert (tmp_path / name).read_text() == "x"

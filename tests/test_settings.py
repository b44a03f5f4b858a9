from __future__ import annotations

from pathlib import Path

import pytest

from geoseg.errors import InputError
from geoseg.settings import Settings, nearest, parse, read_settings, read_yaml


class Tiles(Settings):
    size: int = 256
    overlap: int = 64


class Run(Settings):
    name: str
    tiles: Tiles = Tiles()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_come_from_yaml(tmp_path: Path) -> None:
    run = read_settings(Run, written(tmp_path, "name: été\ntiles: {size: 512}\n"))
    assert run == Run(name="été", tiles=Tiles(size=512, overlap=64))


def test_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.yaml: at tiles: unknown key 'overlp'; did you mean 'overlap'\?"):
        read_settings(Run, written(tmp_path, "name: a\ntiles: {overlp: 3}\n"))


def test_unknown_key_unlike_any_is_refused_with_all_known_ones() -> None:
    with pytest.raises(InputError, match="unknown key 'zzz'; known are name, tiles"):
        parse(Run, {"name": "a", "zzz": 1}, source="options")


def test_unknown_key_with_braces_is_named_as_it_stands() -> None:
    with pytest.raises(InputError, match=r"unknown key '\{size\}'"):
        parse(Tiles, {"{size}": 1}, source="options")


def test_wrong_value_and_missing_key_name_their_place() -> None:
    with pytest.raises(InputError, match=r"options: at tiles\.size: .*integer.*"):
        parse(Run, {"name": "a", "tiles": {"size": "large"}}, source="options")
    with pytest.raises(InputError, match="options: at name: Field required"):
        parse(Run, {}, source="options")


def test_key_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the key 'name' stands twice"):
        read_yaml(written(tmp_path, "name: a\nname: b\n"))


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "!!python/object/apply:os.getcwd []"])
def test_what_is_not_plain_yaml_is_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*run\.yaml is not YAML: [^\n]+$"):
        read_yaml(written(tmp_path, text))


def test_missing_and_binary_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is not UTF-8 text"):
        read_yaml(tmp_path / "binary.yaml")


def test_settings_do_not_change_after_birth() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Tiles().size = 3  # type: ignore[misc]


def test_nearest_ignores_case() -> None:
    assert nearest("SIZE", ["size", "overlap"]) == "did you mean 'size'?"

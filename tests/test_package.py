"""A model package is opened whole or refused in one sentence, and nothing in it ever runs."""

from __future__ import annotations

import errno
import json
import pickle
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packages import CORINE, WORLDCOVER, constant_package, describe, ice_chart_package, per_pixel_package, preparation_for

from geoseg.errors import OutputError, PackageError
from geoseg.legend import Legend
from geoseg.models.package import Figure, ModelPackage, Output, write_package


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def refused(path: Path | str) -> str:
    with pytest.raises(PackageError) as caught:
        ModelPackage.open(path)
    said = str(caught.value)
    assert "\n" not in said
    assert caught.value.exit_code == 2
    return said


def edit(package: Path, **properties: object) -> None:
    file = package / "model.json"
    item = json.loads(file.read_text(encoding="utf-8"))
    item["properties"] |= properties
    file.write_text(json.dumps(item), encoding="utf-8")


@pytest.mark.parametrize("name", ["model", "model.zip", "mód el.zip"])
def test_opened_package_is_the_one_written(tmp_path: Path, name: str) -> None:
    written = per_pixel_package(tmp_path / name, ["red", "nir"], [[1, 2], [3, 4]], tile=96, stride=32, sensors=("naip",))
    opened = ModelPackage.open(tmp_path / name)
    assert opened == written
    assert (opened.tile, opened.stride, opened.sensors) == (96, 32, ("naip",))
    assert [band.role for band in opened.preparation.bands] == ["red", "nir"]
    assert opened.weights is None


def test_folder_and_zip_hold_the_same_package(tmp_path: Path) -> None:
    folder, archive = (constant_package(tmp_path / name, ["red"], 0, 2) for name in ("model", "model.zip"))
    assert folder.checksum == archive.checksum
    assert folder.onnx == archive.onnx
    again = constant_package(tmp_path / "again.zip", ["red"], 0, 2)
    assert again.path.read_bytes() == archive.path.read_bytes()


@pytest.mark.parametrize("legend", [WORLDCOVER, CORINE], ids=["codes 10 to 100", "codes 111 to 523"])
def test_legend_with_odd_codes_survives_the_package(tmp_path: Path, legend: Legend) -> None:
    constant_package(tmp_path / "model", ["red"], 2, len(legend), legend=legend)
    assert ModelPackage.open(tmp_path / "model").outputs[0].legend == legend


def test_three_outputs_of_an_ice_chart_keep_their_kinds(tmp_path: Path) -> None:
    package = ice_chart_package(tmp_path / "model")
    assert [(output.name, output.kind, output.planes) for output in package.outputs] == [
        ("concentration", "quantity", 1),
        ("stage", "classes", 6),
        ("floe", "classes", 4),
    ]
    assert (package.output("concentration").unit, package.output("concentration").range) == ("%", (0.0, 100.0))
    assert package.output("floe").legend.codes == (22, 30, 31, 32)


def test_opening_needs_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = constant_package(tmp_path / "model", ["red"], 0, 2)

    def blocked(*_: object, **__: object) -> None:
        raise AssertionError("a package must not touch the network")

    monkeypatch.setattr(socket, "socket", blocked)
    monkeypatch.setattr(socket, "create_connection", blocked)
    assert ModelPackage.open(package.path).onnx


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.ckpt", "model.zip", "model"])
def test_pickle_is_refused_and_never_runs(tmp_path: Path, name: str) -> None:
    mark, file = tmp_path / "ran", tmp_path / name
    file.write_bytes(pickle.dumps(Bomb(mark)))
    assert "pickle" in refused(file)
    assert not mark.exists()


def test_zip_that_torch_saved_is_refused_as_a_pickle(tmp_path: Path) -> None:
    mark, file = tmp_path / "ran", tmp_path / "model.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(mark)))
    assert "pickle" in refused(file)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..\\x", "C:/x"])
def test_zip_with_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    archive_path = constant_package(tmp_path / "model.zip", ["red"], 0, 2).path
    with zipfile.ZipFile(archive_path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    assert "leads out of the package" in refused(archive_path)


def test_metadata_that_names_a_file_outside_is_refused(tmp_path: Path) -> None:
    package = constant_package(tmp_path / "model", ["red"], 0, 2).path
    (tmp_path / "secret").write_bytes(b"x")
    file = package / "model.json"
    item = json.loads(file.read_text())
    item["assets"]["../secret"] = {"href": "./../secret", "file:checksum": "1220" + "0" * 64}
    file.write_text(json.dumps(item))
    assert "outside the package" in refused(package)


def test_link_that_leads_out_of_the_package_is_refused(tmp_path: Path) -> None:
    package = constant_package(tmp_path / "model", ["red"], 0, 2).path
    (package / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    try:
        (package / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    except OSError:
        pytest.skip("this system lets this user make no links")
    assert "link" in refused(package)


@pytest.mark.parametrize("name", ["model.onnx", "README.md"])
def test_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    package = constant_package(tmp_path / "model", ["red"], 0, 2).path
    with (package / name).open("ab") as stream:
        stream.write(b" ")
    assert name in refused(package)


def test_file_changed_after_opening_is_not_used(tmp_path: Path) -> None:
    package = constant_package(tmp_path / "model", ["red"], 0, 2)
    (package.path / "model.onnx").write_bytes(b"another network")
    with pytest.raises(PackageError, match="damaged or was changed"):
        _ = package.onnx


def test_zip_with_any_damaged_byte_is_refused(tmp_path: Path) -> None:
    archive = constant_package(tmp_path / "model.zip", ["red"], 0, 2).path
    whole = archive.read_bytes()
    for place in np.linspace(200, len(whole) - 30, 40).astype(int):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            opened = ModelPackage.open(archive)
        except PackageError:
            continue
        assert opened.onnx, "what opens in spite of the damage holds the right bytes: the damage lies in a date or an attribute"


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncated_zip_is_refused(tmp_path: Path, keep: float) -> None:
    archive = constant_package(tmp_path / "model.zip", ["red"], 0, 2).path
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(keep * len(whole))])
    refused(archive)


def test_other_format_version_is_refused(tmp_path: Path) -> None:
    package = constant_package(tmp_path / "model", ["red"], 0, 2).path
    edit(package, **{"geoseg:package_version": "2"})
    assert "version '2'" in refused(package)


@pytest.mark.parametrize(
    ("field", "value"),
    [("geoseg:tile", "large"), ("geoseg:tile", -4), ("geoseg:outputs", []), ("geoseg:pixel_size_m", None), ("geoseg:nonsense", 1)],
)
def test_wrong_field_is_named(tmp_path: Path, field: str, value: object) -> None:
    package = constant_package(tmp_path / "model", ["red"], 0, 2).path
    edit(package, **{field: value})
    said = refused(package)
    assert "damaged" in said
    assert field.removeprefix("geoseg:").rstrip("s").replace("_", " ").split()[0] in said


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"properties": {}, "assets": {}}', "null", "\x00\x01", "[" * 200_000],
    ids=["empty", "cut", "list", "object", "no version", "null", "bytes", "too deep"],
)
def test_metadata_that_is_no_package_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.json").write_text(content)
    assert str(tmp_path) in refused(tmp_path)


def test_zip_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", b" " * (20 << 20))
    assert (tmp_path / "model.zip").stat().st_size < 100_000
    assert "more than" in refused(tmp_path / "model.zip")


def test_path_that_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scene.tif").write_bytes(b"II*\0")
    assert "there is no model package" in refused(tmp_path / "absent")
    assert "no model package" in refused(tmp_path / "scene.tif")
    assert "has no model.json" in refused(tmp_path)
    assert "downloads no models" in refused("https://example.org/model.zip")


def test_package_is_never_written_over(tmp_path: Path) -> None:
    constant_package(tmp_path / "model", ["red"], 0, 2)
    with pytest.raises(PackageError, match="exists already"):
        constant_package(tmp_path / "model", ["red"], 1, 2)


def test_package_without_a_network_is_not_written(tmp_path: Path) -> None:
    output = Output.from_legend("classes", Legend.from_names(["land"]))
    with pytest.raises(PackageError, match="no network"):
        write_package(tmp_path / "model", describe(["red"], [output]), onnx=None)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="disk is full"):
        constant_package(tmp_path / "model", ["red"], 0, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"tile": 65, "stride": 2},
        {"overlap": 64},
        {"pixel_size_m": 30.0},
        {"name": "No Spaces"},
        {"licence": "free for all"},
        {"title": " "},
    ],
)
def test_inconsistent_description_is_refused(changes: dict[str, object]) -> None:
    output = Output.from_legend("classes", Legend.from_names(["land", "water"]))
    with pytest.raises(PackageError):
        describe(["red"], [output], **changes)


def test_description_needs_outputs_with_names_of_their_own() -> None:
    output = Output.from_legend("classes", Legend.from_names(["land", "water"]))
    for outputs in ([], [output, output]):
        with pytest.raises(PackageError, match="at least one output"):
            describe(["red"], outputs)


def test_quantity_needs_unit_and_range() -> None:
    with pytest.raises(PackageError, match="unit and a range"):
        Output(name="depth", kind="quantity", unit="m")
    with pytest.raises(PackageError, match="no legend"):
        _ = Output(name="depth", kind="quantity", unit="m", range=(0, 10)).legend


def test_card_names_bands_classes_figures_and_labels(tmp_path: Path) -> None:
    figure = Figure(name="IoU of water", value=0.8125, on="the east half | of a flood", by="hand-labelled")
    package = constant_package(
        tmp_path / "model",
        ["vv"],
        0,
        2,
        legend=Legend.from_names(["land", "open water"]),
        preparation=preparation_for(["vv"]),
        figures=(figure,),
        labels="rule-made: NDWI > 0",
        trained_bbox=(-5, 50, -3, 52),
    )
    card = package.read("README.md").decode()
    for expected in ("gamma0_rtc", "open water", "0.8125", "hand-labelled", "rule-made", "flood", "-5, 50, -3, 52", "MIT", "uncalibrated"):
        assert expected in card

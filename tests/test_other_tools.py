"""Which other tool reads which of our files: each row of the README's table, opened by that tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
PREDICT = ("predict", "scene.tif", "--sensor", "generic", "--model", "model", "--vectors", "parquet,fgb", "-o", "out")
IN_QGIS = "QGIS"  # the real one, by `make test-qgis`


def gdal_info(path: Path) -> None:
    told = run("gdalinfo", "-json", path)
    assert told["driverShortName"] == "GTiff"
    assert told["bands"][0]["colorInterpretation"] == "Palette"


def gdal_features(path: Path) -> None:
    program = shutil.which("ogrinfo") or pytest.skip("GDAL's own programs are not installed")
    told = subprocess.run([program, "-so", "-al", path], capture_output=True, text=True, check=True).stdout
    assert f"Feature Count: {len(outlines(path))}" in told


def run(program: str, *words: object) -> dict:
    found = shutil.which(program) or pytest.skip("GDAL's own programs are not installed")
    return json.loads(subprocess.run([found, *map(str, words)], capture_output=True, text=True, check=True).stdout)


def outlines(path: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_file(path.with_suffix(".gpkg"), layer="polygons")


def by_rasterio(path: Path) -> None:
    with rasterio.open(path) as file:
        assert set(np.unique(file.read(1))) <= {0, 1, file.nodata}
        assert file.colormap(1)[1][3] == 255


def by_rioxarray(path: Path) -> None:
    rioxarray = pytest.importorskip("rioxarray")
    array = rioxarray.open_rasterio(path)
    assert (array.rio.crs.to_epsg(), array.rio.nodata) == (32632, 255)


def by_cogeo(path: Path) -> None:
    ok, errors, _ = pytest.importorskip("rio_cogeo.cogeo").cog_validate(path)
    assert ok, errors


def by_geopandas(path: Path) -> None:
    frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    assert sorted(frame.area_m2) == sorted(outlines(path).area_m2)


def by_pyarrow(path: Path) -> None:
    from pyarrow import parquet

    assert parquet.read_table(path, columns=["class_name"]).num_rows == len(outlines(path))


def by_pystac(path: Path) -> None:
    pystac = pytest.importorskip("pystac")
    if path.name == "collection.json":
        assert [item.id for item in pystac.Collection.from_file(str(path)).get_items(recursive=True)] == ["scene"]
        return
    item = pystac.Item.from_file(str(path))
    item.make_asset_hrefs_absolute()
    assert all(Path(asset.href).exists() for asset in item.assets.values())


def by_onnxruntime(path: Path) -> None:
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.run(None, {session.get_inputs()[0].name: np.ones((1, 1, 64, 64), np.float32)})[0].shape[-2:] == (64, 64)


def by_openvino(path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    assert len(openvino.Core().read_model(path).outputs) == 1


ROWS: dict[str, tuple[str, dict[str, Callable[[Path], None]]]] = {
    "`SCENE_classes.tif`": (
        "out/scene_classes.tif",
        {"GDAL": gdal_info, "rasterio": by_rasterio, "rioxarray": by_rioxarray, "rio-cogeo": by_cogeo},
    ),
    "`SCENE.gpkg`": ("out/scene.gpkg", {"GDAL": gdal_features, "geopandas": by_geopandas}),
    "`SCENE.parquet` (`--vectors parquet`)": ("out/scene.parquet", {"geopandas": by_geopandas, "pyarrow": by_pyarrow}),
    "`SCENE.fgb` (`--vectors fgb`)": ("out/scene.fgb", {"GDAL": gdal_features, "geopandas": by_geopandas}),
    "`SCENE.qgz`": ("out/scene.qgz", {}),
    "`SCENE.json`": ("out/scene.json", {"pystac": by_pystac}),
    "`collection.json` (`geoseg stac`)": ("out/collection.json", {"pystac": by_pystac}),
    "a model package": ("model/model.json", {"pystac": by_pystac}),
    "`geoseg export --to onnx`": ("net.onnx", {"ONNX Runtime": by_onnxruntime}),
    "`geoseg export --to openvino`": ("net.xml", {"OpenVINO": by_openvino}),
}
"""First cell of the README's row → the file, and tool → what opens it there."""
ELSEWHERE = {"QGIS": "tests/qgis", "GeoDeep": "tests/test_graph_export.py"}
"""Tools whose check stands in a file of its own."""


def table() -> dict[str, list[str]]:
    """File → tools, from the README."""
    section = README.split("### Which tool reads what")[1].split("\n#")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, flags=re.MULTILINE)
    return {file: [tool.strip() for tool in tools.split(",")] for file, tools in rows if file not in ("file", "---")}


def test_the_table_says_what_is_checked_here():
    checked = {file: list(tools) for file, (_, tools) in ROWS.items()}
    told = {file: [tool for tool in tools if tool not in ELSEWHERE] for file, tools in table().items()}
    assert {file: tools for file, tools in told.items() if tools or file in ROWS} == checked
    root = Path(__file__).resolve().parents[1]
    assert all((root / path).exists() for path in ELSEWHERE.values())


@pytest.fixture
def files(geoseg, place: Path) -> Path:
    assert geoseg(*PREDICT).code == 0
    assert geoseg("stac", "out").code == 0
    return place


@pytest.mark.parametrize(("file", "tool"), [(file, tool) for file, (_, tools) in ROWS.items() for tool in tools])
def test_the_tool_opens_the_file(geoseg, files, file, tool):
    path, readers = ROWS[file]
    if (export := re.search(r"--to (\w+)", file)) is not None:
        pytest.importorskip("openvino" if export[1] == "openvino" else "onnx")
        assert geoseg("export", "model", "--to", export[1], "--scenes", "scene.tif", "--sensor", "generic", "-o", path).code == 0
    readers[tool](files / path)

"""A package for other programs: one ONNX or OpenVINO file that takes a scene's own numbers, and how well it agrees with our maps.

Deepness (https://qgis-plugin-deepness.readthedocs.io), QGIS's plugin for ONNX, reads what it needs from the file's metadata, each value as
JSON, and divides every number by 255, whatever its type; the graph multiplies by 255 first. It knows no nodata: where a band has none, all
scores are 0, and the plugin shows the first class.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoseg import __version__
from geoseg.errors import PackageError, SceneError, require
from geoseg.io.atomic import atomic
from geoseg.io.opening import opened
from geoseg.models.fit import check_fit
from geoseg.models.package import ModelPackage
from geoseg.models.prepared_graph import INPUT, SCORES, Stored, output_of, prepared_graph
from geoseg.preprocess.prepare import prepare
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.scene import Scene, read_scene

Target = Literal["onnx", "openvino", "deepness"]
ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "deepness": ".onnx"}
LEAST_AGREEMENT = 0.999
"""Of pixels on which the file and the package have the same class; a file that agrees on fewer is not written."""
_MOST_TILES = 16
_DIVIDED_BY = 255.0
"""Every number, by Deepness."""


@dataclass(frozen=True)
class GraphParity:
    """How well an exported file agrees with the package on real tiles."""

    tiles: int
    pixels: int
    """With data, of all tiles."""
    agreement: float
    """Share of them with the same class, 0…1."""
    largest_difference: float
    """Of any score."""


@dataclass(frozen=True)
class GraphExport:
    """The files that were written, and the proof."""

    files: tuple[Path, ...]
    parity: GraphParity
    bands: tuple[str, ...]
    """What each band of the input is, in order; empty for those that are not read."""
    warnings: tuple[str, ...]


def export_graph(package: ModelPackage, scene: Scene, out: str | Path, *, to: Target) -> GraphExport:
    """Write the package at `out` for programs that give it the bands of `scene`'s file as they are stored, in the file's order.

    Beside it stands `…_parity.json`: classes and scores of at most 16 tiles of the scene, by the file and by the package. Raises
    PackageError for what such a file cannot do, or where fewer than 99.9 % of the pixels agree; SceneError for bands in several files,
    since the other program sees one; and what does not fit otherwise.
    """
    out = Path(out)
    if out.suffix != ENDINGS[to]:
        raise PackageError(f"{out} was given for {to}; expected a name that ends in {ENDINGS[to]}")
    path, stored, planes = _layout(package, scene)
    warnings = check_fit(package, scene, geobox=scene.geobox([need.role for need in package.preparation.bands]))
    fixed = package.tile if to == "deepness" else None
    model = prepared_graph(package, stored, planes, tile=fixed, divided_by=_DIVIDED_BY if to == "deepness" else 1.0)
    metadata = _metadata(package, scene, stored, planes) | (_for_deepness(package, planes) if to == "deepness" else {})
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value, ensure_ascii=False)
    graph: bytes = model.SerializeToString()
    parity = _parity(package, scene, path, graph, as_deepness=to == "deepness")
    if parity.agreement < LEAST_AGREEMENT:
        raise PackageError(
            f"the exported network has the same class on {100 * parity.agreement:.2f} % of {parity.pixels:,} pixels; expected at least "
            f"{100 * LEAST_AGREEMENT:g} %: nothing was written; map with geoseg predict"
        )
    report = json.dumps({"to": to, "package": package.checksum, "scene": scene.name, **asdict(parity)}, indent=2) + "\n"
    files = _write_openvino(graph, metadata, out) if to == "openvino" else _write(out, graph)
    beside = out.with_name(f"{out.stem}_parity.json")
    _write(beside, report.encode())
    by_plane = {one.plane: need.role for one, need in zip(stored, package.preparation.bands, strict=True)}
    return GraphExport((*files, beside), parity, tuple(by_plane.get(plane, "") for plane in range(planes)), tuple(warnings))


def _layout(package: ModelPackage, scene: Scene) -> tuple[str, list[Stored], int]:
    """The one file of the bands that the package reads, what each means, and how many bands the file has."""
    layers = [scene.layer(need.role) for need in package.preparation.bands]
    if computed := [layer.band.role for layer in layers if layer.reader is not None]:
        raise SceneError(
            f"{computed[0]} of {scene.source} is computed while it is read, which another program cannot; write it as a GeoTIFF first"
        )
    paths = list(dict.fromkeys(layer.path for layer in layers))
    if len(paths) > 1:
        raise SceneError(
            f"the bands lie in {len(paths)} files, and the other program sees one; stack them, for example with: gdalbuildvrt -separate "
            "-resolution highest stack.vrt " + " ".join(f"FILE_OF_{layer.band.role}" for layer in layers)
        )
    with opened(paths[0]) as file:
        kinds, planes = [np.dtype(dtype).kind for dtype in file.dtypes], file.count
    return paths[0], [Stored(layer.index - 1, layer.band, kinds[layer.index - 1] in "iu") for layer in layers], planes


def _metadata(package: ModelPackage, scene: Scene, stored: Sequence[Stored], planes: int) -> dict[str, Any]:
    """What a person or a program may want to know of the file."""
    read = {one.plane: need.role for one, need in zip(stored, package.preparation.bands, strict=True)}
    return {
        "name": package.title,
        "description": package.description,
        "author": package.attribution,
        "licence": package.licence,
        "restriction": package.restriction,
        "geoseg_version": __version__,
        "geoseg_package": package.checksum,
        "geoseg_input": {"sensor": scene.sensor.name, "bands": [read.get(plane) for plane in range(planes)], "numbers": "as stored"},
        "class_codes": {str(one.index): one.code for one in output_of(package).classes},
        "class_colours": {str(one.index): one.colour for one in output_of(package).classes},
    }


def _for_deepness(package: ModelPackage, planes: int) -> dict[str, Any]:
    """What the plugin reads."""
    return {
        "model_type": "Segmentor",
        "class_names": {str(one.index): one.name for one in output_of(package).classes},
        "resolution": round(100 * package.pixel_size_m, 4),
        "tile_size": package.tile,
        "tiles_size": package.tile,
        "tiles_overlap": round(100 * package.overlap / package.tile),
        "standardization_mean": [0.0] * planes,
        "standardization_std": [1.0] * planes,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }


def _parity(package: ModelPackage, scene: Scene, path: str, graph: bytes, *, as_deepness: bool) -> GraphParity:
    """The file as the other program runs it, against the package, tile by tile."""
    session = require("onnxruntime", extra="train").InferenceSession(graph, providers=["CPUExecutionProvider"])
    runtime, output = open_runtime(package), output_of(package)
    tiles = pixels = same = 0
    largest = 0.0
    for numbers, prepared, observed in _tiles(package, scene, path):
        numbers = numbers / np.float32(_DIVIDED_BY) if as_deepness else numbers
        (theirs,) = session.run([SCORES], {INPUT: numbers[np.newaxis].astype(np.float32)})
        ours = runtime(prepared[np.newaxis])[output.name]
        tiles, pixels = tiles + 1, pixels + int(observed.sum())
        same += int((theirs[0].argmax(axis=0) == ours[0].argmax(axis=0))[observed].sum())
        largest = max(largest, float(np.abs(theirs[0] - ours[0])[:, observed].max(initial=0)))
    if not pixels:
        raise SceneError(f"{scene.source} has no pixel with data in the tiles that were looked at; give a scene with data to compare with")
    return GraphParity(tiles, pixels, same / pixels, largest)


def _tiles(package: ModelPackage, scene: Scene, path: str) -> Iterator[tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_]]]:
    """(band, row, col) numbers as stored, (channel, row, col) prepared, and (row, col) where there is data, of tiles all over the scene."""
    roles = [need.role for need in package.preparation.bands]
    grid, tile = scene.geobox(roles), package.tile
    corners = [(row, col) for row in range(0, grid.shape[0], tile) for col in range(0, grid.shape[1], tile)]
    for row, col in corners[:: -(-len(corners) // _MOST_TILES)]:
        here = grid[row : min(row + tile, grid.shape[0]), col : min(col + tile, grid.shape[1])]
        inside = (slice(None), slice(here.shape[0]), slice(here.shape[1]))
        prepared = prepare(read_scene(scene, roles, here), package.preparation)
        with opened(path) as file:
            stored = file.read(window=rasterio.windows.Window(col, row, here.shape[1], here.shape[0]))
        numbers = np.zeros((len(stored), tile, tile), np.float32)
        image = np.zeros((len(prepared.values), tile, tile), np.float32)
        observed = np.zeros((tile, tile), bool)
        numbers[inside], image[inside], observed[inside[1:]] = stored, prepared.values, prepared.valid_everywhere
        yield numbers, image, observed


def _write(path: Path, data: bytes) -> tuple[Path, ...]:
    with atomic(path) as part:
        part.write_bytes(data)
    return (path,)


def _write_openvino(graph: bytes, metadata: dict[str, Any], out: Path) -> tuple[Path, ...]:
    """The intermediate representation: structure (.xml) and weights (.bin)."""
    import io
    import tempfile

    openvino = require("openvino", extra="openvino")
    model = openvino.convert_model(io.BytesIO(graph))
    for key, value in metadata.items():
        model.set_rt_info(json.dumps(value, ensure_ascii=False), ["model_info", key])
    with tempfile.TemporaryDirectory() as place:
        openvino.save_model(model, Path(place) / "model.xml", compress_to_fp16=False)
        made = [(out.with_suffix(ending), (Path(place) / f"model{ending}").read_bytes()) for ending in (".bin", ".xml")]
    return tuple(path for name, data in made for path in _write(name, data))

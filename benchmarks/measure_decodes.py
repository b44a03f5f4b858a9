"""How often `geoseg predict` reads each byte of an ortho, and its peak memory beside what it announces, for the layouts of orthos.

Run `python benchmarks/measure_decodes.py [--rows 4096] [--cols 20000] [--layouts strips jpeg …]`. Every run is a process of its own. A
file that counts stands between GDAL and the disk: GDAL reads a block's bytes each time it decodes it, so bytes read, divided by the
file's size, tell how often a block is decoded on average, headers included. Each layout is mapped at its own pixel size and
averaged to pixels five times larger. Prints a Markdown table and writes benchmarks/results/decodes.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from geoseg.io import validity
from geoseg.mapping import rows
from geoseg.mapping.pipeline import one_ahead

RESULTS = Path(__file__).parent / "results" / "decodes.json"
PIXEL_M = 0.1
TIFF: dict[str, Any] = {"driver": "GTiff", "photometric": "rgb", "interleave": "pixel", "BIGTIFF": "IF_SAFER"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {**TIFF, "count": 4, "tiled": False, "blockysize": 1},
    "strips-by-band": {**TIFF, "count": 4, "tiled": False, "blockysize": 1, "interleave": "band"},
    "lzw-strips": {**TIFF, "count": 4, "tiled": False, "blockysize": 1, "compress": "lzw"},
    "tiles-256": {**TIFF, "count": 4, "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1},
    "tiles-512": {**TIFF, "count": 4, "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1},
    "jpeg": {**TIFF, "count": 3, "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "jpeg", "photometric": "ycbcr"},
    "jp2": {"driver": "JP2OpenJPEG", "count": 3, "REVERSIBLE": "YES", "QUALITY": "100", "BLOCKXSIZE": 1024, "BLOCKYSIZE": 1024},
}
WAYS = {"own pixels": 1, "averaged": 5}
"""How many times larger the package's pixels are than the ortho's."""


def main(rows: int, cols: int, layouts: list[str]) -> None:
    """Measure each layout in both ways; print and write what came out."""
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for factor in WAYS.values():
            write_package(folder / f"model{factor}", PIXEL_M * factor)
        for layout in layouts:
            ortho = folder / f"{layout}.{'jp2' if layout == 'jp2' else 'tif'}"
            _run("--write", layout, ortho, rows, cols)  # apart, since a child's peak counts from its parent's
            for way, factor in WAYS.items():
                told = _run("--one", ortho, folder / f"model{factor}", folder / f"map_{layout}_{factor}")
                runs.append({"layout": layout, "way": way, **json.loads(told.splitlines()[-1])})
                print(row(runs[-1]), file=sys.stderr)
            ortho.unlink()
    print(table(runs))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"rows": rows, "cols": cols, "runs": runs}, indent=2) + "\n", encoding="utf-8")


def _run(*words: object) -> str:
    """This file in a process of its own; what it prints."""
    return subprocess.run([sys.executable, __file__, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True).stdout


def write_ortho(path: Path, rows: int, cols: int, **profile: Any) -> None:
    """Grain over slow waves of colour, transparent left of a slanted edge, as the border of a flight is; band 4 is alpha, else a mask."""
    rng = np.random.default_rng(0)
    count = profile.pop("count")
    place = {"crs": "EPSG:32636", "transform": Affine(PIXEL_M, 0, 450_000, 0, -PIXEL_M, 40_000), "height": rows, "width": cols}
    whole = np.zeros((count, rows, cols), np.uint8) if profile["driver"] == "JP2OpenJPEG" else None
    with (
        rasterio.Env(GDAL_CACHEMAX=256, GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **place, **profile, dtype="uint8", count=count) as file,
    ):
        file.colorinterp = [rasterio.enums.ColorInterp[name] for name in ("red", "green", "blue", "alpha")[:count]]
        for top in range(0, rows, 512):
            down = np.arange(top, min(top + 512, rows))
            part = 120 + 60 * np.sin(down[:, None] / 300) * np.cos(np.arange(cols) / 500) + rng.integers(-3, 4, (3, len(down), cols))
            inside = np.broadcast_to(np.arange(cols) >= down[:, None] // 8, part.shape[1:])
            image = np.concatenate([part * inside, 255 * inside[None]])[:count].astype(np.uint8)
            window = Window(0, top, cols, len(down))
            if whole is not None:
                whole[:, top : top + 512] = image
            else:
                file.write(image, window=window)
                if count == 3:
                    file.write_mask(inside, window=window)
        if whole is not None:
            file.write(whole)


def write_package(folder: Path, pixel_m: float) -> None:
    """A package whose network calls what is bright class 1; it reads one pixel and costs next to nothing."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from geoseg.legend import Legend
    from geoseg.models import package
    from geoseg.preprocess.prepare import BandNeed, Channel, Preparation

    roles = ("red", "green", "blue")
    planes = [("image", 3), ("classes", 2)]
    image, classes = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", count, "row", "col"]) for name, count in planes)
    tensors = {"weights": np.array([[0, 0, 0], [1, 1, 1]], np.float32)[:, :, None, None], "bias": np.array([360, 0], np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["classes"], axis=1),
    ]
    stored = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    graph = helper.make_graph(nodes, "bright", [image], [classes], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    bands = tuple(BandNeed(role=role, unit="1") for role in roles)
    description = package.ModelDescription(
        name="bright", title="Bright", description="Bright ground; it maps nothing real.", licence="MIT",
        preparation=Preparation(bands=bands, channels=tuple(Channel(name=role) for role in roles)),
        outputs=(package.Output.from_legend("classes", Legend.from_names(["dark", "bright"])),),
        pixel_size_m=pixel_m, pixel_size_range_m=(pixel_m * 0.9, pixel_m * 1.1), tile=512, overlap=64, stride=1,
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    package.write_package(folder, description, onnx=model.SerializeToString())


def map_one(ortho: str, model: str, out: str, crs: str | None = None) -> None:
    """Map one ortho in this process, counting; prints the figures as JSON."""
    import resource

    from geoseg import ModelPackage, make_map, open_scene
    from geoseg.mapping.plan import MapOptions, plan_map

    with CountedReads(Path(ortho)) as reads:
        scene, package = open_scene(ortho), ModelPackage.open(model)
        options = MapOptions(min_area_m2=10, crs=crs)
        announced = plan_map(scene, package, options).memory_mb()
        made = make_map(scene, package, Path(out), options=options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    figures = {"decodes": reads.ratio, "announced_mb": announced, "peak_mb": peak, "seconds": made.summary["seconds"]}
    print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}))


class CountedReads:
    """Inside this block, what GDAL reads of one file is counted."""

    def __init__(self, path: Path) -> None:
        self._path, self._open, self._identity = path, rasterio.open, validity._identity
        self.bytes = 0

    @property
    def ratio(self) -> float:
        """How often each byte of the file was read, on average."""
        return self.bytes / self._path.stat().st_size

    def __enter__(self) -> CountedReads:
        def counting_open(path: Any, mode: str = "r", **words: Any) -> Any:
            same = mode == "r" and str(path) == str(self._path)
            return self._open(path, mode, **words, **({"opener": self._counted} if same else {}))

        rasterio.open = counting_open
        rows.one_ahead = lambda windows: windows  # rasterio's Python openers cannot be used from several threads
        validity._identity = lambda dataset: (str(self._path), 0, 0)  # the counted file has another name each time it is opened
        return self

    def __exit__(self, *_: object) -> None:
        rasterio.open, validity._identity, rows.one_ahead = self._open, self._identity, one_ahead

    def _counted(self, path: str, mode: str = "rb", **_: Any) -> _CountedFile:
        return _CountedFile(path, self._count)

    def _count(self, length: int) -> None:
        self.bytes += length


class _CountedFile:
    """A file for reading that tells how much is read."""

    def __init__(self, path: str, tell: Callable[[int], None]) -> None:
        self._file, self._told = FileIO(path), tell

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(size)
        self._told(len(part))
        return part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _CountedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def row(run: dict[str, Any]) -> str:
    """One run as a row of the table."""
    figures = [f"{run['decodes']:.2f}", *(f"{run[name]:.0f}" for name in ("peak_mb", "announced_mb", "seconds"))]
    return f"| {' | '.join((run['layout'], run['way'], *figures))} |"


def table(runs: list[dict[str, Any]]) -> str:
    """The figures in Markdown."""
    head = ["| layout | mapped at | each byte read | peak MB | announced MB | s |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    return "\n".join([*head, *map(row, runs)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How often geoseg predict decodes each block of an ortho.")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--cols", type=int, default=20_000)
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=list(LAYOUTS))
    parser.add_argument("--one", nargs=3, metavar=("ORTHO", "MODEL", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=4, metavar=("LAYOUT", "ORTHO", "ROWS", "COLS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        map_one(*given.one)
    elif given.write:
        layout, ortho, *shape = given.write
        write_ortho(Path(ortho), *map(int, shape), **LAYOUTS[layout])
    else:
        main(given.rows, given.cols, given.layouts)

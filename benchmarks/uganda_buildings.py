"""Building outlines on a drone ortho of Uganda: what squaring recovers of true footprints, and what a small network counts.

Run `python benchmarks/uganda_buildings.py FOLDER [outlines] [network]`; FOLDER holds the tiles `OAM-x-y-z.png` and `labels.geojson`
(206 footprints of OpenStreetMap on imagery of OpenAerialMap). Two questions:

1. `outlines`: the footprints are burned at 0.07, 0.15 and 0.30 m, their edges left as they are or made ragged as a network's are (blurred,
   noise added, cut at one half; three seeds), traced, simplified or squared, and compared with the footprints.
2. `network` (needs the extra `train`; minutes): a small network learns from one part of the tiles at 0.30 m, without weights
   from elsewhere, and is judged on the other, three seeds. It has one output, so what it maps are blocks of buildings.

Prints what came out and writes benchmarks/results/uganda_buildings.json.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import rasterio
import shapely
from affine import Affine
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter

from geoseg.legend import Legend
from geoseg.mapping.shapes import BLOCKS
from geoseg.polygons.objects import ObjectScore, match_objects
from geoseg.polygons.outlines import trace_polygons

if TYPE_CHECKING:
    from geoseg.mapping.plan import MapOptions
    from geoseg.models.package import ModelPackage

RESULTS = Path(__file__).parent / "results" / "uganda_buildings.json"
LEGEND = Legend.from_names(["ground", "building"])
MERCATOR, HALF_WORLD_M = "EPSG:3857", 20037508.342789244
TILE = 256
SEEDS = (0, 1, 2)
EDGE_BLUR, NOISE_WIDTH, NOISE = 2.0, 2.0, 0.15
"""Pixels, pixels and share of the step from ground to roof: edges wander by about a pixel."""
TRAIN_COLS, ZOOM = 2, 19
"""The first two columns of tiles of the larger piece of ground are learned from, at 0.30 m."""
TRAINING: Mapping[str, Any] = {
    "tile": 96, "block": 128, "guard": 8, "batch": 8, "draws": 160, "epochs": 8, "patience": 8, "validation": 0.15, "test": 0.1,
    "network": {"decoder_channels": [48, 32, 24, 16, 16]},
}  # fmt: skip
MIN_AREA_M2 = 4.0


def main(folder: Path, questions: Sequence[str]) -> None:
    """Answer these questions; print what is known of both and write it down."""
    truth = footprints(folder)
    answers: dict[str, Any] = {"footprints": len(truth)}
    if "outlines" in questions:
        answers["outlines"] = outlines(truth)
    if "network" in questions:
        answers["network"] = network(folder, truth)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results = {"outlines": "not run", "network": "not run", **known, **answers}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def footprints(folder: Path) -> GeoDataFrame:
    """The true outlines, valid, in the tiles' CRS."""
    frame = geopandas.read_file(folder / "labels.geojson").to_crs(MERCATOR)
    return frame.set_geometry(frame.geometry.make_valid())


# What squaring recovers


def outlines(truth: GeoDataFrame) -> list[dict[str, Any]]:
    """The figures of each pixel size, kind of edge and way of drawing outlines."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for zoom in (21, 20, 19):
            for edges, seeds in (("as they are", (None,)), ("ragged", SEEDS)):
                drawn = [draw(truth, zoom, seed, Path(temporary) / "map.tif") for seed in seeds]
                for way in drawn[0]:
                    each = [one[way] for one in drawn]
                    row = {key: round(float(np.mean([figures[key] for figures in each])), 4) for key in each[0]}
                    spread = round(float(np.ptp([figures["mean_iou"] for figures in each])), 4)
                    rows.append({"pixel_m": round(pixel_m(zoom), 3), "edges": edges, "way": way, **row, "iou_range_over_seeds": spread})
    return rows


def draw(truth: GeoDataFrame, zoom: int, seed: int | None, path: Path) -> dict[str, dict[str, float]]:
    """Way of drawing → its figures, over both pieces of ground."""
    pixel, shapes = pixel_m(zoom), truth.geometry.to_numpy()
    left, bottom, right, top = truth.total_bounds + np.array([-10, -10, 10, 10])
    rows, cols = int((top - bottom) / pixel), int((right - left) / pixel)
    transform = Affine(pixel, 0, left, 0, -pixel, top)
    burned = rasterize(shapes, (rows, cols), transform=transform, fill=0, dtype="uint8")
    if seed is not None:
        noise = gaussian_filter(np.random.default_rng(seed).standard_normal(burned.shape).astype(np.float32), NOISE_WIDTH)
        burned = (gaussian_filter(burned.astype(np.float32), EDGE_BLUR) + NOISE * noise / noise.std() > 0.5).astype(np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", height=rows, width=cols, count=1, dtype="uint8", nodata=255, crs=MERCATOR, transform=transform
    ) as file:
        file.write(burned, 1)
    ways = {"traced": {}, "simplified by a pixel": {"simplify_m": pixel}, "squared": {"square": (1,)}}
    return {way: figures(shapes, trace_polygons(path, LEGEND, **how)) for way, how in ways.items()}


def figures(truth: NDArray[Any], frame: GeoDataFrame) -> dict[str, float]:
    """Count, object F1, overlap and corners of the mapped buildings."""
    mapped = frame[(frame["class_code"] == 1) & (frame["area_m2"] >= MIN_AREA_M2 / 4)]
    score = match_objects(truth, mapped.geometry.to_numpy())
    strict = match_objects(truth, mapped.geometry.to_numpy(), least_iou=0.9)
    corners = shapely.get_num_coordinates(mapped.geometry.to_numpy()) - 1
    return {
        "mapped": score.mapped,
        "f1": score.f1,
        "f1_at_iou_0.9": strict.f1,
        "mean_iou": score.mean_iou,
        "corners_mean": float(corners.mean()),
        "true_corners_mean": float(np.mean(shapely.get_num_coordinates(truth) - 1)),
        "squared_share": float(mapped["squared"].mean()) if "squared" in mapped else 0.0,
    }


# What a small network counts


def network(folder: Path, truth: GeoDataFrame) -> dict[str, Any]:
    """Train on one part of the ground, map and count the other; one entry a seed."""
    from geoseg.mapping.plan import MapOptions
    from geoseg.recipes.supervised import Settings, run
    from geoseg.scenes.open_scene import open_scene

    ways = {"traced": MapOptions(min_area_m2=MIN_AREA_M2), "squared": MapOptions(min_area_m2=MIN_AREA_M2, shape="building")}
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        learned, judged = write_scenes(folder, place)
        labels = burn_labels(learned, truth, place / "labels.tif")
        for seed in SEEDS:
            settings = Settings(name=f"uganda-{seed}", classes=LEGEND.classes, seed=seed, licence="other", **TRAINING)
            package = run(settings, [open_scene(learned, sensor="aerial-rgb")], [str(labels)], place / f"model_{seed}")
            scores = {way: judge(package, judged, truth, options, place / f"map_{seed}_{way}") for way, options in ways.items()}
            runs.append({"seed": seed, **scores})
    return {"pixel_m": round(pixel_m(ZOOM), 3), "settings": dict(TRAINING), "touching": BLOCKS, "runs": runs}


def judge(package: ModelPackage, scenes: Sequence[Path], truth: GeoDataFrame, options: MapOptions, out: Path) -> dict[str, float]:
    """What a package finds on these scenes, of the footprints that lie there by more than half, cut at the scenes' edges."""
    from geoseg.mapping.make_map import make_map
    from geoseg.scenes.open_scene import open_scene

    total, squared = ObjectScore(0, 0, 0), 0
    for path in scenes:
        made = make_map(open_scene(path, sensor="aerial-rgb"), package, out, options=options)
        frame = geopandas.read_file(made.files["classes_polygons"], layer="polygons")
        found = frame[frame["class_name"] == "building"]
        inside = truth.geometry.intersection(bounds(path))
        total += match_objects(inside[inside.area > truth.area / 2].to_numpy(), shapely.get_parts(found.geometry.to_numpy()))
        squared += int(found["squared"].sum()) if "squared" in found else 0
    return score_figures(total) | {"squared": squared}


def score_figures(score: ObjectScore) -> dict[str, float]:
    """An object score in plain numbers."""
    names = ("precision", "recall", "f1", "mean_iou")
    counts = {"true": score.true, "mapped": score.mapped, "matched": score.matched}
    return counts | {name: round(getattr(score, name), 3) for name in names}


def write_scenes(folder: Path, out: Path) -> tuple[Path, list[Path]]:
    """The tiles of one zoom as GeoTIFFs: what is learned from, and what is judged on; no tile is in both."""
    tiles = {name: path for path in folder.glob("OAM-*.png") if (name := tile_name(path))[2] == ZOOM}
    first = sorted({x for x, _, _ in tiles})
    larger = [x for x in first if sum(name[0] == x for name in tiles) > 1]
    parts = {"learned": larger[:TRAIN_COLS], "judged": larger[TRAIN_COLS:], "judged_too": [x for x in first if x not in larger]}
    paths = [
        write_mosaic({name: path for name, path in tiles.items() if name[0] in cols}, out / f"{part}.tif") for part, cols in parts.items()
    ]
    return paths[0], paths[1:]


def write_mosaic(tiles: Mapping[tuple[int, int, int], Path], path: Path) -> Path:
    """These tiles as one GeoTIFF of red, green, blue and alpha."""
    (left, top, _), pixel = np.min(list(tiles), axis=0).tolist(), pixel_m(ZOOM)
    right, bottom, _ = np.max(list(tiles), axis=0).tolist()
    transform = Affine(pixel, 0, left * TILE * pixel - HALF_WORLD_M, 0, -pixel, HALF_WORLD_M - top * TILE * pixel)
    shape = {"height": (bottom - top + 1) * TILE, "width": (right - left + 1) * TILE, "count": 4, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs=MERCATOR, transform=transform, photometric="rgb", alpha="yes", **shape) as file:
        for (x, y, _), source in tiles.items():
            with rasterio.open(source) as tile:
                window = rasterio.windows.Window((x - left) * TILE, (y - top) * TILE, TILE, TILE)
                file.write(tile.read(), window=window)
    return path


def burn_labels(scene: Path, truth: GeoDataFrame, path: Path) -> Path:
    """The footprints on the scene's grid, written to `path`."""
    with rasterio.open(scene) as file:
        burned = rasterize(truth.geometry, file.shape, transform=file.transform, fill=0, dtype="uint8")
        profile = {"height": file.height, "width": file.width, "crs": file.crs, "transform": file.transform}
    with rasterio.open(path, "w", driver="GTiff", count=1, dtype="uint8", nodata=255, **profile) as file:
        file.write(burned, 1)
    return path


def bounds(path: Path) -> shapely.Polygon:
    """The ground of a GeoTIFF."""
    with rasterio.open(path) as file:
        return shapely.box(*file.bounds)


def tile_name(path: Path) -> tuple[int, int, int]:
    """Column, row and zoom of a tile."""
    x, y, zoom = (int(part) for part in re.findall(r"\d+", path.stem))
    return x, y, zoom


def pixel_m(zoom: int) -> float:
    """Size of a tile's pixel at the equator, where this is."""
    return 2 * HALF_WORLD_M / 2**zoom / TILE


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("questions", nargs="*", choices=["outlines", "network"], default=["outlines"])
    given = parser.parse_args()
    main(given.folder, given.questions)

"""How well the published cloud networks find cloud and shadow on three labelled scenes.

    python benchmarks/cloud_models.py FOLDER_OF_CSMASK_FILES FOLDER_OF_LABELLED_SCENES

The first folder is what `geoseg data fetch ukis_csmask` says. The scenes are those of ukis-csmask's own tests (Sentinel-2, Landsat 7,
Landsat 5; 512 x 512 pixels, six bands of reflectance, drawn masks; Apache-2.0), taken as 30 m pixels; whether the networks saw them in
training is not said. Nothing is tuned here. Maps are made as a user makes them. Writes results/cloud_models.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from geoseg.confusion import Confusion
from geoseg.legend import Legend
from geoseg.mapping.make_map import make_map
from geoseg.mapping.plan import MapOptions
from geoseg.models.csmask import package_csmask
from geoseg.scenes.open_scene import open_scene

LEGEND = Legend.from_names(["clear", "cloud", "cloud shadow"])
THEIRS = np.array([2, 0, 0, 0, 1])
"""Shadow, water, snow, land, cloud in the labels → our classes."""
ROLES = ("blue", "green", "red", "nir", "swir16", "swir22")


def main(networks: str, scenes: str) -> None:
    """Score both levels on all scenes and print a table."""
    results: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for level in ("l1c", "l2a"):
            package = package_csmask(networks, folder / level, level=level)
            for path in sorted(Path(scenes).glob("*.npz")):
                held = np.load(path)
                scene = open_scene(write(folder / f"{path.stem}.tif", held["img"]), scale=1.0, unit="reflectance")
                made = make_map(scene, package, folder / "out", options=MapOptions(picture=False), overwrite=True)
                with rasterio.open(made.files["classes"]) as file:
                    guess = file.read(1)
                truth = THEIRS[np.squeeze(held["msk"]).astype(int)]
                figures = Confusion.count(truth[guess != 255], guess[guess != 255], LEGEND).figures()
                iou = {name: round(figure["iou"], 3) for name, figure in figures.items()}
                results.setdefault(package.name, {})[path.stem] = iou
                print(f"{package.name:12} {path.stem:10} {iou}")
    out = Path(__file__).parent / "results" / "cloud_models.json"
    out.write_text(json.dumps({"measure": "IoU", "results": results}, indent=2) + "\n", encoding="utf-8")


def write(path: Path, image: np.ndarray) -> Path:
    """A GeoTIFF of six bands named by role, somewhere on 30 m pixels."""
    planes = np.moveaxis(image.astype(np.float32), -1, 0)
    shape = {"count": len(planes), "height": planes.shape[1], "width": planes.shape[2], "dtype": "float32"}
    place = {"crs": "EPSG:32632", "transform": Affine(30, 0, 500_000, 0, -30, 5_000_000)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
        file.write(planes)
        file.descriptions = ROLES
    return path


if __name__ == "__main__":
    main(*sys.argv[1:])

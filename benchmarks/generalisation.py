"""What learning is worth elsewhere: rows of real and of physically made gaps that need nothing but the data beside this checkout.

    python benchmarks/generalisation.py DATA OUT [--recipe pixel_forest] [--seeds 0 1 2] [-s KEY=VALUE ...] [--only NAME ...]

DATA holds `s1s2_flood_spain` (one flood, Sentinel-1 and Sentinel-2, water drawn by hand) and `clouds_s2_l7_l5` (a scene each of Sentinel-2,
Landsat 7 and Landsat 5, of the same classes). From these, scenes and `table.yaml` are written into OUT, and `geoseg benchmark dg` is run on
the table. On the flood, the west half is learned from and the east half judged on, 32 pixels apart.

- `VV stays` …: no gap, for comparison.
- `VV as VH`, `VH as VV`: the network learned one polarisation and is shown the other.
- `fewer looks`: power times another exponential speckle, which leaves less than one look; `more looks`: mean power of 3 x 3 pixels.
- `coarser`: mean power of 4 x 4 pixels, on the pixels there were.
- `SAR to optical`, `optical to SAR`: VV and VH against near infrared and short-wave infrared, each band brought to mean 0 and spread 1 in
  its own scene, since decibels and reflectance have no unit in common.
- `to Sentinel-2` …: learned on the other two sensors. One scene of each, on other ground: a case, and no claim about sensors. These scenes
  have no place; they are given one each, and pixels of 30 m.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from affine import Affine
from numpy.typing import NDArray

from geoseg.evaluation.generalisation import generalise, markdown
from geoseg.evaluation.generalisation_table import read_table

GAP = 16
NO_LABEL = 255
SENSORS = {"Sentinel-2": "sentinel2", "Landsat 7": "landsat7", "Landsat 5": "landsat5"}
ROLES = ["blue", "green", "red", "nir", "swir16", "swir22"]
NIR, SWIR = 8, 11
"""Numbers of B8 and B11 among the thirteen bands of Sentinel-2, from 1."""
RADAR = {"sensor": "sentinel-1-grd", "unit": "dB"}


def write(path: Path, planes: NDArray[Any], profile: dict[str, Any], nodata: float) -> None:
    """(band, row, col) as a GeoTIFF."""
    shape = {"count": len(planes), "height": planes.shape[1], "width": planes.shape[2], "dtype": planes.dtype, "nodata": nodata}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", crs=profile["crs"], transform=profile["transform"], **shape) as file:
        file.write(planes)


def averaged(power: NDArray[np.float64], edge: int) -> NDArray[np.float64]:
    """(band, row, col): each pixel the mean of the block of `edge` x `edge` pixels in which it lies."""
    bands, rows, cols = power.shape
    blocks = power.reshape(bands, rows // edge, edge, cols // edge, edge).mean(axis=(2, 4))
    return blocks.repeat(edge, axis=1).repeat(edge, axis=2)


def smoothed(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """(band, row, col): each pixel the mean of the nine around it."""
    wide = np.pad(power, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows, cols = power.shape[1:]
    return np.mean([wide[:, row : row + rows, col : col + cols] for row in range(3) for col in range(3)], axis=0)


def standardised(planes: NDArray[np.float64]) -> NDArray[np.float32]:
    """(band, row, col) with mean 0 and spread 1 in each band; NaN stays."""
    mean, spread = (measure(planes, axis=(1, 2), keepdims=True) for measure in (np.nanmean, np.nanstd))
    found: NDArray[np.float32] = ((planes - mean) / spread).astype(np.float32)
    return found


def flood(data: Path, out: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Places and pairs of the flood."""
    folder = data / "s1s2_flood_spain"
    with rasterio.open(folder / "Spain_7370579_S1Hand.tif") as file:
        decibels, profile = file.read().astype(np.float64), file.profile
    with rasterio.open(folder / "Spain_7370579_S2Hand.tif") as file:
        optical = file.read([NIR, SWIR]).astype(np.float64)
    with rasterio.open(folder / "Spain_7370579_LabelHand.tif") as file:
        codes = file.read(1)
    power, rng = 10 ** (decibels / 10), np.random.default_rng(0)
    middle = codes.shape[1] // 2
    for half, cols in (("west", slice(None, middle - GAP)), ("east", slice(middle + GAP, None))):
        kept = np.full(codes.shape, NO_LABEL, np.uint8)
        kept[:, cols] = np.where(codes[:, cols] >= 0, codes[:, cols], NO_LABEL)
        write(out / f"flood_{half}.tif", kept[np.newaxis], profile, NO_LABEL)
    made = {
        "radar": power,
        "fewer_looks": power * rng.exponential(1, power.shape),
        "more_looks": smoothed(power),
        "coarser": averaged(power, 4),
    }
    for name, planes in made.items():
        write(out / f"{name}.tif", (10 * np.log10(np.maximum(planes, 1e-6))).astype(np.float32), profile, np.nan)
    write(out / "plain_radar.tif", standardised(decibels), profile, np.nan)
    write(out / "plain_optical.tif", standardised(optical), profile, np.nan)

    def place(scene: str, half: str, opening: dict[str, Any]) -> dict[str, Any]:
        return {"scenes": f"{scene}.tif", "labels": f"flood_{half}.tif", "opening": opening}

    vv, vh = ({**RADAR, "bands": bands} for bands in (["vv", "-"], ["-", "vh"]))
    shown_vh, shown_vv = ({**RADAR, "bands": bands} for bands in (["-", "vv"], ["vh", "-"]))
    plain = {"sensor": "generic", "bands": ["one", "two"], "unit": "1"}
    places = {
        "VV, west": place("radar", "west", vv),
        "VH, west": place("radar", "west", vh),
        "VV, east": place("radar", "east", vv),
        "VH, east": place("radar", "east", vh),
        "VH shown as VV, east": place("radar", "east", shown_vh),
        "VV shown as VH, east": place("radar", "east", shown_vv),
        **{f"VV, {name.replace('_', ' ')}, east": place(name, "east", vv) for name in ("fewer_looks", "more_looks", "coarser")},
        **{f"{what}, {half}": place(f"plain_{what}", half, plain) for what in ("radar", "optical") for half in ("west", "east")},
    }
    rows = [
        ("VV stays", "VV, west", "VV, east", "none"),
        ("VH stays", "VH, west", "VH, east", "none"),
        ("radar stays", "radar, west", "radar, east", "none"),
        ("optical stays", "optical, west", "optical, east", "none"),
        ("VV as VH", "VV, west", "VH shown as VV, east", "polarisation"),
        ("VH as VV", "VH, west", "VV shown as VH, east", "polarisation"),
        ("fewer looks", "VV, west", "VV, fewer looks, east", "looks"),
        ("more looks", "VV, west", "VV, more looks, east", "looks"),
        ("coarser", "VV, west", "VV, coarser, east", "resolution"),
        ("SAR to optical", "radar, west", "optical, east", "SAR and optical"),
        ("optical to SAR", "optical, west", "radar, east", "SAR and optical"),
    ]
    return places, [dict(zip(("name", "source", "target", "gap"), row, strict=True)) for row in rows]


def clouds(data: Path, out: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Places and pairs of the three sensors: each left out once."""
    for number, (_, file) in enumerate(SENSORS.items()):
        held = np.load(data / "clouds_s2_l7_l5" / f"{file}.npz")
        profile = {"crs": "EPSG:32632", "transform": Affine(30, 0, 500_000, 0, -30, 4_000_000 + 500_000 * number)}
        image = np.squeeze(held["img"])
        image = image if image.shape[0] == len(ROLES) else np.moveaxis(image, -1, 0)
        write(out / f"{file}.tif", image.astype(np.float32), profile, np.nan)
        write(out / f"{file}_labels.tif", np.squeeze(held["msk"]).astype(np.uint8)[np.newaxis], profile, NO_LABEL)
    opening = {"sensor": "generic", "bands": ROLES, "unit": "reflectance"}
    places, pairs = {}, []
    for name, file in SENSORS.items():
        others = [other for other in SENSORS.values() if other != file]
        places[name] = {"scenes": f"{file}.tif", "labels": f"{file}_labels.tif", "opening": opening}
        places[f"not {name}"] = {
            "scenes": [f"{other}.tif" for other in others],
            "labels": [f"{other}_labels.tif" for other in others],
            "opening": opening,
        }
        pairs.append({"name": f"to {name}", "source": f"not {name}", "target": name, "gap": "sensor"})
    return places, pairs


def main() -> None:
    """Write scenes and table, run the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("out", type=Path)
    words.add_argument("--recipe", default="pixel_forest", choices=["pixel_forest", "supervised"])
    words.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    words.add_argument("--only", nargs="+", default=[], metavar="NAME")
    words.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE")
    given = words.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    (places, pairs), (more_places, more_pairs) = flood(given.data, given.out), clouds(given.data, given.out)
    table = {
        "recipe": given.recipe,
        "settings": {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in given.set)},
        "seeds": given.seeds,
        "places": places | more_places,
        "pairs": [pair for pair in pairs + more_pairs if not given.only or pair["name"] in given.only],
    }
    (given.out / "table.yaml").write_text(yaml.safe_dump(table, sort_keys=False), encoding="utf-8")
    made = generalise(read_table(given.out / "table.yaml"), given.out, progress=lambda said: print(said, flush=True))
    print("\n".join(markdown(made)))


if __name__ == "__main__":
    main()

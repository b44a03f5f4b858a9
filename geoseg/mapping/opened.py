"""What a map wrote, opened again: pixels as xarray, outlines as geopandas, the record as pystac."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from geoseg.errors import require
from geoseg.models.package import Output

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from pystac import Item
    from xarray import DataArray


def open_map(path: Path, output: Output | None = None) -> DataArray:
    """A raster of a map (y, x), or (band, y, x) where it has several bands; read when it is used.

    With `output` the attributes say what the numbers are, so that `.geoseg.classes` and `.geoseg.polygons()` work. Scores and what tells
    how unsure they are come in their own unit, NaN where there is nothing, not as the small integers that are stored.
    """
    import rioxarray

    array = cast("DataArray", rioxarray.open_rasterio(path))
    plane = array.squeeze("band", drop=True) if array.sizes["band"] == 1 else array
    if output is None:
        return plane if "scale_factor" not in plane.attrs or plane.attrs["scale_factor"] == 1 else _in_its_unit(path)
    return plane.rename(output.name).assign_attrs(attributes_of(output))


def _in_its_unit(path: Path) -> DataArray:
    import rioxarray

    array = cast("DataArray", rioxarray.open_rasterio(path, mask_and_scale=True))
    return array.squeeze("band", drop=True) if array.sizes["band"] == 1 else array


def open_outlines(path: Path) -> GeoDataFrame:
    """The polygons of a map, with their classes and areas."""
    import geopandas

    frame: GeoDataFrame = geopandas.read_file(path, layer="polygons")
    return frame


def open_item(path: Path) -> Item:
    """The STAC Item of a map, its assets by absolute paths; MissingExtraError where pystac is not installed."""
    item: Item = require("pystac", extra="stac").Item.from_file(str(path.absolute()))
    item.make_asset_hrefs_absolute()
    return item


def attributes_of(output: Output) -> dict[str, Any]:
    """What says of an array what its numbers are: of classes their legend, as the CF conventions have it, and names and colours."""
    if output.kind == "quantity":
        return {"long_name": output.name, "units": output.unit, "_FillValue": np.nan}
    legend = output.legend
    return {
        "long_name": output.name,
        "flag_values": [one.code for one in legend.classes],
        "flag_meanings": " ".join(name.replace(" ", "_") for name in legend.names),
        "class_names": list(legend.names),
        "class_colours": [one.colour for one in legend.classes],
        "_FillValue": legend.nodata,
    }

"""`array.geoseg`: maps, indices, polygons, pictures and figures of xarray arrays, however they were opened.

    import geoseg, rioxarray
    scene = rioxarray.open_rasterio("scene.tif")
    classes = scene.geoseg.predict("my_model", bands=["red", "nir"])
    classes.geoseg.polygons(min_area_m2=500)

`import geoseg` registers it with xarray, before or after xarray itself is imported. Where a lazy (dask) array goes in, a lazy one comes
out. A class map knows its legend by its attributes: `flag_values` and `flag_meanings` as the CF conventions have them, and `class_names`
and `class_colours` beside them, since meanings have no blanks there.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.confusion import Confusion
from geoseg.errors import GeosegError, InputError, require
from geoseg.legend import Legend, LegendClass
from geoseg.mapping.opened import attributes_of
from geoseg.mapping.plan import MapOptions
from geoseg.models.package import ModelPackage
from geoseg.preprocess.indices import get_index, spectral_index
from geoseg.raster import Raster
from geoseg.scene import Scene, read_scene
from geoseg.scenes.arrays import ArrayForm, describe_array, forget, stated_nodata, write_rows
from geoseg.scenes.open_scene import open_scene
from geoseg.sensors import Band

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from xarray import DataArray, Dataset

log = logging.getLogger(__name__)

_OF_VALUES = ("scale_factor", "add_offset", "units", "_FillValue", "missing_value", "nodata", "long_name", "standard_name", "valid_range")
"""Attributes that say what an array's numbers mean, and not what it is of: other numbers do not inherit them."""
_TIMES = ("time", "t", "date")
_SHOWN = (("red", "green", "blue"), ("nir", "red", "green"))
_MOST_SHOWN = 2048
"""Pixels along the longer side of a picture."""


class GeosegAccessor:
    """What `array.geoseg` offers, of a DataArray or a Dataset with one variable for each band."""

    def __init__(self, given: DataArray | Dataset) -> None:
        self._given = given

    def predict(
        self, package: ModelPackage | str | Path, *, scores: bool = False, options: MapOptions | None = None, **opening: Any
    ) -> DataArray | Dataset:
        """The map that a model package makes: an array of class codes (y, x), or (time, y, x) where there are dates, each by itself.

        With `scores` a Dataset of `classes` and `scores` (class, y, x; 0…1). Pixels are those of `geoseg predict`. `opening` are the words
        of `geoseg.open_scene`, such as `sensor="sentinel-2-l2a"` and `bands=["red", "nir"]`, which say what bands without names are.
        Coordinates, CRS and attributes stay. Raises BandError where it is not clear what the bands are.
        """
        from xarray import concat

        package = package if isinstance(package, ModelPackage) else ModelPackage.open(package)
        time = self._time()
        if time is None:
            made: DataArray | Dataset = self._one_date(self._given, package, scores, options, opening)
            return made
        dates = [
            self._one_date(self._given.isel({time: place}), package, scores, options, opening) for place in range(self._given.sizes[time])
        ]
        series: DataArray | Dataset = concat(dates, dim=time)
        return series

    @property
    def classes(self) -> Legend:
        """The legend of a class map, from its attributes; InputError where they do not say."""
        attrs = self._given.attrs
        if not _has_legend(attrs):
            raise InputError(
                f"the array {getattr(self._given, 'name', None)!r} has no legend; a class map has one of its own, or give it attributes "
                "flag_values=[1, 2] and flag_meanings='forest water'"
            )
        if "flag_values" in attrs:
            codes = [int(code) for code in np.atleast_1d(attrs["flag_values"])]
            names = list(attrs.get("class_names", str(attrs.get("flag_meanings", "")).split()))
        else:
            told = json.loads(attrs["CLASS_NAMES"])
            codes, names = [int(code) for code in told], list(told.values())
        if len(names) != len(codes):
            raise InputError(f"the array's legend has {len(codes)} flag_values and {len(names)} names; give one name for each value")
        plain = Legend.from_names([str(name) for name in names])
        colours = attrs.get("class_colours", [one.colour for one in plain.classes])
        triples = enumerate(zip(codes, names, colours, strict=True))
        found = tuple(LegendClass(index, code, str(name), str(colour)) for index, (code, name, colour) in triples)
        return Legend(found, nodata=int(attrs.get("_FillValue", self._given.encoding.get("_FillValue", plain.nodata))))

    def polygons(self, *, min_area_m2: float = 0.0, simplify_m: float = 0.0) -> GeoDataFrame:
        """One polygon for each region of a class map: columns class_code, class_name, area_m2 (on the ground) and geometry.

        Regions smaller than `min_area_m2` go to their neighbours first, outlines may move by `simplify_m` metres, both without gaps.
        """
        from geoseg.polygons.outlines import trace_polygons
        from geoseg.polygons.sieve import sieve

        legend = self.classes
        with tempfile.TemporaryDirectory() as place:
            traced = self._write_codes(Path(place) / "classes.tif", legend)
            if min_area_m2 > 0:
                sieve(traced, Path(place) / "sieved.tif", legend=legend, min_area_m2=min_area_m2)
                traced = Path(place) / "sieved.tif"
            return trace_polygons(traced, legend, simplify_m=simplify_m)

    def index(self, name: str, **opening: Any) -> DataArray:
        """A spectral index (y, x) in physical values, float32 and NaN where it has none: NDVI, NDWI and all others that spyndex knows.

        `opening` as in `predict`. Raises BandError where a band that it needs is not there.
        """
        planes, form, scene, path = self._opened(opening)
        try:
            roles = get_index(name).roles(scene.roles)
            used = [(scene.layer(role).band, scene.layer(role).index - 1) for role in roles]
            grid = form.geobox
            if planes.chunks is None:
                made = spectral_index(name, read_scene(scene, roles, grid))
            else:
                chosen = planes.data[[place for _, place in used]].rechunk({0: -1})
                bands = tuple(band for band, _ in used)
                made = chosen.map_blocks(_index_of_block, name, bands, form.nodata, dtype=np.float32, drop_axis=0)
        finally:
            forget(path)
        return self._like(made, planes, get_index(name).name, {"long_name": get_index(name).name, "_FillValue": np.nan})

    @property
    def valid(self) -> DataArray:
        """Of the array's own shape: True where it has data, by its nodata value and NaN."""
        from xarray import Dataset

        array = self._given.to_dataarray("band") if isinstance(self._given, Dataset) else self._given
        nodata = stated_nodata(array, array.dtype)
        seen = array.notnull()
        return seen if nodata is None or np.isnan(nodata) else seen & (array != nodata)

    def plot(self, ax: Any = None, *, roles: Sequence[str] | None = None, **opening: Any) -> Any:
        """Draw a class map with its legend, or a scene in true colour, else in near infrared, red and green; gives matplotlib's axes.

        `roles` names one or three bands instead. Large arrays are thinned out first.
        """
        pyplot = require("matplotlib.pyplot", extra="view")
        ax = ax or pyplot.subplots(figsize=(7, 7), layout="constrained")[1]
        _, form = describe_array(self._given)
        left, top, right, bottom = *(form.transform @ (0, 0)), *(form.transform @ form.shape[:0:-1])
        place = {"extent": (left, right, bottom, top), "interpolation": "nearest"}
        if _has_legend(self._given.attrs):
            legend, codes = self.classes, _thinned(describe_array(self._given)[0])[0]
            colours = np.zeros((*codes.shape, 4), np.uint8)
            for one in legend.classes:
                colours[codes == one.code] = (*one.rgb, 255)
            ax.imshow(colours, **place)
            patches = [require("matplotlib.patches", extra="view").Patch(color=one.colour, label=one.name) for one in legend.classes]
            ax.legend(handles=patches, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        else:
            ax.imshow(np.moveaxis(self._picture(roles, opening), 0, -1), **place)
        ax.set_aspect("equal" if not pyproj.CRS(form.crs).is_geographic else "auto")
        ax.ticklabel_format(useOffset=False, style="plain")
        return ax

    def evaluate(self, labels: str | Path | DataArray, *, class_column: str | None = None) -> Confusion:
        """Truth against this class map: `.mean_iou`, `.accuracy`, `.figures()`.

        `labels` are a file as `geoseg train` takes it, or an array of codes on the same grid, by its own legend's names if it has one.
        """
        from geoseg.io.labels import read_labels

        legend = self.classes
        planes, form = describe_array(self._given)
        codes = planes.to_numpy()[0]
        guess = _places(codes, legend)
        if isinstance(labels, (str, Path)):
            truth, known = read_labels(labels, form.geobox, legend, class_column)
        else:
            theirs, other = describe_array(labels)
            if (other.shape[1:], other.transform) != (form.shape[1:], form.transform) or other.geobox.crs != form.geobox.crs:
                raise InputError("the labels lie on another grid than the map; bring them to it with labels.rio.reproject_match(map)")
            truth = _places(theirs.to_numpy()[0], _in_order(labels, legend))
            known = truth >= 0
        counted = known & (guess >= 0)
        return Confusion.count(np.maximum(truth, 0), np.maximum(guess, 0), legend, counted=counted)

    def _one_date(self, given: Any, package: ModelPackage, scores: bool, options: MapOptions | None, opening: dict[str, Any]) -> Any:
        from geoseg.mapping.in_memory import map_array, scores_of

        output = next((one for one in package.outputs if one.kind == "classes"), package.outputs[0])
        wanted = replace(options or MapOptions(), scores=scores)
        made = map_array(given, package, options=wanted, opening=opening)
        for warning in made.warnings:
            log.warning("%s", warning)
        planes, _ = describe_array(given)
        mapped = self._like(made.rasters[output.name][0], planes, output.name, attributes_of(output))
        if not scores or output.kind != "classes":
            return mapped
        from xarray import DataArray, Dataset

        told = DataArray(
            scores_of(made.rasters[f"{output.name}_scores"]), dims=("class", *mapped.dims), coords={"class": list(output.legend.names)}
        )
        return Dataset({"classes": mapped, "scores": told.assign_coords({name: mapped.coords[name] for name in mapped.coords})})

    def _opened(self, opening: dict[str, Any]) -> tuple[DataArray, ArrayForm, Scene, str]:
        """The planes, what they are, the scene that they make, and the file behind it; of a lazy array the file is empty."""
        planes, form = describe_array(self._given)
        path = write_rows(form, planes.to_numpy() if planes.chunks is None else np.zeros((form.shape[0], 0, form.shape[2]), form.dtype))
        try:
            return planes, form, open_scene(path, **opening), path
        except GeosegError:
            forget(path)
            raise

    def _picture(self, roles: Sequence[str] | None, opening: dict[str, Any]) -> np.ndarray:
        """(4, row, col) red, green, blue, alpha."""
        planes, form, scene, path = self._opened(opening)
        forget(path)
        chosen = roles or next((three for three in _SHOWN if set(three) <= set(scene.roles)), scene.roles[:1])
        values = _thinned(planes[[scene.layer(role).index - 1 for role in chosen]]).astype(np.float32)
        seen = np.isfinite(values) if form.nodata is None or np.isnan(form.nodata) else np.isfinite(values) & (values != form.nodata)
        picture = np.zeros((4, *values.shape[1:]), np.uint8)
        for place, (plane, valid) in enumerate(zip(values, seen, strict=True)):
            dark, bright = np.percentile(plane[valid], (2, 98)) if valid.any() else (0, 1)
            picture[place] = np.clip(np.nan_to_num((plane - dark) * (255 / max(bright - dark, 1e-12))), 0, 255)
        if len(values) == 1:
            picture[1:3] = picture[0]
        picture[3] = np.where(seen.all(axis=0), 255, 0)
        return picture

    def _like(self, made: Any, planes: DataArray, name: str, attributes: dict[str, Any]) -> DataArray:
        """An array (y, x) of these values with the coordinates, CRS and attributes of the given one."""
        from xarray import DataArray

        spatial = planes.dims[1:]
        kept = {
            key: coordinate for key, coordinate in planes.coords.items() if set(coordinate.dims) <= set(spatial) and key != planes.dims[0]
        }
        attrs = {key: value for key, value in self._given.attrs.items() if key not in _OF_VALUES}
        array = DataArray(made, coords=kept, dims=spatial, name=name, attrs=attrs | attributes)
        return array if "spatial_ref" in array.coords else array.rio.write_crs(describe_array(planes.isel({planes.dims[0]: [0]}))[1].crs)

    def _time(self) -> str | None:
        """The dimension of dates, if there is more than one."""
        return next((str(dim) for dim in self._given.dims if str(dim).lower() in _TIMES), None)

    def _write_codes(self, path: Path, legend: Legend) -> Path:
        import rasterio

        planes, form = describe_array(self._given)
        grid = {"height": form.shape[1], "width": form.shape[2], "crs": form.crs, "transform": form.transform}
        profile = {"count": 1, "dtype": legend.dtype, "nodata": legend.nodata, "tiled": True, "compress": "deflate"}
        with rasterio.open(path, "w", driver="GTiff", **profile, **grid) as file:
            codes = planes.to_numpy()
            file.write(np.where(np.isfinite(codes), codes, legend.nodata).astype(legend.dtype))
        return path


# ---------------------------------------------------------------- below: values and legends


def _has_legend(attrs: Mapping[Any, Any]) -> bool:
    """Whether attributes name classes: as the CF conventions have it, or as a class GeoTIFF of geoseg does."""
    return "flag_values" in attrs or "CLASS_NAMES" in attrs


def _index_of_block(values: np.ndarray, name: str, bands: tuple[Band, ...], nodata: float | None) -> np.ndarray:
    """(row, col) an index of one piece of a lazy array."""
    seen = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    for plane, band in enumerate(bands):
        for none in (nodata, band.nodata):
            if none is not None and not np.isnan(none):
                seen[plane] &= values[plane] != none
    grid = GeoBox(values.shape[1:], Affine.identity(), "EPSG:3857")  # an index asks for no place
    return spectral_index(name, Raster(np.where(seen, values, 0).astype(values.dtype), seen, grid, bands))


def _thinned(planes: DataArray) -> np.ndarray:
    """(band, row, col) with single pixels left out, so that a picture has not too many."""
    step = max(1, -(-max(planes.shape[1:]) // _MOST_SHOWN))
    return np.asarray(planes[:, ::step, ::step].to_numpy())


def _places(codes: np.ndarray, legend: Legend) -> np.ndarray:
    """(row, col) place of each code in the legend, -1 for any other."""
    found = np.full(codes.shape, -1, np.int64)
    for one in legend.classes:
        found[codes == one.code] = one.index
    return found


def _in_order(labels: DataArray, legend: Legend) -> Legend:
    """The legend with the codes that the labels use for its names, where they have a legend of their own."""
    if not _has_legend(labels.attrs):
        return legend
    theirs = {one.name: one.code for one in GeosegAccessor(labels).classes.classes}
    if missing := [name for name in legend.names if name not in theirs]:
        raise InputError(f"the labels know {', '.join(theirs)}, the map also {missing[0]}; bring both to the same class names")
    return Legend(tuple(replace(one, code=theirs[one.name]) for one in legend.classes), nodata=legend.nodata)

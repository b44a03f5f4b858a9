"""torchgeo's data sets as Scenes, and Scenes as a torchgeo data set, so that samplers and loaders of either can be used with both.

A torchgeo data set puts all files into the coordinate reference system of the first; its scenes here keep their own grids and pixels. What
torchgeo calls bounds is the same, and so are the samples: `image` (band, row, col) and `mask` (row, col), with `valid` added.
Works with torchgeo 0.8 and 0.10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyproj
import shapely
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from torchgeo.datasets import GeoDataset, IntersectionDataset, RasterDataset, UnionDataset, VectorDataset

from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError
from geoseg.ground import corners_to_map, outline
from geoseg.io.labels import read_labels
from geoseg.legend import Legend
from geoseg.preprocess.prepare import Preparation, needed_roles, prepare
from geoseg.scene import Scene, read_scene
from geoseg.scenes.open_scene import open_scene

_COLOURS = {"r": "red", "g": "green", "b": "blue", "nir": "nir", "n": "nir"}
"""What aerial data sets call their bands."""
_LONGEST_MOMENT = pd.Timedelta(days=2)
"""An interval no longer than this is the day of a scene; longer ones, such as the year of a map, are not."""


def scenes_of(dataset: GeoDataset, *, sensor: str | None = None, bands: Mapping[str, str] | None = None, **words: Any) -> list[Scene]:
    """The scenes behind a torchgeo data set of images, or a union (`|`) of such: each file, or the files of each date, on its own grid.

    `bands` says what the data set's bands are, its name → role; those that it does not name are found by the names in the table of
    `sensor`. The other words are those of `open_scene`. Only the bands that the data set was made with are there. InputError for a
    data set without images; BandError, SceneError as `open_scene` raises them.
    """
    if isinstance(dataset, UnionDataset):
        return [scene for one in dataset.datasets for scene in scenes_of(one, sensor=sensor, bands=bands, **words)]
    if not isinstance(dataset, RasterDataset) or not dataset.is_image:
        raise InputError(
            f"{type(dataset).__name__} is no data set of images in files; expected a RasterDataset of images, or several with |"
        )
    named = [_named(name, bands or {}, sensor) for name in dataset.bands or ()]
    scenes = []
    for interval, path in zip(dataset.index.index, dataset.index["filepath"], strict=True):
        if dataset.separate_files:
            source: Any = [dataset._update_filepath(band, path) for band in dataset.bands]
            given: list[str] | None = named
        else:
            source = path
            chosen = dict(zip(dataset.bands or (), named, strict=True))
            given = [chosen.get(name, "-") for name in dataset.all_bands] if dataset.all_bands else None
        scene = open_scene(source, sensor=sensor, bands=given, **words)
        scenes.append(scene if scene.time is not None else replace(scene, time=_moment(interval)))
    return scenes


def labelled_scenes_of(
    dataset: IntersectionDataset, *, sensor: str | None = None, bands: Mapping[str, str] | None = None, **words: Any
) -> list[tuple[Scene, str]]:
    """Scenes with the file of their labels, behind the intersection (`&`) of images and masks or vectors: a pair where their ground meets.

    The words are those of `scenes_of`. The classes of the labels are told with a legend when they are read. InputError where it is not one
    data set of images and one of labels.
    """
    images, labels = (dataset.datasets if isinstance(dataset, IntersectionDataset) else (dataset, dataset))[:2]
    if _are_labels(images) and not _are_labels(labels):
        images, labels = labels, images
    if _are_labels(images) or not _are_labels(labels):
        raise InputError(f"{type(dataset).__name__} does not pair images with labels; expected images & masks, or images & vectors")
    scenes = scenes_of(images, sensor=sensor, bands=bands, **words)
    pairs = []
    for scene, footprint in zip(scenes, images.index.geometry, strict=True):
        meeting = labels.index.intersects(footprint) & ~labels.index.touches(footprint)
        pairs += [(scene, str(path)) for path in dict.fromkeys(labels.index["filepath"][meeting.to_numpy()])]
    return pairs


def _are_labels(dataset: GeoDataset) -> bool:
    return isinstance(dataset, VectorDataset) or (isinstance(dataset, RasterDataset) and not dataset.is_image)


def _named(name: str, bands: Mapping[str, str], sensor: str | None) -> str:
    return bands.get(name) or (name if sensor is not None else _COLOURS.get(name.lower(), name))


def _moment(interval: Any) -> datetime | None:
    short = interval.right - interval.left <= _LONGEST_MOMENT
    moment: datetime | None = interval.left.to_pydatetime() if short else None
    return moment


class SceneDataset(GeoDataset):
    """Scenes as a data set for torchgeo's samplers; samples have `image`, `valid`, and `mask` where there are labels.

    `image` is (band, row, col) float32: prepared as for a network where a `preparation` is given, else the stored numbers of `roles`; 0
    where not valid. `valid` is (band, row, col). `mask` is (row, col) int64 class indices, UNLABELLED (-1) where there is none; give it to
    losses as `ignore_index`. Where scenes overlap, the first with a valid pixel is taken. Pixels on a scene's own grid are read as they
    are, all others by geoseg's own resampling.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        *,
        preparation: Preparation | None = None,
        roles: Sequence[str] | None = None,
        labels: Sequence[str | Path] | None = None,
        legend: Legend | None = None,
        crs: Any = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """`labels` are one file for each scene, with the `legend` of their classes; `crs` and `res` (units of it) are the first scene's if
        not said. InputError where there are no scenes, or labels do not go with them."""
        if not scenes:
            raise InputError("no scene was given; a data set needs at least one")
        if labels is not None and (legend is None or len(labels) != len(scenes)):
            raise InputError(f"{len(labels)} files of labels for {len(scenes)} scenes; give one for each, and the legend of their classes")
        self.scenes, self.preparation, self.transforms = tuple(scenes), preparation, transforms
        self.roles = tuple(needed_roles(preparation) if preparation is not None else roles or scenes[0].roles)
        self.labels, self.legend = None if labels is None else tuple(labels), legend
        self._planes: dict[int, NDArray[np.int16]] = {}
        grids = [scene.geobox(self.roles) for scene in scenes]
        wanted = _crs(grids[0]) if crs is None else crs
        footprints = [geopandas.GeoSeries([shapely.Polygon(outline(grid))], crs=_crs(grid)).to_crs(wanted).iloc[0] for grid in grids]
        times = [_interval(scene.time) for scene in scenes]
        index = pd.IntervalIndex.from_tuples(times, closed="both", name="datetime")
        self.index = geopandas.GeoDataFrame({"scene": range(len(scenes))}, index=index, geometry=footprints, crs=wanted)
        steps = (abs(grids[0].affine.a), abs(grids[0].affine.e)) if res is None else res
        self._res = steps if isinstance(steps, tuple) else (steps, steps)

    def __getitem__(self, query: Any) -> dict[str, Any]:
        """The sample of a slice of x, y and time, as torchgeo's samplers give it; IndexError where there is no scene."""
        x, y, t = self._disambiguate_slice(query)
        found = self.index.iloc[self.index.index.overlaps(pd.Interval(t.start, t.stop))].cx[x.start : x.stop, y.start : y.stop]
        if found.empty:
            raise IndexError(f"no scene at {query}; they lie within {self.bounds}")
        rows, cols = round((y.stop - y.start) / y.step), round((x.stop - x.start) / x.step)
        geobox = GeoBox((rows, cols), Affine(x.step, 0, x.start, 0, -y.step, y.stop), self.crs.to_wkt())
        sample = self._sample([int(number) for number in found["scene"]], geobox)
        if hasattr(self, "_slice_to_tensor"):  # torchgeo from 0.9 on
            sample["bounds"], sample["transform"] = self._slice_to_tensor(query), torch.tensor(geobox.affine)
        else:
            sample["bounds"], sample["crs"] = query, self.crs
        return sample if self.transforms is None else self.transforms(sample)

    def _sample(self, numbers: Sequence[int], geobox: GeoBox) -> dict[str, Any]:
        image: NDArray[np.float32] | None = None
        for number in numbers:
            raster = read_scene(self.scenes[number], self.roles, geobox)
            if self.preparation is not None:
                raster = prepare(raster, self.preparation)
            values = np.where(raster.valid, raster.values, 0).astype(np.float32)
            mask = self._mask(number, geobox)
            if image is None:
                image, valid, labels = values, raster.valid.copy(), mask
                continue
            image = np.where(valid, image, values)
            if labels is not None and mask is not None:
                labels = np.where(labels != UNLABELLED, labels, mask)
            valid |= raster.valid
        sample = {"image": torch.from_numpy(image), "valid": torch.from_numpy(valid)}
        return sample if labels is None else sample | {"mask": torch.from_numpy(labels)}

    def _mask(self, number: int, geobox: GeoBox) -> NDArray[np.int64] | None:
        """(row, col) class of the scene's pixel under each centre; labels are burnt once, on the scene's own grid."""
        if self.labels is None:
            return None
        grid = self.scenes[number].geobox(self.roles)
        if number not in self._planes:
            indices, labelled = read_labels(self.labels[number], grid, self.legend)
            self._planes[number] = np.where(labelled, indices, UNLABELLED).astype(np.int16)
        plane = self._planes[number]
        row, col = (places + 0.5 for places in np.indices(geobox.shape.yx))
        there = pyproj.Transformer.from_crs(_crs(geobox), _crs(grid), always_xy=True)
        x, y = there.transform(*np.moveaxis(corners_to_map(geobox.affine, col, row), -1, 0))
        at_col, at_row = (np.floor(places).astype(np.int64) for places in ~grid.affine * (x, y))
        inside = (at_row >= 0) & (at_col >= 0) & (at_row < plane.shape[0]) & (at_col < plane.shape[1])
        mask = np.full(geobox.shape.yx, UNLABELLED, np.int64)
        mask[inside] = plane[at_row[inside], at_col[inside]]
        return mask


def _interval(time: datetime | None) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The day (UTC), as torchgeo has it for files with a date: of a single moment its samplers find nothing."""
    if time is None:
        return pd.Timestamp.min, pd.Timestamp.max
    moment = pd.Timestamp(time)
    day = (moment if moment.tzinfo is None else moment.tz_convert("UTC").tz_localize(None)).normalize()
    return day, day + pd.Timedelta(days=1) - pd.Timedelta(microseconds=1)


def _crs(grid: GeoBox) -> pyproj.CRS:
    """The CRS of a grid; InputError where it has none, since torchgeo places all by theirs."""
    if grid.crs is None:
        raise InputError("a scene has no coordinate reference system, and torchgeo finds scenes by theirs; give georeferenced files")
    found: pyproj.CRS = grid.crs.proj
    return found

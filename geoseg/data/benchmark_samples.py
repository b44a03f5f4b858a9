"""Benchmark data sets without a place on the map, as torchgeo has them, in the form in which networks here are trained.

Their samples are an `image` (band, row, col) of stored numbers and a `mask` (row, col) of class codes. Here they go through the same
preparation as scenes, so that what is learned from them maps scenes of the same bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.data.augment import turn
from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError, LabelError
from geoseg.legend import Legend
from geoseg.preprocess.normalise import ChannelStatistics, fit_preparation, without_statistics
from geoseg.preprocess.prepare import Preparation, needed_roles, prepare
from geoseg.raster import Raster
from geoseg.sensors import get_sensor


class Samples(Protocol):
    """A data set of samples, such as torchgeo's NonGeoDatasets."""

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        """A sample: `image` and `mask`."""

    def __len__(self) -> int:
        """How many there are."""


@dataclass(frozen=True, eq=False)
class BenchmarkPatches:
    """Samples as `SupervisedSegmentation` learns from them, for a torch DataLoader: `image` (channel, row, col), prepared, and `labels`.

    Valid is what is a number and not the band's number for no data; images are 0 elsewhere, and labels UNLABELLED.
    """

    samples: Samples
    preparation: Preparation
    legend: Legend
    """Codes of the mask; its `nodata` and the codes in `ignored` are no labels."""
    sensor: str
    """Name of the sensor whose scale, offset and units the numbers have, such as `sentinel-2-l1c` or `aerial-rgb`."""
    bands: Sequence[str]
    """Roles of the image's planes, in their order."""
    ignored: Sequence[int] = ()
    turned: bool = False
    """Whether samples are turned and mirrored at random, by torch's own random numbers."""

    def __post_init__(self) -> None:
        """BandError where the sensor has no such band, or the preparation reads others."""
        get_sensor(self.sensor).select(*self.bands)
        if missing := [role for role in needed_roles(self.preparation) if role not in self.bands]:
            raise InputError(f"the preparation reads {missing[0]!r}, and the samples have {', '.join(self.bands)}; leave it out")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Image and labels of one sample."""
        sample = self.samples[index]
        prepared = prepare(self._raster(index, sample), self.preparation)
        labels = np.where(prepared.valid_everywhere, self._labels(index, sample), UNLABELLED)
        side = int(torch.randint(8, ())) if self.turned else 0
        return {"image": turn(prepared.values, side), "labels": turn(labels, side)}

    def fitted(self) -> BenchmarkPatches:
        """The same with mean and standard deviation of the valid pixels of all samples; InputError where a channel has none."""
        plain = without_statistics(self.preparation)
        total = ChannelStatistics.empty([channel.name for channel in plain.channels])
        for index in range(len(self.samples)):
            total += ChannelStatistics.of(prepare(self._raster(index, self.samples[index]), plain))
        return replace(self, preparation=fit_preparation(self.preparation, total))

    def _raster(self, index: int, sample: dict[str, Any]) -> Raster:
        """The stored numbers, at no place."""
        image = np.asarray(sample["image"])
        if image.ndim != 3 or len(image) != len(self.bands):
            raise InputError(
                f"the image of sample {index} has shape {image.shape}; expected ({len(self.bands)}, row, col): {', '.join(self.bands)}"
            )
        bands = get_sensor(self.sensor).select(*self.bands)
        valid = np.isfinite(image)
        for plane, band, numbers in zip(valid, bands, image, strict=True):
            if band.nodata is not None:
                plane &= numbers != band.nodata
        grid = GeoBox(image.shape[1:], Affine(1, 0, 0, 0, -1, 0), None)
        return Raster(np.where(valid, image, 0), valid, grid, bands)

    def _labels(self, index: int, sample: dict[str, Any]) -> NDArray[np.int64]:
        """(row, col) class indices."""
        if "mask" not in sample:
            raise LabelError(f"sample {index} has no mask, as test parts often do; take the part that is labelled")
        codes = np.asarray(sample["mask"]).squeeze()
        labels = np.full(codes.shape, UNLABELLED, np.int64)
        known = np.isin(codes, [*self.ignored, self.legend.nodata])
        for one in self.legend.classes:
            if one.code not in self.ignored:
                here = codes == one.code
                labels[here], known = one.index, known | here
        if not known.all():
            expected = ", ".join(f"{one.name} ({one.code})" for one in self.legend.classes)
            raise LabelError(f"the mask of sample {index} has the code {codes[~known][0]}; expected {expected}, or name it in ignored")
        return labels

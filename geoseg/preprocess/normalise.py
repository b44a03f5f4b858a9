"""Statistics of what a network receives, gathered over scenes that never lie in memory together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.preprocess.prepare import Preparation
from geoseg.raster import Raster


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Count, mean and spread of the valid pixels of each channel; two add up to a third."""

    names: tuple[str, ...]
    count: NDArray[np.int64]
    """(channel,) valid pixels."""
    mean: NDArray[np.float64]
    """(channel,); 0 where nothing was counted."""
    squares: NDArray[np.float64]
    """(channel,) sum of squared departures from the mean."""

    @classmethod
    def empty(cls, names: Sequence[str]) -> ChannelStatistics:
        """Nothing counted yet: the start of a sum."""
        zeros = np.zeros(len(names))
        return cls(tuple(names), zeros.astype(np.int64), zeros, zeros)

    @classmethod
    def of(cls, raster: Raster) -> ChannelStatistics:
        """Those of one raster's valid pixels, in float64; the names are the bands'."""
        planes = [values[valid].astype(np.float64) for values, valid in zip(raster.values, raster.valid, strict=True)]
        mean = np.array([plane.mean() if plane.size else 0.0 for plane in planes])
        squares = np.array([np.square(plane - centre).sum() for plane, centre in zip(planes, mean, strict=True)])
        return cls(tuple(band.name for band in raster.bands), np.array([plane.size for plane in planes]), mean, squares)

    def __add__(self, other: ChannelStatistics) -> ChannelStatistics:
        """Those of both together, by the rule of Chan, Golub & LeVeque (1979), which loses no digits over many tiles."""
        if self.names != other.names:
            raise ValueError(f"statistics of {', '.join(self.names)} and of {', '.join(other.names)} do not add up")
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        step = other.mean - self.mean
        squares = self.squares + other.squares + step**2 * self.count * share
        return ChannelStatistics(self.names, count, self.mean + step * share, squares)

    @property
    def std(self) -> NDArray[np.float64]:
        """(channel,) standard deviation of the counted pixels themselves (divided by their count); 0 where nothing was counted."""
        return np.asarray(np.sqrt(self.squares / np.maximum(self.count, 1)))


def without_statistics(preparation: Preparation) -> Preparation:
    """The same preparation with mean 0 and standard deviation 1: physical values come out, of which statistics are taken."""
    channels = tuple(channel.model_copy(update={"mean": 0.0, "std": 1.0}) for channel in preparation.channels)
    return preparation.model_copy(update={"channels": channels})


def fit_preparation(preparation: Preparation, statistics: ChannelStatistics, *, keep_indices_raw: bool = False) -> Preparation:
    """The preparation with the mean and standard deviation of `statistics`, which were taken after `without_statistics`.

    A channel that never varies keeps standard deviation 1. `keep_indices_raw` leaves indices as they are (mean 0, standard
    deviation 1), as TorchGeo's Earth Surface Water recipe does. Raises InputError where a channel had no valid pixel.
    """
    names = tuple(channel.name for channel in preparation.channels)
    if statistics.names != names:
        raise ValueError(f"statistics of {', '.join(statistics.names)}; the preparation's channels are {', '.join(names)}")
    if empty := [name for name, count in zip(names, statistics.count, strict=True) if count == 0]:
        raise InputError(f"no valid pixel of channel {empty[0]!r} in the scenes given; its statistics need some")
    channels = []
    for channel, mean, std in zip(preparation.channels, statistics.mean.tolist(), statistics.std.tolist(), strict=True):
        if channel.kind == "present" or (channel.kind == "index" and keep_indices_raw):
            mean, std = 0.0, 1.0
        varies = std > _SMALLEST_SHARE * abs(mean)
        channels.append(channel.model_copy(update={"mean": mean, "std": std if varies else 1.0}))
    return preparation.model_copy(update={"channels": tuple(channels)})


_SMALLEST_SHARE = 1e-7
"""A spread below this share of the mean is float32's own rounding."""

"""Folders of images and labels as samples, whether they lie on the map or not: for networks and for a look at them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from geoseg.data.palette import codes_of_colours
from geoseg.errors import InputError, SceneError
from geoseg.io.layouts import Pair
from geoseg.io.opening import GDAL_ERRORS
from geoseg.legend import Legend


@dataclass(frozen=True, eq=False)
class FolderSamples:
    """Pairs as samples, `image` (band, row, col) of stored numbers and `mask` (row, col) of codes: for `BenchmarkPatches`."""

    pairs: list[Pair]
    legend: Legend
    palette: bool = False
    """Whether labels are pictures in the legend's colours."""

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        """One sample; without `mask` where it has no labels. InputError for a colour that no class has."""
        pair = self.pairs[index]
        sample = {"image": _planes(pair.image)}
        if pair.labels is not None:
            planes = _planes(pair.labels)
            sample["mask"] = codes_of_colours(planes[:3], self.legend, str(pair.labels)) if self.palette else planes[0]
        return sample


def _planes(path: Path) -> NDArray[Any]:
    """(band, row, col) of a file, whether it says where it lies or not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                values: NDArray[Any] = file.read()
    except GDAL_ERRORS as error:
        raise SceneError(f"{path} cannot be read as an image ({error}); fetch the data set anew") from error
    return values


def preview(pairs: list[Pair], legend: Legend, bands: tuple[str, ...], *, palette: bool = False, count: int = 6, edge: int = 512) -> bytes:
    """A PNG of up to `count` labelled pairs, spread over all: image and labels side by side, in the legend's colours.

    Large images are shown by the corner of `edge` pixels. InputError where no pair has labels, or an image has other bands.
    """
    from geoseg.data.pictures import draw_patches
    from geoseg.data.windows import UNLABELLED

    labelled = [pair for pair in pairs if pair.labels is not None]
    if not labelled:
        raise InputError("no image of these has labels, so there is nothing to compare; choose another split")
    chosen = [labelled[at] for at in np.unique(np.linspace(0, len(labelled) - 1, count).astype(int)).tolist()]
    samples = [FolderSamples([pair], legend, palette)[0] for pair in chosen]
    for pair, sample in zip(chosen, samples, strict=True):
        if len(sample["image"]) != len(bands):
            raise InputError(f"{pair.image} has {len(sample['image'])} bands; expected {len(bands)}: {', '.join(bands)}")
    rows, cols = (min(edge, *(sample["image"].shape[axis] for sample in samples)) for axis in (1, 2))
    images = np.stack([sample["image"][:, :rows, :cols] for sample in samples]).astype(np.float32)
    found = [legend.to_indices(sample["mask"][:rows, :cols]) for sample in samples]
    labels = np.stack([np.where(known, indices, UNLABELLED) for indices, known in found])
    return draw_patches(images, labels, None, legend, bands)

"""Classes and pieces of ground that no one has drawn, from spectral indices: what the coarse stages of C2FMAE learn from."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import label

from geoseg.backbones.c2fmae import UNKNOWN


def index_classes(indices: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """(batch, row, col) which index (batch, index, row, col) is the greatest of each pixel; one class more where none is above 0.

    UNKNOWN where not `valid` (batch, row, col). A rule, no truth: of NDVI, NDWI and NDBI it tells plants, water and built or bare
    ground apart, about.
    """
    greatest, which = indices.max(dim=1)
    classes = torch.where(greatest > 0, which, indices.shape[1])
    return torch.where(valid, classes, UNKNOWN)


def connected_pieces(classes: torch.Tensor) -> torch.Tensor:
    """(batch, row, col) numbers, from 0 in each image, of pieces of one class whose pixels share an edge; UNKNOWN stays so."""
    pieces = np.full(classes.shape, UNKNOWN, dtype=np.int64)
    for image, found in zip(classes.cpu().numpy(), pieces, strict=True):
        count = 0
        for index in np.unique(image[image != UNKNOWN]):
            numbers, more = label(image == index)
            inside = numbers > 0
            found[inside] = numbers[inside] + count - 1
            count += more
    return torch.from_numpy(pieces).to(classes.device)

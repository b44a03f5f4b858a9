"""What finished maps say, in the words of the labels' legend, and with which score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import LabelError
from geoseg.io.class_maps import NOT_OBSERVED, UNNAMED, read_class_indices
from geoseg.io.geotiff import read_raster
from geoseg.io.score_files import ScoreFile
from geoseg.legend import Legend
from geoseg.maps.map_results import MapResult
from geoseg.sensors import Band


def guessed(result: MapResult, here: GeoBox, labelled: NDArray[np.bool_], legend: Legend) -> NDArray[np.int64]:
    """(row, col) place in `legend` of what the map says, NOT_OBSERVED where it says nothing.

    LabelError where labelled ground has a number that the map's legend does not name.
    """
    found = read_class_indices(result.classes, here)
    if (found[labelled] == UNNAMED).any():
        raise LabelError(f"{result.path} holds numbers that its legend does not name; name them in a legend beside it")
    place = {one.code: one.index for one in legend.classes}
    own = np.array([place.get(one.code, NOT_OBSERVED) for one in result.classes.legend.classes], np.int64)
    return np.where(found >= 0, own[np.maximum(found, 0)], NOT_OBSERVED)


def read_scores(scores: ScoreFile, here: GeoBox) -> NDArray[np.float64]:
    """(class, row, col) scores of all classes, 0…1."""
    bands = {number: Band(f"score{number}", f"score{number}", unit="1") for number in scores.bands}
    stored = read_raster(scores.path, bands, here, resampling="nearest").values
    return np.asarray(np.clip(stored * scores.scale + scores.offset, 0.0, 1.0), np.float64)

"""Where a map is wrong, as a small picture: right pixels grey, wrong ones in the colour of what the map says there."""

from __future__ import annotations

import base64
import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from geoseg.legend import Legend

EDGE = 640
"""Pixels of the picture's longer side, at most."""
_RIGHT, _NOTHING = (196, 200, 204, 255), (0, 0, 0, 0)


@dataclass(eq=False)
class ErrorPicture:
    """Every so many pixels of a map, row by row as it is gone through."""

    step: int
    """One pixel of so many rows and columns is shown."""
    rows: list[NDArray[np.int16]] = field(default_factory=list)
    """(col,) of each row that is shown: class that the map says wrongly, -1 where it is right, -2 where nothing is compared."""

    @classmethod
    def of_size(cls, shape: tuple[int, int]) -> ErrorPicture:
        """Of a map of this many rows and columns."""
        return cls(-(-max(shape) // EDGE))

    def add(self, first_row: int, truth: NDArray[np.integer], guess: NDArray[np.integer], both: NDArray[np.bool_]) -> None:
        """Go on with rows (row, col) of class indices, the first of them row `first_row` of the map."""
        which = np.s_[-first_row % self.step :: self.step, :: self.step]
        shown = np.where(both[which], np.where(truth[which] == guess[which], -1, guess[which]), -2)
        self.rows += list(shown.astype(np.int16))

    def data_uri(self, legend: Legend) -> str:
        """The picture as PNG, for a page that needs no other file."""
        colours = [(*(int(one.colour[at : at + 2], 16) for at in (1, 3, 5)), 255) for one in legend.classes]
        table = np.array([*colours, _NOTHING, _RIGHT], dtype=np.uint8)
        pixels = table[np.stack(self.rows).astype(np.int64)]
        shape = {"height": pixels.shape[0], "width": pixels.shape[1], "count": 4, "dtype": "uint8"}
        with MemoryFile() as memory, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a picture has no place
            with memory.open(driver="PNG", **shape) as file:
                file.write(np.moveaxis(pixels, -1, 0))
            return "data:image/png;base64," + base64.b64encode(memory.read()).decode()

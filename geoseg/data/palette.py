"""Labels kept as pictures: each class has its colour, exactly, and a colour that no class has is an error, never a class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.legend import Legend


def codes_of_colours(picture: NDArray[np.integer], legend: Legend, source: str) -> NDArray[np.int64]:
    """(row, col) class codes of a picture (red, green, blue; row; col), 0…255.

    InputError where two classes have one colour, where there are no three planes, and for a colour that no class has, with its first pixel.
    """
    if picture.ndim != 3 or len(picture) != 3:
        raise InputError(f"{source} has {len(picture) if picture.ndim == 3 else 1} planes; labels as colours have red, green and blue")
    packed: NDArray[np.int64] = _packed(*picture.astype(np.int64))
    known = {_packed(*one.rgb): one.code for one in legend.classes}
    if len(known) < len(legend.classes):
        raise InputError("two classes of the legend have the same colour, so that a picture cannot tell them apart; give each its own")
    colours, which = np.unique(packed, return_inverse=True)
    if strange := [int(colour) for colour in colours.tolist() if colour not in known]:
        row, col = np.argwhere(packed == strange[0])[0].tolist()
        expected = ", ".join(f"{one.name} {one.colour}" for one in legend.classes)
        raise InputError(f"{source} has the colour #{strange[0]:06x} at row {row}, column {col}, which no class has; expected {expected}")
    codes = np.array([known[colour] for colour in colours.tolist()], dtype=np.int64)
    return codes[which.reshape(packed.shape)]


def colours_of_codes(codes: NDArray[np.integer], legend: Legend) -> NDArray[np.uint8]:
    """(red, green, blue; row; col) of class codes (row, col); black where a code is of no class."""
    picture = np.zeros((3, *codes.shape), np.uint8)
    for one in legend.classes:
        picture[:, codes == one.code] = np.array(one.rgb, np.uint8)[:, np.newaxis]
    return picture


def _packed(red: Any, green: Any, blue: Any) -> Any:
    """One number for each colour."""
    return red * 65536 + green * 256 + blue

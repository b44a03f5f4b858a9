"""What the numbers of a class map mean: code, name and colour of each class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError

_COLOUR = re.compile(r"#[0-9a-f]{6}")
_LARGEST_CODE = 65535


@dataclass(frozen=True)
class LegendClass:
    """One class of a map."""

    index: int
    """Position among the network's outputs, counted from 0."""
    code: int
    """The number that the raster holds: 10…100 in WorldCover, 111…523 in CORINE."""
    name: str
    """What a person reads in the map's legend."""
    colour: str
    """Red, green and blue as `#rrggbb`."""
    background: bool = False
    """Drawn transparent in QGIS; a class like any other in the raster."""

    def __post_init__(self) -> None:
        colour = self.colour.lower()
        if not _COLOUR.fullmatch(colour):
            raise InputError(f"colour {self.colour!r} of class {self.name!r} is not of the form #rrggbb")
        if not 0 <= self.code <= _LARGEST_CODE:
            raise InputError(f"code {self.code} of class {self.name!r} is outside 0…{_LARGEST_CODE}")
        if not self.name.strip():
            raise InputError(f"the class with code {self.code} has no name")
        object.__setattr__(self, "colour", colour)

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, each 0…255."""
        return int(self.colour[1:3], 16), int(self.colour[3:5], 16), int(self.colour[5:7], 16)


@dataclass(frozen=True)
class Legend:
    """The classes of a map, in the order of the network's outputs, and the code of "no label".

    >>> legend = geoseg.Legend.from_names(["dry land", "water"])
    >>> [(one.code, one.name) for one in legend.classes]
    [(0, 'dry land'), (1, 'water')]
    """

    classes: tuple[LegendClass, ...]
    nodata: int = 255
    """Code of pixels without a class; never the code of a class."""

    def __post_init__(self) -> None:
        if not self.classes:
            raise InputError("a legend needs at least one class")
        if [c.index for c in self.classes] != list(range(len(self.classes))):
            raise InputError(f"the classes' indices are {[c.index for c in self.classes]}; expected 0, 1, 2 … in order")
        for what, given in (("codes", [c.code for c in self.classes]), ("names", [c.name for c in self.classes])):
            if len(set(given)) != len(given):
                raise InputError(f"the classes' {what} are not unique: {given}")
        if self.nodata in [c.code for c in self.classes]:
            raise InputError(f"nodata {self.nodata} is also the code of a class; choose a number outside {[c.code for c in self.classes]}")
        if not 0 <= self.nodata <= _LARGEST_CODE:
            raise InputError(f"nodata {self.nodata} is outside 0…{_LARGEST_CODE}")

    @classmethod
    def from_names(cls, names: Sequence[str], colours: Sequence[str] | None = None) -> Legend:
        """Classes with codes 0, 1, 2 … in the order of `names`; colours from a fixed palette where none are given."""
        palette = colours if colours is not None else [_PALETTE[i % len(_PALETTE)] for i in range(len(names))]
        if len(palette) != len(names):
            raise InputError(f"{len(names)} class names but {len(palette)} colours; give one colour for each class")
        classes = tuple(LegendClass(i, i, name, colour) for i, (name, colour) in enumerate(zip(names, palette, strict=True)))
        return cls(classes, nodata=255 if len(names) <= 255 else _LARGEST_CODE)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def codes(self) -> tuple[int, ...]:
        """The classes' codes, in the order of the network's outputs."""
        return tuple(c.code for c in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names, in the order of the network's outputs."""
        return tuple(c.name for c in self.classes)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The smallest of uint8 and uint16 that holds every code and nodata."""
        return np.dtype(np.uint8) if max(*self.codes, self.nodata) <= 255 else np.dtype(np.uint16)

    def to_codes(self, indices: NDArray[np.integer], valid: NDArray[np.bool_] | None = None) -> NDArray[np.unsignedinteger]:
        """Codes for class indices of any shape; nodata where `valid` is False."""
        codes: NDArray[np.unsignedinteger] = np.asarray(self.codes, dtype=self.dtype)[indices]
        if valid is not None:
            codes[~valid] = self.nodata
        return codes

    def to_indices(self, codes: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Class indices for codes of any shape, and where the code is a class; elsewhere the index is 0.

        A code that is neither a class nor nodata raises InputError.
        """
        order = np.argsort(self.codes)
        known = np.asarray(self.codes)[order]
        place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        valid = known[place] == codes
        strange = np.unique(codes[~valid & (codes != self.nodata)])
        if strange.size:
            raise InputError(
                f"codes {strange[:8].tolist()} are not in the legend, which has {list(self.codes)} and {self.nodata} for no label"
            )
        return np.where(valid, order[place], 0), valid

    def remap(self, target: Legend, names: Mapping[str, str]) -> Mapping[int, int]:
        """Code of this legend → code of `target`, for the pairs of class names in `names`; others become its nodata."""
        mine, theirs = {c.name: c.code for c in self.classes}, {c.name: c.code for c in target.classes}
        for given, known in ((names.keys(), mine), (names.values(), theirs)):
            if unknown := sorted(set(given) - set(known)):
                raise InputError(f"no class {unknown[0]!r} in the legend; it has {', '.join(known)}")
        return {code: theirs[names[name]] if name in names else target.nodata for name, code in mine.items()}

    def colour_table(self) -> dict[int, tuple[int, int, int, int]]:
        """Code → red, green, blue, alpha (0…255), as rasterio's `write_colormap` takes it."""
        return {c.code: (*c.rgb, 0 if c.background else 255) for c in self.classes}


_PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee8866", "#44bb99", "#ffaabb")
"""Paul Tol's bright and light schemes: distinct also for colour-blind readers."""

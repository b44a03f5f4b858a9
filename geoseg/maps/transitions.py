"""What changed into what: areas of all transitions, and the legend of a map of changes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.legend import Legend, LegendClass
from geoseg.maps.pairs import Classes

OUTSIDE, UNOBSERVED, EXCLUDED, FIRST_PAIR = range(4)
"""Numbers of pixels that are not compared, and of the first pair of classes: from class x number of classes + to class."""

_UNCHANGED, _UNKNOWN, _LEFT_OUT, _FIRST_CHANGE = range(4)
"""Codes of the map of changes."""
_LOST_COLOUR = "#ee7733"
_LEAN = 0.75
"""Share of the new class's colour in the colour of a transition."""


@dataclass(frozen=True)
class Transitions:
    """Ground areas of every pair of classes, and of what was not compared, in square metres."""

    classes: Classes
    areas_m2: NDArray[np.float64]
    """(from class, to class)."""
    unobserved_m2: Mapping[str, float]
    """Where there is no class: `before` only, `after` only, in `both`; excluded ground counts in none."""
    excluded_m2: float
    excluded_by_m2: Mapping[str, float]
    """Each exclusion as it was named; where two overlap the ground counts in both."""
    edge_m2: float | None
    """Changed ground that shifting one of the maps by one pixel would explain; None where both have the same pixels."""
    only: str | None = None
    """The one class that is followed; the other is then what is not of it."""

    @property
    def changed_m2(self) -> float:
        """All that has another class than before."""
        return float(self.areas_m2.sum() - np.trace(self.areas_m2))

    @property
    def compared_m2(self) -> float:
        """All that has a class in both maps."""
        return float(self.areas_m2.sum())

    @property
    def common_m2(self) -> float:
        """All ground that both maps show."""
        return self.compared_m2 + sum(self.unobserved_m2.values()) + self.excluded_m2

    def pairs(self, *, changed: bool = True) -> Iterator[tuple[int, int]]:
        """(from, to) of the transitions that occur, in the order of the classes; those without change where `changed` is False."""
        for start, end in np.argwhere(self.areas_m2 > 0).tolist():
            if (start != end) == changed:
                yield start, end

    def name(self, start: int, end: int) -> str:
        """What people read: `forest → water`, or `water gained` where one class is followed."""
        if self.only is None:
            return f"{self.classes.names[start]} → {self.classes.names[end]}"
        return f"{self.only} {'kept' if start == end else 'gained' if end else 'lost'}"

    def change_codes(self) -> dict[tuple[int, int], int]:
        """(from, to) → code in the map of changes, of the transitions that are drawn there."""
        drawn = list(self.pairs())
        if self.only is not None and self.areas_m2[1, 1] > 0:
            drawn.append((1, 1))
        return {pair: _FIRST_CHANGE + number for number, pair in enumerate(drawn)}

    def change_legend(self) -> Legend:
        """The legend of the map of changes: unchanged ground transparent, unknown and excluded ground grey, then the transitions."""
        still = "unchanged" if self.only is None else f"no {self.only} in either map"
        classes = [
            LegendClass(0, _UNCHANGED, still, "#ffffff", background=True),
            LegendClass(1, _UNKNOWN, "not observed in one map or both", "#777777"),
            LegendClass(2, _LEFT_OUT, "excluded from the comparison", "#bbbbbb"),
        ]
        taken = {one.name.casefold() for one in classes}
        for pair, code in self.change_codes().items():
            name = self.name(*pair)
            classes.append(LegendClass(len(classes), code, f"{name} ({code})" if name.casefold() in taken else name, self._colour(*pair)))
        return Legend(tuple(classes), nodata=255 if len(classes) <= 255 else 65535)

    def polygon_legend(self) -> Legend | None:
        """The legend of the changed polygons alone; None where nothing changed."""
        whole, codes = self.change_legend(), self.change_codes()
        kept = [one for one in whole.classes if one.code in [code for (start, end), code in codes.items() if start != end]]
        classes = tuple(LegendClass(at, one.code, one.name, one.colour) for at, one in enumerate(kept))
        return Legend(classes, nodata=whole.nodata) if classes else None

    def lookup(self, *, polygons: bool = False) -> NDArray[np.unsignedinteger]:
        """Number of a pixel, as the constants above count it → its code in the map of changes; nodata where `polygons` leaves it out."""
        legend, count = self.change_legend(), len(self.classes)
        table = np.full(FIRST_PAIR + count**2, legend.nodata if polygons else _UNCHANGED, legend.dtype)
        table[OUTSIDE] = legend.nodata
        if not polygons:
            table[UNOBSERVED], table[EXCLUDED] = _UNKNOWN, _LEFT_OUT
        for (start, end), code in self.change_codes().items():
            if start != end or not polygons:
                table[FIRST_PAIR + start * count + end] = code
        return table

    def to_csv(self) -> str:
        """The matrix in square metres: a line for each class before, a column for each class after, then what was not compared."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        names, blank = self.classes.names, [""] * len(self.classes)
        table.writerow(["from (lines) to (columns), m2", *names, "total"])
        for name, row in zip(names, self.areas_m2.tolist(), strict=True):
            table.writerow([name, *map(_metres, row), _metres(sum(row))])
        table.writerow(["total", *map(_metres, self.areas_m2.sum(axis=0).tolist()), _metres(self.compared_m2)])
        table.writerow(["(not observed in one map or both)", *blank, _metres(sum(self.unobserved_m2.values()))])
        table.writerow(["(excluded)", *blank, _metres(self.excluded_m2)])
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """All figures, as a program reads them."""
        every = [*self.pairs(), *self.pairs(changed=False)]
        return {
            "classes": list(self.classes.names),
            "matrix_m2": self.areas_m2.tolist(),
            "transitions": [
                {
                    "from": self.classes.names[start],
                    "to": self.classes.names[end],
                    "changed": start != end,
                    **areas(float(self.areas_m2[start, end])),
                    "percent": 100 * float(self.areas_m2[start, end]) / self.compared_m2,
                }
                for start, end in sorted(every)
            ],
            "changed": areas(self.changed_m2),
            "compared": areas(self.compared_m2),
            "common": areas(self.common_m2),
            "not_observed": areas(sum(self.unobserved_m2.values())),
            "not_observed_m2": dict(self.unobserved_m2),
            "excluded": areas(self.excluded_m2),
            "excluded_by_m2": dict(self.excluded_by_m2),
            "changed_within_a_pixel_of_an_edge": None if self.edge_m2 is None else areas(self.edge_m2),
        }

    def _colour(self, start: int, end: int) -> str:
        colours = self.classes.colours
        if self.only is not None:
            return _mixed(colours[1], "#888888", 0.5) if start == end else colours[1] if end else _LOST_COLOUR
        return _mixed(colours[end], colours[start], _LEAN)


def areas(square_metres: float) -> dict[str, float]:
    """One area in the three units in which people ask for it."""
    return {"m2": square_metres, "ha": square_metres / 1e4, "km2": square_metres / 1e6}


def _metres(area: float) -> str:
    return f"{area:.3f}"


def _mixed(first: str, second: str, share: float) -> str:
    """`share` of the first colour and the rest of the second."""
    pairs = [(int(first[at : at + 2], 16), int(second[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(share * one + (1 - share) * other):02x}" for one, other in pairs)

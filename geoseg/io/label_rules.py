"""How labels become pixels: how wide a line is, whose word counts where two overlap, what other names the classes have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from geoseg.errors import InputError, LabelError
from geoseg.legend import Legend
from geoseg.settings import nearest


@dataclass(frozen=True)
class LabelRules:
    """What is done to labels on their way to pixels; as it stands, nothing."""

    shrink_m: float = 0.0
    """Metres of ground that are taken from the edges of polygons, where pixels are mixed."""
    width_m: float = 0.0
    """Metres of ground that lines, points and scribbles are wide, with round ends; they label at least the pixels that they pass."""
    order_column: str | None = None
    """Column of numbers or dates: where features overlap, the greater one wins, a missing one loses, and of equals the later in the
    file wins. None leaves it to the file's order."""
    classes: Mapping[int | str, int | str | None] = field(default_factory=dict)
    """What the labels say → name or code of the class; None for no label. What is not named here is looked up in the legend."""

    def __post_init__(self) -> None:
        """Raises InputError where a distance is negative or no number."""
        for metres, what in ((self.shrink_m, "shrink"), (self.width_m, "be wide")):
            if not 0 <= metres < math.inf:
                raise InputError(f"labels are to {what} by {metres:g} m; expected 0 or more")

    @property
    def reach_m(self) -> float:
        """How far from a pixel a geometry can lie that decides about it."""
        return max(self.shrink_m, self.width_m / 2)

    def renamed(self, values: Iterable[Any]) -> list[int | str | None]:
        """What the labels say, by the names of `classes`; numbers as int also where they are text, missing ones None."""
        said = {plain_value(value): plain_value(means) for value, means in self.classes.items()}
        return [said.get(value, value) for value in map(plain_value, values)]

    def check(self, legend: Legend) -> None:
        """Raise LabelError where `classes` names a class that the legend has not."""
        known = {value for item in legend.classes for value in (item.code, plain_value(item.name))}
        for value, means in self.classes.items():
            if plain_value(means) not in (known | {None}):
                raise LabelError(f"labels that say {value!r} are to be {means!r}, which is no class; {nearest(str(means), legend.names)}")


def plain_value(value: Any) -> int | str | None:
    """A whole number as int, also where it is stored as text or floating point; other text stripped; a missing one None."""
    text = "" if value is None or value != value else str(value).strip()
    whole = text.removesuffix(".0")
    return int(whole) if whole.removeprefix("-").isdecimal() else text or None

"""`--shape building`: which classes of a package are buildings, and by what touching ones are told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from geoseg.errors import InputError
from geoseg.models.package import Output

BLOCKS = "touching buildings are not separated: these are blocks, not buildings"

_BUILDING = re.compile("building|roof|house", re.IGNORECASE)
_EDGE = re.compile(
    r"(?:(?:building|roof|house|touching)s?\W+)*(?:edge|boundar|contour|border|outline)\w*(?:\W+(?:of|the|building|roof|house)s?)*",
    re.IGNORECASE,
)
"""The whole name of a class of edges: `edge`, `building edge`, `outlines of buildings`; not `field boundary`."""
_NO = re.compile(r"(no|non|not|without)\b", re.IGNORECASE)
_DISTANCE = re.compile("distance", re.IGNORECASE)


@dataclass(frozen=True)
class BuildingShape:
    """What is squared in one output of a package."""

    codes: tuple[int, ...]
    """Classes whose outlines get right angles."""
    edges: tuple[str, tuple[int, ...]] | None
    """Another output and its bands, counted from 1, that say where an edge is."""
    distance: str | None
    """Another output that says how far inside a building a pixel lies; edges go before it."""
    own_edge: str | None
    """A class of the same output that lies between touching buildings."""

    @property
    def touching(self) -> str:
        """One sentence on touching buildings."""
        by = self.edges[0] if self.edges else self.distance
        if by is not None:
            return f"touching buildings are separated by the model's output {by!r}"
        return BLOCKS if self.own_edge is None else f"touching buildings are separated by the class {self.own_edge!r}"


def building_shapes(shape: str | None, outputs: Sequence[Output]) -> dict[str, BuildingShape]:
    """Output → what is squared in it; empty where `shape` is None.

    `building` takes every class whose name holds building, roof or house, and none that is an edge; `building=CLASS` takes
    that class. InputError where there is no such class, or another shape is asked for.
    """
    if shape is None:
        return {}
    named = check_shape(shape)
    found = {}
    for output in outputs:
        if output.kind == "classes":
            codes = tuple(one.code for one in output.classes if (one.name == named if named else _is_building(one.name)))
            if codes:
                found[output.name] = _shape(output, codes, [other for other in outputs if other is not output])
    if not found:
        names = [one.name for output in outputs for one in output.classes]
        wanted = f"is called {named!r}" if named else "is called building, roof or house"
        raise InputError(
            f"--shape {shape} squares the outlines of buildings, but no class of the model {wanted}; it has "
            f"{', '.join(names) or 'no classes'}; name one of them with --shape building=CLASS, or leave --shape out"
        )
    return found


def check_shape(shape: str) -> str | None:
    """The class that is named, or None where it is to be found; InputError where the shape is not known."""
    kind, equals, named = shape.partition("=")
    if kind != "building" or (equals and not named):
        raise InputError(f"--shape is {shape!r}; expected building, or building=CLASS with the name of a class")
    return named or None


def _is_building(name: str) -> bool:
    return bool(_BUILDING.search(name)) and not _is_edge(name) and not _NO.match(name)


def _is_edge(name: str) -> bool:
    return bool(_EDGE.fullmatch(name.replace("_", " ")))


def _shape(output: Output, codes: tuple[int, ...], others: Sequence[Output]) -> BuildingShape:
    edges = distance = None
    for other in others:
        bands = tuple(one.index + 1 for one in other.classes if _is_edge(one.name))
        if bands and edges is None:
            edges = other.name, bands
        if other.kind == "quantity" and _DISTANCE.search(other.name) and distance is None:
            distance = other.name
    own = next((one.name for one in output.classes if _is_edge(one.name) and one.code not in codes), None)
    return BuildingShape(codes, edges, None if edges else distance, own)

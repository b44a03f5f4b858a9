"""Spectral indices by name, as spyndex's catalogue (Awesome Spectral Indices) writes their formulas.

Only the catalogue's text is read: importing spyndex itself also brings `requests` and takes as long as all of geoseg. A
formula is arithmetic over letters: bands (`N` is near infrared), constants (`L` of SAVI), wavelengths and kernels.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import BandError, MissingExtraError
from geoseg.preprocess.optical import to_physical
from geoseg.preprocess.sar import to_power
from geoseg.raster import Raster

Operand = NDArray[np.float32] | float

LETTERS: Mapping[str, tuple[str, ...]] = {
    "A": ("coastal",), "B": ("blue",), "G": ("green",), "G1": ("green05",), "Y": ("yellow",), "R": ("red",),
    "RE1": ("rededge071",), "RE2": ("rededge075",), "RE3": ("rededge078",), "N": ("nir",), "N2": ("nir08",), "WV": ("nir09",),
    "S1": ("swir16",), "S2": ("swir22",), "T": ("lwir", "lwir11"), "T1": ("lwir11",), "T2": ("lwir12",),
    "VV": ("vv",), "VH": ("vh",), "HV": ("hv",), "HH": ("hh",),
}  # fmt: skip
"""spyndex's letter → the role it stands for; where there are two, the first that the scene has."""


@dataclass(frozen=True)
class SpectralIndex:
    """One index of the catalogue."""

    name: str
    title: str
    formula: str
    letters: tuple[str, ...]
    """The formula's variables as spyndex names them."""

    def roles(self, available: Sequence[str] = ()) -> tuple[str, ...]:
        """Roles of the bands that the formula reads, in its order; `available` decides where a letter has two."""
        bands = dict.fromkeys(letter for variable in self.letters for letter in _band_letters(variable))
        return tuple(_role(letter, available) for letter in bands)

    @property
    def constants(self) -> tuple[str, ...]:
        """What of the formula may be set: its constants, wavelengths in nanometres, and the width `sigma` of its kernels."""
        plain = [variable for variable in self.letters if variable not in LETTERS and variable not in _KERNELS]
        kernels = [variable for variable in self.letters if variable in _KERNELS]
        return (*plain, *(["L"] if "kNL" in kernels else []), *(["sigma"] if kernels else []))

    def evaluate(
        self,
        planes: Mapping[str, NDArray[np.float32]],
        constants: Mapping[str, float],
        wavelengths_um: Mapping[str, float | None],
        *,
        undefined: float = float("nan"),
    ) -> NDArray[np.float32]:
        """The index of `planes` (role → `index_operand`, all of one shape) in the same shape, a new array.

        0 where the formula divides 0 by 0, as the NDVI of two equal bands is 0; `undefined` where it has no value otherwise.
        """
        operands = {variable: self._operand(variable, planes, constants, wavelengths_um) for variable in self.letters}
        formula = _parse(self.formula)
        try:
            with np.errstate(all="ignore"):
                values: NDArray[np.float32] = _calculate(formula, operands, operator.truediv)
                if any(values is plane for plane in planes.values()):  # an index that is a band itself
                    values = values.copy()
                defined = np.isfinite(values)
                if not defined.all():
                    few = {v: o[~defined] if isinstance(o, np.ndarray) else o for v, o in operands.items()}
                    again = _calculate(formula, few, _quotient)
                    values[~defined] = np.where(np.isfinite(again), again, np.float32(undefined))
        except ZeroDivisionError as error:
            raise BandError(f"index {self.name} divides by zero with the constants given: {dict(constants)}") from error
        return values

    def express(self, planes: Mapping[str, Any], constants: Mapping[str, float], wavelengths_um: Mapping[str, float | None]) -> Any:
        """The formula over anything that has arithmetic, such as the nodes of a graph: `planes` by role, and what comes of them."""
        operands = {variable: self._operand(variable, planes, constants, wavelengths_um) for variable in self.letters}
        return _calculate(_parse(self.formula), operands, operator.truediv)

    def _operand(
        self,
        variable: str,
        planes: Mapping[str, NDArray[np.float32]],
        constants: Mapping[str, float],
        wavelengths_um: Mapping[str, float | None],
    ) -> Operand:
        if variable in LETTERS:
            return planes[_role(variable, tuple(planes))]
        if variable in _KERNELS:
            one, other = (self._operand(letter, planes, constants, wavelengths_um) for letter in _KERNELS[variable])
            return _kernel(one, other, self._constant("sigma", constants))
        if variable not in constants and variable.startswith(_WAVELENGTH):
            role = _role(variable.removeprefix(_WAVELENGTH), tuple(wavelengths_um))
            if (wavelength := wavelengths_um.get(role)) is not None:
                return wavelength * 1000.0  # spyndex takes nanometres
        return self._constant(variable, constants)

    def _constant(self, name: str, constants: Mapping[str, float]) -> float:
        value = constants.get(name, _catalogue().constants.get(name))
        if value is None:
            raise BandError(f"index {self.name} needs {name}, which has no usual value; give it among the index constants")
        return float(value)


def get_index(name: str) -> SpectralIndex:
    """The index of this name, whatever its case if that is unambiguous; an unknown one is answered with the nearest known names."""
    indices = _catalogue().indices
    if name in indices:
        return indices[name]
    same = [known for known in indices if known.lower() == name.lower()]
    if len(same) == 1:
        return indices[same[0]]
    near = same or difflib.get_close_matches(name.upper(), indices, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; spyndex's documentation lists them"
    raise BandError(f"no spectral index {name!r}{hint}")


def needed_roles(name: str, available: Sequence[str] = ()) -> tuple[str, ...]:
    """Roles of the bands that an index reads; `available` decides where a letter stands for either of two."""
    return get_index(name).roles(available)


def spectral_index(name: str, raster: Raster, constants: Mapping[str, float] | None = None) -> NDArray[np.float32]:
    """(row, col) index of a raster, taken in physical values: reflectance, kelvin, linear power.

    0 where the formula divides 0 by 0; NaN where it has no value otherwise and where a band that it reads is not valid.

    >>> scene = geoseg.open_scene("scene.tif")
    >>> ndvi = geoseg.spectral_index("NDVI", geoseg.read_scene(scene, ["red", "nir"], scene.geobox()))
    >>> ndvi.shape, bool((abs(ndvi) <= 1).all())
    ((60, 60), True)
    """
    index = get_index(name)
    used = to_physical(raster.select(*index.roles(raster.roles)))
    planes = {band.role: index_operand(plane, band.unit) for band, plane in zip(used.bands, used.values, strict=True)}
    values = index.evaluate(planes, constants or {}, {band.role: band.wavelength_um for band in used.bands})
    values[~used.valid_everywhere] = np.nan
    return values


def index_operand(plane: NDArray[np.float32], unit: str) -> NDArray[np.float32]:
    """A physical plane as formulas take it: radar in linear power, reflectance not below 0.

    A negative reflectance is noise of the atmospheric correction. Left in, (a - b) / (a + b) over dark water would be any
    number, even hundreds, for a sum that happens to lie near 0.
    """
    if unit == "dB":
        return to_power(plane)
    if unit == "reflectance":
        return np.maximum(plane, np.float32(0))
    return plane


# ---------------------------------------------------------------- formulas

_KERNELS = {"kNN": "NN", "kNR": "NR", "kNB": "NB", "kNL": "NL", "kGG": "GG", "kGR": "GR", "kGB": "GB"}
"""Kernels between two operands, for kNDVI and its kin (Camps-Valls et al., Science Advances 7, 2021)."""
_WAVELENGTH = "lambda"
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
}


def _calculate(node: ast.expr, operands: Mapping[str, Operand], divide: Callable[[Any, Any], Any]) -> Any:
    """The value of a formula: a plane, or a number where it reads no plane."""
    match node:
        case ast.Name(id=name):
            return operands[name]
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_calculate(inner, operands, divide)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return divide(_calculate(left, operands, divide), _calculate(right, operands, divide))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_calculate(left, operands, divide), _calculate(right, operands, divide))
    raise BandError(f"cannot calculate {ast.unparse(node)!r} in a spectral index; its formula is more than + - * / **")


def _quotient(top: Any, bottom: Any) -> Any:
    """top / bottom, and 0 for 0 / 0."""
    if not isinstance(top, np.ndarray) and not isinstance(bottom, np.ndarray):
        return top / bottom
    return np.where(np.equal(top, 0) & np.equal(bottom, 0), np.float32(0), np.divide(top, bottom))


def _kernel(one: Operand, other: Operand, sigma: float) -> Operand:
    """The radial basis function exp(-(a - b)² / 2 sigma²), spyndex's default kernel."""
    difference = one - other
    kernel: Operand = np.exp(difference * difference * (-0.5 / sigma**2))
    return kernel


def _band_letters(variable: str) -> tuple[str, ...]:
    """Letters of the bands behind one variable of a formula: one, those of a kernel, or none."""
    if variable in LETTERS:
        return (variable,)
    return tuple(letter for letter in _KERNELS.get(variable, "") if letter in LETTERS)


def _role(letter: str, available: Sequence[str]) -> str:
    roles = LETTERS[letter]
    return next((role for role in roles if role in available), roles[0])


@lru_cache
def _parse(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body


# ---------------------------------------------------------------- the catalogue


@dataclass(frozen=True)
class _Catalogue:
    indices: Mapping[str, SpectralIndex]
    constants: Mapping[str, float | None]
    """Usual values; None where there is none."""


@lru_cache
def _catalogue() -> _Catalogue:
    """spyndex's catalogue, read once from the files that it installs, without importing it."""
    spec = importlib.util.find_spec("spyndex")
    if spec is None or spec.origin is None:
        raise MissingExtraError("spectral indices need spyndex, which is not installed; install it with: pip install spyndex")
    folder = Path(spec.origin).parent / "data"
    try:
        indices = json.loads((folder / "spectral-indices-dict.json").read_text(encoding="utf-8"))["SpectralIndices"]
        constants = json.loads((folder / "constants.json").read_text(encoding="utf-8"))
    except (OSError, KeyError, ValueError) as error:
        raise MissingExtraError(f"spyndex's catalogue cannot be read ({error}); install it again with: pip install spyndex") from error
    return _Catalogue(
        {name: SpectralIndex(name, entry["long_name"], entry["formula"], tuple(entry["bands"])) for name, entry in indices.items()},
        {name: entry["default"] for name, entry in constants.items()},
    )

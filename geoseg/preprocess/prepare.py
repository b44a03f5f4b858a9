"""Raw numbers to a network's input: one chain, used in training and in mapping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from geoseg.errors import BandError
from geoseg.preprocess.calendars import Calendar
from geoseg.preprocess.indices import get_index, index_operand
from geoseg.preprocess.optical import physical_values
from geoseg.preprocess.sar import to_decibels, to_power
from geoseg.preprocess.speckle import SpeckleFilter, despeckle, window_size
from geoseg.preprocess.terrain_correction import ILLUMINATION, FittedCorrection, TerrainCorrection
from geoseg.raster import Raster
from geoseg.sensors import ELLIPSOID_CONVENTIONS, Band, Convention


class Channel(BaseModel):
    """One plane of a network's input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """A role of `Preparation.bands` (`red`), or a spectral index that spyndex knows (`NDWI`)."""
    kind: Literal["band", "index", "present"] = "band"
    """`present` tells of a period of a series whether it is there (1) or missing (0)."""
    mean: float = Field(default=0.0, allow_inf_nan=False)
    std: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """What reaches the network is (physical value - mean) / std."""


class Despeckle(BaseModel):
    """A speckle filter in linear power."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: SpeckleFilter
    size: int = Field(default=0, validate_default=True)
    """Width of the window in pixels, odd; 0 becomes the method's usual one: 7 for `refined_lee` (always) and `gamma_map`, else 5."""
    looks: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Equivalent number of looks."""

    @model_validator(mode="before")
    @classmethod
    def _from_its_name(cls, given: Any) -> Any:
        """A method's name alone is the method with its usual window and one look."""
        return {"method": given} if isinstance(given, str) else given

    @field_validator("size")
    @classmethod
    def _fits_the_method(cls, size: int, info: ValidationInfo) -> int:
        return window_size(info.data["method"], size or None) if "method" in info.data else size


class BandNeed(BaseModel):
    """One band that a model reads, by role."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str
    unit: str
    """Unit in which the model takes it: `reflectance`, `dB`, `linear power`, `m`, `K`, `degree`, `1`."""
    convention: Convention | None = None
    """Radar only: refused when the scene's is another."""
    wavelength_um: float | None = None

    @property
    def is_radar(self) -> bool:
        """Whether this is a backscatter, in decibels or linear power."""
        return self.unit in ("dB", "linear power")


class Preparation(BaseModel):
    """All that happens between a scene's numbers and a network's input; stored in the model package."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bands: tuple[BandNeed, ...] = Field(min_length=1)
    """What is read from the scene, in order."""
    channels: tuple[Channel, ...] = Field(min_length=1)
    """What the network receives, in order."""
    despeckle: Despeckle | None = None
    terrain_correction: TerrainCorrection | None = None
    """Makes flat ground of slopes, in bands of reflectance; None leaves them as they are."""
    power_floor: float = Field(default=1e-6, gt=0.0)
    """Linear power is clamped here before decibels (-60 dB)."""
    index_constants: dict[str, float] = {}
    """Constants of index formulas (such as L of SAVI) that differ from spyndex's defaults."""
    calendar: Calendar | None = None
    """The periods of a series, from all of which one map is made; None where each date is mapped by itself."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Every channel comes from the bands, once. BandError, not ValueError: it is one sentence for the user."""
        roles = [need.role for need in self.bands]
        for what, names in (("band", roles), ("channel", [channel.name.lower() for channel in self.channels])):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise BandError(f"{what} {twice[0]!r} stands twice in the preparation; name each once")
        if self.terrain_correction is not None:
            if self.calendar is not None or ILLUMINATION in roles:
                raise BandError("a terrain correction goes neither with a series nor with the band 'illumination' as input; leave one out")
            if not self.corrected_roles:
                raise BandError(f"a terrain correction needs a band in reflectance; the preparation reads {', '.join(roles)}")
        if self.calendar is not None:
            from geoseg.preprocess.series import check_series

            check_series(self, self.calendar)
            return self
        for channel in self.channels:
            needed = get_index(channel.name).roles(roles) if channel.kind == "index" else (channel.name,)
            if missing := [role for role in needed if role not in roles]:
                raise BandError(f"channel {channel.name!r} needs the band {missing[0]!r}; the preparation reads {', '.join(roles)}")
        used = [name for channel in self.channels if channel.kind == "index" for name in get_index(channel.name).constants]
        if strange := sorted(set(self.index_constants) - set(used)):
            raise BandError(
                f"no index of the preparation has a constant {strange[0]!r}; they have {', '.join(dict.fromkeys(used)) or 'none'}"
            )
        return self

    @property
    def corrected_roles(self) -> tuple[str, ...]:
        """The bands that a terrain correction changes; none where there is no correction."""
        return tuple(need.role for need in self.bands if need.unit == "reflectance") if self.terrain_correction is not None else ()


def halo(preparation: Preparation) -> int:
    """Pixels around a tile that `prepare` must see so that the tile comes out as in the whole scene."""
    if preparation.despeckle is None or not any(need.is_radar for need in preparation.bands):
        return 0
    return preparation.despeckle.size // 2


def needed_roles(preparation: Preparation, correction: FittedCorrection | None = None) -> tuple[str, ...]:
    """The bands that `prepare` reads: those of the preparation in order, and what its terrain correction takes."""
    return (*(need.role for need in preparation.bands), *((ILLUMINATION,) if correction is not None else ()))


def prepare(
    raster: Raster, preparation: Preparation, masked: NDArray[np.bool_] | None = None, *, correction: FittedCorrection | None = None
) -> Raster:
    """A network's input from a scene's numbers: one float32 plane per channel, normalised, 0 where not valid.

    A pixel is valid, in all channels alike, where every band that the preparation reads has data and `masked` (row, col) is
    not True. The speckle filter takes in only what is data in its own band and not masked. A valid pixel's index is 0
    (before normalising) where it divides 0 by 0, and the channel's mean where it has no value otherwise. Raises BandError for a
    missing band, and for one whose unit or radar convention is not, and cannot become, the one needed.

    `correction` is the preparation's terrain correction as `geoseg.layers.light` fitted it to the scene; None where it has none, or
    where the provider made it already. It is never made twice, and never left out in silence: both are a ValueError.

    >>> package = geoseg.ModelPackage.open("my_model")
    >>> raster = geoseg.read_raster("scene.tif", {1: geoseg.open_scene("scene.tif").layer("red").band})
    >>> geoseg.prepare(raster, package.preparation).values.dtype
    dtype('float32')
    """
    _check_light(raster, preparation, correction)
    if preparation.calendar is not None:
        from geoseg.preprocess.series import prepare_series

        return prepare_series(raster, preparation, preparation.calendar, masked)
    shape = raster.values.shape[1:]
    valid = np.ones(shape, dtype=bool)
    light = None
    if correction is not None:
        light, valid = raster.band(ILLUMINATION), raster.valid[raster.index(ILLUMINATION)].copy()
    sources = []
    for need in preparation.bands:
        plane = raster.index(need.role)
        check_band(raster.bands[plane], need)
        source = _Source(raster.values[plane], raster.bands[plane], need)
        if light is not None and need.role in preparation.corrected_roles:
            source = replace(source, light=light, correction=correction)
        seen = _is_data(source, raster.valid[plane], masked)
        valid &= seen
        if preparation.despeckle is not None and need.is_radar:
            source = _without_speckle(source, seen, preparation.despeckle)
        sources.append(source)
    values = np.empty((len(preparation.channels), *shape), dtype=np.float32)
    for rows in _row_blocks(shape):
        if valid[rows].any():
            _fill(values[:, rows], [source.block(rows) for source in sources], preparation)
        if not valid[rows].all():
            np.copyto(values[:, rows], np.float32(0), where=~valid[rows])
    bands = tuple(Band(channel.name, channel.name.lower()) for channel in preparation.channels)
    return Raster(values, np.broadcast_to(valid, values.shape), raster.geobox, bands, raster.time)


def lacks_data(raster: Raster, preparation: Preparation) -> NDArray[np.bool_]:
    """(row, col) True where a band that the preparation reads has no data; nowhere in a series, of which periods may be missing."""
    if preparation.calendar is not None:
        return np.zeros(raster.geobox.shape, dtype=bool)
    return ~raster.select(*(need.role for need in preparation.bands)).valid_everywhere


def check_band(band: Band, need: BandNeed) -> None:
    """Raise BandError where a band's unit cannot become the one needed, or its radar convention is another one."""
    if band.unit != need.unit and not (need.is_radar and band.unit in _TO_POWER):
        expected = " or ".join(_TO_POWER) if need.is_radar else need.unit
        raise BandError(
            f"band {band.name!r} ({band.role}) is in unit {band.unit!r}; expected {expected}. "
            "Say what its numbers are with --unit, --scale or --sensor, or choose another scene."
        )
    if need.convention is not None and band.convention is not None and need.convention != band.convention:
        said = f"band {band.name!r} ({band.role}) is {band.convention}; expected {need.convention}"
        if {band.convention, need.convention} <= set(ELLIPSOID_CONVENTIONS):
            raise BandError(f"{said}. Add --convert {need.convention} where the scene has an incidence angle, or choose another model.")
        raise BandError(f"{said}, which cannot be had from it. Choose a scene processed so, or another model.")


def _check_light(raster: Raster, preparation: Preparation, correction: FittedCorrection | None) -> None:
    """Raise ValueError where the raster would be corrected for terrain twice, or not at all although the preparation says so."""
    done = [raster.bands[raster.index(role)].terrain_corrected is True for role in preparation.corrected_roles]
    if correction is not None and (not done or any(done)):
        raise ValueError("a terrain correction of bands that are corrected already, or by a preparation that has none")
    if correction is None and not all(done):
        raise ValueError("the preparation corrects for terrain: fit the correction to the scene first (geoseg.layers.light)")


# ---------------------------------------------------------------- below: bands, block by block

_TO_POWER: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "linear power": np.asarray,
    "dB": to_power,
    "amplitude": np.square,
}
"""Units of radar backscatter, and how each becomes linear power."""

_LARGEST = 1e18
_LARGEST_DECIBELS = 300.0
"""No quantity of the Earth is this large; a nodata value that the file forgot to declare, such as -3.4e38 or -9999 dB, is."""

_BLOCK_PIXELS = 1 << 17
"""Pixels prepared at a time: the planes of one block stay in a processor's cache."""


@dataclass(frozen=True)
class _Source:
    """A band of the scene and what the preparation makes of it."""

    stored: NDArray[Any]
    """(row, col) as the file has it."""
    band: Band
    need: BandNeed
    light: NDArray[np.float32] | None = None
    """(row, col) illumination; None where the band is not corrected for it."""
    correction: FittedCorrection | None = None

    def block(self, rows: slice) -> _Source:
        """These rows as float32 in physical values; radar in linear power."""
        with np.errstate(all="ignore"):  # what is not valid may overflow: it is 0 in the end
            values = physical_values(self.stored[rows], self.band)
            if self.correction is not None and self.light is not None:
                values = values * self.correction.factor(self.need.role, self.light[rows])
            if not self.need.is_radar:
                return replace(self, stored=values)
            power = _TO_POWER[self.band.unit](values)
        return _Source(power, replace(self.band, unit="linear power"), self.need)


def _is_data(source: _Source, valid: NDArray[np.bool_], masked: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """(row, col); True where a band has data that is a number of a sensible size, and is not masked."""
    seen = valid if masked is None else valid & ~masked
    if np.issubdtype(source.stored.dtype, np.floating):
        largest = (_LARGEST_DECIBELS if source.band.unit == "dB" else _LARGEST) / abs(source.band.scale or 1)
        seen = seen & (source.stored > -largest)  # False for NaN
        seen &= source.stored < largest
    return seen


def _without_speckle(source: _Source, seen: NDArray[np.bool_], despeckling: Despeckle) -> _Source:
    power = source.block(slice(None))
    filtered = despeckle(power.stored, seen, despeckling.method, size=despeckling.size, looks=despeckling.looks)
    return replace(power, stored=filtered, band=replace(power.band, scale=1.0, offset=0.0, nodata=None))


def _row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    rows, cols = shape
    step = max(1, _BLOCK_PIXELS // max(cols, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _fill(out: NDArray[np.float32], blocks: Sequence[_Source], preparation: Preparation) -> None:
    """Write the normalised channels of one block of rows into `out` (channel, row, col)."""
    by_role = {block.need.role: block for block in blocks}
    indices = {channel.name: get_index(channel.name) for channel in preparation.channels if channel.kind == "index"}
    read = dict.fromkeys(role for index in indices.values() for role in index.roles(tuple(by_role)))
    operands = {role: index_operand(by_role[role].stored, by_role[role].band.unit) for role in read}
    wavelengths_um = {role: block.band.wavelength_um or block.need.wavelength_um for role, block in by_role.items()}
    with np.errstate(all="ignore"):
        for plane, channel in zip(out, preparation.channels, strict=True):
            if channel.kind == "index":
                index = indices[channel.name]
                values = index.evaluate(operands, preparation.index_constants, wavelengths_um, undefined=channel.mean)
            else:
                values = _as_needed(by_role[channel.name], preparation.power_floor)
            np.subtract(values, np.float32(channel.mean), out=plane)
            plane /= np.float32(channel.std)


def _as_needed(source: _Source, power_floor: float) -> NDArray[np.float32]:
    return to_decibels(source.stored, power_floor) if source.need.unit == "dB" else source.stored

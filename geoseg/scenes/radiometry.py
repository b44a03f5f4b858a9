"""What a band's numbers mean in this very file: scale, offset, nodata, unit and convention, and whether the data agree."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoseg.errors import BandError
from geoseg.io.file_bands import FileBand, sample_pixels
from geoseg.scenes.products import S2_OFFSET, S2_OFFSET_BASELINE, Product
from geoseg.scenes.recognise import Found, Hint, Hints
from geoseg.sensors import Band, Convention, Sensor

POWER_UNITS = {
    "db": "dB",
    "decibel": "dB",
    "decibels": "dB",
    "linear": "linear power",
    "power": "linear power",
    "intensity": "linear power",
}
DARK_IS_RAISED = (950.0, 1500.0)
"""A scene whose darkest 1 % lies here in every band looked at has Sentinel-2's +1000 in it; above, it may be bright ground or cloud."""
DARK_BANDS = ("swir22", "red", "nir", "green")


@dataclass(frozen=True)
class Override:
    """What the user says of the numbers, before anything else; None where nothing was said."""

    scale: float | None = None
    offset: float | None = None
    unit: str | None = None
    convention: Convention | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not (np.isfinite(self.scale) and self.scale != 0):
            raise BandError(f"--scale is {self.scale}; expected a number other than 0: physical value = scale x stored number + offset")
        if self.offset is not None and not np.isfinite(self.offset):
            raise BandError(f"--offset is {self.offset}; expected a number: physical value = scale x stored number + offset")


def settle(found: Found, sensor: Sensor, product: Product, hints: Hints, override: Override) -> Band:
    """The band with the numbers of its file: user, product metadata, STAC, file tags, then the sensor's table."""
    band = replace(found.band, nodata=_nodata(found.at, found.band, hints))
    if band.unit == "class":
        return band
    stated = _stated(found.at, band, product, hints.get((found.at.path, found.at.index), Hint()))
    band = _decoded(replace(band, scale=stated[0], offset=stated[1], unit=stated[2]), found)
    if band.kind == "radar":
        band = _radar(band, found.at, product)
    if band.role in ("incidence_angle", "local_incidence_angle"):
        band = _angle(band, found.at)
    if band.kind == sensor.kind or (sensor.name == "generic" and band.kind in ("optical", "radar", "generic")):
        band = _overridden(band, override)
    if band.kind == "radar" and band.nodata is None and band.unit in ("linear power", "amplitude"):
        band = replace(band, nodata=0.0)
    return band


def _decoded(band: Band, found: Found) -> Band:
    """The band without its encoding where the file states a scale of its own, or holds floating point, which nobody encodes."""
    stated = (band.scale, band.offset) != (found.band.scale, found.band.offset)
    if band.encoding == "linear" or not (stated or found.at.dtype.startswith("float")):
        return band
    if stated:
        return replace(band, encoding="linear")
    return replace(band, encoding="linear", scale=1.0, offset=0.0, nodata=found.at.nodata)


def sentinel_2_offset(product: Product) -> float | None:
    """The offset that the processing baseline asks for (-0.1 since 04.00, whatever the date); None where the baseline is not known."""
    if product.baseline is None or not re.fullmatch(r"\d{2}\.\d{2}", product.baseline):
        return None
    return S2_OFFSET if int(product.baseline.replace(".", "")) >= S2_OFFSET_BASELINE else 0.0


def doubts(found: Sequence[tuple[FileBand, Band]], sensor: Sensor, product: Product, override: Override) -> list[str]:
    """Sentences where the stored numbers look unlike what their scale and offset say, or where a radar's unit is unknown.

    Raises BandError where they cannot be what they are said to be: decibels given as power.
    """
    warnings = []
    unknown = [at for at, band in found if band.kind == "radar" and band.unit == "unknown"]
    if unknown:
        sample = sample_pixels(unknown[0].path, unknown[0].index)
        negative = sample.dtype.kind == "f" and bool(np.nanmedian(np.where(np.isfinite(sample), sample, np.nan)) < 0)
        looks = "; most values are negative, as in decibels" if negative else ""
        warnings.append(
            f"nothing says whether the radar bands hold decibels or linear power{looks}: say it with --unit dB or --unit 'linear power'."
        )
    _refuse_negative_power(found)
    if sensor.name.startswith("landsat") and sensor.name.endswith("-l1") and not product.scales and override.scale is None:
        warnings.append(
            "no MTL.txt lies beside the bands, so reflectance is not corrected for the sun's height (or gains are not known at all)."
        )
    if sensor.name.startswith("sentinel-2") and override.scale is None and override.offset is None:
        warnings += _offset_doubts({band.role: (at, band) for at, band in found}, product)
    return warnings


def _refuse_negative_power(found: Sequence[tuple[FileBand, Band]]) -> None:
    """Raise BandError where decibels are given as power: power below 0 is noise that was subtracted, and small."""
    powers = [(at, band) for at, band in found if band.kind == "radar" and band.unit in ("linear power", "amplitude")]
    for at, band in powers[:1]:
        sample = sample_pixels(at.path, at.index).astype(np.float64) * band.scale + band.offset
        known = sample[np.isfinite(sample) & (sample > _NEVER_DECIBELS) & (sample != band.nodata)]
        if known.size and (median := float(np.median(known))) < -1:
            raise BandError(
                f"{band.role} of {at.path} is said to hold {band.unit}, but most of its values are negative (median {median:.1f}), "
                "as in decibels; say --unit dB"
            )


_NEVER_DECIBELS = -300.0
"""Numbers below this are no data that nobody declared."""


def _offset_doubts(by_role: dict[str, tuple[FileBand, Band]], product: Product) -> list[str]:
    """Sentinel-2: whether the darkest pixels agree with the offset that is going to be applied."""
    chosen = [by_role[role] for role in DARK_BANDS if role in by_role][:2]
    if not chosen:
        return []
    offset = chosen[0][1].offset
    samples = [sample_pixels(at.path, at.index) for at, _ in chosen]
    positive = [sample[np.isfinite(sample) & (sample > 0)] for sample in samples]
    if not all(len(values) for values in positive):
        return []
    dark = min(float(np.percentile(values, 1)) for values in positive)
    bright = max(float(np.percentile(values, 99)) for values in positive)
    if bright <= 2.0 and chosen[0][0].dtype.startswith("float"):
        return ["the values look like reflectance already (none above 2): add --scale 1 --offset 0 if they are."]
    if offset < 0 and dark * chosen[0][1].scale + offset < -0.03:
        stated = f"baseline {product.baseline}" if product.baseline else "the metadata"
        return [
            f"{stated} says that {-offset:g} is to be subtracted, but the darkest pixels hold {dark:.0f}, which would make them negative: "
            "the offset seems to be removed already; add --offset 0 if it is."
        ]
    if offset == 0 and DARK_IS_RAISED[0] <= dark <= DARK_IS_RAISED[1]:
        return [
            f"the darkest pixels hold {dark:.0f}, about 1000 too high, as in Sentinel-2 products of baseline 04.00 and later: "
            "add --offset -0.1 if this is one."
        ]
    return []


def _stated(at: FileBand, band: Band, product: Product, hint: Hint) -> tuple[float, float, str]:
    """Scale, offset and unit by whoever states them first."""
    name = next((key for key in product.scales if key.lower() in (band.name.lower(), *(a.lower() for a in band.aliases))), None)
    if name is not None:
        return product.scales[name]
    if product.offset_removed and band.unit == "reflectance":
        return band.scale, 0.0, band.unit
    if hint.scale is not None or hint.offset is not None:
        return hint.scale or 1.0, hint.offset or 0.0, _unit(hint.unit, band, hint.scale or 1.0)
    if (at.scale, at.offset) != (1.0, 0.0):
        return at.scale, at.offset, _unit(at.unit, band, at.scale)
    if band.unit == "reflectance" and (offset := sentinel_2_offset(product)) is not None:
        return band.scale, offset, band.unit
    return band.scale, band.offset, _unit(at.unit or hint.unit, band, band.scale)


def _unit(stated: str | None, band: Band, scale: float) -> str:
    """The unit as this project spells it; the table's where the file's is of no use."""
    text = (stated or "").strip().lower()
    if band.kind == "radar":
        return POWER_UNITS.get(text, band.unit)
    if text in ("k", "kelvin"):
        return "K"
    if text in ("reflectance",) or (band.kind == "optical" and scale != 1.0):
        return "reflectance"
    return band.unit


def _radar(band: Band, at: FileBand, product: Product) -> Band:
    """What the product, or a name such as `Sigma0_VV_db` (SNAP writes power without `_db`), says of backscatter."""
    unit, convention = product.unit or band.unit, product.convention or band.convention
    name = at.description or at.path
    match = re.search(r"(?i)(beta0|sigma0|gamma0)[_\- ]*(vv|vh|hh|hv)([_\- ]*db)?", name)
    if match and unit == "unknown" and at.dtype.startswith("float"):
        unit = "dB" if match[3] else "linear power"
    if match and convention is None and match[1].lower() != "gamma0":  # SNAP calls terrain-corrected gamma0 so, too
        convention = "sigma0" if match[1].lower() == "sigma0" else "beta0"
    return replace(band, unit=unit, convention=convention, noise_removed=product.noise_removed, despeckled=product.despeckled)


def _angle(band: Band, at: FileBand) -> Band:
    """An angle in degrees; radians where the file says so, or where no number is above π / 2: no radar looks so steeply down."""
    if band.scale != 1.0:
        return band
    said = at.unit.strip().lower()
    if not said and at.dtype.startswith("float"):
        sample = sample_pixels(at.path, at.index)
        said = "rad" if (sample > 0).any() and np.nanmax(sample, initial=0) <= math.pi / 2 else ""
    return replace(band, scale=math.degrees(1)) if said in ("rad", "radian", "radians") else band


def _overridden(band: Band, override: Override) -> Band:
    """The user's words; a scale without an offset means no offset, and makes reflectance of optical numbers."""
    if override.scale is not None:
        unit = "reflectance" if band.kind == "optical" else band.unit
        band = replace(band, scale=override.scale, offset=0.0, unit=unit, encoding="linear")
    if override.offset is not None:
        band = replace(band, offset=override.offset)
    if override.unit is not None:
        band = replace(band, unit=POWER_UNITS.get(override.unit.lower(), override.unit))
    return replace(band, convention=override.convention) if override.convention and band.kind == "radar" else band


def _nodata(at: FileBand, band: Band, hints: Hints) -> float | None:
    """The file's own, then STAC's, then the table's."""
    if at.nodata is not None:
        return at.nodata
    stated = hints.get((at.path, at.index), Hint()).nodata
    return stated if stated is not None else band.nodata

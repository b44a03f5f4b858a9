"""Sensors and their bands: what each band means, by role, and how its numbers become physical quantities.

`SENSORS` at the end is the one table; a new sensor is one entry there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from geoseg.errors import BandError, InputError

Kind = Literal["optical", "radar", "elevation", "thermal", "generic"]
"""How a band is prepared: reflectance, backscatter, metres, kelvin, or as it comes."""

Convention = Literal["beta0", "sigma0", "gamma0_ellipsoid", "gamma0_rtc"]
"""The area that radar backscatter is referred to: in the slant plane; on the ellipsoid; across the beam there; across it on terrain."""
ELLIPSOID_CONVENTIONS: tuple[Convention, ...] = ("beta0", "sigma0", "gamma0_ellipsoid")
"""Those that the incidence angle converts into one another."""

Encoding = Literal["linear", "signed_square"]
"""What scale x stored number + offset is: the physical value; or the root of its size, with its sign."""


@dataclass(frozen=True)
class Band:
    """One band: its name with the provider, its role, and what its numbers mean."""

    name: str
    """The provider's name, such as `B04`."""
    role: str
    """What it is for: STAC's common names (`red`, `nir`, `swir16`), `vv`, `height`, `quality` …"""
    wavelength_um: float | None = None
    """Centre wavelength in micrometres; None where it has none."""
    bandwidth_um: float | None = None
    """Full width at half maximum in micrometres."""
    gsd_m: float | None = None
    """Ground sampling distance of the product in metres."""
    scale: float = 1.0
    """Physical value = scale x stored number + offset, unless `encoding` says more."""
    offset: float = 0.0
    nodata: float | None = None
    """Stored number that means no data; never scaled or offset."""
    unit: str = "1"
    """Unit of the physical value: `reflectance`, `linear power`, `dB`, `amplitude`, `K`, `m`, `degree`, `class`, `count`, `1`;
    `unknown` where it matters (radar) and nobody said it."""
    kind: Kind = "generic"
    convention: Convention | None = None
    """Radar only; None where it is not known."""
    aliases: tuple[str, ...] = ()
    """Other names; case, separators, leading zeros and a resolution at the end (`_10m`) never matter."""
    noise_removed: bool | None = None
    """Radar only: whether thermal noise was subtracted; None where it is not known."""
    despeckled: str | None = None
    """Radar only: the filter against speckle that it went through, such as `quegan`; None where none is known."""
    terrain_corrected: bool | None = None
    """Reflectance only: whether slopes were made as bright as flat ground; None where it is not known."""
    encoding: Encoding = "linear"
    """`signed_square` is for numbers that were stored finer near 0, as embeddings in a byte are."""


OrbitPass = Literal["ascending", "descending"]
"""Whether a satellite flew north or south."""

QualityClass = Literal["nodata", "saturated", "cloud", "cloud_shadow", "cirrus", "snow", "water", "layover", "radar_shadow"]
"""What a quality layer can say of a pixel."""


@dataclass(frozen=True)
class QualityTable:
    """How to read a sensor's quality layer."""

    coding: Literal["codes", "bits", "planes"]
    """`codes`: the number is a class; `bits`: each bit is a flag, those of a second layer counted on from 16; `planes`: one 0/1 band for
    each class."""
    meanings: Mapping[QualityClass, tuple[int, ...]]
    """Class → its codes, its bits (counted from 0), or its bands (counted from 1)."""


@dataclass(frozen=True)
class Sensor:
    """A sensor at one processing level, such as `sentinel-2-l2a`."""

    name: str
    title: str
    bands: tuple[Band, ...]
    """In the provider's order."""
    kind: Kind
    quality: QualityTable | None = None
    """How its band with role `quality` is read; None where it has none."""
    attribution: str = ""
    """What the provider asks to be written beside results; `{year}` is filled in."""
    notes: tuple[str, ...] = field(default=())

    def select(self, *roles: str) -> tuple[Band, ...]:
        """The bands with these roles, in this order."""
        by_role = {band.role: band for band in self.bands}
        if missing := [role for role in roles if role not in by_role]:
            raise BandError(f"{self.title} has no {missing[0]!r} band; it has {', '.join(by_role)}")
        return tuple(by_role[role] for role in roles)

    def band_named(self, name: str) -> Band | None:
        """The band with this name, else alias, else role, however it is spelt (`B4`, `band 04`, `b04_10m`); None where there is none."""
        wanted = _plain(name)
        for names in ([(b.name,) for b in self.bands], [b.aliases for b in self.bands], [(b.role,) for b in self.bands]):
            for band, spellings in zip(self.bands, names, strict=True):
                if wanted in map(_plain, spellings):
                    return band
        return None

    def in_order(self, count: int) -> tuple[Band, ...] | None:
        """The bands of an unlabelled file with `count` bands, in the provider's order; None where the count fits no usual product."""
        if self.name in UNORDERED:
            return None
        data = tuple(band for band in self.bands if not band.role.startswith("quality"))
        main = tuple(band for band in data if band.kind == self.kind)
        return next((bands for bands in (data, main) if len(bands) == count), None)


def get_sensor(name: str) -> Sensor:
    """The sensor of this name; an unknown one is answered with the nearest known names.

    >>> sensor = geoseg.get_sensor("sentinel-2-l2a")
    >>> [(band.name, band.role) for band in sensor.bands][:2]
    [('B01', 'coastal'), ('B02', 'blue')]
    """
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    if wanted in SENSORS:
        return SENSORS[wanted]
    near = difflib.get_close_matches(wanted, SENSORS, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(f"no sensor {name!r}; {hint}There are {', '.join(SENSORS)}.")


def _plain(name: str) -> str:
    """A band's name without what spellings differ in: `B04_10m`, `Band 4` and `b4` are all `b4`."""
    name = re.sub(r"[_\s-]+\d+m$", "", name.strip().lower())
    name = re.sub(r"[^a-z0-9]", "", name)
    return re.sub(r"^(?:band|b)0*(\d+a?)$", r"b\1", name)


# ---------------------------------------------------------------- the table

_Row = tuple[str, str, float, float, float, tuple[str, ...]]
"""name, role, centre wavelength and bandwidth in micrometres, ground sampling distance in metres, other names."""


def _optical(rows: tuple[_Row, ...], *, scale: float = 1.0, offset: float = 0.0, nodata: float | None = 0.0) -> tuple[Band, ...]:
    """Bands of reflectance; plain digital numbers (unit `1`) where no scale is known."""
    unit = "1" if scale == 1.0 else "reflectance"
    return tuple(
        Band(name, role, wavelength, width, gsd, scale, offset, nodata, unit, "optical", aliases=aliases)
        for name, role, wavelength, width, gsd, aliases in rows
    )


def _thermal(rows: tuple[_Row, ...], *, scale: float, offset: float, nodata: float, unit: str = "K") -> tuple[Band, ...]:
    """Bands of surface or brightness temperature."""
    return tuple(replace(band, unit=unit, kind="thermal") for band in _optical(rows, scale=scale, offset=offset, nodata=nodata))


def _quality(name: str, gsd_m: float, *aliases: str, nodata: float | None = None) -> Band:
    return Band(name, "quality", gsd_m=gsd_m, nodata=nodata, unit="class", aliases=aliases)


_SENTINEL_2: tuple[_Row, ...] = (  # Sentinel-2A; B and C differ by a few nanometres
    ("B01", "coastal", 0.4427, 0.021, 60, ("aerosol", "coastal aerosol")),
    ("B02", "blue", 0.4924, 0.066, 10, ()),
    ("B03", "green", 0.5598, 0.036, 10, ()),
    ("B04", "red", 0.6646, 0.031, 10, ()),
    ("B05", "rededge071", 0.7041, 0.015, 20, ("rededge1", "red edge 1")),
    ("B06", "rededge075", 0.7405, 0.015, 20, ("rededge2", "red edge 2")),
    ("B07", "rededge078", 0.7828, 0.020, 20, ("rededge3", "red edge 3")),
    ("B08", "nir", 0.8328, 0.106, 10, ()),
    ("B8A", "nir08", 0.8647, 0.021, 20, ("B08A", "rededge4", "narrow nir", "nir narrow")),
    ("B09", "nir09", 0.9451, 0.020, 60, ("water vapour",)),
    ("B10", "cirrus", 1.3735, 0.031, 60, ()),
    ("B11", "swir16", 1.6137, 0.091, 20, ("swir1",)),
    ("B12", "swir22", 2.2024, 0.175, 20, ("swir2",)),
)
_OLI: tuple[_Row, ...] = (
    ("B1", "coastal", 0.443, 0.016, 30, ("OLI_B1", "aerosol", "coastal aerosol")),
    ("B2", "blue", 0.482, 0.060, 30, ("OLI_B2",)),
    ("B3", "green", 0.561, 0.057, 30, ("OLI_B3",)),
    ("B4", "red", 0.655, 0.037, 30, ("OLI_B4",)),
    ("B5", "nir", 0.865, 0.028, 30, ("OLI_B5", "nir08")),
    ("B6", "swir16", 1.609, 0.085, 30, ("OLI_B6", "swir1")),
    ("B7", "swir22", 2.201, 0.187, 30, ("OLI_B7", "swir2")),
    ("B8", "pan", 0.590, 0.172, 15, ("OLI_B8", "panchromatic")),
    ("B9", "cirrus", 1.373, 0.020, 30, ("OLI_B9",)),
)
_TIRS: tuple[_Row, ...] = (
    ("B10", "lwir11", 10.895, 0.590, 30, ("TIRS_B10", "lwir", "tirs1")),
    ("B11", "lwir12", 12.005, 1.010, 30, ("TIRS_B11", "tirs2")),
)
_TM: tuple[_Row, ...] = (
    ("B1", "blue", 0.485, 0.070, 30, ("TM_B1",)),
    ("B2", "green", 0.560, 0.080, 30, ("TM_B2",)),
    ("B3", "red", 0.660, 0.060, 30, ("TM_B3",)),
    ("B4", "nir", 0.830, 0.140, 30, ("TM_B4", "nir08")),
    ("B5", "swir16", 1.650, 0.200, 30, ("TM_B5", "swir1")),
    ("B7", "swir22", 2.215, 0.270, 30, ("TM_B7", "swir2")),
)
_TM_THERMAL: tuple[_Row, ...] = (("B6", "lwir", 11.450, 2.100, 30, ("TM_B6",)),)
_ETM: tuple[_Row, ...] = (
    ("B1", "blue", 0.483, 0.065, 30, ("ETM_B1",)),
    ("B2", "green", 0.565, 0.080, 30, ("ETM_B2",)),
    ("B3", "red", 0.660, 0.060, 30, ("ETM_B3",)),
    ("B4", "nir", 0.838, 0.125, 30, ("ETM_B4", "nir08")),
    ("B5", "swir16", 1.650, 0.200, 30, ("ETM_B5", "swir1")),
    ("B7", "swir22", 2.220, 0.260, 30, ("ETM_B7", "swir2")),
)
_ETM_PAN: tuple[_Row, ...] = (("B8", "pan", 0.710, 0.380, 15, ("ETM_B8", "panchromatic")),)
_ETM_THERMAL: tuple[_Row, ...] = (("B6", "lwir", 11.450, 2.100, 30, ("B6_VCID_1", "ETM_B6", "ETM_B6_VCID_1")),)


def _renamed(rows: tuple[_Row, ...], pattern: str) -> tuple[_Row, ...]:
    """The same bands under a product's own names: `B5` becomes `SR_B5` (and stays an alias) for the pattern `SR_{}`."""
    return tuple((pattern.format(name), role, wl, width, gsd, (name, *aliases)) for name, role, wl, width, gsd, aliases in rows)


_QA_PIXEL: Mapping[QualityClass, tuple[int, ...]] = {"cloud": (1, 3), "cloud_shadow": (4,), "cirrus": (2,), "snow": (5,), "water": (7,)}
"""Landsat Collection 2, QA_PIXEL; bit 1, the provider's own margin around clouds, counts as cloud."""
_OLI_QUALITY = QualityTable("bits", {**_QA_PIXEL, "nodata": (0, 16 + 11), "saturated": tuple(range(16, 16 + 7))})
"""With QA_RADSAT behind it: bands 1 to 7 saturated; bit 11, hidden behind terrain, has no data of its place."""
_TM_QUALITY = QualityTable("bits", {**_QA_PIXEL, "nodata": (0, 16 + 9), "saturated": (*range(16, 16 + 5), 16 + 6)})
"""Bands 1 to 5 and 7 saturated, the thermal band 6 left out; bit 9 is a dropped pixel."""
_L1C_CLOUDS = QualityTable("planes", {"cloud": (1,), "cirrus": (2,), "snow": (3,)})
"""Sentinel-2 Level-1C, MSK_CLASSI_B00: opaque clouds, cirrus, snow and ice."""
_FMASK = QualityTable("bits", {"cloud": (1, 2), "cloud_shadow": (3,), "cirrus": (0,), "snow": (4,), "water": (5,)})
"""HLS; bit 2, next to cloud or shadow, counts as cloud."""
_SCL = QualityTable(
    "codes",
    {"nodata": (0,), "saturated": (1,), "cloud": (8, 9), "cloud_shadow": (3,), "cirrus": (10,), "snow": (11,), "water": (6,)},
)
_UDM2 = QualityTable("planes", {"cloud": (5, 6), "cloud_shadow": (3,), "snow": (2,)})
"""PlanetScope; heavy haze (band 5) counts as cloud."""
_OPERA_MASK = QualityTable("codes", {"layover": (2, 3), "radar_shadow": (1, 3)})
_GAMMA_LS_MAP = QualityTable("bits", {"layover": (1, 2), "radar_shadow": (3, 4)})
"""HyP3, written by GAMMA: slopes that cause layover or shadow (bits 1 and 3) count as what lies in it (2 and 4); bit 0: was looked at."""

_COPERNICUS = "Contains modified Copernicus Sentinel data {year}"
_USGS = "Landsat imagery courtesy of the U.S. Geological Survey"
_NASA = "Data courtesy of NASA's Land Processes Distributed Active Archive Center"


_LANDSAT_QUALITY = (_quality("QA_PIXEL", 30, "pixel_qa"), Band("QA_RADSAT", "quality2", gsd_m=30, unit="class", aliases=("radsat_qa",)))


def _landsat_level_1(name: str, title: str, optical: tuple[Band, ...], thermal: tuple[_Row, ...]) -> Sensor:
    radiance = _thermal(thermal, scale=1.0, offset=0.0, nodata=0.0, unit="1")
    bands = (*sorted((*optical, *radiance), key=lambda band: int(band.name[1:])), *_LANDSAT_QUALITY)
    notes = (
        "Reflectance is top of atmosphere; gains and the sun's height are read from MTL.txt.",
        "Thermal bands are brightness temperature by the constants of MTL.txt.",
    )
    return Sensor(name, title, bands, "optical", _OLI_QUALITY if optical[0].role == "coastal" else _TM_QUALITY, _USGS, notes)


def _landsat_level_2(name: str, title: str, optical: tuple[_Row, ...], thermal: tuple[_Row, ...]) -> Sensor:
    surface = _optical(_renamed(optical, "SR_{}"), scale=2.75e-5, offset=-0.2)
    temperature = _thermal(_renamed(thermal, "ST_{}"), scale=0.00341802, offset=149.0, nodata=0.0)
    table = _OLI_QUALITY if surface[0].role == "coastal" else _TM_QUALITY
    return Sensor(name, title, (*surface, *temperature, *_LANDSAT_QUALITY), "optical", table, _USGS)


def _radar(convention: Convention | None, *, gsd_m: float = 10) -> tuple[Band, ...]:
    names = ("VV", "VH", "HH", "HV")
    polarised = tuple(Band(n, n.lower(), gsd_m=gsd_m, unit="unknown", kind="radar", convention=convention) for n in names)
    return (*polarised, *_ANGLES)


_ANGLES = (
    Band("incidence_angle", "incidence_angle", unit="degree", aliases=("angle", "inc_map_ell", "incidenceAngleFromEllipsoid")),
    Band("local_incidence_angle", "local_incidence_angle", unit="degree", aliases=("inc_map", "lia")),
)
"""Between the beam and what is upright: on the ellipsoid, and on the slope of the terrain."""


def _plain_bands(*roles: str) -> tuple[Band, ...]:
    """Aerial bands: digital numbers without a known relation to reflectance."""
    return tuple(Band(role, role, _WAVELENGTHS[role][0], _WAVELENGTHS[role][1], kind="optical") for role in roles)


_WAVELENGTHS: dict[str, tuple[float, float]] = {  # STAC's common names: centre and width in micrometres of the usual range
    "coastal": (0.443, 0.05), "blue": (0.48, 0.10), "green": (0.55, 0.10), "green05": (0.53, 0.04), "yellow": (0.60, 0.05),
    "red": (0.65, 0.10), "rededge": (0.74, 0.10), "rededge071": (0.71, 0.04), "rededge075": (0.74, 0.02), "rededge078": (0.78, 0.04),
    "nir": (0.85, 0.20), "nir08": (0.865, 0.03), "nir09": (0.945, 0.04), "pan": (0.65, 0.40), "cirrus": (1.375, 0.03),
    "swir12": (1.24, 0.02), "swir16": (1.65, 0.20), "swir22": (2.20, 0.30),
}  # fmt: skip
_KNOWN_ROLES: tuple[Band, ...] = (
    *(Band(role, role, centre, width, kind="optical") for role, (centre, width) in _WAVELENGTHS.items()),
    *(Band(role, role, unit="K", kind="thermal") for role in ("lwir", "lwir11", "lwir12")),
    *(Band(role.upper(), role, unit="unknown", kind="radar") for role in ("vv", "vh", "hh", "hv")),
    Band("height", "height", unit="m", kind="elevation", aliases=("dem", "dtm", "dsm", "elevation", "srtm")),
    Band("slope", "slope", unit="degree", kind="elevation"),
    Band("aspect", "aspect", unit="degree", kind="elevation"),
    *_ANGLES,
    Band("quality", "quality", unit="class"),
    Band("observations", "observations", unit="count"),
)
_PLANET_8: tuple[_Row, ...] = (
    ("coastal_blue", "coastal", 0.443, 0.020, 3, ("coastal blue", "coastalblue")),
    ("blue", "blue", 0.490, 0.050, 3, ()),
    ("green_i", "green05", 0.531, 0.036, 3, ("green 1", "greeni")),
    ("green", "green", 0.565, 0.036, 3, ("green_ii", "green 2")),
    ("yellow", "yellow", 0.610, 0.020, 3, ()),
    ("red", "red", 0.665, 0.031, 3, ()),
    ("rededge", "rededge071", 0.705, 0.015, 3, ("red_edge",)),
    ("nir", "nir", 0.865, 0.040, 3, ()),
)
_WORLDVIEW_2: tuple[_Row, ...] = (
    ("coastal", "coastal", 0.427, 0.050, 1.84, ("C",)),
    ("blue", "blue", 0.478, 0.060, 1.84, ("B",)),
    ("green", "green", 0.546, 0.070, 1.84, ("G",)),
    ("yellow", "yellow", 0.608, 0.040, 1.84, ("Y",)),
    ("red", "red", 0.659, 0.060, 1.84, ("R",)),
    ("rededge", "rededge071", 0.724, 0.040, 1.84, ("RE", "red_edge")),
    ("nir1", "nir", 0.833, 0.125, 1.84, ("N", "nir")),
    ("nir2", "nir09", 0.949, 0.180, 1.84, ("N2",)),
)
_MODIS: tuple[_Row, ...] = (
    ("sur_refl_b01", "red", 0.645, 0.050, 500, ("sur_refl_b01_1", "B1")),
    ("sur_refl_b02", "nir", 0.8585, 0.035, 500, ("sur_refl_b02_1", "B2")),
    ("sur_refl_b03", "blue", 0.469, 0.020, 500, ("sur_refl_b03_1", "B3")),
    ("sur_refl_b04", "green", 0.555, 0.020, 500, ("sur_refl_b04_1", "B4")),
    ("sur_refl_b05", "swir12", 1.240, 0.020, 500, ("sur_refl_b05_1", "B5")),
    ("sur_refl_b06", "swir16", 1.640, 0.024, 500, ("sur_refl_b06_1", "B6")),
    ("sur_refl_b07", "swir22", 2.130, 0.050, 500, ("sur_refl_b07_1", "B7")),
)
_HLS_S30 = tuple((name, role, wl, width, 30.0, aliases) for name, role, wl, width, _, aliases in _SENTINEL_2)
_HLS_L30 = tuple(row for row in _OLI if row[1] != "pan")
_HLS_TIRS = _thermal(_TIRS, scale=0.01, offset=273.15, nodata=-9999.0)  # stored in hundredths of a degree Celsius

_ALPHAEARTH = tuple(
    Band(f"A{axis:02d}", f"a{axis:02d}", gsd_m=10, scale=1 / 127.5, nodata=-128.0, encoding="signed_square") for axis in range(64)
)
"""Vectors of length 1, an axis in each band; (v / 127.5)² with the sign of v makes them of the stored numbers."""

UNORDERED = frozenset({"sentinel-1-grd", "sentinel-1-rtc", "opera-rtc-s1", "hyp3-rtc-s1", "generic"})
"""Sensors whose files come in no fixed order of bands."""

_TABLE: tuple[Sensor, ...] = (
    Sensor(
        "sentinel-2-l1c",
        "Sentinel-2 Level-1C (top of atmosphere)",
        (*_optical(_SENTINEL_2, scale=1e-4), _quality("MSK_CLASSI", 60)),
        "optical",
        _L1C_CLOUDS,
        _COPERNICUS,
    ),
    Sensor(
        "sentinel-2-l2a",
        "Sentinel-2 Level-2A (surface)",
        (*_optical(tuple(row for row in _SENTINEL_2 if row[0] != "B10"), scale=1e-4), _quality("SCL", 20)),
        "optical",
        _SCL,
        _COPERNICUS,
    ),
    Sensor("sentinel-1-grd", "Sentinel-1 ground range detected", _radar(None), "radar", None, _COPERNICUS),
    Sensor("sentinel-1-rtc", "Sentinel-1 radiometrically terrain corrected", _radar("gamma0_rtc"), "radar", None, _COPERNICUS),
    Sensor(
        "opera-rtc-s1",
        "OPERA RTC-S1: Sentinel-1 bursts, radiometrically terrain corrected",
        (*_radar("gamma0_rtc", gsd_m=30), _quality("mask", 30, nodata=255.0)),
        "radar",
        _OPERA_MASK,
        f"{_COPERNICUS}, processed by NASA's OPERA project",
    ),
    Sensor(
        "hyp3-rtc-s1",
        "HyP3 RTC: Sentinel-1, radiometrically terrain corrected on demand",
        (*_radar("gamma0_rtc", gsd_m=30), _quality("ls_map", 30)),
        "radar",
        _GAMMA_LS_MAP,
        f"{_COPERNICUS}, processed by ASF DAAC HyP3 using GAMMA software",
    ),
    _landsat_level_1("landsat-tm-c2-l1", "Landsat 4-5 TM Collection 2 Level 1", _optical(_TM), _TM_THERMAL),
    _landsat_level_2("landsat-tm-c2-l2", "Landsat 4-5 TM Collection 2 Level 2", _TM, _TM_THERMAL),
    _landsat_level_1("landsat-etm-c2-l1", "Landsat 7 ETM+ Collection 2 Level 1", _optical((*_ETM, *_ETM_PAN)), _ETM_THERMAL),
    _landsat_level_2("landsat-etm-c2-l2", "Landsat 7 ETM+ Collection 2 Level 2", _ETM, _ETM_THERMAL),
    _landsat_level_1("landsat-oli-c2-l1", "Landsat 8-9 OLI/TIRS Collection 2 Level 1", _optical(_OLI, scale=2e-5, offset=-0.1), _TIRS),
    _landsat_level_2("landsat-oli-c2-l2", "Landsat 8-9 OLI/TIRS Collection 2 Level 2", _OLI[:7], _TIRS[:1]),
    Sensor(
        "hls-l30",
        "Harmonized Landsat Sentinel-2, Landsat part",
        (*_optical(_HLS_L30, scale=1e-4, nodata=-9999.0), *_HLS_TIRS, _quality("Fmask", 30, nodata=255.0)),
        "optical",
        _FMASK,
        _NASA,
    ),
    Sensor(
        "hls-s30",
        "Harmonized Landsat Sentinel-2, Sentinel-2 part",
        (*_optical(_HLS_S30, scale=1e-4, nodata=-9999.0), _quality("Fmask", 30, nodata=255.0)),
        "optical",
        _FMASK,
        _NASA,
    ),
    Sensor("modis-09", "MODIS surface reflectance (MOD09, MYD09)", _optical(_MODIS, scale=1e-4, nodata=-28672.0), "optical", None, _NASA),
    Sensor(
        "naip", "NAIP aerial imagery", _plain_bands("red", "green", "blue", "nir"), "optical", None, "NAIP imagery courtesy of the USDA"
    ),
    Sensor("aerial-rgb", "Aerial or drone imagery, true colour", _plain_bands("red", "green", "blue"), "optical"),
    Sensor("aerial-rgbn", "Aerial imagery with near infrared", _plain_bands("red", "green", "blue", "nir"), "optical"),
    Sensor("aerial-cir", "Aerial imagery, colour infrared", _plain_bands("nir", "red", "green"), "optical"),
    Sensor(
        "planetscope-4",
        "PlanetScope surface reflectance, 4 bands",
        (*_optical(tuple(r for r in _PLANET_8 if r[1] in ("blue", "green", "red", "nir")), scale=1e-4), _quality("udm2", 3)),
        "optical",
        _UDM2,
        "Imagery © {year} Planet Labs PBC",
    ),
    Sensor(
        "planetscope-8",
        "PlanetScope surface reflectance, 8 bands",
        (*_optical(_PLANET_8, scale=1e-4), _quality("udm2", 3)),
        "optical",
        _UDM2,
        "Imagery © {year} Planet Labs PBC",
    ),
    Sensor(
        "worldview-2", "WorldView-2 or -3, 8 bands, digital numbers", _optical(_WORLDVIEW_2), "optical", None, "Imagery © {year} Vantor"
    ),
    Sensor(
        "alphaearth",
        "AlphaEarth Foundations satellite embeddings, a year each",
        _ALPHAEARTH,
        "generic",
        None,
        "The AlphaEarth Foundations Satellite Embedding dataset is produced by Google and Google DeepMind.",
        (
            "Licence CC-BY-4.0.",
            "Rows of the published files run from south to north; files of floating point hold the vectors as they are.",
        ),
    ),
    Sensor("dem", "Elevation model", tuple(b for b in _KNOWN_ROLES if b.role == "height"), "elevation"),
    Sensor("thermal", "One band of temperature", (Band("lwir", "lwir", unit="K", kind="thermal"),), "thermal"),
    Sensor("generic", "Any bands, named with --bands", _KNOWN_ROLES, "generic"),
)

SENSORS: Mapping[str, Sensor] = {sensor.name: sensor for sensor in _TABLE}
"""All known sensors by name."""

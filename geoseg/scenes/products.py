"""What a product says of itself: sensor, time, baseline and calibration from its name, SAFE metadata and Landsat's MTL."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from xml.etree import ElementTree

from geoseg.errors import SceneError
from geoseg.io.names import parse_time
from geoseg.layers.brightness import RADIANCE
from geoseg.scene import SunAngles
from geoseg.scenes.sun import find_sun, leaves
from geoseg.sensors import Convention, OrbitPass

S2_BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Sentinel-2's metadata numbers bands in this order, from 0."""
S2_OFFSET_BASELINE = 400
"""Since processing baseline 04.00, Sentinel-2 stores reflectance x 10000 + 1000."""
S2_OFFSET = -0.1
"""Unit of Landsat Level 1 before it becomes reflectance or temperature."""


@dataclass(frozen=True)
class Product:
    """What is known of a product; None or empty where nobody said it."""

    sensor: str | None = None
    product_id: str | None = None
    time: datetime | None = None
    baseline: str | None = None
    """Sentinel-2's processing baseline, such as `05.10`."""
    unit: str | None = None
    """Radar only."""
    convention: Convention | None = None
    noise_removed: bool | None = None
    despeckled: str | None = None
    """Radar only: the filter against speckle that it went through."""
    orbit_pass: OrbitPass | None = None
    """Radar only."""
    offset_removed: bool = False
    """Sentinel-2: the catalogue has subtracted the offset already."""
    scales: Mapping[str, tuple[float, float, str]] = field(default_factory=dict)
    """Band name → scale, offset and unit that the metadata states."""
    thermal: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Landsat Level 1: band name → the constants K1 and K2 of its temperature."""
    sun: SunAngles | None = None
    ordered: bool = False
    """Whether the provider's files hold their bands in the sensor's order, described or not."""
    because: str = ""
    """Where this was read, such as `product name`."""
    attribution: str = ""
    """What the files ask to be written beside results; empty where the sensor's table says it."""


def find_product(given: str, paths: Sequence[str], texts: Mapping[str, bytes]) -> Product:
    """What is known of a product from its metadata files, else from the names along its paths."""
    named = next((product for path in (given, *paths) if (product := product_from_name(path)).because), Product())
    named = replace(named, sun=find_sun(texts))
    for path, text in texts.items():
        if re.search(r"(?i)MTD_MSIL\w+\.xml$", path):
            stated = product_from_safe(text)
            baseline, product_id = stated.baseline or named.baseline, stated.product_id or named.product_id
            return replace(stated, baseline=baseline, product_id=product_id, sun=named.sun)
        if re.search(r"(?i)_MTL\.(txt|xml|json)$", path):
            return product_from_mtl(leaves(path, text), named, because=f"MTL.{path.rsplit('.', 1)[-1].lower()}")
    return named


def product_from_name(path: str) -> Product:
    """What the names along a path say: Sentinel-2, Landsat, HLS, MODIS, PlanetScope, OPERA RTC-S1 and HyP3 follow fixed patterns."""
    for pattern, read in _PATTERNS:
        if match := re.search(pattern, path):
            return replace(read(match), because="product name")
    return Product()


def product_from_safe(text: bytes) -> Product:
    """Sentinel-2's MTD_MSIL1C.xml or MTD_MSIL2A.xml: offsets and quantification as stated, per band."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise SceneError(f"the Sentinel-2 metadata (MTD_MSI*.xml) cannot be read ({error}); fetch the product again.") from error
    values = {_tag(node): (node.text or "").strip() for node in root.iter()}
    quantification = float(values.get("BOA_QUANTIFICATION_VALUE") or values.get("QUANTIFICATION_VALUE") or 10000)
    offsets = dict.fromkeys(S2_BAND_IDS, 0.0)
    for node in root.iter():
        if _tag(node) in ("RADIO_ADD_OFFSET", "BOA_ADD_OFFSET"):
            offsets[S2_BAND_IDS[int(node.get("band_id", "0"))]] = float(node.text or 0)
    uri = values.get("PRODUCT_URI", "")
    named = product_from_name(uri)
    level = values.get("PROCESSING_LEVEL", "")
    return replace(
        named,
        sensor=named.sensor or ("sentinel-2-l2a" if "2A" in level else "sentinel-2-l1c"),
        time=named.time or parse_time(values.get("PRODUCT_START_TIME", "")),
        baseline=values.get("PROCESSING_BASELINE") or named.baseline,
        scales={name: (1 / quantification, offset / quantification, "reflectance") for name, offset in offsets.items()},
        because="SAFE metadata",
    )


def product_from_mtl(values: Mapping[str, str], product: Product, *, because: str = "MTL.txt") -> Product:
    """Landsat's MTL, name → value: Level 1 gains, corrected for the sun's height; Level 2 keeps the table's constants."""
    found = replace(
        product,
        product_id=values.get("LANDSAT_PRODUCT_ID", product.product_id),
        time=parse_time(f"{values.get('DATE_ACQUIRED', '')}T{values.get('SCENE_CENTER_TIME', '')[:8]}") or product.time,
        because=because,
    )
    if not (product.sensor or "").endswith("-l1") or "SUN_ELEVATION" not in values:
        return found
    sun = math.sin(math.radians(float(values["SUN_ELEVATION"])))
    scales: dict[str, tuple[float, float, str]] = {}
    for kind, divisor, unit in (("RADIANCE", 1.0, RADIANCE), ("REFLECTANCE", sun, "reflectance")):
        for name in [key.removeprefix(f"{kind}_MULT_BAND_") for key in values if key.startswith(f"{kind}_MULT_BAND_")]:
            gain, bias = values[f"{kind}_MULT_BAND_{name}"], values[f"{kind}_ADD_BAND_{name}"]
            scales[f"B{name}"] = (float(gain) / divisor, float(bias) / divisor, unit)
    thermal = {
        f"B{name}": (float(values[f"K1_CONSTANT_BAND_{name}"]), float(values[f"K2_CONSTANT_BAND_{name}"]))
        for name in [key.removeprefix("K1_CONSTANT_BAND_") for key in values if key.startswith("K1_CONSTANT_BAND_")]
    }
    return replace(found, scales=scales, thermal=thermal)


def _tag(node: ElementTree.Element) -> str:
    return node.tag.rsplit("}", 1)[-1]


def pass_in_words(text: str) -> OrbitPass | None:
    """Whether the satellite flew north or south, from words such as `ASCENDING`; None where they say something else."""
    return next((word for word in _PASSES if word == text.strip().lower()), None)


_PASSES: tuple[OrbitPass, ...] = ("ascending", "descending")


def _sentinel_2(match: re.Match[str]) -> Product:
    baseline = match["baseline"]
    known = baseline not in (None, "9999")
    return Product(
        sensor=f"sentinel-2-l{match['level'].lower()}",
        product_id=match.group(),
        time=parse_time(match["time"]),
        baseline=f"{baseline[:2]}.{baseline[2:]}" if known else None,
    )


def _landsat(match: re.Match[str]) -> Product:
    instrument = {"C": "oli", "O": "oli", "T": "oli", "E": "etm"}[match["sensor"]]
    if match["sensor"] == "T" and match["number"] in "45":
        instrument = "tm"
    sensor = f"landsat-{instrument}-c2-l{match['level']}" if match["collection"] == "02" else None
    return Product(sensor=sensor, product_id=match.group(), time=parse_time(match["date"]))


def _hls(match: re.Match[str]) -> Product:
    day = datetime.strptime(match["day"], "%Y%jT%H%M%S").replace(tzinfo=UTC)
    return Product(sensor=f"hls-{match['part'].lower()}", product_id=match.group(), time=day)


def _modis(match: re.Match[str]) -> Product:
    return Product(sensor="modis-09", product_id=match.group(), time=datetime.strptime(match["day"], "%Y%j").replace(tzinfo=UTC))


def _planet(match: re.Match[str]) -> Product:
    sensor = "planetscope-8" if match["eight"] else "planetscope-4"
    return Product(sensor=sensor, product_id=match["id"], time=parse_time(match["time"]), ordered=True)


def _opera(match: re.Match[str]) -> Product:
    """OPERA RTC-S1: gamma0, terrain corrected, linear power, thermal noise removed (its product specification)."""
    return Product("opera-rtc-s1", match.group(), parse_time(match["time"]), None, "linear power", "gamma0_rtc", True)


def _hyp3(match: re.Match[str]) -> Product:
    """HyP3 RTC writes radiometry (g, s), scale (p, d, a) and filter (n, f) into its names; its angles are radians.

    Its filter is an enhanced Lee (HyP3's RTC product guide).
    """
    convention: Convention = "gamma0_rtc" if match["radiometry"] == "g" else "sigma0"
    unit = {"p": "linear power", "d": "dB", "a": "amplitude"}[match["scale"]]
    scales = {"local_incidence_angle": (math.degrees(1), 0.0, "degree")}
    despeckled = "enhanced Lee" if match["filter"] == "f" else None
    time = parse_time(match["time"])
    return Product("hyp3-rtc-s1", match.group(), time, None, unit, convention, despeckled=despeckled, scales=scales)


def _sentinel_1(match: re.Match[str]) -> Product:
    return Product(sensor="sentinel-1-grd", product_id=match.group().upper(), time=parse_time(match["time"].upper()))


_PATTERNS = (
    (r"S2[ABCD]_MSIL(?P<level>1C|2A)_(?P<time>\d{8}T\d{6})(?:_N(?P<baseline>\d{4})_R\d{3}_T\w{5}_\d{8}T\d{6})?", _sentinel_2),
    (
        r"L(?P<sensor>[COTE])0(?P<number>[4-9])_L(?P<level>[12])\w{2}_\d{6}_(?P<date>\d{8})_\d{8}_(?P<collection>\d{2})_(?:T1|T2|RT)",
        _landsat,
    ),
    (r"HLS\.(?P<part>[LS]30)\.T\w{5}\.(?P<day>\d{7}T\d{6})\.v[\d.]+\d", _hls),
    (r"M[OY]D09\w*\.A(?P<day>\d{7})\.h\d{2}v\d{2}[.\d]*\d", _modis),
    (r"(?P<id>(?P<time>\d{8}_\d{6})_\d*_?\w{4})_3B_(?:ortho_)?(?i:AnalyticMS)_SR(?P<eight>_8b)?", _planet),
    (r"OPERA_L2_RTC-S1_T\w+-\w+-IW\d_(?P<time>\d{8}T\d{6})Z_\w+?_S1[ABCD]_\d+_v[\d.]+\d", _opera),
    (r"S1[ABCD]_\w{2}_(?P<time>\d{8}T\d{6})_\w{3}_RTC\d+_\w_(?P<radiometry>[gs])(?P<scale>[pda])\w(?P<filter>\w)\w{2}_\w{4}", _hyp3),
    (r"(?i)S1[ABCD]_\w{2}_GRD\w_1S\w{2}_(?P<time>\d{8}T\d{6})_\d{8}T\d{6}_\w{6}_\w{6}_\w{4}", _sentinel_1),
)

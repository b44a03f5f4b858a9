"""What a product says of itself: sensor, time, baseline and calibration from its name, SAFE metadata and Landsat's MTL."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from xml.etree import ElementTree

from geoseg.errors import SceneError
from geoseg.sensors import Convention

S2_BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Sentinel-2's metadata numbers bands in this order, from 0."""
S2_OFFSET_BASELINE = 400
"""Since processing baseline 04.00, Sentinel-2 stores reflectance x 10000 + 1000."""
S2_OFFSET = -0.1


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
    offset_removed: bool = False
    """Sentinel-2: the catalogue has subtracted the offset already."""
    scales: Mapping[str, tuple[float, float, str]] = field(default_factory=dict)
    """Band name → scale, offset and unit that the metadata states."""
    because: str = ""
    """Where this was read, such as `product name`."""


def find_product(given: str, paths: Sequence[str], texts: Mapping[str, bytes]) -> Product:
    """What is known of a product from its metadata files, else from the names along its paths."""
    named = next((product for path in (given, *paths) if (product := product_from_name(path)).because), Product())
    for path, text in texts.items():
        if path.lower().endswith(".xml"):
            stated = product_from_safe(text)
            return replace(stated, baseline=stated.baseline or named.baseline, product_id=stated.product_id or named.product_id)
        return product_from_mtl(text.decode("utf-8", "replace"), named)
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


def product_from_mtl(text: str, product: Product) -> Product:
    """Landsat's MTL.txt: Level 1 gains, corrected for the sun's height; Level 2 keeps the table's constants."""
    values = {key: value.strip('"') for key, value in re.findall(r"^\s*(\w+) = (.+?)\s*$", text, re.MULTILINE)}
    found = replace(
        product,
        product_id=values.get("LANDSAT_PRODUCT_ID", product.product_id),
        time=parse_time(f"{values.get('DATE_ACQUIRED', '')}T{values.get('SCENE_CENTER_TIME', '')[:8]}") or product.time,
        because="MTL.txt",
    )
    if not (product.sensor or "").endswith("-l1") or "SUN_ELEVATION" not in values:
        return found
    sun = math.sin(math.radians(float(values["SUN_ELEVATION"])))
    scales: dict[str, tuple[float, float, str]] = {}
    for kind, divisor, unit in (("RADIANCE", 1.0, "W/(m2 sr um)"), ("REFLECTANCE", sun, "reflectance")):
        for name in re.findall(rf"^\s*{kind}_MULT_BAND_(\w+)", text, re.MULTILINE):
            gain, bias = values[f"{kind}_MULT_BAND_{name}"], values[f"{kind}_ADD_BAND_{name}"]
            scales[f"B{name}"] = (float(gain) / divisor, float(bias) / divisor, unit)
    return replace(found, scales=scales)


def _tag(node: ElementTree.Element) -> str:
    return node.tag.rsplit("}", 1)[-1]


def parse_time(text: str) -> datetime | None:
    """A moment in UTC from ISO 8601 or `YYYYMMDD[THHMMSS]`; None where the text holds none."""
    match = re.search(r"(\d{4})-?(\d{2})-?(\d{2})(?:T(\d{2}):?(\d{2}):?(\d{2}))?", text)
    if not match:
        return None
    try:
        return datetime.strptime("".join(match.groups(default="00")), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def time_in_name(name: str) -> datetime | None:
    """A date that stands alone in a file name (`2021-05-27`, `_20210527_`); None where there is none between 1972 and 2100."""
    match = re.search(r"(?<!\d)(19[7-9]\d|20\d{2})(-?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(T\d{6})?(?!\d)", name)
    return parse_time(match.group()) if match else None


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
    return Product(sensor="planetscope-8" if match["eight"] else "planetscope-4", product_id=match["id"], time=parse_time(match["time"]))


def _opera(match: re.Match[str]) -> Product:
    """OPERA RTC-S1: gamma0, terrain corrected, linear power, thermal noise removed (its product specification)."""
    return Product("sentinel-1-rtc", match.group(), parse_time(match["time"]), None, "linear power", "gamma0_rtc", True)


def _hyp3(match: re.Match[str]) -> Product:
    """HyP3 RTC writes radiometry (g, s) and scale (p, d, a) into its names."""
    convention: Convention = "gamma0_rtc" if match["radiometry"] == "g" else "sigma0"
    unit = {"p": "linear power", "d": "dB", "a": "amplitude"}[match["scale"]]
    return Product("sentinel-1-rtc", match.group(), parse_time(match["time"]), None, unit, convention)


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
    (r"S1[ABCD]_\w{2}_(?P<time>\d{8}T\d{6})_\w{3}_RTC\d+_\w_(?P<radiometry>[gs])(?P<scale>[pda])\w{4}_\w{4}", _hyp3),
    (r"(?i)S1[ABCD]_\w{2}_GRD\w_1S\w{2}_(?P<time>\d{8}T\d{6})_\d{8}T\d{6}_\w{6}_\w{6}_\w{4}", _sentinel_1),
)

"""What a raster of geoseg's, composed or despeckled, says of itself in its tags, so that it opens like a scene with nothing else said."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import get_args

from geoseg.io.file_bands import RasterFile
from geoseg.io.names import parse_time
from geoseg.io.opening import opened
from geoseg.scenes.products import Product
from geoseg.scenes.recognise import named_band
from geoseg.sensors import SENSORS, Band, Convention, Sensor

OBSERVATIONS = "observations"
"""Role of the band that counts the clear observations of a pixel."""

_SENSOR, _BANDS, _TIME, _CONVENTION = "GEOSEG_SENSOR", "GEOSEG_BANDS", "GEOSEG_TIME", "GEOSEG_CONVENTION"
_NOISE_REMOVED, _DESPECKLED = "GEOSEG_NOISE_REMOVED", "GEOSEG_DESPECKLED"
_CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
_ANSWERS = {"yes": True, "no": False}


def composite_tags(sensor: Sensor, bands: Sequence[Band], time: datetime | None) -> dict[str, str]:
    """The tags of a file with these bands in this order; their scale, offset and unit stand in the file's own places for them.

    Convention, noise and filter are those of the radar bands, which have them in common.
    """
    radar = next((band for band in bands if band.kind == "radar"), None)
    tags = {
        _SENSOR: sensor.name,
        _BANDS: ",".join(band.role for band in bands),
        _TIME: time.isoformat() if time else None,
        _CONVENTION: radar.convention if radar else None,
        _NOISE_REMOVED: next((word for word, yes in _ANSWERS.items() if radar and yes is radar.noise_removed), None),
        _DESPECKLED: radar.despeckled if radar else None,
    }
    return {name: text for name, text in tags.items() if text is not None}


def composite_facts(files: Sequence[RasterFile]) -> tuple[Product, list[str]] | None:
    """What the tags of such a raster say, and the roles of its bands in order; None where it has none."""
    if len(files) != 1:
        return None
    with opened(files[0].path) as file:
        tags = file.tags()
    roles = tags.get(_BANDS, "").split(",")
    sensor = SENSORS.get(tags.get(_SENSOR, ""))
    if sensor is None or len(roles) != len(files[0].bands):
        return None
    scales = {named_band(role, sensor).name: (at.scale, at.offset, at.unit) for role, at in zip(roles, files[0].bands, strict=True)}
    product = Product(
        sensor=sensor.name,
        time=parse_time(tags.get(_TIME, "")),
        convention=next((known for known in _CONVENTIONS if known == tags.get(_CONVENTION)), None),
        noise_removed=_ANSWERS.get(tags.get(_NOISE_REMOVED, "")),
        despeckled=tags.get(_DESPECKLED),
        scales=scales,
        because="file's own tags",
        attribution=tags.get("ATTRIBUTION", ""),
    )
    return product, roles

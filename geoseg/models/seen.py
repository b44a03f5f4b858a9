"""What of a scene a model package has not seen: its values, its latitude, its season."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from geoseg.models.description import ModelDescription
from geoseg.preprocess.prepare import Channel
from geoseg.scene import Scene

FAR_DEVIATIONS = 4.0
"""A value so many stored standard deviations from the stored mean was hardly seen: of a normal distribution, one in 16 000 is."""
MOST_FAR = 0.05
"""Share of such values that is not worth a word: cloud, a lake, a few roofs."""
FAR_DEGREES = 10.0
"""Of latitude, beyond the training ground."""
FAR_DAYS = 60
"""Of the year, before the first or after the last day of training."""
_WHOLE_YEAR = 300
"""Training over so many days saw all seasons."""
_YEAR = 365.25


def unseen_values(package: ModelDescription, channel: Channel, normalised: NDArray[np.float32]) -> Iterator[str]:
    """A sentence where many of a channel's values (pixel,), in stored deviations from the stored mean, lie far from those of training."""
    share = float((np.abs(normalised) > FAR_DEVIATIONS).mean())
    if share > MOST_FAR:
        low, high = (channel.mean + sign * FAR_DEVIATIONS * channel.std for sign in (-1, 1))
        yield (
            f"{share:.0%} of the pixels have {channel.name} outside {low:.4g}…{high:.4g}, which {package.title} has hardly seen: "
            "look there first, for example with --uncertainty entropy"
        )


def unseen_place(package: ModelDescription, geobox: GeoBox) -> Iterator[str]:
    """A sentence where the middle of the scene lies far north or south of the training ground."""
    if package.trained_bbox is None or geobox.crs is None:
        return
    _, south, _, north = package.trained_bbox
    middle = geobox.boundingbox.polygon.centroid.coords[0]
    _, latitude = Transformer.from_crs(geobox.crs.proj, "EPSG:4326", always_xy=True).transform(*middle)
    if not south - FAR_DEGREES <= latitude <= north + FAR_DEGREES:
        yield (
            f"the scene lies at {latitude:.1f}° of latitude and {package.title} was trained at {south:.1f}° to {north:.1f}°: light and "
            "vegetation differ there"
        )


def unseen_season(package: ModelDescription, scene: Scene) -> Iterator[str]:
    """A sentence where the scene is of another time of the year than the training, as far as both are known."""
    if package.trained_dates is None or scene.time is None:
        return
    first, last = package.trained_dates
    trained = (last - first).days
    if trained >= _WHOLE_YEAR:
        return
    after = (scene.time.timetuple().tm_yday - first.timetuple().tm_yday) % _YEAR  # days since the first of training, in any year
    if after <= trained:
        return
    away = min(after - trained, _YEAR - after)
    if away > FAR_DAYS:
        yield (
            f"the scene is of {scene.time:%d %B} and {package.title} was trained from {first:%d %B} to {last:%d %B}, {away:.0f} days of "
            "the year away: vegetation, snow and light may differ"
        )

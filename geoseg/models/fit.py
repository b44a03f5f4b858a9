"""Whether a scene fits a model package: refused or warned of, with the figures, before anything is mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoseg.errors import BandError, PackageError
from geoseg.ground import pixel_size_m
from geoseg.layers.light import Light, fit_light
from geoseg.layers.terrain import BANDS
from geoseg.models.description import ModelDescription
from geoseg.models.seen import unseen_place, unseen_season, unseen_values
from geoseg.preprocess.prepare import BandNeed, Channel, check_band, needed_roles, prepare
from geoseg.preprocess.series import split_role
from geoseg.preprocess.terrain_correction import FittedCorrection
from geoseg.scene import Scene, sample_scene
from geoseg.sensors import SENSORS

WARNED_DEVIATIONS = 4.0
"""A scene whose median lies this many stored standard deviations from the stored mean is unlike the training data."""
REFUSED_DEVIATIONS = 25.0
"""No ground looks like this: the numbers mean something else."""
_PIXEL_TOLERANCE = 0.01
"""The ground size of a pixel changes across a scene by this much in most projections; it is measured in the middle."""
_NO_STATISTICS = (0.0, 1.0)
_NEVER_NEGATIVE = ("reflectance", "linear power", "K")


def check_fit(package: ModelDescription, scene: Scene, *, geobox: GeoBox, light: Light | None = None) -> list[str]:
    """What the user should know before `scene` is mapped with `package` on the grid `geobox`, each one sentence.

    Reads a small sample of the scene; `light` is what `fit_light` found, where it was asked already. Raises BandError for a band that
    is missing, or in another unit or radar convention, PackageError for pixels too coarse or values that cannot be what the package
    was trained on, and what `fit_light` raises.
    """
    check_bands(package, scene)
    light = light or fit_light(scene, package.preparation)
    values = _values(package, scene, light.correction)
    known = [*_unknown_conventions(package, scene), *_filtered_twice(package, scene), *_pixel_size(package, geobox)]
    warnings = [*known, *values, *light.warnings, *unseen_place(package, geobox), *unseen_season(package, scene)]
    if scene.sensor.name not in package.sensors:
        warnings.append(_not_validated(package, scene))
    return warnings


def averaged_pixel_size_m(package: ModelDescription, geobox: GeoBox) -> float | None:
    """The pixel size in metres to which a scene on this grid is averaged first; None where its own pixels are right.

    Raises PackageError where they are coarser than the package allows.
    """
    size = sqrt(np.prod(pixel_size_m(geobox)))
    finest, coarsest = package.pixel_size_range_m
    if size > coarsest * (1 + _PIXEL_TOLERANCE):
        raise PackageError(
            f"the scene's pixels are {size:.3g} m on the ground; {package.title} takes {finest:g} to {coarsest:g} m. "
            "Choose a finer scene, or a model made for such pixels."
        )
    return package.pixel_size_m if size < finest * (1 - _PIXEL_TOLERANCE) else None


def check_bands(package: ModelDescription, scene: Scene) -> None:
    """Raise BandError where the scene lacks bands that the model needs, naming all of them, or has them in another unit."""
    needs = package.preparation.bands
    if (calendar := package.preparation.calendar) is not None and not any(split_role(role)[1] for role in scene.roles):
        raise BandError(f"{package.title} makes one map from a series of dates ({calendar.described()}); give them all with --series")
    if missing := [need.role for need in needs if need.role not in scene.roles]:
        raise BandError(
            f"{package.title} needs {', '.join(need.role for need in needs)}; {scene.source} has {', '.join(scene.roles)}, "
            f"so {', '.join(missing)} is missing. {_cure(missing)}, or choose a model that needs only these."
        )
    for need in needs:
        check_band(scene.layer(need.role).band, need)


def _cure(missing: Sequence[str]) -> str:
    if not set(missing) <= BANDS.keys():
        return "Name the bands with --bands"
    sun = " (and, for illumination, a product that says where the sun stood)" if "illumination" in missing else ""
    return f"Give a terrain model with --dem FILE{sun}"


def _unknown_conventions(package: ModelDescription, scene: Scene) -> Iterator[str]:
    for need in package.preparation.bands:
        if need.convention is not None and scene.layer(need.role).band.convention is None:
            yield f"it is not known whether {need.role} is {need.convention}, which {package.title} was trained on: check the product"


def _filtered_twice(package: ModelDescription, scene: Scene) -> Iterator[str]:
    if (own := package.preparation.despeckle) is None:
        return
    done = {need.role: scene.layer(need.role).band.despeckled for need in package.preparation.bands if need.is_radar}
    for filtered in dict.fromkeys(name for name in done.values() if name):
        roles = ", ".join(role for role, name in done.items() if name == filtered)
        yield (
            f"{roles} of {scene.source} is already filtered by {filtered}, and {package.title} filters speckle itself ({own.method}): "
            "filtered twice, the ground is smoother than what it was trained on; give the unfiltered scene"
        )


def _pixel_size(package: ModelDescription, geobox: GeoBox) -> Iterator[str]:
    target = averaged_pixel_size_m(package, geobox)
    if target is not None:
        size, finest = sqrt(np.prod(pixel_size_m(geobox))), package.pixel_size_range_m[0]
        given = f"the scene's pixels ({size:.3g} m) are finer than {package.title} takes ({finest:g} m)"
        yield f"{given}: the scene is averaged to {target:g} m"


def _values(package: ModelDescription, scene: Scene, correction: FittedCorrection | None) -> Iterator[str]:
    preparation = package.preparation.model_copy(update={"despeckle": None})  # neighbours in a sample are no neighbours on the ground
    needs = {need.role: need for need in preparation.bands}
    prepared = prepare(sample_scene(scene, needed_roles(preparation, correction)), preparation, correction=correction)
    valid = prepared.valid_everywhere
    if not valid.any():
        return
    for channel, plane in zip(preparation.channels, prepared.values, strict=True):
        yield from _channel_values(package, channel, needs.get(channel.name), plane[valid])


def _channel_values(package: ModelDescription, channel: Channel, need: BandNeed | None, normalised: NDArray[np.float32]) -> Iterator[str]:
    """Judges the values (pixel,) of one channel, in stored standard deviations from the stored mean."""
    values = normalised.astype(np.float64) * channel.std + channel.mean
    median = float(np.median(values))
    unit = need.unit if need is not None else "1"
    said = f"the median of {channel.name} is {median:.4g}"
    if unit in _NEVER_NEGATIVE and float(np.quantile(values, 0.99)) < 0:
        raise PackageError(f"{said} {unit} and nearly all of it is negative: {_likely_reason(median, channel.mean, unit)}")
    if (channel.mean, channel.std) == _NO_STATISTICS:
        return
    deviations = abs(float(np.median(normalised)))
    figures = f"{said}; {package.title} was trained on {channel.mean:.4g} ± {channel.std:.4g} ({deviations:.1f} standard deviations away)"
    if deviations > REFUSED_DEVIATIONS:
        raise PackageError(f"{figures}: {_likely_reason(median, channel.mean, unit)}")
    if deviations > WARNED_DEVIATIONS:
        yield f"{figures}: the map may be worth little"
    else:
        yield from unseen_values(package, channel, normalised)


def _likely_reason(median: float, mean: float, unit: str) -> str:
    if unit == "dB":
        return "perhaps its numbers are linear power or amplitude and not decibels; say which with --unit"
    if median < 0:
        return "perhaps an offset was subtracted that the files no longer need; state --scale and --offset"
    if abs(median) > 100 * abs(mean):
        return "perhaps its numbers still have to be scaled; state --scale and --offset, such as --scale 0.0001 --offset -0.1"
    if abs(median) < abs(mean) / 100:
        return "perhaps its numbers were scaled twice; state --scale and --offset"
    return "perhaps its scale or offset is another one; state --scale and --offset, or choose another model"


def _not_validated(package: ModelDescription, scene: Scene) -> str:
    known = ", ".join(SENSORS[name].title if name in SENSORS else name for name in package.sensors)
    return f"{package.title} was not validated on {scene.sensor.title}, only on {known or 'no sensor'}; its figures say nothing of this map"

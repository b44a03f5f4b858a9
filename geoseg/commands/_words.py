"""What several commands take, and the small steps from words to arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click import get_current_context

from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.mapping.plan import MapOptions
    from geoseg.models.package import ModelPackage
    from geoseg.preprocess.calendars import Calendar
    from geoseg.scene import Scene
    from geoseg.sensors import QualityClass


SCENE_WORDS = ("sensor", "bands", "scale", "offset", "unit", "convention", "convert", "mask", "mask_values", "dem")
"""The arguments of `open_scene` that `scene_options` gives."""
_CONVENTIONS = click.Choice(["beta0", "sigma0", "gamma0_ellipsoid", "gamma0_rtc"])


def scene_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which a user says what a scene's numbers mean."""
    for option in reversed(
        (
            click.option("--sensor", help="Which sensor it is, such as sentinel-2-l2a; `geoseg sensors` lists them."),
            click.option("--bands", help="What the bands are: red,green,blue in the order of the file (- skips one), or nir=4,red=1."),
            click.option("--scale", type=float, help="Physical value = SCALE x stored number + OFFSET, instead of the sensor's."),
            click.option("--offset", type=float, help="See --scale."),
            click.option("--unit", help="Unit of the numbers: reflectance, dB, 'linear power', amplitude, K, m."),
            click.option("--convention", type=_CONVENTIONS, help="What radar refers to."),
            click.option("--convert", type=_CONVENTIONS, help="Refer radar to this instead, by the scene's incidence angle."),
            click.option("--mask", help="Raster or polygons that say where the scene is not to be believed, beside its own quality layer."),
            click.option("--dem", help="Terrain model of the same ground: adds height, slope, aspect and illumination as bands."),
            click.option("--mask-values", help="What of --mask masks, where it does not say so itself: 3,8,9 or '>40'."),
        )
    ):
        command = option(command)
    return command


_FILES = {"mask", "dem"}


def opening_words(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of open_scene that were given."""
    words = {name: value for name, value in given.items() if value is not None}
    for name in {name for name in ("bands", "dates") if isinstance(words.get(name), str)}:
        words[name] = [word.strip() for word in words[name].split(",")]
    for name in _FILES & words.keys():
        words[name] = str(Path(words[name]).resolve())  # so that a map can be made again from elsewhere
    return words


def open_source(source: Any, given: dict[str, Any]) -> Scene:
    """The scene behind what the user named."""
    from geoseg.scenes.open_scene import open_scene

    return open_scene(source, **opening_words(given))


def open_as_series(sources: list[str], dates: str | None, given: dict[str, Any], package: ModelPackage, options: MapOptions) -> Scene:
    """The series behind the scenes that the user named, by the package's calendar."""
    from geoseg.stacks.observe import Masking
    from geoseg.stacks.series import open_dates

    assert package.preparation.calendar is not None, "check_series has seen to it"
    masking = Masking(options.mask_classes, options.mask_grow_m)
    return open_dates(sources, package.preparation.calendar, masking, **opening_words(given | {"dates": dates}))


def check_series(calendar: Calendar | None, title: str, *, series: bool, dates: str | None) -> None:
    """Raise InputError where a series is given to a model of single dates, or the other way round."""
    if series and calendar is None:
        raise InputError(f"{title} maps each date by itself; leave --series out to get one map for each scene")
    if calendar is not None and not series:
        raise InputError(f"{title} makes one map from a series of dates ({calendar.described()}); give them all with --series")
    if dates is not None and not series:
        raise InputError("--dates was given without --series; a map of a single date needs none")


def mask_class_names(text: str) -> tuple[QualityClass, ...]:
    """The quality classes in words such as `cloud,snow`; none of them for `none`."""
    from geoseg.preprocess.quality import REASON_OF

    by_name = {str(name): name for name in REASON_OF}
    names = () if text == "none" else tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in by_name]:
        raise InputError(f"--mask-classes names {unknown[0]!r}; expected some of {', '.join(REASON_OF)}, or none")
    return tuple(by_name[name] for name in names)


def default_model() -> str:
    """Where the shipped package lies."""
    from geoseg.models.package import DEFAULT_PACKAGE

    return str(DEFAULT_PACKAGE)


def needed(out: Path | None) -> Path:
    """The folder for the results; UsageError where none was given."""
    if out is None:
        raise click.UsageError("no folder for the results was given; say -o OUT", get_current_context())
    return out

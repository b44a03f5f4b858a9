"""What several commands take, and the small steps from words to arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click import get_current_context

if TYPE_CHECKING:
    from geoseg.scenes.scene import Scene


SCENE_WORDS = ("sensor", "bands", "scale", "offset", "unit", "convention", "mask", "mask_values")
"""The arguments of `open_scene` that `scene_options` gives."""


def scene_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which a user says what a scene's numbers mean."""
    for option in reversed(
        (
            click.option("--sensor", help="Which sensor it is, such as sentinel-2-l2a; `geoseg sensors` lists them."),
            click.option("--bands", help="What the bands are: red,green,blue in the order of the file (- skips one), or nir=4,red=1."),
            click.option("--scale", type=float, help="Physical value = SCALE x stored number + OFFSET, instead of the sensor's."),
            click.option("--offset", type=float, help="See --scale."),
            click.option("--unit", help="Unit of the numbers: reflectance, dB, 'linear power', amplitude, K, m."),
            click.option("--convention", type=click.Choice(["sigma0", "gamma0_ellipsoid", "gamma0_rtc"]), help="What radar refers to."),
            click.option("--mask", help="Raster or polygons that say where the scene is not to be believed, beside its own quality layer."),
            click.option("--mask-values", help="What of --mask masks, where it does not say so itself: 3,8,9 or '>40'."),
        )
    ):
        command = option(command)
    return command


_FILES = {"mask"}


def opening_words(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of open_scene that were given."""
    words = {name: value for name, value in given.items() if value is not None}
    if "bands" in words:
        words["bands"] = [word.strip() for word in words["bands"].split(",")]
    for name in _FILES & words.keys():
        words[name] = str(Path(words[name]).resolve())  # so that a map can be made again from elsewhere
    return words


def open_source(source: Any, given: dict[str, Any]) -> Scene:
    """The scene behind what the user named."""
    from geoseg.scenes.open_scene import open_scene

    return open_scene(source, **opening_words(given))


def default_model() -> str:
    """Where the shipped package lies."""
    from geoseg.models.package import DEFAULT_PACKAGE

    return str(DEFAULT_PACKAGE)


def needed(out: Path | None) -> Path:
    """The folder for the results; UsageError where none was given."""
    if out is None:
        raise click.UsageError("no folder for the results was given; say -o OUT", get_current_context())
    return out

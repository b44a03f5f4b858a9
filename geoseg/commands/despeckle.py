"""`geoseg despeckle`: radar scenes to scenes with less speckle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click
from click import get_current_context

from geoseg.commands._words import mask_class_names, needed, open_source, scene_options


@click.command(epilog="Example: `geoseg despeckle S1A_20240614.SAFE --method refined_lee --looks 4.4 -o calm`")
@click.argument("sources", metavar="SCENE...", nargs=-1)
@click.option(
    "--method",
    type=click.Choice(["quegan", "boxcar", "lee", "refined_lee", "gamma_map"]),
    help="The filter; quegan, which takes the dates together, for two scenes or more, and refined_lee for one, where none is named.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the results.")
@scene_options
@click.option("--size", type=int, help="Width of the filter's window in pixels, odd: 7 for most, 5 for boxcar and lee.")
@click.option("--looks", type=float, help="Equivalent number of looks of the scenes, for lee, refined_lee and gamma_map.")
@click.option("--only", help="Take only these polarisations: vv,vh.")
@click.option("--dates", help="The days of the scenes in their order, 2021-05-03,2021-05-15, where they do not say them.")
@click.option(
    "--resolution", type=float, help="Pixel size in units of the CRS; the scene's (quegan: the first scene's) where none is named."
)
@click.option("--crs", help="CRS of the results, such as EPSG:32633; the scene's (quegan: the first scene's) where none is named.")
@click.option("--like", help="Raster whose grid the results shall have.")
@click.option("--mask-classes", help="What of the quality layer counts as no data: layover,radar_shadow,nodata,water or none.")
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def despeckle(sources: tuple[str, ...], out: Path | None, as_json: bool, overwrite: bool, **given: Any) -> None:
    """Filter speckle out of radar scenes: for each a raster in linear power, which opens as a scene.

    quegan keeps the detail that the dates share. A bright point that only one date has, such as a ship, shines through on the
    others, the weaker the more dates there are.
    """
    from geoseg.console import print_despeckled, progress_bar
    from geoseg.preprocess.quality import DEFAULT_MASK_CLASSES
    from geoseg.stacks.despeckle import DespeckleOptions, despeckle_scenes
    from geoseg.stacks.periods import with_dates

    if not sources:
        raise click.UsageError("no SCENE was given; name radar scenes, such as S1*.SAFE", get_current_context())
    own = {name: given.pop(name) for name in ("method", "size", "looks", "resolution", "crs", "like")}
    only, dates, classes = given.pop("only"), given.pop("dates"), given.pop("mask_classes")
    options = DespeckleOptions(
        **own,
        only=tuple(word.strip() for word in only.split(",")) if only else (),
        mask_classes=mask_class_names(classes) if classes else DEFAULT_MASK_CLASSES,
    )
    folder = needed(out)
    scenes = with_dates([open_source(source, given) for source in sources], dates.split(",") if dates else None)
    with progress_bar("despeckle", as_json=as_json) as progress:
        made = despeckle_scenes(scenes, folder, options=options, overwrite=overwrite, progress=progress)
    for one in made:
        print_despeckled(one, as_json=as_json)

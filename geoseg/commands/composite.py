"""`geoseg composite`: many scenes to cloud-free ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click
from click import get_current_context

from geoseg.commands._words import mask_class_names, needed, open_source, scene_options


@click.command(epilog="Example: `geoseg composite S2A_20240604.SAFE S2A_20240614.SAFE --period month -o months`")
@click.argument("sources", metavar="SCENE...", nargs=-1)
@click.option("--period", default="month", help="month, one month (2021-05), or days A/B (2021-05-01/2021-06-15).")
@click.option(
    "--method",
    type=click.Choice(["median", "medoid", "max-ndvi", "mean"]),
    default="median",
    show_default=True,
    help="How the clear observations of a pixel become one.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the results.")
@scene_options
@click.option("--only", help="Take only these bands, by role: red,green,blue,nir.")
@click.option("--dates", help="The days of the scenes in their order, 2021-05-03,2021-05-08, where they do not say them.")
@click.option("--name", default="composite", help="What the files' names begin with.")
@click.option("--resolution", type=float, help="Pixel size in units of the CRS; that of the earliest scene where none is named.")
@click.option("--crs", help="CRS of the composites, such as EPSG:32633; that of the earliest scene where none is named.")
@click.option("--like", help="Raster whose grid the composites shall have.")
@click.option(
    "--mask-classes",
    help="Taken out by the quality layer: cloud,cloud_shadow,cirrus,snow,water,saturated,layover,radar_shadow,nodata or none.",
)
@click.option("--mask-grow-m", type=float, default=0.0, help="Grow masked ground by this many metres.")
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def composite(sources: tuple[str, ...], out: Path | None, as_json: bool, overwrite: bool, **given: Any) -> None:
    """Make cloud-free scenes: for each period one raster of what was clear, with the number of clear observations as a band."""
    from geoseg.console import print_composite, progress_bar
    from geoseg.preprocess.quality import DEFAULT_MASK_CLASSES
    from geoseg.stacks.composite import CompositeOptions
    from geoseg.stacks.composite import composite as make_composites
    from geoseg.stacks.periods import with_dates

    if not sources:
        raise click.UsageError("no SCENE was given; name the scenes of one place, such as S2*.SAFE", get_current_context())
    own = {name: given.pop(name) for name in ("period", "method", "name", "resolution", "crs", "like", "mask_grow_m")}
    only, dates, classes = given.pop("only"), given.pop("dates"), given.pop("mask_classes")
    options = CompositeOptions(
        **own,
        only=tuple(word.strip() for word in only.split(",")) if only else (),
        mask_classes=mask_class_names(classes) if classes else DEFAULT_MASK_CLASSES,
    )
    folder = needed(out)
    scenes = with_dates([open_source(source, given) for source in sources], dates.split(",") if dates else None)
    with progress_bar(own["name"], as_json=as_json) as progress:
        made = make_composites(scenes, folder, options=options, overwrite=overwrite, progress=progress)
    for one in made:
        print_composite(one, as_json=as_json)

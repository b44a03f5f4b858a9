"""`geoseg explain`: what each band, index and sensor contributed to a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from geoseg.commands._words import SCENE_WORDS, default_model, open_source, scene_options


@click.command()
@click.argument("scene")
@click.option("--model", help="The model package, a folder or .zip; the one that ships with geoseg if none is named.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@scene_options
@click.option("--aoi", help="Polygons inside which it is explained; the whole scene if none are named.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads; all of them if not said.")
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def explain(
    scene: str, model: str | None, out: Path, aoi: str | None, threads: int | None, overwrite: bool, as_json: bool, **given: Any
) -> None:
    """Say what a model made of each band, index and sensor of SCENE: the map is made again without each of them.

    Writes the loss of the winning class's score without each (a GeoTIFF band for each input), a class map of what counted most, and a
    report. A network may well do without one band that another one stands in for.
    """
    from geoseg.console import print_explanation, progress_bar
    from geoseg.evaluation.explain import explain as make
    from geoseg.mapping.plan import MapOptions
    from geoseg.models.package import ModelPackage

    options = MapOptions(aoi=aoi, threads=threads)
    opened = open_source(scene, {name: given[name] for name in SCENE_WORDS})
    with progress_bar("explaining", as_json=as_json) as progress:
        made = make(opened, ModelPackage.open(model or default_model()), out, options=options, overwrite=overwrite, progress=progress)
    print_explanation(made, as_json=as_json)

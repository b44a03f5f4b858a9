"""`geoseg explain`: what each band, index and sensor contributed to a map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import rich_click as click

from geoseg.commands._words import SCENE_WORDS, default_model, open_source, scene_options
from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.evaluation.attribution import Method
    from geoseg.mapping.plan import MapOptions
    from geoseg.scene import Scene


@click.command(epilog="Example: `geoseg explain scene.tif --model my_model -o why`")
@click.argument("scene")
@click.option("--model", help="The model package, a folder or .zip; the one that ships with geoseg if none is named.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@scene_options
@click.option(
    "--method",
    type=click.Choice(["occlusion", "gradients", "gradcam"]),
    default="occlusion",
    show_default=True,
    help="Maps without each input; or where in the scene the answer comes from: integrated gradients or Grad-CAM, through Captum.",
)
@click.option("--class", "class_name", help="Of gradients and gradcam: the class that is explained; each pixel's own if none is named.")
@click.option("--steps", type=int, help="Of gradients: points at which the gradient is taken; 32 if not said.")
@click.option("--aoi", help="Polygons inside which it is explained; the whole scene if none are named.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads; all of them if not said.")
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def explain(
    scene: str,
    model: str | None,
    out: Path,
    aoi: str | None,
    threads: int | None,
    method: Literal["occlusion", "gradients", "gradcam"],
    class_name: str | None,
    steps: int | None,
    overwrite: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Say what a model made of each band, index and sensor of SCENE: the map is made again without each of them.

    Writes the loss of the winning class's score without each (a GeoTIFF band for each input), a class map of what counted most, and a
    report. A network may well do without one band that another one stands in for. With --method gradients or gradcam, a layer tells
    instead which pixels, and with gradients of which input, the answer comes from; choose a small --aoi.
    """
    if method == "occlusion" and (class_name is not None or steps is not None):
        raise InputError("--class and --steps are for --method gradients or gradcam; leave them out, or choose one of these")
    from geoseg.console import print_explanation, progress_bar
    from geoseg.evaluation.explain import explain as make
    from geoseg.mapping.plan import MapOptions
    from geoseg.models.package import ModelPackage

    options = MapOptions(aoi=aoi, threads=threads)
    opened = open_source(scene, {name: given[name] for name in SCENE_WORDS})
    if method != "occlusion":
        _attribute(opened, model, out, options, as_json, method=method, class_name=class_name, steps=steps, overwrite=overwrite)
        return
    with progress_bar("explaining", as_json=as_json) as progress:
        made = make(opened, ModelPackage.open(model or default_model()), out, options=options, overwrite=overwrite, progress=progress)
    print_explanation(made, as_json=as_json)


def _attribute(
    scene: Scene,
    model: str | None,
    out: Path,
    options: MapOptions,
    as_json: bool,
    *,
    method: Method,
    class_name: str | None,
    steps: int | None,
    overwrite: bool,
) -> None:
    """Write where the answer comes from, and print what each band holds in sum."""
    from geoseg.console import progress_bar
    from geoseg.evaluation.attribution import STEPS, attribute
    from geoseg.models.package import ModelPackage

    package = ModelPackage.open(model or default_model())
    with progress_bar("explaining", as_json=as_json) as progress:
        made = attribute(
            scene,
            package,
            out,
            method=method,
            class_name=class_name,
            steps=STEPS if steps is None else steps,
            options=options,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        files = {what: str(path) for what, path in made.files.items()}
        click.echo(
            json.dumps({"event": "result", "files": files, "summary": made.facts, "warnings": list(made.warnings)}, ensure_ascii=False)
        )
        return
    for sentence in made.warnings:
        click.echo(sentence, err=True)
    for band in made.facts["bands"]:
        click.echo(f"{band['name']}: mean {band['mean']:+.4g}, mean size {band['mean_size']:.4g}")
    for path in made.files.values():
        click.echo(str(path))

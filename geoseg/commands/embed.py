"""`geoseg embed`: a scene's embeddings as a raster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from geoseg.commands._words import SCENE_WORDS, mask_class_names, open_source, opening_words, scene_options
from geoseg.errors import InputError


@click.command(epilog="Example: `geoseg embed scene.tif --model my_encoder --normalise --dtype int8 -o embedded`")
@click.argument("source", metavar="SCENE")
@click.option(
    "--model", required=True, help="The encoder, as train --recipe masked_pretraining makes one, or a package with torch weights."
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@scene_options
@click.option("--level", type=int, help="Level of the encoder, counted from 1, fine to coarse or early to late; the last by default.")
@click.option("--upsample", is_flag=True, help="Interpolate the vectors to the scene's pixels; else one for each patch.")
@click.option("--dtype", type=click.Choice(["float32", "float16", "int8"]), default="float32", help="In which numbers they are stored.")
@click.option("--normalise", is_flag=True, help="Bring each vector to length 1.")
@click.option("--tile", type=int, help="Edge in pixels of what the encoder sees at once.")
@click.option("--overlap", type=int, help="Pixels that neighbouring tiles share; half a tile where none are named.")
@click.option("--aoi", help="Vector file: embed only this area.")
@click.option("--exclude", help="Vector file: do not embed this area.")
@click.option("--mask-classes", help="Taken out by the quality layer: cloud,cloud_shadow,cirrus,snow,water,… or none.")
@click.option("--mask-grow-m", type=float, default=0.0, help="Grow masked ground by this many metres.")
@click.option("--batch", default="auto", help="Tiles for one call of the encoder, or auto.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), default="cpu", help="Where torch computes.")
@click.option("--threads", type=int, help="Processor threads, each with tiles of its own; all where none are named.")
@click.option("--on-error", type=click.Choice(["stop", "nodata"]), default="stop", help="At a block of the scene that cannot be read.")
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--resume", is_flag=True, help="Go on with what was stopped; begin it where there is nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def embed(source: str, model: str, out: Path, overwrite: bool, resume: bool, as_json: bool, **given: Any) -> None:
    """Embed a scene: a raster with a vector for each patch, a band for each of its numbers, and its STAC Item in the folder OUT.

    The raster opens as a scene: learn from few labels with `geoseg train OUT/…_embedding.tif --recipe probe`. Needs the extra `train`.
    """
    from geoseg.console import print_embedding, progress_bar
    from geoseg.mapping.embed import embed_scene
    from geoseg.mapping.embed_plan import EmbedOptions

    opening = {name: given.pop(name) for name in SCENE_WORDS}
    given["batch"] = None if given["batch"] == "auto" else _whole(given["batch"])
    given["mask_classes"] = mask_class_names(given["mask_classes"]) if given["mask_classes"] else EmbedOptions.mask_classes
    options, scene = EmbedOptions(**given), open_source(source, opening)
    with progress_bar(scene.name, as_json=as_json) as progress:
        made = embed_scene(
            scene, model, out, options=options, overwrite=overwrite, resume=resume, opened_with=opening_words(opening), progress=progress
        )
    print_embedding(made, as_json=as_json)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"--batch is {text!r}; expected a whole number, or auto")
    return int(text)

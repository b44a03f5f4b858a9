"""`geoseg suggest`: what is worth labelling next, and which labels look wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import rich_click as click

from geoseg.commands._words import open_source, opening_words, scene_options
from geoseg.errors import InputError


@click.group()
def suggest() -> None:
    """Where a person's next hour helps a model most: tiles worth labelling, and labels that look wrong.

    `tiles` ranks ground on which a map is unsure, no two of a kind; you draw there in QGIS and train again. `labels` finds labels that
    contradict scores which were not learned from them.
    """


@suggest.command(epilog="Example: `geoseg suggest tiles out --count 10 --tile-m 640`")
@click.argument("sources", metavar="MAP... | SCENE", nargs=-1, required=True)
@click.option("--model", help="Model package that maps SCENE first; without it, MAP is what `geoseg predict --scores` wrote.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the map of SCENE and its tiles; those of MAP go beside it.")
@click.option("--count", type=click.IntRange(min=1), default=20, show_default=True, help="How many tiles.")
@click.option("--tile-m", type=float, help="Edge of a tile in metres on the ground; 64 pixels by default.")
@click.option(
    "--by",
    "measure",
    type=click.Choice(["entropy", "margin", "disagreement", "members"]),
    default="entropy",
    show_default=True,
    help="How unsure the map is: by its scores, or by a layer of `geoseg predict --uncertainty`.",
)
@click.option("--labels", multiple=True, help="Labels that are there already: no tile on them, and none like them first.")
@click.option("--class-column", help="The column of the labels that holds the class; a usual one if none is named.")
@scene_options
@click.option("--overwrite", is_flag=True, help="Replace tiles that are there already; what was drawn is never replaced.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def tiles(
    sources: tuple[str, ...],
    model: str | None,
    out: Path | None,
    count: int,
    tile_m: float | None,
    measure: Literal["entropy", "margin", "disagreement", "members"],
    labels: tuple[str, ...],
    class_column: str | None,
    overwrite: bool,
    as_json: bool,
    **opening: Any,
) -> None:
    """Rank tiles worth labelling, and write them with a QGIS project to draw in.

    Beside each map: SCENE_suggested.gpkg (tiles with rank, uncertainty and why), SCENE_corrections.gpkg (an empty layer with the legend's
    classes to choose from) and SCENE_suggested.qgz. Ground that the model holds out is never suggested.
    """
    from geoseg.console import progress_bar
    from geoseg.evaluation.suggest import SuggestOptions, suggest_for_scene, suggest_tiles
    from geoseg.models.package import ModelPackage

    options = SuggestOptions(count, tile_m, measure, labels, class_column)
    if model is None:
        if said := [name for name, value in {**opening, "out": out}.items() if value is not None]:
            raise InputError(f"--{said[0].replace('_', '-')} is for a scene that --model maps; without --model leave it out")
        with progress_bar("reading", as_json=as_json) as progress:
            found = suggest_tiles(sources, options, overwrite=overwrite, progress=progress)
    else:
        if len(sources) > 1 or out is None:
            raise InputError("--model maps one scene into the folder of -o OUT; name both, or map with geoseg predict --scores first")
        scene = open_source(sources[0], opening)
        with progress_bar(scene.name, as_json=as_json) as progress:
            found = suggest_for_scene(
                scene,
                ModelPackage.open(model),
                out,
                options,
                opened_with=opening_words(opening),
                overwrite=overwrite,
                progress=progress,
            )
    _tell_tiles(found, as_json=as_json)


@suggest.command(epilog="Example: `geoseg suggest labels scene.tif --labels truth.gpkg -o suspects`")
@click.argument("sources", metavar="SCENE...", nargs=-1)
@click.option("--map", "maps", multiple=True, help="Instead of SCENE: a finished map with --scores, by a model that has not seen them.")
@click.option("--labels", multiple=True, required=True, help="The labels to look at: one file for all, or one for each scene or map.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--class-column", help="The column of the labels that holds the class; a usual one if none is named.")
@click.option("--least-pixels", type=click.IntRange(min=1), help="Smaller regions are not listed: 9 in label rasters, 1 of features.")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Parts into which the labels of SCENE are dealt.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed deals them otherwise.")
@scene_options
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def labels(
    sources: tuple[str, ...],
    maps: tuple[str, ...],
    labels: tuple[str, ...],
    out: Path,
    class_column: str | None,
    least_pixels: int | None,
    folds: int,
    seed: int,
    overwrite: bool,
    as_json: bool,
    **opening: Any,
) -> None:
    """Find labels that look wrong, by confident learning, and rank them.

    With SCENE, forests on single pixels score each label without having seen it (needs the extra `forest`). Writes
    suspect_labels.gpkg (outlines with label, the class it looks like, margin), the same as .csv, and the joint counts as .json. What is
    listed is to be looked at, not to be deleted.
    """
    from geoseg.evaluation.suspects import NAMES, score_by_folds, score_by_maps, write_suspects
    from geoseg.io.staging import check_free

    if bool(sources) == bool(maps):
        raise InputError("give either SCENE, whose labels are then scored by cross-validation, or --map with finished maps")
    check_free(out, NAMES, overwrite=overwrite)
    if maps:
        if said := [name for name, value in opening.items() if value is not None]:
            raise InputError(f"--{said[0].replace('_', '-')} is for scenes; with --map leave it out")
        scored = score_by_maps(maps, labels, class_column)
    else:
        scored = score_by_folds([open_source(source, opening) for source in sources], labels, class_column, folds=folds, seed=seed)
    _tell_labels(write_suspects(scored, out, least_pixels=least_pixels), as_json=as_json)


def _tell_tiles(found: list[Any], *, as_json: bool) -> None:
    import json

    for one in found:
        facts = one.frame.drop(columns="geometry")
        if as_json:
            files = {what: str(getattr(one, what)) for what in ("tiles", "corrections", "project")}
            summary = {"name": one.name, "corrections_kept": one.kept, "ranked": json.loads(facts.to_json(orient="records"))}
            click.echo(json.dumps({"event": "result", "files": files, "summary": summary}))
            continue
        for row in facts.itertuples():
            click.echo(f"{row.rank:4} {row.why}")
        click.echo(f"tiles: {one.tiles}")
        click.echo(f"draw in: {one.corrections}{' (was there already, and is kept)' if one.kept else ''}")
        click.echo(f"open in QGIS: {one.project}")


def _tell_labels(report: Any, *, as_json: bool) -> None:
    import json

    if as_json:
        files = {name: str(path) for name, path in report.files.items()}
        click.echo(json.dumps({"event": "result", "files": files, "summary": report.facts}))
        return
    for said in report.told:
        click.echo(said)
    for path in report.files.values():
        click.echo(f"  {path}")

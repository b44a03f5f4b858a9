"""`geoseg conformal`: thresholds with which a map tells all classes that may be true."""

from __future__ import annotations

from pathlib import Path

import rich_click as click


@click.command(epilog="Example: `geoseg conformal map --labels truth.gpkg -o sets.json`")
@click.argument("maps", metavar="MAP...", nargs=-1, required=True)
@click.option("--labels", multiple=True, required=True, help="Polygons, lines, points or a raster: one for all maps, or one for each.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The .json with the thresholds and how they did.")
@click.option("--alpha", type=float, default=0.1, help="Share of pixels whose set may lack the true class.")
@click.option("--class-column", help="The column of the labels that holds the class; a usual one if none is named.")
@click.option("--block", "block_pixels", type=int, default=64, help="Edge in pixels of the blocks that calibrate or check.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def conformal(
    maps: tuple[str, ...],
    labels: tuple[str, ...],
    out: Path,
    alpha: float,
    class_column: str | None,
    block_pixels: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find, on labelled ground, from which score on each class must count as possible, so that few true classes are left out.

    MAP is a folder that geoseg predict --scores wrote. Half of the blocks with labels calibrate, the others check. Then geoseg predict
    --conformal FILE writes for each pixel which classes are possible, and how many.
    """
    from geoseg.evaluation.conformal import conformal as find

    made = find(maps, labels, out, alpha=alpha, class_column=class_column, block_pixels=block_pixels, overwrite=overwrite)
    if as_json:
        click.echo(made.model_dump_json())
        return
    for one in made.classes:
        checked = made.report["classes"][one.name]
        right = "not checked" if checked["coverage"] is None else f"right in {checked['coverage']:.1%} of {checked['pixels']} pixels"
        click.echo(f"{one.name}: possible from a score of {one.least_step / 250:.3f} ({one.pixels} pixels calibrate); {right}")
    report = made.report
    click.echo(
        f"on blocks that did not calibrate: the true class is in {report['coverage']:.1%} of the sets ({1 - made.alpha:.1%} wanted), "
        f"{report['mean_set_size']:.2f} classes a set; {report['blocks_that_fall_short']:.0%} of the blocks fall short"
    )
    for sentence in (*report["warnings"], made.caveat):
        click.echo(sentence, err=True)
    click.echo(f"the thresholds are in {out}; use them with geoseg predict --conformal {out}")
